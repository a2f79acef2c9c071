/* SPDX-License-Identifier: GPL-2.0-only */
/* What was written, round by round: which pages are dirty since round N? */
#ifndef OOH_ROUNDS_H
#define OOH_ROUNDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ooh.h>
#include "token.h"

#define ROUNDS_KEPT  16
#define MARKS_KEPT   256	/* an older mark is not recognized: all is dirty */
#define ROUND_RANGES (1u << 20) /* more in one entry: all is dirty */

struct round {
	uint64_t last; /* the rounds behind the entry before up to this one */
	bool all;      /* it is not known what was written */
	struct ooh_range *v;
	size_t n;
};

/*
 * A mark is the number of a round that has ended, and a token that was made when it ended.
 * Whoever took the pages at mark M asks later what was written since M, that is in the
 * rounds M + 1 ... now.
 *
 * The number alone would not do. A virtual machine that is set back to a snapshot has a
 * younger self, whose images may be there: their marks have numbers that are still to come
 * here, or that have come again. Only a mark that these rounds have made themselves counts.
 */
struct rounds {
	struct round v[ROUNDS_KEPT];
	unsigned int n;
	uint64_t now; /* rounds that have ended */
	uint8_t tokens[MARKS_KEPT][TOKEN_LEN];
};

void rounds_begin(struct rounds *r);
void rounds_add(struct rounds *r, const struct ooh_range *v, size_t n, bool all);
const uint8_t *rounds_token(const struct rounds *r, uint64_t round);
bool rounds_since(const struct rounds *r, uint64_t mark, const uint8_t *token,
		  struct ooh_range **out, size_t *n);
void rounds_free(struct rounds *r);

#endif
