// SPDX-License-Identifier: LGPL-2.1-or-later
#include "mem.h"
#include "ranges.h"

/* Ranges that come in ascending order stay merged without a sort. */
int ranges_add(struct ranges *r, uint64_t start, uint64_t end)
{
	struct ooh_range *last = r->n ? &r->v[r->n - 1] : NULL;

	if (start >= end)
		return 0;
	if (last && start >= last->start && start <= last->end) {
		if (end > last->end)
			last->end = end;
		return 0;
	}
	if (r->n == r->cap) {
		int rc = mem_grow((void **)&r->v, &r->cap, sizeof(*r->v));

		if (rc)
			return rc;
	}
	r->v[r->n].start = start;
	r->v[r->n++].end = end;
	return 0;
}

static void sift(struct ooh_range *v, size_t i, size_t n)
{
	struct ooh_range moved = v[i];
	size_t child;

	while ((child = 2 * i + 1) < n) {
		if (child + 1 < n && v[child + 1].start > v[child].start)
			child++;
		if (v[child].start <= moved.start)
			break;
		v[i] = v[child];
		i = child;
	}
	v[i] = moved;
}

/* A heap sort, because qsort(3) may call malloc: see mem.h. */
static void sort(struct ooh_range *v, size_t n)
{
	size_t i;

	for (i = n / 2; i-- > 0;)
		sift(v, i, n);
	while (n-- > 1) {
		struct ooh_range last = v[n];

		v[n] = v[0];
		v[0] = last;
		sift(v, 0, n);
	}
}

void ranges_normalise(struct ranges *r)
{
	size_t i, out = 0;

	for (i = 1; i < r->n; i++)
		if (r->v[i].start <= r->v[i - 1].end)
			break;
	if (i >= r->n)
		return;
	sort(r->v, r->n);
	for (i = 1; i < r->n; i++) {
		if (r->v[i].start > r->v[out].end)
			r->v[++out] = r->v[i];
		else if (r->v[i].end > r->v[out].end)
			r->v[out].end = r->v[i].end;
	}
	r->n = out + 1;
}

/* out += what is in one of two (normalised) */
int ranges_join(struct ranges *out, const struct ranges *a, const struct ranges *b)
{
	size_t i = 0, j = 0;
	int rc = 0;

	while (!rc && (i < a->n || j < b->n)) {
		bool first = j == b->n || (i < a->n && a->v[i].start <= b->v[j].start);
		const struct ooh_range *r = first ? &a->v[i++] : &b->v[j++];

		rc = ranges_add(out, r->start, r->end);
	}
	return rc;
}

/* out += what is in a and not in b (both normalised) */
int ranges_without(struct ranges *out, const struct ranges *a, const struct ranges *b)
{
	size_t i, j = 0, k;
	int rc = 0;

	for (i = 0; !rc && i < a->n; i++) {
		uint64_t at = a->v[i].start, end = a->v[i].end;

		while (j < b->n && b->v[j].end <= at)
			j++;
		for (k = j; !rc && k < b->n && b->v[k].start < end; k++) {
			rc = ranges_add(out, at, b->v[k].start);
			at = b->v[k].end;
		}
		if (!rc)
			rc = ranges_add(out, at, end);
	}
	return rc;
}

/* Lies start ... end - 1 in one of the (normalised) ranges? */
bool ranges_cover(const struct ranges *r, uint64_t start, uint64_t end)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->v[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->n && r->v[lo].start <= start && r->v[lo].end >= end;
}

uint64_t ranges_pages(const struct ranges *r)
{
	uint64_t pages = 0;
	size_t i;

	for (i = 0; i < r->n; i++)
		pages += (r->v[i].end - r->v[i].start) / OOH_PAGE;
	return pages;
}

void ranges_clear(struct ranges *r)
{
	r->n = 0;
}

void ranges_free(struct ranges *r)
{
	mem_free(r->v, r->cap * sizeof(*r->v));
	r->v = NULL;
	r->n = r->cap = 0;
}
