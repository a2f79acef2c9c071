/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs: neighbouring pages in the same state. The native backends see a
 * process as a vector of runs, and what changed as the difference of two.
 */
#ifndef OOH_RUNS_H
#define OOH_RUNS_H

#include "ranges.h"

#define RUN_PRESENT (1u << 0)
#define RUN_SWAPPED (1u << 1)
#define RUN_FILE    (1u << 2) /* of the page cache or shared, not of the process alone */
#define RUN_ZERO    (1u << 3) /* maybe the zero page: its entry says nothing of what it replaced */
#define RUN_DIRTY   (1u << 4)
#define RUN_UNTOLD  (1u << 5) /* others can write it, or its entry does not say that it was */

struct run {
	uint64_t start, end;
	unsigned int state; /* RUN_*, never 0 */
};

struct runs {
	struct run *v;
	size_t n, cap;
	size_t barrier; /* runs before this one grow no more */
};

void runs_barrier(struct runs *r);
int runs_add(struct runs *r, uint64_t start, uint64_t end, unsigned int state);
int runs_diff(const struct runs *old, const struct runs *new, struct ranges *written,
	      struct ranges *unknown);
int runs_end_round(struct runs *old, struct runs *new, struct ranges *written,
		   struct ranges *unknown);
void runs_swap(struct runs *a, struct runs *b);
void runs_clear(struct runs *r);
void runs_free(struct runs *r);

#endif
