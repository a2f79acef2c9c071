// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <stdlib.h>
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
		size_t cap = r->cap ? 2 * r->cap : 64;
		struct ooh_range *v = realloc(r->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n].start = start;
	r->v[r->n++].end = end;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct ooh_range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

void ranges_normalise(struct ranges *r)
{
	size_t i, out = 0;

	for (i = 1; i < r->n; i++)
		if (r->v[i].start <= r->v[i - 1].end)
			break;
	if (i >= r->n)
		return;
	qsort(r->v, r->n, sizeof(*r->v), by_start);
	for (i = 1; i < r->n; i++) {
		if (r->v[i].start > r->v[out].end)
			r->v[++out] = r->v[i];
		else if (r->v[i].end > r->v[out].end)
			r->v[out].end = r->v[i].end;
	}
	r->n = out + 1;
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
	free(r->v);
	r->v = NULL;
	r->n = r->cap = 0;
}
