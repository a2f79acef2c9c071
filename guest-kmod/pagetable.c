// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaves: what a last-level page table maps, compared with what it mapped when it was last
 * read. Page tables are read as in pagetable-walk.c.
 */
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "pagetable.h"
#include "pagetable-simd.h"

/*
 * What matters of an entry: where it points, and whether it is present. Changes of accessed
 * and dirty flags mean nothing here.
 */
#define ENTRY_FLAGS (_PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_SPECIAL | OOH_PAGE_DEVMAP)
#define ENTRY_BITS  (PTE_PFN_MASK | ENTRY_FLAGS)

/*
 * Content without a frame: in swap, or on its way to another frame. The number of the swap
 * slot says nothing: within a round a page can be brought in, written, and swapped out to the
 * same slot. This is one of the bits above alone, as no entry has it. So a compare by those
 * bits always finds an entry of a page in swap, and finds that such an entry is gone.
 */
#define ENTRY_OUT _PAGE_SPECIAL

/* compares of slots with entries ignore it */
static_assert(!(OOH_SLOT_LINKED & ENTRY_FLAGS));
static_assert(ENTRY_OUT & ENTRY_FLAGS);

#define TRIES	 16 /* for page tables that change while they are read */
#define TOGETHER 16 /* tables read in one section */

static bool is_huge(u64 pmd)
{
	return pmd & _PAGE_PSE;
}

static bool is_present(u64 entry)
{
	return pte_present(__pte(entry));
}

static unsigned long pfn_of(u64 entry)
{
	return pte_pfn(__pte(entry));
}

/*
 * A marker stands for no page: it says what to do when one is to be made. For the memory of a
 * file, the page cache has the page.
 */
static u64 entry_bits(u64 entry)
{
	if (is_present(entry))
		return entry & ENTRY_BITS;
	return pte_none(__pte(entry)) || ooh_pte_marker(__pte(entry)) ? 0 : ENTRY_OUT;
}

/* Present, with a struct page: neither the zero page nor a device's page without one. */
static bool is_ordinary(u64 entry)
{
	return is_present(entry) && (!(entry & _PAGE_SPECIAL) || entry & OOH_PAGE_DEVMAP);
}

/*
 * Can writes to its frame be seen? Not where there is no RAM of this guest: device memory
 * that has a struct page, or another domain's page that a grant maps there.
 */
static bool can_be_followed(u64 entry)
{
	return pfn_valid(pfn_of(entry)) && pfn_to_online_page(pfn_of(entry));
}

static struct ooh_leaf *create_leaf(struct ooh_leaves *l, unsigned long addr)
{
	struct ooh_leaf *leaf = kzalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);

	if (!leaf)
		return NULL;
	leaf->pte = kzalloc(OOH_SLOTS * sizeof(*leaf->pte), GFP_KERNEL_ACCOUNT);
	leaf->users.links = kzalloc(sizeof(*leaf->users.links), GFP_KERNEL_ACCOUNT);
	leaf->users.records = &l->records;
	leaf->addr = addr;
	if (leaf->pte && leaf->users.links && !ooh_rmap_add_users(&leaf->users))
		return leaf;
	kfree(leaf->pte);
	kfree(leaf->users.links);
	kfree(leaf);
	return NULL;
}

static void mark_slot(struct ooh_leaf *leaf, unsigned int slot)
{
	__set_bit(slot, leaf->users.written);
	leaf->users.any_written = true;
}

/*
 * The entry of this slot is now val: follows the frame that it names. False: the frame's
 * chunk does not exist yet, and nothing was done.
 */
static bool set_slot(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	ooh_node node = ooh_page_node(&leaf->users, slot);
	u64 linked = leaf->pte[slot] & OOH_SLOT_LINKED, old = ooh_leaf_slot(leaf, slot);

	if (is_present(old) && is_present(val) && pfn_of(old) == pfn_of(val) &&
	    is_ordinary(old) == is_ordinary(val)) {
		/* the same frame with another protection is no change */
		leaf->pte[slot] = val | linked;
		leaf->absent += ooh_absent(val) - ooh_absent(old);
		if (ooh_absent(old) == ooh_absent(val))
			return true;
	} else {
		bool follow = is_ordinary(val) && can_be_followed(val);

		if (follow && unlikely(!ooh_rmap_prepared(pfn_of(val))))
			return false;
		if (linked)
			ooh_rmap_unlink(pfn_of(old), node);
		if (follow)
			ooh_rmap_link(pfn_of(val), node);
		if (__test_and_clear_bit(slot, leaf->opaque))
			leaf->nr_opaque--;
		if (!follow && is_ordinary(val)) {
			__set_bit(slot, leaf->opaque);
			leaf->nr_opaque++;
		}
		leaf->pte[slot] = val | (follow ? OOH_SLOT_LINKED : 0);
		leaf->absent += ooh_absent(val) - ooh_absent(old);
		leaf->mapped += !!val - !!old;
	}
	mark_slot(leaf, slot);
	return true;
}

