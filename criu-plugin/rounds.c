// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include "rounds.h"

/* Two lists, each ascending and without overlap, become one. NULL: no memory. */
static struct ooh_range *join(const struct ooh_range *a, size_t na, const struct ooh_range *b,
			      size_t nb, size_t *n)
{
	struct ooh_range *out = malloc((na + nb + 1) * sizeof(*out));
	size_t i = 0, j = 0, k = 0;

	if (!out)
		return NULL;
	while (i < na || j < nb) {
		const struct ooh_range *next;

		next = j == nb || (i < na && a[i].start <= b[j].start) ? &a[i++] : &b[j++];
		if (k && next->start <= out[k - 1].end) {
			if (next->end > out[k - 1].end)
				out[k - 1].end = next->end;
		} else {
			out[k++] = *next;
		}
	}
	*n = k;
	return out;
}

static void forget_ranges(struct round *e)
{
	free(e->v);
	e->v = NULL;
	e->n = 0;
	e->all = true;
}

/*
 * The two oldest entries become one: who asks for what was written since the mark
 * between them is told some pages more, and nobody is told less.
 */
static void merge_oldest(struct rounds *r)
{
	struct round *a = &r->v[0], *b = &r->v[1];
	struct ooh_range *v = NULL;
	size_t n = 0;

	if (!a->all && !b->all)
		v = join(a->v, a->n, b->v, b->n, &n);
	free(a->v);
	free(b->v);
	b->v = v;
	b->n = n;
	b->all = !v;
	if (b->n > ROUND_RANGES)
		forget_ranges(b);
	memmove(r->v, r->v + 1, --r->n * sizeof(r->v[0]));
}

static void make_token(struct rounds *r)
{
	token_make(r->tokens[r->now % MARKS_KEPT]);
}

/* Mark 0: nothing is known of before. */
void rounds_begin(struct rounds *r)
{
	memset(r, 0, sizeof(*r));
	make_token(r);
}

/* Ends a round. v is ascending and without overlap. */
void rounds_add(struct rounds *r, const struct ooh_range *v, size_t n, bool all)
{
	struct round *e;

	if (r->n == ROUNDS_KEPT)
		merge_oldest(r);
	e = &r->v[r->n++];
	*e = (struct round){ .last = ++r->now, .all = true };
	make_token(r);
	if (all || n > ROUND_RANGES)
		return;
	e->v = malloc((n + 1) * sizeof(*v));
	if (!e->v)
		return;
	if (n)
		memcpy(e->v, v, n * sizeof(*v));
	e->n = n;
	e->all = false;
}

/* The token of a mark; NULL: there is no such mark, or it is too old. */
const uint8_t *rounds_token(const struct rounds *r, uint64_t round)
{
	if (round > r->now || r->now - round >= MARKS_KEPT)
		return NULL;
	return r->tokens[round % MARKS_KEPT];
}

/*
 * Gives what was written since mark, to be freed by the caller. It is asked for after a round
 * was ended for the answer, so nobody can have taken pages at the last one yet.
 * false: it is not known, everything may have been written.
 */
bool rounds_since(const struct rounds *r, uint64_t mark, const uint8_t *token,
		  struct ooh_range **out, size_t *n)
{
	const uint8_t *ours = rounds_token(r, mark);
	struct ooh_range *sum;
	unsigned int i;

	*out = NULL;
	*n = 0;
	if (!ours || mark == r->now || memcmp(ours, token, TOKEN_LEN))
		return false;
	sum = malloc(sizeof(*sum));
	if (!sum)
		return false;
	for (i = 0; i < r->n; i++) {
		const struct round *e = &r->v[i];
		struct ooh_range *more;

		if (e->last <= mark)
			continue;
		more = e->all ? NULL : join(sum, *n, e->v, e->n, n);
		free(sum);
		if (!more) {
			*n = 0;
			return false;
		}
		sum = more;
	}
	*out = sum;
	return true;
}

void rounds_free(struct rounds *r)
{
	while (r->n)
		free(r->v[--r->n].v);
}
