/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the hypervisor's log comes: from Xen by hypercalls (include/xen/spml.h is the
 * contract), or from QEMU on KVM by a device (include/qemu/ooh-pml.h). Both have the same
 * operations; log-spml.c makes a log of them. ooh_rmap_lock guards all calls but waiting(),
 * and those made when the module is loaded and unloaded.
 */
#ifndef OOH_TRANSPORT_H
#define OOH_TRANSPORT_H

#include <linux/types.h>
#include <ooh/uapi.h>

#include "log.h"

/* As in both contracts: frames gfn to gfn + nr - 1. */
struct ooh_spml_range {
	u64 gfn;
	u32 nr;
	u32 pad;
};

/* As in both contracts: frame gfn + n was written if bit n % 64 of n / 64 is set. */
struct ooh_spml_group {
	u64 gfn;
	u64 bits[OOH_GROUP_FRAMES / 64];
};

/* What there is, and the transport's memory, through which operations pass their data. */
struct ooh_spml_room {
	u64 max_tracked; /* frames */
	struct ooh_spml_range *ranges;
	unsigned int nr_ranges;
	struct ooh_spml_group *groups;
	unsigned int nr_groups;
};

/* A collect; zeroed before the first call, which ends the round. */
struct ooh_spml_round {
	unsigned int done; /* groups that this call filled */
	bool more;	   /* another call brings more of them */
	u64 cursor;	   /* the transport's */
};

/* How far arm() got when it failed: this many ranges, and frames of the next one. */
struct ooh_spml_place {
	unsigned int ranges, frames;
};

struct ooh_transport {
	const char *name; /* in messages */
	u32 via;	  /* OOH_VIA_* */
	/* Logging costs something even when nothing is armed: it is on only with a tracker. */
	bool idle_costs;

	/* With the module. -ENXIO: not here. Other errors are in the kernel's log. */
	int (*open)(struct ooh_spml_room *room);
	/* pages_kept: the hypervisor may still write to what it was given */
	void (*close)(bool pages_kept);
	/* 0; -EBUSY: it was started already; -ENOMEM, -ENODEV */
	int (*start)(void);
	/* -ENODEV: it was not started, or is not known any more, as after a migration */
	int (*stop)(void);
	/* For the first nr ranges of the room. */
	int (*arm)(unsigned int nr, struct ooh_spml_place *place);
	int (*forget)(unsigned int nr);
	int (*collect)(struct ooh_spml_round *round);
	/* As in struct ooh_log_ops. May sleep. */
	u64 (*waiting)(void);
};

#ifdef OOH_XEN
extern const struct ooh_transport ooh_transport_xen;
#endif
extern const struct ooh_transport ooh_transport_qemu;

#endif /* OOH_TRANSPORT_H */
