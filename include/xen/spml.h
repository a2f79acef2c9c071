/* SPDX-License-Identifier: MIT */
/*
 * hvm/spml.h: shadow page modification logging
 *
 * Lets an HVM or PVH guest learn which of its own pages were written, from
 * the page modification log (Intel SDM, volume 3, "Page-Modification
 * Logging") that the processor keeps for the hypervisor.
 *
 * A guest finds the interface by XEN_HVM_CPUID_SPML in the Xen HVM leaf. It
 * then
 *   - starts (XEN_SPML_start),
 *   - arms the frames it wants to follow (XEN_SPML_arm),
 *   - ends a round with XEN_SPML_collect, as often as it likes, which gets and
 *     cleans the bitmap of the frames written in that round,
 *   - forgets frames it no longer cares for (XEN_SPML_forget), and
 *   - disarms everything (XEN_SPML_stop).
 *
 * The contract
 *   A frame is armed from the return of XEN_SPML_arm. The first write to an
 *   armed frame after that, by whatever agent (a vCPU, Xen or another domain
 *   through a grant or foreign mapping), leaves the frame "logged". A frame
 *   whose mapping in the guest-physical address space is replaced counts as
 *   written. XEN_SPML_collect has the log of every vCPU emptied, copies the
 *   bits of the logged frames to the guest, and arms these frames again. A
 *   frame is logged until its bit was copied: There's nothing which may
 *   overflow, and nothing gets lost by a collect which fails.
 *
 *   Nothing of it is part of the domain's saved state. After restore,
 *   migration or a soft reset operations fail with -ENODEV until the guest
 *   starts again, and it has to take everything as written.
 */

#ifndef __XEN_PUBLIC_HVM_SPML_H__
#define __XEN_PUBLIC_HVM_SPML_H__

#include "../xen.h"

/* HVMOP_spml: arg == struct xen_hvm_spml. Only for the calling domain. */
#define HVMOP_spml 26

#define XEN_SPML_INTERFACE_VERSION 2

/* A bound of the interface; a domain's quota may be lower (XEN_SPML_info). */
#define XEN_SPML_MAX_RANGES        (1u << 20)

/* Frames which share an element of what XEN_SPML_collect hands out. */
#define XEN_SPML_GROUP_FRAMES      512

/* Frames gfn ... gfn + nr - 1. */
struct xen_spml_range {
    uint64_t gfn;
    uint32_t nr;
    uint32_t pad;              /* must be 0 */
};
typedef struct xen_spml_range xen_spml_range_t;
DEFINE_XEN_GUEST_HANDLE(xen_spml_range_t);

/*
 * XEN_SPML_info: what there is. Needs no XEN_SPML_start.
 * -EOPNOTSUPP: the domain was not created with the feature; this goes for
 *              all operations, and for those which there aren't.
 */
#define XEN_SPML_info        0
struct xen_spml_info {
    uint32_t version;          /* OUT: XEN_SPML_INTERFACE_VERSION */
    uint32_t pad;
    uint64_t max_tracked;      /* OUT: frames that may be armed at once */
    uint64_t tracked;          /* OUT: frames armed or logged now */
    uint64_t logged;           /* OUT: see struct xen_spml_status */
    uint64_t records;          /* OUT: times a frame became logged so far */
    uint64_t pml_full;         /* OUT: VM exits because a log was full */
    uint64_t flushes;          /* OUT: logs emptied that held an entry */
};

/*
 * XEN_SPML_start: from here on frames may be followed. It may be continued by
 * Xen. status_gfn is a page of the guest's for struct xen_spml_status, at its
 * beginning, or XEN_SPML_NO_STATUS. Xen holds a reference to it until
 * XEN_SPML_stop, a soft reset, or the end of the domain, writes to it, and never
 * reads it.
 * -EINVAL: pad is not 0, or the page is not ordinary writable RAM of the domain.
 * -EBUSY:  it was started already.
 * -ENOMEM: the page could not be mapped.
 */
#define XEN_SPML_start       1
#define XEN_SPML_NO_STATUS   (~0ULL)
struct xen_spml_start {
    uint64_t status_gfn;       /* IN */
    uint64_t pad;              /* IN: must be 0 */
};

/* For a guest to know, without an operation, whether a collect is of use. */
struct xen_spml_status {
    /*
     * Frames which were logged, but not handed out yet, as far as Xen knows.
     * There may be more in the logs of vCPUs.
     */
    uint64_t logged;
};
typedef struct xen_spml_status xen_spml_status_t;

