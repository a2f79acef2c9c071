/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which parts of an address space are written most, lately. The unit is what lies
 * of one mapping in one 2 MiB block.
 */
#ifndef OOH_HEAT_H
#define OOH_HEAT_H

#include <stdint.h>
#include <stddef.h>
#include <ooh.h>
#include "../src/vmas.h"

struct hot {
	uint64_t start, end;
	double written;	  /* pages a round: half of it from the last one, a quarter ... */
	const char *name; /* of the mapping; set by heat_hottest() */
};

struct heat {
	struct hot *v, *next;
	size_t n, cap;
	size_t rounds;
};

int heat_round(struct heat *h, const struct vmas *vmas, const struct ooh_range *r, size_t n);
size_t heat_hottest(const struct heat *h, const struct vmas *vmas, struct hot *out, size_t len);
void heat_free(struct heat *h);

#endif
