/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between kernel versions, and what was tested. */
#ifndef OOH_COMPAT_H
#define OOH_COMPAT_H

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/version.h>

/* tests/testbed/test_kernels.py builds for 6.1, 6.12 and 7.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "ooh: needs Linux 6.1 or newer"
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) && !defined(OOH_UNTESTED_KERNEL)
#error "ooh: tested up to Linux 7.3; build with KCFLAGS=-DOOH_UNTESTED_KERNEL to try a newer one"
#endif
#undef pr_fmt
#define pr_fmt(fmt) "ooh: " fmt

#ifndef CONFIG_X86_64
#error "ooh: x86-64 only"
#endif

/* Grows what p points to from old to size bytes; of what came from here the new part is zero. */
static inline void *ooh_kvrealloc(void *p, size_t old, size_t size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return kvrealloc(p, old, size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
#else
	return kvrealloc(p, size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
#endif
}

/* Late versions of 6.1 have the accessor, too, early ones have not. */
static inline struct timespec64 ooh_ctime(const struct inode *inode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return inode->i_ctime;
#else
	return inode_get_ctime(inode);
#endif
}

/*
 * Whether a module hears that its domain resumes, and can stop listening when it goes: later
 * kernels have no xen_resume_notifier_unregister(). (7.3 has none, 6.12 has it.)
 */
#define OOH_RESUME_NOTIFIER (LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0))

/*
 * Whether a module may set the handler of KVM's wakeup interrupt, which EPML uses
 * for its own. Newer kernels export that to KVM's modules alone.
 */
#ifdef OOH_NO_EPML_INTERRUPT
#define OOH_LOG_INTERRUPT 0
#else
#define OOH_LOG_INTERRUPT (LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0))
#endif

/*
 * Page tables of a guest of Xen are freed when the CPUs that use the address space have taken an
 * interrupt. Newer kernels wait for an RCU grace period as well, on any hardware.
 */
#define OOH_TABLES_WAIT_FOR_USERS (LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0))

/* The kernel has a killable one: a caller's handled signal is to end it as well. */
static inline int ooh_mmap_read_lock_interruptible(struct mm_struct *mm)
{
	return down_read_interruptible(&mm->mmap_lock);
}

/* Marks entries of pages of a DAX device that have a struct page, beside _PAGE_SPECIAL. */
#ifdef _PAGE_DEVMAP
#define OOH_PAGE_DEVMAP _PAGE_DEVMAP
#else
#define OOH_PAGE_DEVMAP 0ULL
#endif

/*
 * Whether huge pages lie in their page cache by their number among small pages. Before,
 * they had numbers of their own, and pages without an entry count as changed.
 */
#define OOH_HUGETLB_BY_PAGES (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0))

/* How many pages, a power of two, an entry stands for that xas_for_each() has come to. */
static inline unsigned long ooh_xas_pages(struct xa_state *xas)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return 1UL << xas_get_order(xas);
#else
	/* only what is swapped out is asked for, and that page by page before 6.12 */
	return 1;
#endif
}

/* Of a non-present entry: does it mark a page that is not there (userfaultfd, guards)? */
#if __has_include(<linux/leafops.h>)
#include <linux/leafops.h>
static inline bool ooh_pte_marker(pte_t pte)
{
	return softleaf_is_marker(softleaf_from_pte(pte));
}
#else
#include <linux/swap.h>
#include <linux/swapops.h>
static inline bool ooh_pte_marker(pte_t pte)
{
	return is_pte_marker(pte);
}
#endif

#endif /* OOH_COMPAT_H */
