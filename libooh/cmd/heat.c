// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "heat.h"

#define PAGE	 UINT64_C(4096)
#define BLOCK	 (UINT64_C(2) << 20)
#define LEVELS	 8
#define TOO_COLD 0.05 /* to be remembered */
#define COLD	 0.5  /* to be shown: less than a page */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Room for n in both arrays */
static int grow(struct heat *h, size_t n)
{
	size_t cap = h->cap ? h->cap : 64;
	struct hot *v;

	if (n <= h->cap)
		return 0;
	while (cap < n)
		cap *= 2;
	v = realloc(h->v, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	h->v = v;
	v = realloc(h->next, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	h->next = v;
	h->cap = cap;
	return 0;
}

/*
 * One round: the ranges and mappings ascend. What was written where nothing is
 * mapped any more has no place here.
 */
int heat_round(struct heat *h, const struct vmas *vmas, const struct ooh_range *r, size_t n)
{
	const double weight = h->rounds++ ? 0.5 : 1;
	const struct ooh_range *end = r + n;
	size_t i, old = 0, new = 0;
	struct hot *swap;
	uint64_t at;
	int rc;

	for (i = 0; i < vmas->n; i++) {
		const struct vma *vma = &vmas->v[i];

		for (at = vma->start; at < vma->end;) {
			uint64_t stop = min((at & ~(BLOCK - 1)) + BLOCK, vma->end), pages = 0;
			double was = 0;

			/* nothing new and nothing known: on to where there is something */
			while (r < end && r->end <= at)
				r++;
			while (old < h->n && h->v[old].start < at)
				old++;
			if ((r == end || r->start >= stop) &&
			    (old == h->n || h->v[old].start >= stop)) {
				uint64_t next = vma->end;

				if (r < end)
					next = min(next, r->start & ~(BLOCK - 1));
				if (old < h->n)
					next = min(next, h->v[old].start);
				at = next > at ? next : stop;
				continue;
			}
			for (; r < end && r->start < stop; r++) {
				uint64_t from = r->start > at ? r->start : at;

				pages += (min(r->end, stop) - from) / PAGE;
				if (r->end > stop)
					break;
			}
			if (old < h->n && h->v[old].start == at)
				was = h->v[old].written;
			was = was * (1 - weight) + pages * weight;
			if (was >= TOO_COLD) {
				rc = grow(h, new + 1);
				if (rc)
					return rc;
				h->next[new ++] =
					(struct hot){ .start = at, .end = stop, .written = was };
			}
			at = stop;
		}
	}
	swap = h->v;
	h->v = h->next;
	h->next = swap;
	h->n = new;
	return 0;
}

static int level(const struct hot *x)
{
	return LEVELS * x->written / ((x->end - x->start) / PAGE) + 0.5;
}

static int hotter(const void *a, const void *b)
{
	const struct hot *x = a, *y = b;

	if (x->written != y->written)
		return x->written < y->written ? 1 : -1;
	return x->start < y->start ? -1 : 1;
}

/*
 * The hottest ranges, where neighbours of one mapping that are about as hot count
 * as one. Gives how many there are, no more than len.
 */
size_t heat_hottest(const struct heat *h, const struct vmas *vmas, struct hot *out, size_t len)
{
	struct hot *all = malloc((h->n + 1) * sizeof(*all));
	size_t i, vma = 0, n = 0;

	if (!all)
		return 0;
	for (i = 0; i < h->n; i++) {
		struct hot x = h->v[i];

		while (vma < vmas->n && vmas->v[vma].end <= x.start)
			vma++;
		if (vma == vmas->n || vmas->v[vma].start > x.start)
			continue;
		x.name = vmas->v[vma].name;
		if (n && all[n - 1].name == x.name && all[n - 1].end == x.start &&
		    level(&all[n - 1]) == level(&x)) {
			all[n - 1].end = x.end;
			all[n - 1].written += x.written;
			continue;
		}
		all[n++] = x;
	}
	qsort(all, n, sizeof(*all), hotter);
	while (n && all[n - 1].written < COLD)
		n--;
	if (n > len)
		n = len;
	memcpy(out, all, n * sizeof(*all));
	free(all);
	return n;
}

void heat_free(struct heat *h)
{
	free(h->v);
	free(h->next);
	*h = (struct heat){ 0 };
}
