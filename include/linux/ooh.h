/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface between the ooh module and user space.
 *
 * /dev/ooh: one open file is one tracker. The life of a tracker:
 *
 *	fd = open("/dev/ooh", O_RDWR | O_CLOEXEC)
 *	ioctl(fd, OOH_IOC_INFO, &info)		what there is (any time)
 *	ioctl(fd, OOH_IOC_ATTACH, &attach)	follow the memory of one process
 *	ioctl(fd, OOH_IOC_COLLECT, &collect)	end a round: what was written?
 *	poll(fd)				or wait until the log has filled so far
 *	...
 *	close(fd)				stop
 *
 * A tracker follows one address space (mm), that of the process at the time
 * of the attach; several trackers may follow the same one, each with rounds
 * of its own. The file can be handed to another process (SCM_RIGHTS, fork).
 *
 * A round begins when ATTACH or COLLECT returns and ends in the next COLLECT,
 * which reports a superset of the 4 KiB pages whose content, as read through
 * /proc/PID/mem, changed in the round or which newly appeared. What is
 * written while COLLECT runs belongs to one of the two rounds, never to
 * neither. Where the log was lost, everything mapped is reported and
 * OOH_F_ALL_DIRTY is set with the reason.
 *
 * The ranges of one round may not fit into the caller's vector: OOH_F_MORE is
 * set, and the rest is fetched by further calls with OOH_COLLECT_CONTINUE,
 * which end no round. Ranges come in ascending order, are page-aligned, do
 * not overlap, and each page is given out once. A COLLECT without
 * OOH_COLLECT_CONTINUE while some are left keeps them for the new round.
 *
 * poll(2), select(2) and epoll(7) find the file readable when at least as many
 * records wait as the low-water mark says (OOH_IOC_LOWAT), or when the log was
 * lost: then it is time for a COLLECT, which makes it not readable. The log is
 * one for the guest: what others' trackers have in it counts, too. Records that
 * a CPU still keeps do not count: up to 511 a CPU with SPML, 255 with EPML. So
 * a program that wants to see every write soon polls with a time limit. POLLHUP: the address space is gone. POLLERR: not attached.
 *
 * A page whose frame Xen does not let us follow (more of them than this domain may
 * have, too little memory on the host) is reported in every round.
 *
 * Errors every call can return: EFAULT (bad pointer), EINVAL (unknown flag,
 * reserved field not 0, misaligned address), ENOTTY (no such call).
 */
#ifndef _UAPI_LINUX_OOH_H
#define _UAPI_LINUX_OOH_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define OOH_ABI_VERSION 2

/* Logging mechanisms (struct ooh_info.mechanisms, struct ooh_attach.mechanism) */
#define OOH_MECH_SPML 1 /* Xen drains the log into a ring */
#define OOH_MECH_EPML 2 /* the processor writes a log for the guest */

struct ooh_info {
	__u32 version;	    /* out: OOH_ABI_VERSION */
	__u32 mechanisms;   /* out: bit (1 << OOH_MECH_*) each usable one */
	__u64 ring_records; /* out: records the ring holds now */
	__u64 max_pages;    /* out: pages that can be tracked at once, all trackers */
	__u64 trackers;	    /* out: attached trackers */
};

struct ooh_attach {
	__s32 pid;	 /* in: thread group leader, in the caller's pid namespace */
	__u32 mechanism; /* in: OOH_MECH_*, 0 = the best there is */
	__u64 flags;	 /* in: 0 */
};
/*
 * ESRCH: no such process, or it has no memory of its own (kernel thread, zombie)
 * EACCES: the caller may not trace it (other user, no CAP_SYS_PTRACE)
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
#define OOH_REASON_OVERFLOW  (1u << 0) /* the ring had no room */
#define OOH_REASON_CORRUPT   (1u << 1) /* Xen found the ring's indices corrupt */
#define OOH_REASON_RESTORED  (1u << 2) /* the domain was restored or migrated */
#define OOH_REASON_NOMEM     (1u << 3) /* no memory to keep the state */
#define OOH_REASON_HYPERCALL (1u << 4) /* Xen refused to collect, or memory was plugged in */
#define OOH_REASON_UNTOLD    (1u << 5) /* the answer before could not be written back */

struct ooh_collect {
	__u64 start;   /* in: only pages in start ... end - 1; others stay pending */
	__u64 end;     /* in: 0 = up to the end of the address space */
	__u64 vec;     /* in: address of an array of struct ooh_range */
	__u32 vec_len; /* in: its length in elements; out: elements filled */
	__u32 flags;   /* in: OOH_COLLECT_*; out: OOH_F_* */
	__u32 reason;  /* out: OOH_REASON_* */
	__u32 pad;     /* in: 0 */
	__u64 pages;   /* out: pages in the filled elements */
};
/*
 * ENOTCONN: not attached. ESRCH: the address space is gone (exit or exec). EINTR
 * ENODEV: as with ATTACH
 */

struct ooh_stats { /* of this tracker, since ATTACH, unless it says otherwise */
	__u64 rounds;
	__u64 records;	  /* log records that were frames of this address space; EPML:
			   * such frames, once a round */
	__u64 foreign;	  /* records that belonged to no tracker (whole module) */
	__u64 reported;	  /* pages reported */
	__u64 all_dirty;  /* rounds in which everything was reported */
	__u64 mapped;	  /* pages tracked now */
	__u64 tables;	  /* page tables that were looked through */
	__u64 armed;	  /* frames newly armed */
	__u64 overflows;  /* (whole module) */
	__u64 hypercalls; /* (whole module) */
	__u64 drain_ns;	  /* time in: flush and read the ring */
	__u64 map_ns;	  /* time in: frames to pages */
	__u64 arm_ns;	  /* time in: arm new frames, forget old ones; EPML: and arm logged
			   * ones again (whole module), which is in drain_ns with SPML */
	/* the logs that the processor writes (EPML), whole module, since it was loaded */
	__u64 log_records;   /* records taken out of them */
	__u64 log_walks;     /* of these: made by page walks, for a page table */
	__u64 log_user;	     /* of these: made in user mode */
	__u64 notifications; /* interrupts because a log was filling */
};

/*
 * The low-water mark of this file, before or after ATTACH; kept when it is attached.
 * in: records, 1 to ooh_info.ring_records; 0 = half the ring, as in the beginning.
 * EINVAL: more records than the ring holds.
 */

#define OOH_IOC_INFO	_IOR('O', 0xE0, struct ooh_info)
#define OOH_IOC_ATTACH	_IOW('O', 0xE1, struct ooh_attach)
#define OOH_IOC_COLLECT _IOWR('O', 0xE2, struct ooh_collect)
#define OOH_IOC_STATS	_IOR('O', 0xE3, struct ooh_stats)
#define OOH_IOC_LOWAT	_IOW('O', 0xE4, __u64)

#endif /* _UAPI_LINUX_OOH_H */
