/* SPDX-License-Identifier: GPL-2.0-only */
/* The levels above the page tables: which page tables an address space has. */
#ifndef OOH_PAGETABLE_WALK_H
#define OOH_PAGETABLE_WALK_H

#include <linux/cpumask.h>
#include <linux/irqflags.h>
#include <linux/mm_types.h>
#include <linux/pgtable.h>
#include <linux/smp.h>
#include <linux/types.h>

#include "compat/compat.h"

/*
 * Between hold and release, interrupts are off, and no page table of the mm is freed, although
 * no lock is held. Whoever frees one clears the entry that leads to it, then waits: for an RCU
 * grace period, or (OOH_TABLES_WAIT_FOR_USERS) for an interrupt on each CPU in mm_cpumask().
 * The CPU that collects is in that mask only if a process tracks itself; otherwise it joins.
 * Setting its bit is a full barrier. So is the increment of the TLB generation, which the
 * freeing side makes between the entry and the mask. So either the freeing side sees the bit
 * and waits for the CPU, or this side finds the entry cleared. Nobody but this CPU changes its
 * bit, and a flush for an address space that it has not loaded does nothing.
 */
struct ooh_hold {
	unsigned long flags;
	bool joined;
};

static inline void ooh_tables_hold(struct mm_struct *mm, struct ooh_hold *h)
{
	local_irq_save(h->flags);
	h->joined = OOH_TABLES_WAIT_FOR_USERS &&
		    !cpumask_test_and_set_cpu(smp_processor_id(), mm_cpumask(mm));
}

static inline void ooh_tables_release(struct mm_struct *mm, const struct ooh_hold *h)
{
	if (h->joined)
		cpumask_clear_cpu(smp_processor_id(), mm_cpumask(mm));
	local_irq_restore(h->flags);
}

struct ooh_pmd {
	unsigned long addr;
	u64 val;
};

struct ooh_pmds { /* result of a walk, grows */
	struct ooh_pmd *v;
	size_t nr, size;
	struct ooh_upper *upper; /* copies of the pages it comes from */
	size_t nr_upper, size_upper;
	bool known; /* v was made from these copies */
};

/* Every pmd that maps something, in ascending order. 0; 1: as in the last walk; -ENOMEM */
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out);
void ooh_walk_free(struct ooh_pmds *pmds);

struct ooh_pmd_page { /* the pmds of one pud */
	unsigned long addr;
	const pmd_t *pmds; /* or NULL */
	u64 huge;	   /* the pud, if it is an entry for 1 GiB */
};

/* Both with the tables held. What maps addr now, in the form of ooh_walk(). */
struct ooh_pmd_page ooh_pmd_page(struct mm_struct *mm, unsigned long addr);
u64 ooh_pmd_now(const struct ooh_pmd_page *page, unsigned long addr);

#endif /* OOH_PAGETABLE_WALK_H */
