/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the whole module has counted since it was loaded. Guarded by ooh_rmap_lock, except
 * that a CPU which comes up or goes down between two rounds makes a hypercall of its own.
 */
#ifndef OOH_COUNTERS_H
#define OOH_COUNTERS_H

#include <linux/types.h>

struct ooh_counters {
	u64 armed;	   /* frames that are armed now */
	u64 armings;	   /* how often a frame was newly armed */
	u64 foreign;	   /* records of frames that nobody uses */
	u64 refused;	   /* how often the hypervisor refused to arm a frame */
	u64 not_forgotten; /* how often it refused to forget frames */
	u64 hypercalls;	   /* calls of the hypervisor: also exits to QEMU */
	u64 drain_ns;	   /* time spent emptying the logs */
	u64 map_ns;	   /* time spent finding the users of what was logged */
	u64 arm_ns;	   /* time spent arming and forgetting frames */
};

extern struct ooh_counters ooh_counters;

#endif /* OOH_COUNTERS_H */
