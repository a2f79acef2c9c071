/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The oracle: what changed in the memory of a stopped process, by comparing
 * its contents with a copy. It knows no tracker and shares no code with one.
 */
#ifndef OOH_ORACLE_H
#define OOH_ORACLE_H

#include <stdint.h>
#include <sys/types.h>
#include <ooh.h>

struct oracle;

struct oracle_round {
	uint64_t mapped;     /* pages present */
	uint64_t unreadable; /* of these; they cannot be compared */
	uint64_t changed;    /* content differs, appeared, or vanished with content */
	uint64_t reported;   /* of changed and present pages: in the ranges */
	uint64_t missed;     /* changed, not in the ranges */
	uint64_t extra;	     /* in the ranges, not changed */
};

typedef void oracle_missed_fn(void *arg, uint64_t page, const char *mapping);

struct oracle *oracle_new(pid_t pid);
int oracle_copy(struct oracle *o);
int oracle_look(struct oracle *o);
int oracle_judge(struct oracle *o, const struct ooh_range *ranges, size_t n,
		 struct oracle_round *out, oracle_missed_fn *missed, void *arg);
uint64_t oracle_there(const struct oracle *o, const struct ooh_range *ranges, size_t n);
void oracle_free(struct oracle *o);

#endif
