/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface between the ooh module and user space, version 3.
 *
 * /dev/ooh: one open file is one tracker. The life of a tracker:
 *
 *	fd = open("/dev/ooh", O_RDWR | O_CLOEXEC)
 *	ioctl(fd, OOH_IOC_INFO, &info)		what the module offers (any time)
 *	mem = open("/proc/PID/mem", O_RDONLY)
 *	ioctl(fd, OOH_IOC_ATTACH, &attach)	follow the memory of one process
 *	ioctl(fd, OOH_IOC_COLLECT, &collect)	end a round: what was written?
 *	poll(fd)				or wait until the log has filled so far
 *	...
 *	close(fd)				stop
 *
 * Who may attach. The caller hands over an open descriptor of the process's
 * /proc/PID/mem, or /proc/PID/task/TID/mem if its main thread has ended. Opening
 * that file is where the kernel checks, with its security modules, that the
 * opener may trace the process. PID has to name a process that has this memory
 * at the time of the attach, so a number that was given to another process
 * meanwhile gives ESRCH. mem can be closed afterwards.
 *
 * What is followed. A tracker follows one address space (mm). Several trackers
 * may follow the same one, each with rounds of its own. When the process has
 * ended, or has executed another program, COLLECT gives ESRCH, even if another
 * process still has the old memory. The file can be handed to another process
 * (SCM_RIGHTS, fork).
 *
 * Rounds. A round begins when ATTACH or COLLECT returns and ends in the next
 * COLLECT, which reports a superset of the 4 KiB pages whose content, as read
 * through /proc/PID/mem, changed in the round or which newly appeared. What is
 * written while COLLECT runs belongs to one of the two rounds, never to
 * neither. Where the log was lost, everything mapped is reported and
 * OOH_F_ALL_DIRTY is set with the reason. A page whose frame the
 * hypervisor does not let us follow (more of them than this guest may have, too
 * little memory on the host, no RAM of this guest) is reported in every round.
 *
 * Ranges. The ranges of one round may not fit into the caller's vector:
 * OOH_F_MORE is set, and the rest is fetched by further calls with
 * OOH_COLLECT_CONTINUE, which end no round. Ranges come in ascending order, are
 * page-aligned, do not overlap, and each page is reported once. A COLLECT
 * without OOH_COLLECT_CONTINUE while some are left keeps them for the new round.
 * A call that fails has reported nothing: whatever it put into the vector is
 * reported again by the next one.
 *
 * Waiting. poll(2), select(2) and epoll(7) find the file readable when at least
 * as many records wait as the low-water mark says (OOH_IOC_LOWAT), or when the
 * log was lost: then it is time for a COLLECT, which makes it not readable. The
 * log is one for the guest: what others' trackers have in it counts, too.
 * Records that a CPU still keeps do not count: up to 511 per CPU with SPML, 255
 * with EPML; and on kernels behind 6.12 a restore of a guest of Xen is found by a
 * COLLECT alone. On KVM what is known may be 100 ms old. So a program that wants to see every write soon polls with a time
 * limit. POLLHUP: the address space is gone. POLLERR: not attached.
 *
 * How the interface grows. Each struct begins with its size, which the caller
 * sets to the sizeof it was compiled with. The module fills what both know and
 * sets size to what it knows itself. A longer struct than the module's is fine
 * as long as what the module does not know is 0 (E2BIG); a shorter one leaves
 * out what it does not have. A struct never loses a field. The layout is the
 * same for 32-bit callers.
 *
 * Errors every call can return: EFAULT (bad pointer), EINVAL (unknown flag,
 * reserved field not 0, misaligned address, size below the first version's),
 * E2BIG, EINTR (a handler without SA_RESTART ran while the call waited; nothing was
 * done), ENOTTY (no such call).
 */
#ifndef OOH_UAPI_H
#define OOH_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define OOH_ABI_VERSION 3

/* Logging mechanisms */
#define OOH_MECH_SPML 1 /* the hypervisor drains the log into a bitmap */
#define OOH_MECH_EPML 2 /* the processor writes a log for the guest */

/* Who hands the hypervisor's log over */
#define OOH_VIA_XEN  1 /* Xen, by hypercalls */
#define OOH_VIA_QEMU 2 /* KVM, through QEMU's device ooh-pml */

struct ooh_info {
	__u32 size;	   /* in, out */
	__u32 version;	   /* out: OOH_ABI_VERSION */
	__u32 mechanisms;  /* out: bit (1 << OOH_MECH_*) each usable one */
	__u32 trackers;	   /* out: attached trackers */
	__u64 max_records; /* out: records that may wait at most, which is max_pages */
	__u64 max_pages;   /* out: pages that can be tracked at once, all trackers */
	__u32 via;	   /* out: OOH_VIA_* */
	__u32 pad;	   /* out: 0 */
};

struct ooh_attach {
	__u32 size;	 /* in */
	__s32 pid;	 /* in: process, in the caller's pid namespace */
	__s32 mem;	 /* in: descriptor of /proc/PID/mem, or /proc/PID/task/TID/mem */
	__u32 mechanism; /* in: OOH_MECH_*, 0 = the best there is */
	__u64 flags;	 /* in: 0 */
};
/*
 * EBADF: mem is no open descriptor of such a file
 * ESRCH: no process PID, it has other memory than mem's, or none at all (kernel
 * thread, zombie)
 * EBUSY: this file is attached already; or other files are, by another mechanism:
 * there is one at a time, and what is attached first decides (0 takes what it finds)
 * EOPNOTSUPP: mechanism not usable here
 * ENOMEM
 * ENODEV: the hypervisor gives no log any more (migrated to one that has none)
 */

/* The library's ooh.h has the same; a program may include both. */
#ifndef OOH_RANGE
#define OOH_RANGE
struct ooh_range {
	__u64 start; /* first byte */
	__u64 end;   /* first byte behind */
};
#endif

/* struct ooh_collect.flags, in */
#define OOH_COLLECT_CONTINUE (1u << 0) /* fetch more of the last round */

/* struct ooh_collect.flags, out */
#define OOH_F_MORE	(1u << 0) /* ranges are left: call again */
#define OOH_F_ALL_DIRTY (1u << 1) /* everything mapped was reported, see reason */

/* struct ooh_collect.reason: why everything is dirty, a set of bits */
#define OOH_REASON_RESTORED  (1u << 0) /* the domain was restored or migrated */
#define OOH_REASON_NOMEM     (1u << 1) /* no memory to keep the state */
#define OOH_REASON_HYPERCALL (1u << 2) /* the hypervisor refused to collect */

struct ooh_collect {
	__u32 size;    /* in, out */
	__u32 flags;   /* in: OOH_COLLECT_*; out: OOH_F_* */
	__u64 start;   /* in: only pages in start ... end - 1; others stay pending */
	__u64 end;     /* in: 0 = up to the end of the address space */
	__u64 vec;     /* in: address of an array of struct ooh_range */
	__u32 vec_len; /* in: its length in elements; out: elements filled */
	__u32 reason;  /* in: 0; out: OOH_REASON_* */
	__u64 pages;   /* out: pages in the filled elements */
};
/*
 * ENOTCONN: not attached. ESRCH: the process has ended or executed a program.
 * ENOMEM: the next round is all dirty. ENODEV: as with ATTACH
 */

struct ooh_dev_stats { /* of this tracker, since ATTACH, unless it says otherwise */
	__u32 size;    /* in, out */
	__u32 pad;
	__u64 rounds;
	__u64 records;	  /* frames of this address space that were logged: each once for
			   * every collect, of whichever tracker */
	__u64 foreign;	  /* logged frames that belonged to no tracker (whole module) */
	__u64 reported;	  /* pages reported */
	__u64 all_dirty;  /* rounds in which everything was reported */
	__u64 mapped;	  /* pages tracked now */
	__u64 tables;	  /* page tables that were looked through */
	__u64 armed;	  /* frames newly armed */
	__u64 hypercalls; /* calls of Xen, exits to QEMU (whole module) */
	__u64 drain_ns;	  /* time in: empty the logs and get what they held (whole module) */
	__u64 map_ns;	  /* time in: frames to pages */
	__u64 arm_ns;	  /* time in: arm new frames, forget old ones; EPML: and arm logged
			   * ones again (whole module), which is in drain_ns with SPML */
	/* the logs that the processor writes (EPML), whole module, since it was loaded */
	__u64 log_records;   /* records taken out of them */
	__u64 log_walks;     /* of these: made by page walks, for a page table */
	__u64 log_user;	     /* of these: made in user mode */
	__u64 notifications; /* interrupts because a log was filling */
	__u64 refused;	     /* times that a frame was not armed, which then counted as
			      * written until it was (whole module) */
};
/* ENOTCONN: not attached */

struct ooh_lowat {
	__u32 size;    /* in */
	__u32 pad;     /* in: 0 */
	__u64 records; /* in: 1 to ooh_info.max_records; 0 = half of it, which is half of the
			* guest's memory, as in the beginning */
};
/*
 * The low-water mark of this file, before or after ATTACH; kept when it is attached.
 * EINVAL: more than ooh_info.max_records.
 */

#define OOH_IOC_INFO	_IO('O', 0xE0) /* struct ooh_info * */
#define OOH_IOC_ATTACH	_IO('O', 0xE1) /* struct ooh_attach * */
#define OOH_IOC_COLLECT _IO('O', 0xE2) /* struct ooh_collect * */
#define OOH_IOC_STATS	_IO('O', 0xE3) /* struct ooh_dev_stats * */
#define OOH_IOC_LOWAT	_IO('O', 0xE4) /* struct ooh_lowat * */

#endif /* OOH_UAPI_H */
