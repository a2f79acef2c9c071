/* SPDX-License-Identifier: MIT */
/*
 * The guest's page modification log: interface of the PCI device ooh-pml
 *
 * It lets a guest learn which of its page frames were written to, from the log
 * of dirty pages that the hypervisor keeps anyway. For both sides: everything
 * is little-endian, addresses are guest-physical ones.
 *
 * A guest
 *   - starts (OOH_PML_START),
 *   - arms the frames it wants to follow (OOH_PML_ARM),
 *   - ends a round by OOH_PML_COLLECT, as often as it likes, which gets and
 *     cleans the bitmap of the frames written to in that round,
 *   - forgets frames it no longer cares for (OOH_PML_FORGET), and
 *   - disarms everything (OOH_PML_STOP).
 *
 * Structures and semantics are those of the interface that guests of Xen have
 * (public/hvm/spml.h), where they fit. Here an operation does a bounded amount
 * of work, and the guest asks for the rest of it.
 *
 * The contract
 *   A frame is armed from the return of OOH_PML_ARM. The first write to an
 *   armed frame after that, by whatever agent (a vCPU, the kernel of the host,
 *   a device), leaves the frame "logged". A frame whose mapping in the
 *   guest-physical address space is replaced, or whose memory is given back to
 *   the host (balloon), counts as written. OOH_PML_COLLECT sees to it that all
 *   writes are known, copies the bits of the logged frames to the guest, and
 *   arms these frames again. A frame is logged until its bit was copied: there
 *   is nothing that may overflow, and a collect that fails loses nothing. More
 *   may be logged than was written, never less.
 *
 *   None of it is part of the machine's saved state. After migration, after
 *   loading a snapshot, and after a reset, operations fail with -ENODEV until
 *   the guest starts again, and it has to take everything as written.
 */
#ifndef HW_MISC_OOH_PML_H
#define HW_MISC_OOH_PML_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#define OOH_PML_PCI_VENDOR_ID      0x1234
#define OOH_PML_PCI_DEVICE_ID      0x11ea

/*
 * Registers: BAR 0, memory. MAGIC and VERSION are read only and take accesses
 * of 4 bytes. DOORBELL is write only and takes the address of a struct
 * ooh_pml_op, by 8 bytes, or by 4 if it is below 4G. When the write is done,
 * the operation is. The device neither needs to be a bus master, nor goes
 * through an IOMMU.
 */
#define OOH_PML_REG_MAGIC          0x00
#define OOH_PML_REG_VERSION        0x04
#define OOH_PML_REG_DOORBELL       0x08

#define OOH_PML_MAGIC              0x4c4d504f    /* "OPML" */
#define OOH_PML_INTERFACE_VERSION  1

/* A bound of the interface. How many frames may be armed is the device's. */
#define OOH_PML_MAX_RANGES         (1u << 20)

/* Frames are 4k. So many share an element of what OOH_PML_COLLECT gives. */
#define OOH_PML_GROUP_FRAMES       512

/* Errors, as they are in rc. The numbers are Linux's. */
#define OOH_PML_ENOMEM             12
#define OOH_PML_EFAULT             14
#define OOH_PML_EBUSY              16
#define OOH_PML_ENODEV             19
#define OOH_PML_EINVAL             22
#define OOH_PML_ENOSPC             28
#define OOH_PML_EOPNOTSUPP         95

/* Frames gfn ... gfn + nr - 1. */
struct ooh_pml_range {
    uint64_t gfn;
    uint32_t nr;
    uint32_t pad;              /* must be 0 */
};

/* OOH_PML_INFO: what there is. Needs no OOH_PML_START. */
#define OOH_PML_INFO         0
struct ooh_pml_info {
    uint32_t version;          /* OUT: OOH_PML_INTERFACE_VERSION */
    uint32_t pad;
    uint64_t max_tracked;      /* OUT: frames that may be armed at once */
    uint64_t tracked;          /* OUT: frames armed or logged now */
    uint64_t logged;           /* OUT: see struct ooh_pml_collect */
    uint64_t records;          /* OUT: times a frame became logged so far */
    uint64_t rounds;           /* OUT: rounds that have ended so far */
};

