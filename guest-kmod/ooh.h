/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's own interfaces. The way of a dirty page: spml.c (Xen's ring) or
 * epml.c (the processor's logs) -> frames.c (which pages map a logged frame)
 * -> leaf.c (pages, page tables) -> tracker.c (rounds of one process) -> dev.c
 * (/dev/ooh). walk.c: which page tables there are; entries.c: compares many of
 * their entries; absent.c: pages that only the page cache knows of.
 *
 * One mutex, ooh_lock, guards all of it: the ring is one for the domain and a
 * collect concerns every tracker. What is done under it ends soon, whatever a
 * process does; who has to wait for one holds the lock of a tracker alone.
 */
#ifndef OOH_H
#define OOH_H

#include <linux/bitmap.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/ooh.h>

#include "compat/compat.h"

#undef pr_fmt
#define pr_fmt(fmt) "ooh: " fmt

#define OOH_SLOTS   PTRS_PER_PTE /* pages a leaf spans */

extern struct mutex ooh_lock;

/*
 * A node is one use of a frame: by a page (leaf and slot), or as the page table
 * of a leaf. All nodes of a frame form a list whose head frames.c keeps. 0: none.
 */
typedef u32 ooh_node;
#define OOH_NODE_TABLE (1U << 31)

struct ooh_leaf;
static inline ooh_node ooh_page_node(u32 leaf, unsigned int slot)
{
	return leaf << 9 | slot;
}

/*
 * What one last-level page table (or one huge entry) mapped when it was looked
 * through last, and which of its pages are to be reported.
 */
struct ooh_leaf {
	struct ooh_tracker *tracker;
	u64 *records;	    /* the tracker's count of them */
	unsigned long addr; /* first byte of the 2 MiB */
	u64 pmd;	    /* its entry, the bits that matter; 0: gone */
	u32 id;
	u32 mapped;  /* pages it holds, swapped out ones too */
	bool rescan; /* may differ from what is known */
	bool dirty;  /* pending is not empty */
	bool left;   /* round is not empty */
	u32 absent;  /* slots filled in by absent.c */
	/* absent pages by others; now, in the round before */
	bool writable, was_writable;
	ooh_node table_next, table_prev;
	DECLARE_BITMAP(pending, OOH_SLOTS); /* for the end of this round */
	DECLARE_BITMAP(round, OOH_SLOTS);   /* of rounds that ended, to be given out */
	struct ooh_slots {
		u64 pte[OOH_SLOTS]; /* the bits that matter */
		ooh_node next[OOH_SLOTS];
		ooh_node prev[OOH_SLOTS];
	} * slots;
};

/*
 * A slot of a page without an entry: what the page cache has for it. A frame,
 * marked as no entry of a process is (present and of no protection at once), so
 * that the page counts as new when it gets its entry; or out of memory (counts as
 * changed).
 */
#define OOH_ABSENT     (_PAGE_PRESENT | _PAGE_PROTNONE)
#define OOH_ABSENT_OUT _PAGE_USER
static inline bool ooh_absent(u64 val)
{
	return val == OOH_ABSENT_OUT || (val & OOH_ABSENT) == OOH_ABSENT;
}

/* Leaves, ascending by address. */
struct ooh_leaves {
	struct ooh_leaf **v;
	size_t nr, size;
};

/* leaf.c */
struct ooh_leaf *ooh_leaf_create(struct ooh_tracker *t, unsigned long addr);
void ooh_leaf_destroy(struct ooh_leaf *leaf); /* forgets its frames */
void ooh_leaf_set_pmd(struct ooh_leaf *leaf, u64 pmd);
bool ooh_leaves_scan(struct ooh_leaves *l, u64 *tables); /* false: a pmd changed meanwhile */
/* within the queue's room */
void ooh_leaf_set_absent(struct ooh_leaf *leaf, unsigned int slot, u64 val);
void ooh_leaf_mark_present(struct ooh_leaf *leaf);
void ooh_leaf_mark_all(struct ooh_leaf *leaf);
void ooh_leaves_link_from(unsigned long pfn); /* all leaves: frames from pfn on */
void ooh_leaf_exit(void);

extern struct ooh_leaf **ooh_leaf_by_id;
static inline struct ooh_leaf *ooh_leaf_of(ooh_node node)
{
	return ooh_leaf_by_id[node & OOH_NODE_TABLE ? node & ~OOH_NODE_TABLE : node >> 9];
}

/* entries.c */
#define OOH_BLOCK 64 /* entries looked at together */
int ooh_entries_begin(void);
void ooh_entries_end(int how);
bool ooh_entries_differ(int how, const u64 *new, const u64 *old, unsigned int nr, u64 mask);

/* walk.c */
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
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out); /* 1: nothing new */
void ooh_walk_free(struct ooh_pmds *pmds);
struct ooh_pmd_page { /* the pmds of one pud */
	unsigned long addr;
	const pmd_t *pmds; /* or NULL */
	u64 huge;	   /* the pud, if it is an entry for 1 GiB */
};
struct ooh_pmd_page ooh_pmd_page(struct mm_struct *mm, unsigned long addr);
u64 ooh_pmd_now(const struct ooh_pmd_page *page, unsigned long addr);

