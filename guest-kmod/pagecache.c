// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of files without a page-table entry. Others may write to the file through mappings
 * and descriptors of their own, and the process may map the file over something else, without
 * a write to any frame or page table of the process.
 *
 * For what may change, the page cache takes the place of the page table: a slot holds the
 * page cache's frame, marked as such, and that frame is followed like any other. A page that
 * is not in the page cache may be brought in, written and written back within a round. Such
 * pages count as changed. They are kept as spans, as there may be many, and nothing is known
 * of any.
 *
 * The mappings themselves are compared with those of the last round.
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/pvclock_gtod.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "compat/compat.h"
#include "pagecache.h"

/* of file systems that linux/magic.h does not always know */
#define XFS_MAGIC   0x58465342
#define EXFAT_MAGIC 0x2011BAB0

/* Files get their times from a clock that ticks: two ticks are allowed for. */
#define TICKS_NS (2 * NSEC_PER_SEC / HZ)

/* Room for so many mappings of files is kept from one round to the next. */
#define SPARE_MAX 1024

/*
 * How often the clock was set. A file that was written in between may have the same time as
 * before.
 */
static atomic_t clock_sets;

static int clock_ticks(struct notifier_block *nb, unsigned long was_set, void *data)
{
	if (was_set)
		atomic_inc(&clock_sets);
	return NOTIFY_DONE;
}

static struct notifier_block clock_notifier = { .notifier_call = clock_ticks };

/* A mapping of a file, or a part of one. */
struct ooh_area {
	unsigned long start, end;
	/* what it shows; the file by all that a later file is unlikely to have in common */
	u64 shift; /* page of the file less page of the address space */
	const struct inode *inode;
	unsigned long ino;
	dev_t dev;
	u32 generation;
	/* at the time of the look */
	loff_t size;	 /* LLONG_MAX: the inode does not say */
	s64 changed;	 /* the file's ctime, ns */
	bool settled;	 /* that time was so old that any later change sets another one */
	int clock_sets;	 /* unless the clock was set since */
	bool changeable; /* somebody could write to it */
};

/*
 * One pass over the mappings. If somebody waits for the mmap_lock, the look releases it after
 * some work, and then goes on at the address that it had reached: whatever is mapped there by
 * then counts as a mapping that begins there. A change below that address in the meantime is
 * like a change after a look that was made in one go: the areas that were noted are those that
 * were looked at, so the next look finds the difference.
 */
#define AT_ONCE	  64 /* work before the lock is released. A mapping is 1; */
#define LEAF_WORK 16 /* the pages of a leaf are this much */
#define GO_ON	  1  /* after the lock was released and taken again */
struct look {
	struct ooh_pagecache *pc;
	struct ooh_leaves *l;
	unsigned int work;  /* since the lock was taken */
	unsigned long from; /* GO_ON: all below has been looked at */
	struct ooh_areas now;
	struct ooh_spans spans; /* found in this pass */
	struct ooh_spans swapped;
	size_t at;  /* the leaf to go on with */
	size_t old; /* the area of the last round */
	u64 time;
	int clock_sets;
};

/*
 * File systems whose files change through their own inode only, and show that in its ctime.
 * On all others (servers, FUSE, devices, stacked file systems) a file may have changed
 * whatever its inode says.
 */
