// SPDX-License-Identifier: GPL-2.0-only
/* Xen's SPML: hypercalls. include/xen/spml.h is the contract. */
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/xen.h>
#include <xen/xen-ops.h>
#include <xen/interface/hvm/hvm_op.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <asm/xen/cpuid.h>

#include "compat/compat.h"
#include "counters.h"
#include "transport.h"
#include "transport-xen.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_SPML
#define XEN_HVM_CPUID_SPML (1U << 7)
#endif

#define RANGES 8192

/*
 * What one hypercall brings: a page of groups of 512 frames. Xen hands out no more at a time,
 * and flushes translations once per page, so more would save little.
 */
#define NR_GROUPS (PAGE_SIZE / sizeof(struct xen_spml_group))

static struct ooh_spml_range *ranges;
static struct ooh_spml_group *groups;
static struct xen_spml_status *status; /* in a page of its own, where Xen writes */
static bool resumed; /* the domain resumed, and nobody has asked yet whether Xen still knows it */

u32 ooh_xen_features(void)
{
	u32 base = xen_cpuid_base();

	return base && xen_hvm_domain() && cpuid_eax(base) >= base + 4 ? cpuid_eax(base + 4) : 0;
}

int ooh_xen_op(struct xen_hvm_spml *op)
{
	ooh_counters.hypercalls++;
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

int ooh_xen_ranges(u32 cmd, struct xen_spml_range *r, unsigned int nr, struct xen_hvm_spml *op)
{
	u64 began = ktime_get_ns();
	int ret;

	*op = (struct xen_hvm_spml){ .cmd = cmd };
	op->u.ranges.ranges = (unsigned long)r;
	op->u.ranges.nr_ranges = nr;
	ret = ooh_xen_op(op);
	ooh_counters.arm_ns += ktime_get_ns() - began;
	return ret;
}

static void free_all(void)
{
	free_page((unsigned long)status);
	free_page((unsigned long)groups);
	vfree(ranges);
}

#if OOH_RESUME_NOTIFIER
/* After save and restore, or a migration: what Xen knew has stayed behind. */
static int domain_resumes(struct notifier_block *nb, unsigned long action, void *data)
{
	WRITE_ONCE(resumed, true);
	return NOTIFY_DONE;
}

static struct notifier_block resume_notifier = { .notifier_call = domain_resumes };

static void listen_for_resume(bool on)
{
	if (on)
		xen_resume_notifier_register(&resume_notifier);
	else
		xen_resume_notifier_unregister(&resume_notifier);
}
#else
/* A collect finds out; whoever waits for the log does not. */
static void listen_for_resume(bool on)
{
}
#endif

static int xen_open(struct ooh_spml_room *room)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_info };
	int ret;

	/* operations use a pointer to one as a pointer to the other */
	BUILD_BUG_ON(sizeof(*ranges) != sizeof(struct xen_spml_range));
	BUILD_BUG_ON(offsetof(struct ooh_spml_range, nr) != offsetof(struct xen_spml_range, nr));
	BUILD_BUG_ON(sizeof(*groups) != sizeof(struct xen_spml_group));
	BUILD_BUG_ON(OOH_GROUP_FRAMES != XEN_SPML_GROUP_FRAMES);
	if (!xen_hvm_domain())
		return -ENXIO;
	if (!(ooh_xen_features() & XEN_HVM_CPUID_SPML)) {
		pr_err("Xen offers no SPML to this domain: a Xen without it, or spml=1 is missing in the domain's configuration\n");
		return -ENODEV;
	}
	ret = ooh_xen_op(&op);
	if (ret) {
		pr_err("Xen refuses SPML: error %d\n", ret);
		return ret == -ENOSYS || ret == -EOPNOTSUPP ? -ENODEV : ret;
	}
	if (op.u.info.version != XEN_SPML_INTERFACE_VERSION) {
		pr_err("Xen's SPML has version %u, this module knows %u\n", op.u.info.version,
		       XEN_SPML_INTERFACE_VERSION);
		return -ENODEV;
	}
	ranges = vmalloc_array(RANGES, sizeof(*ranges));
	groups = (void *)get_zeroed_page(GFP_KERNEL);
	status = (void *)get_zeroed_page(GFP_KERNEL);
	if (!ranges || !groups || !status) {
		pr_err("no memory for what Xen reports\n");
		free_all();
		return -ENOMEM;
	}
	listen_for_resume(true);
	*room = (struct ooh_spml_room){
		.max_tracked = op.u.info.max_tracked,
		.ranges = ranges,
		.nr_ranges = RANGES,
		.groups = groups,
		.nr_groups = NR_GROUPS,
	};
	return 0;
}

static void xen_close(bool pages_kept)
{
	listen_for_resume(false);
	/* a page that Xen may write to can never be used for anything else */
	if (pages_kept)
		status = NULL;
	free_all();
}

static int xen_start(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_start };
	int ret;

	op.u.start.status_gfn = page_to_pfn(virt_to_page(status));
	ret = ooh_xen_op(&op);
	if (!ret)
		WRITE_ONCE(resumed, false);
	return ret;
}

static int xen_stop(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_stop };

	return ooh_xen_op(&op);
}

static int xen_arm(unsigned int nr, struct ooh_spml_place *place)
{
	struct xen_hvm_spml op;
	int ret = ooh_xen_ranges(XEN_SPML_arm, (void *)ranges, nr, &op);

	*place = (struct ooh_spml_place){ op.u.ranges.done, op.u.ranges.offset };
	return ret;
}

static int xen_forget(unsigned int nr)
{
	struct xen_hvm_spml op;

	return ooh_xen_ranges(XEN_SPML_forget, (void *)ranges, nr, &op);
}

static int xen_collect(struct ooh_spml_round *round)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_collect };
	struct xen_spml_collect *c = &op.u.collect;
	int ret;

	/* if Xen does not know the domain any more, it says so now */
	WRITE_ONCE(resumed, false);
	c->groups = (unsigned long)groups;
	c->nr_groups = NR_GROUPS;
	c->cursor = round->cursor;
	ret = ooh_xen_op(&op);
	*round = (struct ooh_spml_round){
		.done = c->done,
		.more = c->flags & XEN_SPML_COLLECT_MORE,
		.cursor = c->cursor,
	};
	return ret;
}

static u64 xen_waiting(void)
{
	return READ_ONCE(resumed) ? U64_MAX : READ_ONCE(status->logged);
}

const struct ooh_transport ooh_transport_xen = {
	.name = "Xen",
	.via = OOH_VIA_XEN,
	.open = xen_open,
	.close = xen_close,
	.start = xen_start,
	.stop = xen_stop,
	.arm = xen_arm,
	.forget = xen_forget,
	.collect = xen_collect,
	.waiting = xen_waiting,
};