/* absent.c */
int ooh_absent_update(struct ooh_tracker *t, u64 since);

/* frames.c */
int ooh_frames_init(void);
int ooh_frames_update(void);	   /* before page tables are looked through */
unsigned long ooh_frames_nr(void); /* the pfns that can be followed are below */
void ooh_frames_exit(void);
void ooh_frame_link(unsigned long pfn, ooh_node node);
void ooh_frame_unlink(unsigned long pfn, ooh_node node);
bool ooh_frames_room(unsigned int nr); /* can nr more be queued without a flush? */
unsigned long ooh_frames_logged_bits(unsigned long pfn, unsigned long bits);
void ooh_frames_logged(const u64 *records, u64 mask, u64 from, u64 to);
int ooh_frames_flush(void);	 /* arm and forget what is queued */
void ooh_frames_rearm_all(void); /* Xen has forgotten everything */
void ooh_frames_unarmed(void);	 /* report those that Xen refuses to arm */
extern u64 ooh_frames_foreign, ooh_frames_armed;

/* spml.c: each returns 0 or -errno */
int ooh_spml_init(void);
void ooh_spml_exit(void);
int ooh_spml_arm(u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn));
int ooh_spml_forget(u64 *pfns, unsigned int nr);
int ooh_spml_collect(void); /* ends the round: trackers get their marks */
struct xen_hvm_spml;
struct xen_spml_range;
int ooh_spml_op(struct xen_hvm_spml *op);
int ooh_spml_rearm(struct xen_spml_range *ranges, unsigned int nr);
int ooh_spml_start_over(u32 reason); /* a new ring, everything dirty */
void ooh_spml_info(struct ooh_info *info);
u64 ooh_spml_waiting(void); /* records not drained yet, U64_MAX: lost; takes no lock */
extern u64 ooh_spml_overflows, ooh_spml_hypercalls, ooh_spml_drain_ns, ooh_spml_map_ns,
	ooh_spml_arm_ns;

/* epml.c: beside the ring of spml.c, while it is on */
int ooh_epml_init(void); /* 0 also if there is none */
void ooh_epml_exit(void);
int ooh_epml_make_room(unsigned long nr_frames); /* in the set of logged frames */
bool ooh_epml_there(void);
int ooh_epml_start(void); /* before the first tracker */
void ooh_epml_stop(void); /* after the last one */
int ooh_epml_collect(void);
void ooh_epml_log_again(void);
u64 ooh_epml_waiting(void); /* as ooh_spml_waiting() */
void ooh_epml_stats(struct ooh_stats *s);
extern bool ooh_epml_on;

/*
 * tracker.c: all but create and free are called with ooh_lock held, those that can take
 * their time (attach, collect) with the tracker's, too, and they let go of ooh_lock
 */
struct ooh_tracker;
struct ooh_tracker *ooh_tracker_create(void);
void ooh_tracker_free(struct ooh_tracker *t);
int ooh_collect_logs(void); /* whoever uses what was written gets its marks */
int ooh_tracker_attach(struct ooh_tracker *t, struct pid *pid, struct mm_struct *mm);
int ooh_tracker_collect(struct ooh_tracker *t, struct ooh_collect *c);
void ooh_tracker_untold(struct ooh_tracker *t); /* what it collected got lost */
struct mutex *ooh_tracker_lock(struct ooh_tracker *t);
void ooh_tracker_stats(struct ooh_tracker *t, struct ooh_stats *s);
struct mm_struct *ooh_tracker_mm(const struct ooh_tracker *t);
struct ooh_leaves *ooh_tracker_leaves(struct ooh_tracker *t);
/* NULL: no memory */
struct ooh_leaf *ooh_leaves_insert(struct ooh_tracker *t, size_t at, unsigned long addr);
u64 *ooh_tracker_records(struct ooh_tracker *t);      /* how many were its pages */
u64 ooh_tracker_waiting(const struct ooh_tracker *t); /* as ooh_spml_waiting(): drained */
void ooh_trackers_all_dirty(u32 reason);	      /* every tracker lost its log */
extern unsigned int ooh_trackers;

/* dev.c */
int ooh_dev_init(void);
void ooh_dev_exit(void);

/* main.c: faults put in on purpose, to prove that tests see them */
enum ooh_inject { OOH_INJECT_NONE, OOH_INJECT_NOREARM, OOH_INJECT_DROPRECORD, OOH_INJECT_CORRUPT };
extern enum ooh_inject ooh_inject;
#define OOH_RING_AUTO (~0U - 1) /* neither a size nor somebody's -1 */
extern unsigned int ooh_ring_pages;

#endif /* OOH_H */