void ooh_leaf_set_absent(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	set_slot(leaf, slot, val);
}

/* The entry above the leaf is another one now. The chunk of its page table exists. */
static void set_leaf_pmd(struct ooh_leaf *leaf, u64 pmd)
{
	if (leaf->pmd && !is_huge(leaf->pmd))
		ooh_rmap_unlink(pfn_of(leaf->pmd), ooh_table_node(&leaf->users));
	leaf->pmd = pmd;
	if (pmd && !is_huge(pmd))
		ooh_rmap_link(pfn_of(pmd), ooh_table_node(&leaf->users));
	/* as good as written */
	leaf->users.table_written = OOH_TABLE_WRITTEN;
}

static void destroy_leaf(struct ooh_leaf *leaf)
{
	unsigned int i;

	mutex_lock(&ooh_rmap_lock);
	ooh_rmap_make_room(OOH_SLOTS + 1);
	for (i = 0; leaf->mapped && i < OOH_SLOTS; i++)
		if (leaf->pte[i])
			set_slot(leaf, i, 0);
	set_leaf_pmd(leaf, 0);
	mutex_unlock(&ooh_rmap_lock);
	ooh_rmap_del_users(&leaf->users);
	kfree(leaf->users.links);
	kfree(leaf->pte);
	kfree(leaf);
	cond_resched();
}

static void flush_queue(void)
{
	mutex_lock(&ooh_rmap_lock);
	ooh_rmap_flush();
	mutex_unlock(&ooh_rmap_lock);
}

void ooh_leaves_forget(struct ooh_leaves *l)
{
	size_t i;

	for (i = 0; i < l->nr; i++)
		destroy_leaf(l->v[i]);
	if (l->nr)
		flush_queue();
	l->nr = 0;
	l->pmds.known = false;
}

void ooh_leaves_free(struct ooh_leaves *l)
{
	kvfree(l->v);
	ooh_walk_free(&l->pmds);
}

static int change_leaf_pmd(struct ooh_leaf *leaf, u64 pmd)
{
	int ret = pmd && !is_huge(pmd) ? ooh_rmap_prepare(pfn_of(pmd)) : 0;

	if (ret)
		return ret;
	mutex_lock(&ooh_rmap_lock);
	ooh_rmap_make_room(2);
	set_leaf_pmd(leaf, pmd);
	mutex_unlock(&ooh_rmap_lock);
	return 0;
}

/*
 * Brings the leaves in line with the entries above the page tables: new ones appear, others
 * change or go. New page tables are queued for arming.
 */
static int merge_leaves(struct ooh_leaves *l)
{
	struct ooh_leaf **merged, *leaf;
	struct ooh_pmd *pmd = l->pmds.v, *end = pmd + l->pmds.nr;
	size_t i = 0, nr = 0, size = l->nr + l->pmds.nr;
	int ret = 0;

	merged = kvmalloc_array(max_t(size_t, size, 1), sizeof(*merged), GFP_KERNEL_ACCOUNT);
	if (!merged) {
		ret = -ENOMEM;
		goto out;
	}
	l->retiring = false;
	while (!ret && (i < l->nr || pmd < end)) {
		unsigned long addr = pmd < end ? pmd->addr : ULONG_MAX;

		cond_resched();
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (i < l->nr && l->v[i]->addr < addr) {
			leaf = l->v[i++];
			/* kept until its pages are known to be gone and are reported */
			if (!leaf->pmd && !leaf->mapped && !leaf->dirty &&
			    !READ_ONCE(leaf->users.any_written) &&
			    !READ_ONCE(leaf->users.table_written)) {
				destroy_leaf(leaf);
				continue;
			}
			merged[nr++] = leaf;
			if (leaf->pmd)
				ret = change_leaf_pmd(leaf, 0);
			l->retiring |= !leaf->absent;
			continue;
		}
		if (i < l->nr && l->v[i]->addr == addr)
			leaf = l->v[i++];
		else
			leaf = create_leaf(l, addr);
		if (!leaf) {
			ret = -ENOMEM;
			break;
		}
		merged[nr++] = leaf;
		if (leaf->pmd != pmd->val)
			ret = change_leaf_pmd(leaf, pmd->val);
		pmd++;
	}
	/* no memory, or killed: keep the others, the caller gives up */
	while (i < l->nr)
		merged[nr++] = l->v[i++];
	kvfree(l->v);
	l->v = merged;
	l->nr = nr;
	l->size = max_t(size_t, size, 1);
out:
	/* the leaves do not match the walk */
	if (ret)
		l->pmds.known = false;
	return ret;
}

