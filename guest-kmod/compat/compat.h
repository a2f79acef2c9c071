/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between kernel versions, and what was tested. */
#ifndef OOH_COMPAT_H
#define OOH_COMPAT_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/coredump.h>
#include <linux/slab.h>
#include <linux/version.h>

/* tests/testbed/test_kernels.py builds for 6.1, 6.12 and 7.3 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "ooh: needs Linux 6.1 or newer"
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) && !defined(OOH_UNTESTED_KERNEL)
#error "ooh: tested up to Linux 7.3; build with KCFLAGS=-DOOH_UNTESTED_KERNEL to try a newer one"
#endif
#ifndef CONFIG_X86_64
#error "ooh: x86-64 only"
#endif

/*
 * Header of the ABI with Xen, which is written for Xen's public headers:
 * what it takes from there.
 */
#include <xen/interface/xen.h>

#ifndef DEFINE_XEN_GUEST_HANDLE
#define DEFINE_XEN_GUEST_HANDLE(name) DEFINE_GUEST_HANDLE(name)
#endif

/* Grows what p points to from old to size bytes; of what came from here the new part is zero. */
static inline void *ooh_kvrealloc(void *p, size_t old, size_t size)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return kvrealloc(p, old, size, GFP_KERNEL | __GFP_ZERO);
#else
	return kvrealloc(p, size, GFP_KERNEL | __GFP_ZERO);
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
 * Whether a module may set the handler of KVM's wakeup interrupt, which EPML uses
 * for its own. Newer kernels export that to KVM's modules alone.
 */
#define OOH_LOG_INTERRUPT (LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0))

/*
 * By what the kernel judges who may look into a process besides its user: since
 * 7.2 it belongs to the task, before to the address space.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
#include <linux/sched/exec_state.h>
static inline bool ooh_dumpable_by_owner(struct task_struct *task, struct mm_struct *mm)
{
	const struct task_exec_state *state;
	bool yes;

	rcu_read_lock();
	state = rcu_dereference(task->exec_state);
	yes = state && READ_ONCE(state->dumpable) == TASK_DUMPABLE_OWNER;
	rcu_read_unlock();
	return yes;
}

static inline bool ooh_ptrace_capable(struct task_struct *task, struct mm_struct *mm)
{
	const struct task_exec_state *state;
	bool yes;

	rcu_read_lock();
	state = rcu_dereference(task->exec_state);
	yes = state && ns_capable(state->user_ns, CAP_SYS_PTRACE);
	rcu_read_unlock();
	return yes;
}
#else
static inline bool ooh_dumpable_by_owner(struct task_struct *task, struct mm_struct *mm)
{
	return get_dumpable(mm) == SUID_DUMP_USER;
}

static inline bool ooh_ptrace_capable(struct task_struct *task, struct mm_struct *mm)
{
	return ns_capable(mm->user_ns, CAP_SYS_PTRACE);
}
#endif

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