/*
 * XEN_SPML_arm:    from now on a write to one of the frames is recorded.
 * XEN_SPML_forget: stop following the frames; unknown ones are passed over.
 * Both take a list of ranges and may be continued by Xen: done and offset
 * must be 0 in the first call; on return, done ranges, and offset frames of
 * the next one, were dealt with, also in case of an error, which then
 * concerns frame ranges[done].gfn + offset.
 * -EINVAL: more than XEN_SPML_MAX_RANGES, pad not 0, or not ordinary RAM.
 * -ENOSPC: more frames than the domain's quota.
 * -ENOMEM: a superpage that covers the frame could not be split.
 * -ENODEV: not started.
 */
#define XEN_SPML_arm         2
#define XEN_SPML_forget      3
struct xen_spml_ranges {
    uint64_t ranges;           /* IN: virtual address of an array of ranges */
    uint32_t nr_ranges;        /* IN */
    uint32_t done;             /* IN/OUT */
    uint32_t offset;           /* IN/OUT */
    uint32_t pad;              /* IN: must be 0 */
};

/*
 * XEN_SPML_collect: end the round, get and clean its bitmap. groups has room
 * for nr_groups elements. On return those below done are groups of frames,
 * aligned, with at least one which was written, and what the others are is
 * undefined. They are in no order, and one may come twice. A frame is part of
 * the round if the write came before the first call, and is armed again when its
 * group was handed out.
 * cursor and done must be 0 in the first call. If XEN_SPML_COLLECT_MORE is set
 * in flags on return there was no room for all of it: the next call, with done
 * 0 and the others left as they are, goes on with the rest. A guest may as well
 * begin anew. The rest is handed out first then, together with what was written
 * meanwhile. Operations of several vCPUs follow one another: what one of them
 * was given, no other gets.
 * With XEN_SPML_COLLECT_PEEK in flags, the logs are emptied, nothing is handed
 * out or armed, and the round goes on. groups and nr_groups don't matter.
 * -EINVAL: unknown flag, pad not 0, done beyond nr_groups, or cursor can't be
 *          what Xen has left there. What a made-up one does to the round, which
 *          may have no end or no flush, is up to the guest.
 * -EFAULT: groups can't be written to. Groups from done on are still logged. Or
 *          the argument can't be: nothing has been done then, unless it was
 *          taken away meanwhile.
 * -ENODEV: not started.
 */
#define XEN_SPML_collect     4
#define XEN_SPML_COLLECT_PEEK (1u << 0)   /* IN */
#define XEN_SPML_COLLECT_MORE (1u << 1)   /* OUT, ignored as input */
struct xen_spml_group {
    uint64_t gfn;              /* The first one, a multiple of the number */
    uint64_t bits[XEN_SPML_GROUP_FRAMES / 64]; /* Frame n: bit n % 64 of n / 64 */
};
typedef struct xen_spml_group xen_spml_group_t;
DEFINE_XEN_GUEST_HANDLE(xen_spml_group_t);

struct xen_spml_collect {
    uint64_t groups;           /* IN: virtual address of an array of groups */
    uint32_t nr_groups;        /* IN: room in the array */
    uint32_t done;             /* IN/OUT: elements that were written */
    uint32_t flags;            /* IN/OUT: XEN_SPML_COLLECT_* */
    uint32_t pad;              /* IN: must be 0 */
    uint64_t logged;           /* OUT: see struct xen_spml_status */
    uint64_t cursor;           /* IN/OUT: Xen's place in a long operation */
};

/* XEN_SPML_stop: forget every frame. No argument. -ENODEV: not started. */
#define XEN_SPML_stop        5

