/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reverse map: which pages and page tables use a frame. A frame with a user is armed, and
 * a record of it marks all its users.
 */
#ifndef OOH_RMAP_H
#define OOH_RMAP_H

#include <linux/mutex.h>
#include <linux/pgtable.h>
#include <linux/types.h>

#define OOH_SLOTS PTRS_PER_PTE

/*
 * Guards the log, and everything here. It is held while the logs are emptied or some page
 * tables are read, and never while waiting for something that a process holds.
 */
extern struct mutex ooh_rmap_lock;

/* A use of a frame, by number: of a page, or of a page table. 0: none */
typedef u32 ooh_node;
#define OOH_NODE_TABLE (1U << 31)

/* Why a page table has to be read. */
#define OOH_TABLE_WRITTEN 1 /* it was written, or is another one */
#define OOH_TABLE_AGAIN	  2 /* once more, because of what was found in it */

/*
 * Up to OOH_SLOTS neighbouring pages, each of which uses a frame, and their page table. All
 * nodes of a frame form a list, whose links are here.
 */
struct ooh_users {
	u32 id;
	u8 table_written; /* OOH_TABLE_*: the table may differ from what is known */
	bool any_written; /* written is not empty */
	u64 *records;	  /* counts the records that marked any of them */
	ooh_node table_next, table_prev;
	struct ooh_links {
		ooh_node next[OOH_SLOTS], prev[OOH_SLOTS];
	} * links;
	DECLARE_BITMAP(written, OOH_SLOTS); /* pages whose frame was written */
};

static inline ooh_node ooh_page_node(const struct ooh_users *u, unsigned int slot)
{
	return u->id << 9 | slot;
}

static inline ooh_node ooh_table_node(const struct ooh_users *u)
{
	return OOH_NODE_TABLE | u->id;
}

/* These take the lock. 0 or -ENOMEM */
int ooh_rmap_add_users(struct ooh_users *u);
void ooh_rmap_del_users(struct ooh_users *u); /* none of its pages uses a frame any more */
int ooh_rmap_prepare(unsigned long pfn);      /* before it can get a user */

/* With the lock held. A link or unlink takes one place in the queue. */
bool ooh_rmap_prepared(unsigned long pfn);
void ooh_rmap_link(unsigned long pfn, ooh_node node);
void ooh_rmap_unlink(unsigned long pfn, ooh_node node);
void ooh_rmap_make_room(unsigned int nr);
void ooh_rmap_flush(void); /* arms and forgets what is queued */
/*
 * Ends a round for all users of all frames: marks what was written until now, and arms it
 * again. Adds to the reasons why that may not be all; they count even if it fails.
 */
int ooh_rmap_drain(u32 *reasons);
void ooh_rmap_rearm_all(void);	 /* as if nothing were armed */
void ooh_rmap_free_chunks(void); /* no frame has a user */

void ooh_rmap_exit(void);

#endif /* OOH_RMAP_H */
