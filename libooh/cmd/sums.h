/* SPDX-License-Identifier: GPL-2.0-only */
/* Ranges with the names of their mappings, and the pages of each name over all rounds. */
#ifndef OOH_SUMS_H
#define OOH_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <ooh.h>
#include "../src/vmas.h"

/* A part of a range that lies in one mapping */
struct part {
	uint64_t start, end;
	const char *name; /* "": anonymous; NULL: not mapped any more */
};

/* The parts of ranges, which ascend, one after the other */
struct parts {
	const struct ooh_range *r;
	size_t n, vma;
	uint64_t at;
};

struct sum {
	char *name; /* as a person reads it */
	uint64_t written, unknown;
};

struct sums {
	struct sum *v;
	size_t n, cap;
};

void parts_begin(struct parts *p, const struct ooh_range *r, size_t n);
bool parts_next(struct parts *p, const struct vmas *vmas, struct part *part);
const char *part_name(char *buf, size_t size, const struct part *part);

enum column { WRITTEN, UNKNOWN };
int sums_add(struct sums *s, const struct vmas *vmas, const struct ooh_range *r, size_t n,
	     enum column column);
void sums_sort(struct sums *s);
void sums_free(struct sums *s);

#endif
