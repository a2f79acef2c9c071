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
 *   - registers a ring made of its own pages (XEN_SPML_register),
 *   - arms the frames it wants to follow (XEN_SPML_arm),
 *   - ends a round with XEN_SPML_collect, as often as it likes, and reads the
 *     frames written in that round out of the ring,
 *   - forgets frames it no longer cares for (XEN_SPML_forget), and
 *   - disarms everything and gives the ring back (XEN_SPML_unregister).
 *
 * The contract
 *   A frame is armed from the return of XEN_SPML_arm. The first write to an
 *   armed frame after that, by whatever agent (a vCPU, Xen or another domain
 *   through a grant or foreign mapping), puts one record of it into the ring
 *   and leaves the frame "logged": later writes make no further record. A
 *   frame whose mapping in the guest-physical address space is replaced
 *   counts as written. XEN_SPML_collect flushes the log of every vCPU into
 *   the ring, arms every logged frame again and returns the producer index
 *   up to which records belong to the round that ends. Records are never
 *   lost without a trace: if the ring had no room, XEN_SPML_F_OVERFLOW is set
 *   from then until a collect has returned it, and the guest must take every
 *   frame it tracks as written in that round. The frames themselves stay
 *   correctly armed even then.
 *
 * The ring
 *   Page 0 holds struct xen_spml_ring, the others records: 512 a page, their
 *   number a power of two. A record is the guest-physical address of a 4k
 *   frame: bits 11:0 are zero. Indices run freely; record i lies in slot
 *   i % size. Xen alone decides the producer index and only publishes a copy
 *   in the ring; it reads the consumer index once for each use. A consumer
 *   index that is ahead of the producer, or more than the ring's size behind
 *   it, marks the ring as corrupt: Xen stops writing to it, sets
 *   XEN_SPML_F_CORRUPT, and every collect fails with -EILSEQ until the guest
 *   has unregistered.
 */

#ifndef __XEN_PUBLIC_HVM_SPML_H__
#define __XEN_PUBLIC_HVM_SPML_H__

#include "../xen.h"

/* HVMOP_spml: arg == struct xen_hvm_spml. Only for the calling domain. */
#define HVMOP_spml 26

#define XEN_SPML_INTERFACE_VERSION 1

/* Bounds of the interface; a domain's quota may be lower (XEN_SPML_info). */
#define XEN_SPML_RECORDS_PER_PAGE  512
#define XEN_SPML_MAX_RING_PAGES    1025   /* with page 0: 2^19 records */
#define XEN_SPML_MAX_RANGES        (1u << 20)

/* Lies at the start of ring page 0. */
struct xen_spml_ring {
    uint64_t prod;             /* written by Xen: records produced so far */
    uint64_t cons;             /* written by the guest: records consumed */
    uint32_t flags;            /* written by Xen: XEN_SPML_F_*, a copy */
    uint32_t pad;
};
typedef struct xen_spml_ring xen_spml_ring_t;

#define XEN_SPML_F_OVERFLOW  (1u << 0)  /* records were dropped */
#define XEN_SPML_F_CORRUPT   (1u << 1)  /* the consumer index is impossible */

/* Frames gfn ... gfn + nr - 1. */
struct xen_spml_range {
    uint64_t gfn;
    uint32_t nr;
    uint32_t pad;              /* must be 0 */
};
typedef struct xen_spml_range xen_spml_range_t;
DEFINE_XEN_GUEST_HANDLE(xen_spml_range_t);

/*
 * XEN_SPML_info: what there is. Needs no registered ring.
 * -EOPNOTSUPP: the domain was not created with the feature; this goes for
 *              all operations, and for those which there aren't.
 */
#define XEN_SPML_info        0
struct xen_spml_info {
    uint32_t version;          /* OUT: XEN_SPML_INTERFACE_VERSION */
    uint32_t max_ring_pages;   /* OUT */
    uint64_t max_tracked;      /* OUT: frames that may be armed at once */
    uint64_t tracked;          /* OUT: frames armed or logged now */
    uint64_t records;          /* OUT: records put into the ring so far */
    uint64_t dropped;          /* OUT: records that found no room so far */
    uint64_t pml_full;         /* OUT: VM exits because a log was full */
    uint64_t flushes;          /* OUT: logs emptied that held an entry */
};

