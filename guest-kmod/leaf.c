// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaves: what a last-level page table maps, compared with what it mapped
 * when it was looked through last. Page tables are read as in walk.c.
 */
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "ooh.h"

/*
 * What matters of an entry: where it points and whether it is there. Accessed
 * and dirty flags change without a meaning here.
 */
#define ENTRY_BITS (PTE_PFN_MASK | _PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_SPECIAL)

/*
 * Content without a frame: swapped out, or on its way to another frame. Which
 * swap slot it is says nothing: a page can be brought in, written and swapped
 * out to the same one in a round. None of the bits above, so that a compare
 * by them always finds such an entry.
 */
#define ENTRY_OUT _PAGE_RW

/* Leaf ids are dense, so that a record finds its leaf by an array. */
#define MAX_LEAVES (1U << 22)
static DEFINE_IDA(ids);
struct ooh_leaf **ooh_leaf_by_id;
static u32 leaves_size;

static ooh_node table_node(const struct ooh_leaf *leaf)
{
	return OOH_NODE_TABLE | leaf->id;
}

static bool huge(u64 pmd)
{
	return pmd & _PAGE_PSE;
}

static bool present(u64 entry)
{
	return pte_present(__pte(entry));
}

static u64 entry_bits(u64 entry)
{
	if (present(entry))
		return entry & ENTRY_BITS;
	/* a marker says something about a page that is not there: see absent.c */
	return pte_none(__pte(entry)) || ooh_pte_marker(__pte(entry)) ? 0 : ENTRY_OUT;
}

/* A frame that can be followed: not the zero page, not a device's memory. */
static bool ordinary(u64 entry)
{
	return present(entry) && !(entry & _PAGE_SPECIAL) && pfn_valid(pte_pfn(__pte(entry)));
}

struct ooh_leaf *ooh_leaf_create(struct ooh_tracker *t, unsigned long addr)
{
	struct ooh_leaf *leaf;
	int id;

	leaf = kzalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);
	if (!leaf)
		return NULL;
	leaf->slots = kvzalloc(sizeof(*leaf->slots), GFP_KERNEL_ACCOUNT);
	id = leaf->slots ? ida_alloc_range(&ids, 1, MAX_LEAVES - 1, GFP_KERNEL) : -ENOMEM;
	if (id < 0)
		goto err_leaf;
	if (id >= leaves_size) {
		u32 size = max(2 * leaves_size, 1024U);
		struct ooh_leaf **grown =
			ooh_kvrealloc(ooh_leaf_by_id, leaves_size * sizeof(*grown),
				      size * sizeof(*grown));

		if (!grown)
			goto err_id;
		ooh_leaf_by_id = grown;
		leaves_size = size;
	}
	ooh_leaf_by_id[id] = leaf;
	leaf->id = id;
	leaf->tracker = t;
	leaf->records = ooh_tracker_records(t);
	leaf->addr = addr;
	return leaf;

err_id:
	ida_free(&ids, id);
err_leaf:
	kvfree(leaf->slots);
	kfree(leaf);
	return NULL;
}

/* Frames from pfn on could not be followed when these leaves came to use them. */
void ooh_leaves_link_from(unsigned long pfn)
{
	unsigned int i;
	u32 id;

	for (id = 0; id < leaves_size; id++) {
		struct ooh_leaf *leaf = ooh_leaf_by_id[id];

		if (!leaf)
			continue;
		while (!ooh_frames_room(OOH_SLOTS + 1))
			ooh_frames_flush();
		if (leaf->pmd && !huge(leaf->pmd) && pte_pfn(__pte(leaf->pmd)) >= pfn)
			ooh_frame_link(pte_pfn(__pte(leaf->pmd)), table_node(leaf));
		for (i = 0; i < OOH_SLOTS; i++) {
			u64 val = leaf->slots->pte[i];

			if (ordinary(val) && pte_pfn(__pte(val)) >= pfn)
				ooh_frame_link(pte_pfn(__pte(val)), ooh_page_node(id, i));
		}
		cond_resched();
	}
	ooh_frames_flush();
}

void ooh_leaf_exit(void)
{
	kvfree(ooh_leaf_by_id);
	ida_destroy(&ids);
}

/* The entry of this slot is now val: follow the frame that it names. */
static void set_slot(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	ooh_node node = ooh_page_node(leaf->id, slot);
	u64 old = leaf->slots->pte[slot];

	leaf->slots->pte[slot] = val;
	leaf->absent += ooh_absent(val) - ooh_absent(old);
	if (present(old) && present(val) && pte_pfn(__pte(old)) == pte_pfn(__pte(val)) &&
	    ordinary(old) == ordinary(val)) {
		/* the same frame under another protection is no change */
		if (ooh_absent(old) == ooh_absent(val))
			return;
	} else {
		if (ordinary(old))
			ooh_frame_unlink(pte_pfn(__pte(old)), node);
		if (ordinary(val))
			ooh_frame_link(pte_pfn(__pte(val)), node);
		leaf->mapped += !!val - !!old;
	}
	__set_bit(slot, leaf->pending);
	leaf->dirty = true;
}

