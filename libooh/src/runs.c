// SPDX-License-Identifier: LGPL-2.1-or-later
#include "mem.h"
#include "runs.h"

/* From here on runs can be changed or dropped without touching the earlier ones. */
void runs_barrier(struct runs *r)
{
	r->barrier = r->n;
}

/* In ascending order only. */
int runs_add(struct runs *r, uint64_t start, uint64_t end, unsigned int state)
{
	struct run *last = r->n ? &r->v[r->n - 1] : NULL;

	/* A mapping that changed while it was listed can show up twice. */
	if (last && start < last->end)
		start = last->end;
	if (start >= end)
		return 0;
	if (r->n > r->barrier && last->end == start && last->state == state) {
		last->end = end;
		return 0;
	}
	if (r->n == r->cap) {
		int rc = mem_grow((void **)&r->v, &r->cap, sizeof(*r->v));

		if (rc)
			return rc;
	}
	r->v[r->n++] = (struct run){ start, end, state };
	return 0;
}

/*
 * What became of a page on the way from one state to the other: RUN_DIRTY, it changed;
 * RUN_UNTOLD, it may have; 0. The state 0 stands for: not there.
 */
static unsigned int fate(unsigned int before, unsigned int now)
{
	if (!now || !before)
		return now != before ? RUN_DIRTY : 0;
	if (now & RUN_DIRTY)
		return RUN_DIRTY;
	/* A private copy of a file's page was made, or dropped. */
	if (before & now & RUN_PRESENT && (before ^ now) & RUN_FILE)
		return RUN_DIRTY;
	if ((before | now) & RUN_UNTOLD)
		return RUN_UNTOLD;
	/* Dropped (MADV_DONTNEED) and read again, so now zeros; or shared with a child. */
	return (now & RUN_ZERO) && !(before & RUN_ZERO) ? RUN_UNTOLD : 0;
}

/* Adds the pages that differ between old and new, and those that may. */
int runs_diff(const struct runs *old, const struct runs *new, struct ranges *written,
	      struct ranges *unknown)
{
	size_t i = 0, j = 0;
	uint64_t at = 0;

	while (i < old->n || j < new->n) {
		const struct run *o = i < old->n ? &old->v[i] : NULL;
		const struct run *n = j < new->n ? &new->v[j] : NULL;
		uint64_t end = UINT64_MAX;
		unsigned int what;
		bool in_o, in_n;
		int rc;

		if ((!o || o->start > at) && (!n || n->start > at))
			at = !o ? n->start : !n || o->start < n->start ? o->start : n->start;
		in_o = o && o->start <= at;
		in_n = n && n->start <= at;
		if (o)
			end = in_o ? o->end : o->start;
		if (n && (in_n ? n->end : n->start) < end)
			end = in_n ? n->end : n->start;
		what = fate(in_o ? o->state : 0, in_n ? n->state : 0);
		if (what) {
			rc = ranges_add(what == RUN_DIRTY ? written : unknown, at, end);
			if (rc)
				return rc;
		}
		at = end;
		i += in_o && o->end == at;
		j += in_n && n->end == at;
	}
	return 0;
}

void runs_swap(struct runs *a, struct runs *b)
{
	struct runs t = *a;

	*a = *b;
	*b = t;
}

/* As runs_diff(), and the new runs are the old ones of the next round. */
int runs_end_round(struct runs *old, struct runs *new, struct ranges *written,
		   struct ranges *unknown)
{
	int rc = runs_diff(old, new, written, unknown);

	if (!rc)
		runs_swap(old, new);
	return rc;
}

void runs_clear(struct runs *r)
{
	r->n = r->barrier = 0;
}

void runs_free(struct runs *r)
{
	mem_free(r->v, r->cap * sizeof(*r->v));
	r->v = NULL;
	r->n = r->cap = r->barrier = 0;
}
