// SPDX-License-Identifier: GPL-2.0-only
/*
 * Absent pages: content that a process has by way of a file (shared memory, too)
 * without a page-table entry for it. Others may write it through mappings and
 * descriptors of their own. The page cache takes the place of the page table: a
 * slot holds the cache's frame, marked as such, and that frame is followed like
 * any other.
 */
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <linux/timekeeping.h>

#include "ooh.h"

/* Files get their times from a clock that ticks: be generous by two of these. */
#define TICKS_NS (2 * NSEC_PER_SEC / HZ)

/* of file systems that linux/magic.h does not know */
#define XFS_MAGIC 0x58465342

/*
 * File systems whose files change by way of their inode on this machine alone, and
 * which say so in its time. Others have a server that changes files (FUSE, NFS, 9p),
 * or several inodes for the same content (block devices).
 */
static bool local_fs(const struct super_block *sb)
{
	switch (sb->s_magic) {
	case EXT4_SUPER_MAGIC: /* and its elders */
	case XFS_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case SQUASHFS_MAGIC:
	case EROFS_SUPER_MAGIC_V1:
	case ISOFS_SUPER_MAGIC:
	case CRAMFS_MAGIC:
	case RAMFS_MAGIC:
	case TMPFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/*
 * Can what this area shows have changed since the given time, without a write of
 * this process or to its page tables? Nobody can write to most files at most
 * times: libraries, say. A file in memory has no such count of its writers.
 */
static bool may_change(struct vm_area_struct *vma, u64 since)
{
	struct inode *inode = file_inode(vma->vm_file);
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct timespec64 changed = ooh_ctime(inode);
	u64 unclear = TICKS_NS + inode->i_sb->s_time_gran;

	return shmem_mapping(mapping) || mapping_writably_mapped(mapping) ||
	       inode_is_open_for_write(inode) || !local_fs(inode->i_sb) ||
	       timespec64_to_ns(&changed) + unclear >= since;
}

/* Nothing to be read there, or nothing that a file holds. */
static bool of_no_file(struct vm_area_struct *vma)
{
	return !vma->vm_file || vma->vm_flags & (VM_IO | VM_PFNMAP);
}

/*
 * The entry for a page that has none. A page of shared memory that is not in the
 * cache is all zeros; one of a file can be brought in, written and written back
 * within a round. Pages that are swapped out likewise, so these count as changed.
 */
static u64 cache_entry(struct vm_area_struct *vma, unsigned long addr)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	pgoff_t index = linear_page_index(vma, addr);
	struct folio *folio;
	u64 val;

	if (is_vm_hugetlb_page(vma))
		return OOH_ABSENT_OUT;
	folio = filemap_get_folio(mapping, index);
	/* NULL before Linux 6.3 */
	if (IS_ERR_OR_NULL(folio))
		return shmem_mapping(mapping) && !xa_load(&mapping->i_pages, index)
			       ? 0
			       : OOH_ABSENT_OUT;
	val = (u64)page_to_pfn(folio_file_page(folio, index)) << PAGE_SHIFT | OOH_ABSENT;
	folio_put(folio);
	return val;
}

/* The slots from ... last - 1 of a leaf, all of them in one area. */
static void look(struct ooh_leaf *leaf, struct vm_area_struct *vma, unsigned int from,
		 unsigned int last)
{
	unsigned int i;

	for (i = from; i < last; i++) {
		u64 old = leaf->slots->pte[i];

		if (old && !ooh_absent(old))
			continue;
		ooh_leaf_set_absent(leaf, i, cache_entry(vma, leaf->addr + i * PAGE_SIZE));
	}
}

/* Is there anything in this part of an area that would need a leaf? */
static bool anything(struct vm_area_struct *vma, unsigned long addr, unsigned long end)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	unsigned long index = linear_page_index(vma, addr);

	if (!shmem_mapping(mapping) || is_vm_hugetlb_page(vma))
		return true;
	return xa_find(&mapping->i_pages, &index, linear_page_index(vma, end - 1), XA_PRESENT);
}

/* Slots whose area is gone: what was absent is no more. */
static void prune(struct mm_struct *mm, struct ooh_leaf *leaf)
{
	struct vm_area_struct *vma = NULL;
	unsigned long addr = leaf->addr;
	unsigned int i;

	for (i = 0; i < OOH_SLOTS && leaf->absent; i++, addr += PAGE_SIZE) {
		if (!ooh_absent(leaf->slots->pte[i]))
			continue;
		if (!vma || addr >= vma->vm_end)
			vma = find_vma(mm, addr);
		if (!vma || addr < vma->vm_start || of_no_file(vma))
			ooh_leaf_set_absent(leaf, i, 0);
	}
}

/*
 * Looks at all that is absent in t and may have changed since the given time
 * (of the real clock, ns). 0 or -ENOMEM. The caller has mmap_lock to read.
 */
int ooh_absent_update(struct ooh_tracker *t, u64 since)
{
	struct ooh_leaves *l = ooh_tracker_leaves(t);
	struct mm_struct *mm = ooh_tracker_mm(t);
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);
	size_t i, at = 0;

	for (i = 0; i < l->nr; i++) {
		struct ooh_leaf *leaf = l->v[i];

		if (leaf->absent) {
			while (!ooh_frames_room(OOH_SLOTS))
				ooh_frames_flush();
			prune(mm, leaf);
		}
		leaf->was_writable = leaf->writable;
		leaf->writable = false;
	}
	for_each_vma(vmi, vma) {
		unsigned long addr = vma->vm_start, end;
		bool writable;

		if (of_no_file(vma))
			continue;
		writable = may_change(vma, since);
		for (; addr < vma->vm_end; addr = end) {
			unsigned long base = addr & PMD_MASK;
			struct ooh_leaf *leaf;

			end = min(base + PMD_SIZE, vma->vm_end);
			while (at < l->nr && l->v[at]->addr < base)
				at++;
			leaf = at < l->nr && l->v[at]->addr == base ? l->v[at] : NULL;
			/* a write that began when it was writable sets no time later */
			if (!writable && !(leaf && leaf->was_writable))
				continue;
			if (!leaf && !anything(vma, addr, end))
				continue;
			if (!leaf)
				leaf = ooh_leaves_insert(t, at, base);
			if (!leaf)
				return -ENOMEM;
			while (!ooh_frames_room(OOH_SLOTS))
				ooh_frames_flush();
			leaf->writable |= writable;
			look(leaf, vma, (addr - base) >> PAGE_SHIFT, (end - base) >> PAGE_SHIFT);
			cond_resched();
		}
	}
	return 0;
}
