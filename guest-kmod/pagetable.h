/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Leaves: what the page tables of an address space map, compared with what they mapped when
 * they were last read. rmap.c follows whatever is found.
 */
#ifndef OOH_PAGETABLE_H
#define OOH_PAGETABLE_H

#include <linux/mm_types.h>
#include <linux/types.h>

#include "pagetable-walk.h"
#include "rmap.h"

/* What one last-level page table or one huge entry maps; or pages that have neither. */
struct ooh_leaf {
	struct ooh_users users;
	unsigned long addr;		   /* first byte of the 2 MiB */
	u64 pmd;			   /* the bits of its entry that matter; 0: gone */
	u32 mapped;			   /* slots in use, pages in swap included */
	u32 absent;			   /* of these: filled in by the page cache */
	u32 nr_opaque;			   /* of these: pages whose frame cannot be followed */
	bool dirty;			   /* report is not empty */
	bool went_out;			   /* a page went to swap since the last report */
	u64 *pte;			   /* the bits of the entries that matter */
	DECLARE_BITMAP(report, OOH_SLOTS); /* pages to be reported */
	DECLARE_BITMAP(opaque, OOH_SLOTS);
};

/*
 * The slot of a page without an entry holds what the page cache has for it: a frame, marked
 * as no entry of a process is (present and PROT_NONE at once), so that the page counts as
 * new when it gets its entry.
 */
#define OOH_ABSENT (_PAGE_PRESENT | _PAGE_PROTNONE)
static inline bool ooh_absent(u64 val)
{
	return (val & OOH_ABSENT) == OOH_ABSENT;
}

/* In a slot, beside what the entry says: the frame is linked in rmap.c. */
#define OOH_SLOT_LINKED _PAGE_SOFTW2

/* What a slot's entry says. 0: nothing is there */
static inline u64 ooh_leaf_slot(const struct ooh_leaf *leaf, unsigned int slot)
{
	return leaf->pte[slot] & ~OOH_SLOT_LINKED;
}

#define OOH_LEAVES_AT_ONCE 256 /* looked at before others may run */

/* The leaves of one address space, ascending by address. Its owner locks. */
struct ooh_leaves {
	struct mm_struct *mm;
	struct ooh_leaf **v;
	size_t nr, size;
	struct ooh_pmds pmds;
	bool retiring; /* some are kept only until their pages are reported as gone */
	u64 records;   /* records of its pages and page tables */
	u64 tables;    /* page tables that were read */
};

/*
 * Follows the page tables as they are now: whatever changes afterwards is logged. The caller
 * holds mm_users, but not ooh_rmap_lock. 0 or -errno
 */
int ooh_leaves_update(struct ooh_leaves *l);
void ooh_leaves_forget(struct ooh_leaves *l); /* all of them */
void ooh_leaves_free(struct ooh_leaves *l);   /* what is left after that */
/* Moves what was written into the report; or drops it. */
void ooh_leaves_take(struct ooh_leaves *l);
void ooh_leaves_drop(struct ooh_leaves *l);
void ooh_leaves_rescan(struct ooh_leaves *l);	  /* all of them may differ */
void ooh_leaves_report_all(struct ooh_leaves *l); /* all that is mapped */
u64 ooh_leaves_mapped(const struct ooh_leaves *l);

/* For the page cache. NULL: no memory. It becomes l->v[at]. */
struct ooh_leaf *ooh_leaves_insert(struct ooh_leaves *l, size_t at, unsigned long addr);
/* With ooh_rmap_lock, room in the queue, and the frame prepared. */
void ooh_leaf_set_absent(struct ooh_leaf *leaf, unsigned int slot, u64 val);

#endif /* OOH_PAGETABLE_H */