/*
 * Extended page modification logging (EPML)
 *
 * XEN_HVM_CPUID_EPML in the Xen HVM leaf says that the processor can write a
 * log of its own for the guest, and that the domain may use it.
 *
 * XEN_SPML_log_register: make the page gfn the extended log of a vCPU. What
 * that vCPU writes to armed frames is recorded there, and doesn't make them
 * logged ones. What Xen and other domains write still does. The log is 4k of
 * 16-byte records, written from the last one to the first one. In a record the
 * first quadword is the linear address of the access (bits 63:12) and
 * XEN_EPML_R_* flags, the second one the guest-physical address of the frame.
 *
 * The VMCS field XEN_EPML_INDEX holds the number of the record to be written
 * next. The vCPU reads and writes it with VMREAD and VMWRITE, without a VM
 * exit; without a log, these raise #UD. XEN_EPML_INDEX_EMPTY makes the log
 * empty. A record made after the last VMREAD, and before the VMWRITE, is gone:
 * In between the vCPU mustn't write to a frame it cares for, nor take an
 * interrupt whose handler does. Frames which aren't armed may show up, too.
 *
 * Whenever a record leaves room for low_water more of them or less, the
 * processor raises interrupt vector on the vCPU. If there is no room any more,
 * Xen empties the log and takes its frames as logged, so that none gets lost.
 *
 * The writes of a vCPU which has no log get known when XEN_SPML_collect flushes
 * the log the processor keeps for Xen. So as long as there's a vCPU like that,
 * each round has to be ended by that operation. It otherwise takes a look at
 * struct xen_spml_status to know whether it's needed.
 *
 * Xen holds a reference to the page until XEN_SPML_log_unregister, which takes
 * the log's frames as logged, until XEN_SPML_stop, or until the end of the
 * domain.
 *
 * Writes found in an extended log aren't known to Xen: It is the guest who has
 * frames armed again, by XEN_SPML_rearm. The arguments are the same as those
 * of XEN_SPML_arm. Frames which aren't followed are passed over. A frame which
 * is logged stays so until XEN_SPML_collect has handed it out, no matter what
 * else is done about it.
 *
 * With XEN_HVM_CPUID_EPML_VMFUNC in the Xen HVM leaf, VM functions 1 and 2 do
 * the same without a hypercall, for as long as the vCPU has a log. See
 * XEN_EPML_VMFUNC_*.
 *
 * -EINVAL:     no such vCPU, pad not 0, vector below 16, or the page isn't
 *              ordinary writable RAM of the domain.
 * -EBUSY:      the vCPU has got a log already.
 * -ENODEV:     not started, or (unregister) the vCPU has no log.
 * -EOPNOTSUPP: the domain may not use EPML.
 * -ENOMEM:     no memory for the state.
 */
#define XEN_SPML_log_register    6
#define XEN_SPML_log_unregister  7
struct xen_spml_log {
    uint64_t gfn;              /* IN: register only */
    uint32_t vcpu;             /* IN */
    uint8_t vector;            /* IN: register only */
    uint8_t low_water;         /* IN: register only; 0: no interrupt */
    uint16_t pad;              /* IN: must be 0 */
};

#define XEN_SPML_rearm           8

#define XEN_EPML_RECORDS         256
#define XEN_EPML_INDEX           0x0816
#define XEN_EPML_INDEX_EMPTY     (XEN_EPML_RECORDS - 1)

#define XEN_EPML_R_WALK          (1u << 0)  /* by a page walk, to a page table */
#define XEN_EPML_R_USER          (1u << 1)  /* in user mode */
#define XEN_EPML_R_NO_LINEAR     (1u << 2)  /* there's no linear address */

/*
 * VM functions (EAX of VMFUNC, in ring 0)
 * CLEAR: RBX is the guest-physical address of a frame, RCX the address, aligned
 *        to 64 bytes, of a bitmap for the 512 frames of the 2M which RBX is in,
 *        frame n being bit n % 8 of byte n / 8. Clears D of those frames with
 *        their bit set, from RBX on. On return RBX is the first of them for which
 *        it couldn't be, as it isn't ordinary RAM or is mapped by a superpage, or
 *        the next 2M's address if there was none. An RBX which isn't aligned to
 *        4k raises #UD, and the bitmap's address what any bad address does.
 * FLUSH: to be executed by every vCPU afterwards. Frames are armed then. A vCPU
 *        that is offline meanwhile has to do so before it writes to any of them,
 *        and one without a log can't: The hypercall is the way to go then.
 */
#define XEN_EPML_VMFUNC_CLEAR    1
#define XEN_EPML_VMFUNC_FLUSH    2

struct xen_hvm_spml {
    uint32_t cmd;              /* IN: XEN_SPML_* */
    uint32_t pad;              /* IN: must be 0 */
    union {
        struct xen_spml_info info;
        struct xen_spml_start start;
        struct xen_spml_ranges ranges;
        struct xen_spml_collect collect;
        struct xen_spml_log log;
        uint64_t size[8];
    } u;
};
typedef struct xen_hvm_spml xen_hvm_spml_t;
DEFINE_XEN_GUEST_HANDLE(xen_hvm_spml_t);

#endif /* __XEN_PUBLIC_HVM_SPML_H__ */

/*
 * Local variables:
 * mode: C
 * c-file-style: "BSD"
 * c-basic-offset: 4
 * tab-width: 4
 * indent-tabs-mode: nil
 * End:
 */