void ooh_leaf_destroy(struct ooh_leaf *leaf)
{
	unsigned int i;

	while (!ooh_frames_room(OOH_SLOTS + 1))
		ooh_frames_flush();
	for (i = 0; i < OOH_SLOTS; i++)
		set_slot(leaf, i, 0);
	ooh_leaf_set_pmd(leaf, 0);
	ooh_leaf_by_id[leaf->id] = NULL;
	ida_free(&ids, leaf->id);
	kvfree(leaf->slots);
	kfree(leaf);
}

/* Takes note of another entry above the leaf. The caller has room in the queue. */
void ooh_leaf_set_pmd(struct ooh_leaf *leaf, u64 pmd)
{
	if (leaf->pmd && !huge(leaf->pmd))
		ooh_frame_unlink(pte_pfn(__pte(leaf->pmd)), table_node(leaf));
	leaf->pmd = pmd;
	if (pmd && !huge(pmd))
		ooh_frame_link(pte_pfn(__pte(pmd)), table_node(leaf));
	leaf->rescan = true;
}

void ooh_leaf_set_absent(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	if (val != leaf->slots->pte[slot] || val == OOH_ABSENT_OUT)
		set_slot(leaf, slot, val);
}

void ooh_leaf_mark_present(struct ooh_leaf *leaf)
{
	unsigned int i;

	for (i = 0; i < OOH_SLOTS; i++)
		if (leaf->slots->pte[i])
			__set_bit(i, leaf->pending);
	leaf->dirty |= leaf->mapped != 0;
}

void ooh_leaf_mark_all(struct ooh_leaf *leaf)
{
	bitmap_fill(leaf->pending, OOH_SLOTS);
	leaf->dirty = true;
}

/* What of a block of entries changed. */
static void scan_block(struct ooh_leaf *leaf, unsigned int first, const u64 *table)
{
	u64 *old = leaf->slots->pte;
	unsigned int i;

	for (i = first; i < first + OOH_BLOCK; i++) {
		u64 val = entry_bits(READ_ONCE(table[i]));

		if (!val && ooh_absent(old[i]))
			continue;
		if (val != old[i] || val == ENTRY_OUT)
			set_slot(leaf, i, val);
	}
}

/* Compares the leaf with its page table. Did anything change? */
static bool scan_table(struct ooh_leaf *leaf, const u64 *table, int how)
{
	const u64 *old = leaf->slots->pte;
	unsigned int i;

	if (!ooh_entries_differ(how, table, old, OOH_SLOTS, ENTRY_BITS))
		return false;
	for (i = 0; i < OOH_SLOTS; i += OOH_BLOCK)
		if (ooh_entries_differ(how, table + i, old + i, OOH_BLOCK, ENTRY_BITS))
			scan_block(leaf, i, table);
	return true;
}

/* The same for a huge entry, or for none at all. */
static void scan_huge(struct ooh_leaf *leaf)
{
	const u64 *old = leaf->slots->pte;
	unsigned int i;

	for (i = 0; i < OOH_SLOTS; i++) {
		u64 val = leaf->pmd ? (leaf->pmd & ~_PAGE_PSE) + ((u64)i << PAGE_SHIFT) : 0;

		if (val != old[i] && (val || !ooh_absent(old[i])))
			set_slot(leaf, i, val);
	}
}

#define TOGETHER 16 /* tables looked through in one section */

/*
 * Looks through leaves from v[i] on, with interrupts off, until that has taken some
 * time or something changed. Gives the one to go on with.
 */
static size_t scan_some(struct ooh_leaf **v, size_t i, size_t nr, u64 *tables, bool *all)
{
	struct ooh_pmd_page page = { .addr = 1 };
	int how = ooh_entries_begin();
	unsigned int n = 0;
	bool changed = false;
	unsigned long flags;

	local_irq_save(flags);
	for (; i < nr && n < TOGETHER && !changed; i++) {
		struct ooh_leaf *leaf = v[i];

		if (!leaf->rescan)
			continue;
		n++;
		if ((leaf->addr & PUD_MASK) != page.addr)
			page = ooh_pmd_page(ooh_tracker_mm(leaf->tracker), leaf->addr);
		if (ooh_pmd_now(&page, leaf->addr) != leaf->pmd) {
			*all = false;
			continue;
		}
		leaf->rescan = false;
		if (leaf->pmd && !huge(leaf->pmd)) {
			changed = scan_table(leaf, __va(leaf->pmd & PTE_PFN_MASK), how);
		} else {
			scan_huge(leaf);
			changed = true;
		}
	}
	local_irq_restore(flags);
	ooh_entries_end(how);
	*tables += n;
	return i;
}

/*
 * Compares those leaves that may differ with the page tables and follows what
 * changed. False: the entry above one is not what the walk took note of.
 */
bool ooh_leaves_scan(struct ooh_leaves *l, u64 *tables)
{
	bool all = true;
	size_t i = 0;

	while (i < l->nr) {
		if (!l->v[i]->rescan) {
			i++;
			continue;
		}
		while (!ooh_frames_room(OOH_SLOTS))
			ooh_frames_flush();
		i = scan_some(l->v, i, l->nr, tables, &all);
	}
	return all;
}
