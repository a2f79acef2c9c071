/* SPDX-License-Identifier: GPL-2.0-only */
/* The levels above the page tables: which page tables an address space has. */
#ifndef OOH_PAGETABLE_WALK_H
#define OOH_PAGETABLE_WALK_H

#include <linux/mm_types.h>
#include <linux/pgtable.h>
#include <linux/types.h>

struct ooh_pmd {
	unsigned long addr;
	u64 val;
};

struct ooh_pmds { /* result of a walk, grows */
	struct ooh_pmd *v;
	size_t nr, size;
	struct ooh_upper *upper; /* the pages it comes from, as they were */
	size_t nr_upper, size_upper;
	bool known; /* these are what v was made of */
};

/* Every pmd that maps something, in ascending order. 0; 1: as in the walk before; -ENOMEM */
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out);
void ooh_walk_free(struct ooh_pmds *pmds);

struct ooh_pmd_page { /* the pmds of one pud */
	unsigned long addr;
	const pmd_t *pmds; /* or NULL */
	u64 huge;	   /* the pud, if it is an entry for 1 GiB */
};

/* Both with interrupts off. What maps addr now, in the form that ooh_walk() gives. */
struct ooh_pmd_page ooh_pmd_page(struct mm_struct *mm, unsigned long addr);
u64 ooh_pmd_now(const struct ooh_pmd_page *page, unsigned long addr);

#endif /* OOH_PAGETABLE_WALK_H */