/*
 * OOH_PML_START: from here on frames may be followed.
 * -EINVAL: flags isn't 0.
 * -EBUSY:  it was started already.
 * -ENOMEM: the host can't log the writes now.
 */
#define OOH_PML_START        1
struct ooh_pml_start {
    uint64_t flags;            /* IN: must be 0 */
};

/*
 * OOH_PML_ARM:    from now on a write to one of the frames is recorded.
 * OOH_PML_FORGET: stop following the frames; unknown ones are passed over.
 * Both take a list of ranges. done and offset must be 0 in the first call; on
 * return, done ranges, and offset frames of the next one, were dealt with, also
 * in case of an error, which then concerns frame ranges[done].gfn + offset.
 * If there was no error and done is less than nr_ranges, the guest calls again
 * with the structure as it is.
 * -EINVAL: more than OOH_PML_MAX_RANGES, pad not 0, done or offset can't be
 *          what the device left there, or a frame isn't ordinary RAM.
 * -ENOSPC: more frames than max_tracked, or too scattered ones.
 * -EFAULT: ranges can't be read.
 * -ENODEV: not started.
 */
#define OOH_PML_ARM          2
#define OOH_PML_FORGET       3
struct ooh_pml_ranges {
    uint64_t ranges;           /* IN: address of an array of ranges */
    uint32_t nr_ranges;        /* IN */
    uint32_t done;             /* IN/OUT */
    uint32_t offset;           /* IN/OUT */
    uint32_t pad;              /* IN: must be 0 */
};

/*
 * OOH_PML_COLLECT: end the round, get and clean its bitmap. groups has room
 * for nr_groups elements. On return those below done are groups of frames,
 * aligned, with at least one that was written to. What the others are is
 * undefined. They are in no order, and one may come twice. A frame is part of
 * the round if the write came before the first call, and is armed again when
 * its group was handed out.
 * cursor and done must be 0 in the first call. If OOH_PML_COLLECT_MORE is set
 * in flags on return, there was no room for all of it, or it was too much for
 * one call: the next one, with the structure as it is but done, which is 0 if
 * the array may be used again, goes on with the rest. A guest may as well begin
 * anew: the rest is handed out then, together with what was written meanwhile.
 * With OOH_PML_COLLECT_PEEK in flags, nothing is handed out or armed, and the
 * round goes on; groups and nr_groups don't matter.
 * -EINVAL: unknown flag, pad not 0, done beyond nr_groups, or cursor can't be
 *          what the device has left there.
 * -EFAULT: groups can't be written to. Groups from done on are still logged.
 * -ENODEV: not started.
 */
#define OOH_PML_COLLECT      4
#define OOH_PML_COLLECT_PEEK (1u << 0)   /* IN */
#define OOH_PML_COLLECT_MORE (1u << 1)   /* OUT, ignored as input */
struct ooh_pml_group {
    uint64_t gfn;              /* The first one, a multiple of the number */
    /* Frame n: bit n % 64 of n / 64 */
    uint64_t bits[OOH_PML_GROUP_FRAMES / 64];
};

struct ooh_pml_collect {
    uint64_t groups;           /* IN: address of an array of groups */
    uint32_t nr_groups;        /* IN: room in the array */
    uint32_t done;             /* IN/OUT: elements that were written */
    uint32_t flags;            /* IN/OUT: OOH_PML_COLLECT_* */
    uint32_t pad;              /* IN: must be 0 */
    uint64_t logged;           /* OUT: known to be logged, not handed out yet */
    uint64_t cursor;           /* IN/OUT: the device's place in the round */
};

/* OOH_PML_STOP: forget every frame. No argument. -ENODEV: not started. */
#define OOH_PML_STOP         5

struct ooh_pml_op {
    uint32_t cmd;              /* IN: OOH_PML_* */
    /*
     * OUT: 0, or an error as a negative number. -EOPNOTSUPP: there is no such
     * operation. A guest puts something else there before: it stays if the
     * structure isn't in ordinary RAM, and nothing has been done then.
     */
    int32_t rc;
    union {
        struct ooh_pml_info info;
        struct ooh_pml_start start;
        struct ooh_pml_ranges ranges;
        struct ooh_pml_collect collect;
        uint64_t size[8];
    } u;
};

#endif
