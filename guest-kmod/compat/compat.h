/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between kernel versions, and which versions are tested. */
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

/* Grows what p points to from old to size bytes. The new part is zero, if p came from here, too. */
static inline void *ooh_kvrealloc(void *p, size_t old, size_t size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return kvrealloc(p, old, size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
#else
	return kvrealloc(p, size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
#endif
}

/* Late versions of 6.1 have the accessor, too; early ones do not. */
static inline struct timespec64 ooh_ctime(const struct inode *inode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	return inode->i_ctime;
#else
	return inode_get_ctime(inode);
#endif
}

/*
 * Whether a module can learn that its domain resumes, and can stop listening when it is
 * unloaded: 6.12 has xen_resume_notifier_unregister(), 7.3 does not.
 */
#define OOH_RESUME_NOTIFIER (LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0))

/*
 * Whether a module may set the handler of KVM's wakeup interrupt, which EPML uses as its own.
 * Newer kernels export that function to KVM's modules alone.
 */
#ifdef OOH_NO_EPML_INTERRUPT
#define OOH_LOG_INTERRUPT 0
#else
#define OOH_LOG_INTERRUPT (LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0))
#endif

/*
 * In a guest of Xen, page tables are freed when each CPU that uses the address space has taken
 * an interrupt. Newer kernels wait for an RCU grace period as well, on any hardware.
 */
#define OOH_TABLES_WAIT_FOR_USERS (LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0))

/* The kernel's own is killable only: here a signal that the caller handles ends the wait, too. */
static inline int ooh_mmap_read_lock_interruptible(struct mm_struct *mm)
{
	return down_read_interruptible(&mm->mmap_lock);
}

/* Beside _PAGE_SPECIAL, marks the entry of a page of a DAX device that has a struct page. */
#ifdef _PAGE_DEVMAP
#define OOH_PAGE_DEVMAP _PAGE_DEVMAP
#else
#define OOH_PAGE_DEVMAP 0ULL
#endif

/*
 * Whether the page cache has huge pages by their number among small pages. In older kernels
 * they have numbers of their own; there, huge pages without an entry count as changed.
 */
#define OOH_HUGETLB_BY_PAGES (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0))

/* How many pages, a power of two, the current entry of xas_for_each() stands for. */
static inline unsigned long ooh_xas_pages(struct xa_state *xas)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return 1UL << xas_get_order(xas);
#else
	/* this is asked for pages in swap only, which are single entries before 6.12 */
	return 1;
#endif
}

/* Is a non-present entry a marker for a page that does not exist (userfaultfd, guards)? */
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