static bool inode_tells(const struct inode *inode, u64 *granularity)
{
	*granularity = inode->i_sb->s_time_gran;
	if (!S_ISREG(inode->i_mode))
		return false;
	switch (inode->i_sb->s_magic) {
	case MSDOS_SUPER_MAGIC:
	case EXFAT_MAGIC:
		*granularity = 2 * NSEC_PER_SEC;
		return true;
	case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
	case XFS_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
	case SQUASHFS_MAGIC:
	case EROFS_SUPER_MAGIC_V1:
	case ISOFS_SUPER_MAGIC:
	case CRAMFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/* Is this a file in memory alone? Then what is not in its page cache is zeros. */
static bool zeros_if_absent(const struct address_space *mapping)
{
	return shmem_mapping((struct address_space *)mapping) ||
	       mapping->host->i_sb->s_magic == HUGETLBFS_MAGIC ||
	       mapping->host->i_sb->s_magic == RAMFS_MAGIC;
}

/* Nothing can be read there, or it is not the content of a file. */
static bool of_no_file(struct vm_area_struct *vma)
{
	return !vma->vm_file || vma->vm_flags & (VM_IO | VM_PFNMAP);
}

static void describe_area(const struct look *look, struct ooh_area *a, struct vm_area_struct *vma)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct inode *inode = mapping->host;
	struct timespec64 changed = ooh_ctime(inode);
	u64 granularity;
	bool tells = inode_tells(inode, &granularity);

	*a = (struct ooh_area){
		.start = vma->vm_start,
		.end = vma->vm_end,
		.shift = vma->vm_pgoff - (vma->vm_start >> PAGE_SHIFT),
		.inode = inode,
		.ino = inode->i_ino,
		.dev = inode->i_sb->s_dev,
		.generation = inode->i_generation,
		.size = tells ? i_size_read(inode) : LLONG_MAX,
		.changed = timespec64_to_ns(&changed),
		.clock_sets = look->clock_sets,
	};
	a->settled = a->changed + (s64)(granularity + TICKS_NS) < (s64)look->time;
	/* shared memory has no count of its writers */
	a->changeable = !tells || shmem_mapping(mapping) || is_vm_hugetlb_page(vma) ||
			mapping_writably_mapped(mapping) || inode_is_open_for_write(inode);
}

static bool same_content(const struct ooh_area *a, const struct ooh_area *b)
{
	return a->shift == b->shift && a->inode == b->inode && a->ino == b->ino &&
	       a->dev == b->dev && a->generation == b->generation;
}

/*
 * May it have changed since the look that made old? A write that began while somebody could
 * write need not set a later time.
 */
static bool may_have_changed(const struct ooh_area *now, const struct ooh_area *old)
{
	return now->changeable || old->changeable || !old->settled ||
	       now->changed != old->changed || atomic_read(&clock_sets) != old->clock_sets;
}

static int add_span(struct ooh_spans *s, unsigned long start, unsigned long end)
{
	struct ooh_span *last = s->nr ? &s->v[s->nr - 1] : NULL;

	if (start >= end)
		return 0;
	if (last && last->end >= start) {
		last->end = max(last->end, end);
		return 0;
	}
	if (s->nr == s->size) {
		size_t size = max_t(size_t, 2 * s->size, 16);
		struct ooh_span *v = ooh_kvrealloc(s->v, s->size * sizeof(*v), size * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->size = size;
	}
	s->v[s->nr++] = (struct ooh_span){ start, end };
	return 0;
}

static struct ooh_area *add_area(struct ooh_areas *a)
{
	if (a->nr == a->size) {
		size_t size = max_t(size_t, 2 * a->size, 32);
		struct ooh_area *v = ooh_kvrealloc(a->v, a->size * sizeof(*v), size * sizeof(*v));

		if (!v)
			return NULL;
		a->v = v;
		a->size = size;
	}
	return &a->v[a->nr++];
}

/* In pc->found: the page is in swap; the slot stays as it is. */
#define SWAPPED	  1ULL
#define UNCHANGED 2ULL

/*
 * Fills found with what the page cache has for nr pages from index on: entries for slots,
 * SWAPPED, or 0.
 */
static void find_cached(u64 *found, struct address_space *mapping, pgoff_t index, unsigned int nr)
{
	XA_STATE(xas, &mapping->i_pages, index);
	pgoff_t last = index + nr - 1, from, to;
	void *entry;

	memset(found, 0, nr * sizeof(*found));
	rcu_read_lock();
	xas_for_each(&xas, entry, last)
	{
		struct folio *folio = entry;
		u64 val = SWAPPED;
		bool mine;

		if (xas_retry(&xas, entry))
			continue;
		if (xa_is_value(entry)) {
			from = round_down(xas.xa_index, ooh_xas_pages(&xas));
			to = from + (ooh_xas_pages(&xas));
		} else {
			mine = folio_try_get(folio);
			/* it may be gone, or belong to another file by now */
			if (!mine || folio != xas_reload(&xas)) {
				if (mine)
					folio_put(folio);
				xas_reset(&xas);
				continue;
			}
			from = folio->index;
			to = from + folio_nr_pages(folio);
			val = ((u64)folio_pfn(folio) << PAGE_SHIFT) | OOH_ABSENT;
			folio_put(folio);
		}
		if (from < index) {
			val += val == SWAPPED ? 0 : (u64)(index - from) << PAGE_SHIFT;
			from = index;
		}
		for (to = min(to, last + 1); from < to; from++) {
			found[from - index] = val;
			val += val == SWAPPED ? 0 : PAGE_SIZE;
		}
	}
	rcu_read_unlock();
}

/* The first address in addr ... end for whose page the page cache has something; else end. */
static unsigned long next_cached(const struct vm_area_struct *vma, unsigned long addr,
				 unsigned long end)
{
	unsigned long first = linear_page_index((struct vm_area_struct *)vma, addr);
	unsigned long last = first + ((end - addr) >> PAGE_SHIFT) - 1, index = first;

	if (!xa_find(&vma->vm_file->f_mapping->i_pages, &index, last, XA_PRESENT))
		return end;
	/* a large entry is found by its first page */
	return index <= first ? addr : addr + ((index - first) << PAGE_SHIFT);
}

/* What a look does with the pages of an area. */
struct fate {
	bool follow;  /* they may change: follow what the page cache has */
	bool span;    /* all of them count as changed now */
	bool outside; /* those that the cache does not have count as changed */
};

static bool has_entry(const struct ooh_leaf *leaf, unsigned int slot)
{
	u64 val = ooh_leaf_slot(leaf, slot);

	return val && !ooh_absent(val);
}

/*
 * Slots from ... last - 1 of a leaf, none of which has an entry. Leaves in found what each of
 * them is to hold, or UNCHANGED. Returns the number of slots that change, or -errno.
 */
static int look_at_run(struct look *look, const struct ooh_leaf *leaf, struct vm_area_struct *vma,
		       unsigned int from, unsigned int last, const struct fate *fate)
{
	unsigned long addr = leaf->addr + from * PAGE_SIZE, pfn, prepared = ULONG_MAX;
	u64 *found = look->pc->found;
	int changed = 0, ret;
	unsigned int i;

	if (fate->follow)
		find_cached(found + from, vma->vm_file->f_mapping, linear_page_index(vma, addr),
			    last - from);
	else
		memset(found + from, 0, (last - from) * sizeof(*found));
	for (i = from; i < last; i++, addr += PAGE_SIZE) {
		u64 val = found[i];

		if (val == SWAPPED) {
			ret = add_span(&look->swapped, addr, addr + PAGE_SIZE);
			if (ret)
				return ret;
		}
		if (val == SWAPPED || fate->span || (fate->outside && !val)) {
			ret = add_span(&look->spans, addr, addr + PAGE_SIZE);
			if (ret)
				return ret;
		}
		found[i] = val == SWAPPED ? 0 : val;
		if (found[i] == ooh_leaf_slot(leaf, i)) {
			found[i] = UNCHANGED;
			continue;
		}
		changed++;
		pfn = pte_pfn(__pte(found[i]));
		/* with its neighbours */
		if (!found[i] || pfn / OOH_SLOTS == prepared)
			continue;
		prepared = pfn / OOH_SLOTS;
		ret = ooh_rmap_prepare(pfn);
		if (ret)
			return ret;
	}
	return changed;
}

/* Looks at those slots from ... end - 1 of a leaf that have no entry. */
static int look_at_slots(struct look *look, struct ooh_leaf *leaf, struct vm_area_struct *vma,
			 unsigned int from, unsigned int end, const struct fate *fate)
{
	const u64 *found = look->pc->found;
	unsigned int i, last;
	int changed;

	for (i = from; i < end; i = last) {
		last = i + 1;
		if (has_entry(leaf, i))
			continue;
		while (last < end && !has_entry(leaf, last))
			last++;
		changed = look_at_run(look, leaf, vma, i, last, fate);
		if (changed < 0)
			return changed;
		if (!changed)
			continue;
		mutex_lock(&ooh_rmap_lock);
		ooh_rmap_make_room(OOH_SLOTS);
		for (; i < last; i++)
			if (found[i] != UNCHANGED)
				ooh_leaf_set_absent(leaf, i, found[i]);
		mutex_unlock(&ooh_rmap_lock);
	}
	/* for the next merge */
	if (!leaf->absent && !leaf->pmd)
		look->l->retiring = true;
	return 0;
}

/* All below addr has been looked at. Should somebody else have the lock now? */
static bool let_go(struct look *look, unsigned long addr, unsigned int work)
{
	look->work += work;
	if (look->work < AT_ONCE || !mmap_lock_is_contended(look->l->mm))
		return false;
	look->from = addr;
	return true;
}

/*
 * Looks at pages of an area, or of none (vma is NULL), which all have the same fate. Goes
 * through what exists, not address by address. 0, GO_ON or -errno
 */
static int look_at(struct look *look, struct vm_area_struct *vma, unsigned long addr,
		   unsigned long end, const struct fate *fate)
{
	struct ooh_leaves *l = look->l;
	unsigned long known, cached, next;
	struct ooh_leaf *leaf;
	int ret = 0;

	while (!ret && addr < end) {
		unsigned long base = addr & PMD_MASK;

		while (look->at < l->nr && l->v[look->at]->addr < base)
			look->at++;
		known = look->at < l->nr ? max(l->v[look->at]->addr, addr) : end;
		cached = fate->follow ? next_cached(vma, addr, end) : end;
		next = min3(known, cached, end);
		/* nothing is there */
		if (next > addr && (fate->span || fate->outside))
			ret = add_span(&look->spans, addr, next);
		addr = next;
		if (ret || addr == end)
			break;
		base = addr & PMD_MASK;
		next = min(base + PMD_SIZE, end);
		leaf = known == addr ? l->v[look->at] : ooh_leaves_insert(l, look->at, base);
		if (!leaf)
			return -ENOMEM;
		ret = look_at_slots(look, leaf, vma, (addr - base) >> PAGE_SHIFT,
				    (next - base) >> PAGE_SHIFT, fate);
		addr = next;
		cond_resched();
		if (!ret && addr < end && let_go(look, addr, LEAF_WORK))
			return GO_ON;
	}
	return ret;
}

/* How far the area shows bytes of a file that has this size. */
static unsigned long end_of_file(const struct ooh_area *a, loff_t size)
{
	u64 pages = DIV_ROUND_UP_ULL((u64)size, PAGE_SIZE);
	u64 first = a->shift + (a->start >> PAGE_SHIFT);

	if (pages <= first)
		return a->start;
	if (pages - first >= (a->end - a->start) >> PAGE_SHIFT)
		return a->end;
	return a->start + ((pages - first) << PAGE_SHIFT);
}

/* No file is mapped there now: what showed one has gone, and may be something else. */
static int look_at_gap(struct look *look, unsigned long start, unsigned long end)
{
	const struct ooh_areas *old = &look->pc->areas;
	const struct fate gone = { .span = true };
	const struct ooh_area *a;
	unsigned long limit;
	int ret;

	for (; look->old < old->nr; look->old++) {
		a = &old->v[look->old];
		if (a->start >= end)
			break;
		limit = min(end_of_file(a, a->size), end);
		if (max(a->start, start) < limit) {
			ret = look_at(look, NULL, max(a->start, start), limit, &gone);
			if (ret)
				return ret;
		}
		if (a->end > end)
			break;
	}
	return 0;
}

/* A part of an area, which was as old says, or is new. Only up to the end of the file. */
static int look_at_part(struct look *look, struct vm_area_struct *vma, const struct ooh_area *now,
			const struct ooh_area *old, unsigned long start, unsigned long end)
{
	struct fate fate = { .span = !old };
	loff_t size = old ? max(old->size, now->size) : now->size;
	unsigned long file_end = min(end, end_of_file(now, size));
	int ret;

	fate.follow = old ? may_have_changed(now, old) : now->changeable;
	fate.outside = fate.follow && !zeros_if_absent(vma->vm_file->f_mapping);
	if (is_vm_hugetlb_page(vma) && !OOH_HUGETLB_BY_PAGES) {
		fate.outside = fate.follow;
		fate.follow = false;
	}
	if (!fate.follow && !fate.span && !fate.outside)
		return 0;
	ret = start < file_end ? look_at(look, vma, start, file_end, &fate) : 0;
	if (ret || end <= file_end || end <= start)
		return ret;
	/* after the end of the file there is nothing: slots that had something are emptied */
	fate = (struct fate){ 0 };
	return look_at(look, NULL, max(start, file_end), end, &fate);
}

static int look_at_area(struct look *look, struct vm_area_struct *vma, const struct ooh_area *now)
{
	const struct ooh_areas *olds = &look->pc->areas;
	unsigned long addr = now->start, end;
	int ret = 0;

	while (!ret && addr < now->end) {
		const struct ooh_area *old;

		while (look->old < olds->nr && olds->v[look->old].end <= addr)
			look->old++;
		old = look->old < olds->nr ? &olds->v[look->old] : NULL;
		end = now->end;
		if (old && old->start > addr) {
			end = min(end, old->start);
			old = NULL;
		} else if (old) {
			end = min(end, old->end);
			if (!same_content(now, old))
				old = NULL;
		}
		ret = look_at_part(look, vma, now, old, addr, end);
		addr = end;
	}
	return ret;
}

/* Goes on from look->from, with the mmap_lock. 0: the end was reached; GO_ON or -errno */
static int look_on(struct look *look)
{
	unsigned long from = look->from, end = from;
	VMA_ITERATOR(vmi, look->l->mm, from);
	struct vm_area_struct *vma;
	struct ooh_area *area;
	int ret;

	for_each_vma(vmi, vma) {
		if (let_go(look, max(end, vma->vm_start), 1))
			return look_at_gap(look, end, look->from) ?: GO_ON;
		if (of_no_file(vma))
			continue;
		area = add_area(&look->now);
		if (!area)
			return -ENOMEM;
		describe_area(look, area, vma);
		/* a part of it may have been looked at before, as it was then */
		area->start = max(area->start, from);
		ret = look_at_gap(look, end, area->start) ?: look_at_area(look, vma, area);
		if (ret == GO_ON) {
			/* note it as far as it has been looked at */
			area->end = look->from;
			if (area->end <= area->start)
				look->now.nr--;
		}
		if (ret)
			return ret;
		end = area->end;
	}
	return look_at_gap(look, end, ULONG_MAX);
}

static int look_at_all(struct look *look)
{
	struct mm_struct *mm = look->l->mm;
	int ret;

	if (fatal_signal_pending(current) || ooh_mmap_read_lock_interruptible(mm))
		return -EINTR;
	for (;;) {
		look->work = 0;
		ret = look_on(look);
		mmap_read_unlock(mm);
		cond_resched();
		if (ret != GO_ON)
			return ret;
		/*
		 * Whoever waited has the lock now. A signal that does not kill ends nothing here:
		 * to begin anew after each could take forever.
		 */
		if (mmap_read_lock_killable(mm))
			return -EINTR;
	}
}

/* Adds the spans of this look to what is pending. */
static int merge_spans(struct ooh_spans *pending, const struct ooh_spans *found)
{
	struct ooh_spans merged = { 0 };
	size_t p = 0, f = 0;
	int ret = 0;

	if (!found->nr)
		return 0;
	while (!ret && (p < pending->nr || f < found->nr)) {
		const struct ooh_span *s;

		if (f == found->nr || (p < pending->nr && pending->v[p].start < found->v[f].start))
			s = &pending->v[p++];
		else
			s = &found->v[f++];
		ret = add_span(&merged, s->start, s->end);
	}
	if (ret) {
		kvfree(merged.v);
		return ret;
	}
	kvfree(pending->v);
	*pending = merged;
	return 0;
}

int ooh_pagecache_update(struct ooh_pagecache *pc, struct ooh_leaves *l)
{
	struct look look = { .pc = pc, .l = l, .now = pc->spare };
	int ret;

	look.now.nr = 0;
	/* the count comes first: if the clock is set in between, the next look sees it */
	look.clock_sets = atomic_read(&clock_sets);
	smp_rmb();
	look.time = ktime_get_real_ns();
	ret = look_at_all(&look);
	if (!ret)
		ret = merge_spans(&pc->pending, &look.spans);
	/* a page of these may be a hole by now, which looks as if nothing had been there */
	if (!ret)
		ret = merge_spans(&pc->pending, &pc->swapped);
	kvfree(look.spans.v);
	/* after an error, the next look compares with the same areas as this one */
	pc->spare = ret ? look.now : pc->areas;
	if (ret) {
		kvfree(look.swapped.v);
		return ret;
	}
	pc->areas = look.now;
	if (pc->spare.size > SPARE_MAX) {
		kvfree(pc->spare.v);
		pc->spare = (struct ooh_areas){ 0 };
	}
	kvfree(pc->swapped.v);
	pc->swapped = look.swapped;
	return 0;
}

int ooh_pagecache_room(struct ooh_pagecache *pc)
{
	struct ooh_spans *s = &pc->pending;
	struct ooh_span *v;

	/* one may become two */
	if (!s->nr || s->nr < s->size)
		return 0;
	v = ooh_kvrealloc(s->v, s->size * sizeof(*v), (s->size + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	s->v = v;
	s->size++;
	return 0;
}

void ooh_pagecache_reported(struct ooh_pagecache *pc, unsigned long start, unsigned long end)
{
	struct ooh_spans *s = &pc->pending;
	size_t i, n = 0;

	for (i = 0; i < s->nr; i++) {
		struct ooh_span was = s->v[i];

		if (was.start < start && was.end > end) {
			/* the only one that overlaps */
			memmove(s->v + i + 2, s->v + i + 1, (s->nr - i - 1) * sizeof(was));
			s->v[i].end = start;
			s->v[i + 1] = (struct ooh_span){ end, was.end };
			s->nr++;
			return;
		}
		if (was.start < start || was.end <= start)
			was.end = min(was.end, start);
		else if (was.start < end)
			was.start = end;
		if (was.start < was.end)
			s->v[n++] = was;
	}
	s->nr = n;
}

int ooh_pagecache_init(struct ooh_pagecache *pc)
{
	pc->found = kmalloc_array(OOH_SLOTS, sizeof(*pc->found), GFP_KERNEL_ACCOUNT);
	return pc->found ? 0 : -ENOMEM;
}

void ooh_pagecache_free(struct ooh_pagecache *pc)
{
	kvfree(pc->areas.v);
	kvfree(pc->spare.v);
	kvfree(pc->pending.v);
	kvfree(pc->swapped.v);
	kfree(pc->found);
}

int ooh_pagecache_start(void)
{
	return pvclock_gtod_register_notifier(&clock_notifier);
}

void ooh_pagecache_stop(void)
{
	pvclock_gtod_unregister_notifier(&clock_notifier);
}