struct ooh_leaf *ooh_leaves_insert(struct ooh_leaves *l, size_t at, unsigned long addr)
{
	struct ooh_leaf *leaf;

	if (l->nr == l->size) {
		size_t size = max_t(size_t, 2 * l->size, 64);
		struct ooh_leaf **v = ooh_kvrealloc(l->v, l->size * sizeof(*v), size * sizeof(*v));

		if (!v)
			return NULL;
		l->v = v;
		l->size = size;
	}
	leaf = create_leaf(l, addr);
	if (!leaf)
		return NULL;
	memmove(l->v + at + 1, l->v + at, (l->nr - at) * sizeof(*l->v));
	l->v[at] = leaf;
	l->nr++;
	return leaf;
}

/* What scanning comes back with. */
struct scan {
	struct ooh_leaves *l;
	bool written; /* the page table was written */
	bool raced;   /* an entry above a page table is not what the walk saw */
	bool missing; /* the chunk of this frame does not exist: */
	unsigned long missing_pfn;
};

static void scan_slot(struct scan *s, struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	if (set_slot(leaf, slot, val))
		return;
	s->missing = true;
	s->missing_pfn = pfn_of(val);
	leaf->users.table_written = OOH_TABLE_WRITTEN;
}

/* Takes in what changed of a block of entries. */
static void scan_block(struct scan *s, struct ooh_leaf *leaf, unsigned int first, const u64 *table)
{
	unsigned int i;

	for (i = first; i < first + OOH_BLOCK; i++) {
		u64 old = ooh_leaf_slot(leaf, i), val = entry_bits(READ_ONCE(table[i]));

		if (!val && ooh_absent(old))
			continue;
		if (val != old || val == ENTRY_OUT)
			scan_slot(s, leaf, i, val);
		/* it may also have come in and gone out again */
		leaf->went_out |= val == ENTRY_OUT && (s->written || old != ENTRY_OUT);
	}
}

/* Compares the leaf with its page table. Did anything change? */
static bool scan_table(struct scan *s, struct ooh_leaf *leaf, const u64 *table, int how)
{
	unsigned int i;

	if (!ooh_entries_differ(how, table, leaf->pte, OOH_SLOTS, ENTRY_BITS))
		return false;
	for (i = 0; i < OOH_SLOTS; i += OOH_BLOCK)
		if (ooh_entries_differ(how, table + i, leaf->pte + i, OOH_BLOCK, ENTRY_BITS))
			scan_block(s, leaf, i, table);
	return true;
}

/* The same for a huge entry, or for a leaf without any. */
static void scan_huge(struct scan *s, struct ooh_leaf *leaf)
{
	unsigned int i;

	for (i = 0; i < OOH_SLOTS; i++) {
		u64 old = ooh_leaf_slot(leaf, i);
		u64 val = leaf->pmd ? (leaf->pmd & ~_PAGE_PSE) + ((u64)i << PAGE_SHIFT) : 0;

		if (val != old && (val || !ooh_absent(old)))
			scan_slot(s, leaf, i, val);
	}
}

/*
 * Reads the tables of leaves from v[i] on, with interrupts off, until that has taken some
 * time or something changed. Returns the leaf to go on with.
 */
static size_t scan_some(struct scan *s, size_t i)
{
	struct ooh_leaves *l = s->l;
	struct ooh_pmd_page page = { .addr = 1 };
	int how = ooh_entries_begin();
	unsigned int n = 0, seen = 0;
	bool changed = false;
	struct ooh_hold hold;

	ooh_tables_hold(l->mm, &hold);
	for (; i < l->nr && n < TOGETHER && seen < OOH_LEAVES_AT_ONCE && !changed; i++, seen++) {
		struct ooh_leaf *leaf = l->v[i];

		if (!leaf->users.table_written)
			continue;
		n++;
		if ((leaf->addr & PUD_MASK) != page.addr)
			page = ooh_pmd_page(l->mm, leaf->addr);
		if (ooh_pmd_now(&page, leaf->addr) != leaf->pmd) {
			s->raced = true;
			continue;
		}
		s->written = leaf->users.table_written & OOH_TABLE_WRITTEN;
		leaf->users.table_written = 0;
		if (leaf->pmd && !is_huge(leaf->pmd)) {
			changed = scan_table(s, leaf, __va(leaf->pmd & PTE_PFN_MASK), how);
		} else {
			scan_huge(s, leaf);
			changed = true;
		}
		if (s->missing)
			break;
	}
	ooh_tables_release(l->mm, &hold);
	ooh_entries_end(how);
	l->tables += n;
	return i;
}

/*
 * Compares those leaves that may differ with the page tables and follows what changed.
 * 1: the entry above one is not what the walk took note of. 0 or -errno
 */