/*
 * XEN_SPML_register: use the guest's pages gfns[0 .. nr_pages - 1] as the
 * ring; page 0 is the header. Xen holds a reference to each until
 * XEN_SPML_unregister or the end of the domain, and clears the header. It may
 * be continued by Xen: done must be 0 in the first call. XEN_SPML_unregister
 * ends one which isn't seen through.
 * -EINVAL: nr_pages is not 1 + a power of two, or above the bound, or a page
 *          is listed twice or is not ordinary writable RAM of the domain, or
 *          done is not what Xen has left there.
 * -EBUSY:  a ring is registered already, or about to be.
 * -ENOMEM: no memory for the state.
 */
#define XEN_SPML_register    1
struct xen_spml_register {
    uint64_t gfns;             /* IN: virtual address of an array of uint64_t */
    uint32_t nr_pages;         /* IN */
    uint32_t done;             /* IN/OUT: Xen's place in a long operation */
};

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
 * -ENODEV: no ring is registered.
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
 * XEN_SPML_collect: end the round. Records below prod belong to it.
 * With XEN_SPML_COLLECT_PEEK in flags the logs are flushed into the ring but
 * nothing is armed again and the round goes on.
 * cursor must be 0 in the first call (Xen may continue the operation).
 * -EILSEQ: the consumer index is impossible. -ENODEV: no ring is registered.
 * -EINVAL: unknown flag. Operations of several vCPUs follow one another.
 */
#define XEN_SPML_collect     4
#define XEN_SPML_COLLECT_PEEK (1u << 0)
struct xen_spml_collect {
    uint32_t flags;            /* IN: XEN_SPML_COLLECT_*, OUT: XEN_SPML_F_* */
    uint32_t pad;              /* IN: must be 0 */
    uint64_t prod;             /* OUT */
    uint64_t rearmed;          /* OUT: frames armed again */
    uint64_t cursor;           /* IN/OUT: Xen's place in a long operation */
};

/* XEN_SPML_unregister: forget every frame, let go of the ring. No argument. */
#define XEN_SPML_unregister  5

/*
 * Extended page modification logging (EPML)
 *
 * XEN_HVM_CPUID_EPML in the Xen HVM leaf says that the processor can write a
 * log of its own for the guest, and that the domain may use it.
 *
 * XEN_SPML_log_register: make the page gfn the extended log of a vCPU. What
 * that vCPU writes to armed frames is recorded there, and no longer in the
 * ring, which remains for what Xen and other domains write. The log is 4k of
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
 * Xen moves the records into the ring, so that none of them gets lost.
 *
 * The writes of a vCPU which has no log get known when XEN_SPML_collect flushes
 * the log the processor keeps for Xen. So as long as there's a vCPU like that,
 * each round has to be ended by that operation. It otherwise takes a look at
 * the ring to know whether it's needed.
 *
 * Xen holds a reference to the page until XEN_SPML_log_unregister, which moves
 * the log's records into the ring, until XEN_SPML_unregister, or until the end
 * of the domain.
 *
 * Writes found in an extended log aren't known to Xen: It is the guest who has
 * frames armed again, by XEN_SPML_rearm. The arguments are the same as those
 * of XEN_SPML_arm. Frames which aren't followed are passed over. A frame with a
 * record in the ring is armed by XEN_SPML_collect only, no matter what else is
 * done about it.
 *
 * With XEN_HVM_CPUID_EPML_VMFUNC in the Xen HVM leaf, VM functions 1 and 2 do
 * the same without a hypercall, for as long as the vCPU has a log. See
 * XEN_EPML_VMFUNC_*.
 *
 * -EINVAL:     no such vCPU, pad not 0, vector below 16, or the page isn't
 *              ordinary writable RAM of the domain.
 * -EBUSY:      the vCPU has got a log already.
 * -ENODEV:     no ring is registered, or (unregister) the vCPU has no log.
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
        struct xen_spml_register reg;
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