static int scan_leaves(struct ooh_leaves *l)
{
	struct scan s = { .l = l };
	size_t i = 0;
	int ret;

	while (i < l->nr) {
		if (!READ_ONCE(l->v[i]->users.table_written)) {
			if (++i % OOH_LEAVES_AT_ONCE == 0)
				cond_resched();
			continue;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		mutex_lock(&ooh_rmap_lock);
		ooh_rmap_make_room(OOH_SLOTS);
		i = scan_some(&s, i);
		mutex_unlock(&ooh_rmap_lock);
		if (s.missing) {
			ret = ooh_rmap_prepare(s.missing_pfn);
			if (ret)
				return ret;
			s.missing = false;
		}
		cond_resched();
	}
	return s.raced;
}

int ooh_leaves_update(struct ooh_leaves *l)
{
	unsigned int tries, slot;
	size_t i;
	int ret = 1;

	for (tries = 0; ret == 1 && tries < TRIES; tries++) {
		ret = ooh_walk(l->mm, &l->pmds);
		if (!ret || (ret == 1 && l->retiring))
			ret = merge_leaves(l);
		if (ret >= 0) {
			flush_queue();
			ret = scan_leaves(l);
		}
	}
	/* still changing: all of it is reported, and the next round looks again */
	for (i = 0; ret == 1 && i < l->nr; i++) {
		if (!READ_ONCE(l->v[i]->users.table_written))
			continue;
		mutex_lock(&ooh_rmap_lock);
		for (slot = 0; slot < OOH_SLOTS; slot++)
			mark_slot(l->v[i], slot);
		mutex_unlock(&ooh_rmap_lock);
	}
	/* what was found before an error is armed, too */
	flush_queue();
	return ret < 0 ? ret : 0;
}

/*
 * A page that went to swap may still be written, by translations that are not flushed yet,
 * when its entry is gone and its frame is not followed any more. So the next look reports it,
 * too. One more look is enough: the page table is a frame that was written, so the drain before
 * that look arms it again, and arming flushes all translations that use the EPT.
 */
static void look_again_at_what_went_out(struct ooh_leaf *leaf)
{
	if (likely(!leaf->went_out))
		return;
	leaf->went_out = false;
	leaf->users.table_written |= OOH_TABLE_AGAIN;
}

static void take_leaf(struct ooh_leaf *leaf)
{
	struct ooh_users *u = &leaf->users;
	unsigned int w;

	if (likely(!u->any_written && !leaf->nr_opaque))
		return;
	for (w = 0; w < BITS_TO_LONGS(OOH_SLOTS); w++) {
		leaf->report[w] |= u->written[w];
		u->written[w] = 0;
	}
	u->any_written = false;
	if (unlikely(leaf->nr_opaque))
		bitmap_or(leaf->report, leaf->report, leaf->opaque, OOH_SLOTS);
	leaf->dirty = true;
	look_again_at_what_went_out(leaf);
}

static void drop_leaf(struct ooh_leaf *leaf)
{
	bitmap_zero(leaf->users.written, OOH_SLOTS);
	leaf->users.any_written = false;
	look_again_at_what_went_out(leaf);
}

static void rescan_leaf(struct ooh_leaf *leaf)
{
	leaf->users.table_written = OOH_TABLE_WRITTEN;
}

static __always_inline void for_each_leaf(struct ooh_leaves *l, void (*act)(struct ooh_leaf *))
{
	size_t i = 0, end;

	while (i < l->nr) {
		mutex_lock(&ooh_rmap_lock);
		for (end = min(l->nr, i + OOH_LEAVES_AT_ONCE); i < end; i++)
			act(l->v[i]);
		mutex_unlock(&ooh_rmap_lock);
		cond_resched();
	}
}

void ooh_leaves_take(struct ooh_leaves *l)
{
	for_each_leaf(l, take_leaf);
}

void ooh_leaves_drop(struct ooh_leaves *l)
{
	for_each_leaf(l, drop_leaf);
}

void ooh_leaves_rescan(struct ooh_leaves *l)
{
	for_each_leaf(l, rescan_leaf);
}

void ooh_leaves_report_all(struct ooh_leaves *l)
{
	struct ooh_leaf *leaf;
	unsigned int slot;
	size_t i;

	for (i = 0; i < l->nr; i++) {
		leaf = l->v[i];
		for (slot = 0; leaf->mapped && slot < OOH_SLOTS; slot++)
			if (leaf->pte[slot])
				__set_bit(slot, leaf->report);
		leaf->dirty |= leaf->mapped != 0;
		cond_resched();
	}
}

u64 ooh_leaves_mapped(const struct ooh_leaves *l)
{
	u64 pages = 0;
	size_t i;

	for (i = 0; i < l->nr; i++)
		pages += l->v[i]->mapped;
	return pages;
}
