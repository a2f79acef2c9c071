// SPDX-License-Identifier: GPL-2.0-only
/*
 * A frame of the kernel's followed by HVMOP_spml, and nothing else: who else writes to it is
 * the test's to arrange. Module parameters, in /sys/module/watch/parameters:
 *
 *	frame	its number
 *	store	writing N stores N in it
 *	round	reading ends a round: 1 if the frame was reported in it, else 0
 *	area	writing "runstate" or "time" registers vCPU 0's area of that name in the
 *		frame, "none" takes both back
 *
 * The frame is armed by insmod. ooh.ko must not be loaded: a domain follows
 * frames for one of its programs.
 */
#include <linux/module.h>
#include <linux/mm.h>
#include <asm/xen/hypercall.h>
#include <xen/xen.h>
#include <xen/interface/vcpu.h>

#ifndef DEFINE_XEN_GUEST_HANDLE
#define DEFINE_XEN_GUEST_HANDLE(name) DEFINE_GUEST_HANDLE(name)
#endif
#include "xen-spml.h"

/* Xen's public/vcpu.h; Linux does not know them */
#define REGISTER_RUNSTATE_PHYS_AREA  14
#define REGISTER_VCPU_TIME_PHYS_AREA 15

#define NO_AREA			     ~0ULL

static u64 *page;

static ulong frame;
module_param(frame, ulong, 0444);

static int call(struct xen_hvm_spml *op)
{
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

static int store(const char *text, const struct kernel_param *kp)
{
	return kstrtou64(text, 0, page + 511);
}

static int end_round(char *text, const struct kernel_param *kp)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_collect };
	struct xen_spml_group group; /* there is one frame */
	unsigned int at = frame % XEN_SPML_GROUP_FRAMES;
	int ret;

	op.u.collect.groups = (unsigned long)&group;
	op.u.collect.nr_groups = 1;
	ret = call(&op);
	if (ret)
		return ret;
	if (op.u.collect.flags)
		return -EOVERFLOW;
	return sysfs_emit(text, "%d\n",
			  op.u.collect.done && group.gfn == frame - at &&
				  group.bits[at / 64] >> at % 64 & 1);
}

static int register_area(unsigned int op, u64 address)
{
	/* the structures are unions with an address, which these operations take as a physical one */
	return HYPERVISOR_vcpu_op(op, 0, &address);
}

static int area(const char *text, const struct kernel_param *kp)
{
	if (sysfs_streq(text, "runstate"))
		return register_area(REGISTER_RUNSTATE_PHYS_AREA, __pa(page));
	if (sysfs_streq(text, "time"))
		return register_area(REGISTER_VCPU_TIME_PHYS_AREA, __pa(page) + 1024);
	if (!sysfs_streq(text, "none"))
		return -EINVAL;
	register_area(REGISTER_RUNSTATE_PHYS_AREA, NO_AREA);
	register_area(REGISTER_VCPU_TIME_PHYS_AREA, NO_AREA);
	return 0;
}

static const struct kernel_param_ops store_ops = { .set = store };
static const struct kernel_param_ops round_ops = { .get = end_round };
static const struct kernel_param_ops area_ops = { .set = area };
module_param_cb(store, &store_ops, NULL, 0200);
module_param_cb(round, &round_ops, NULL, 0400);
module_param_cb(area, &area_ops, NULL, 0200);

static int __init watch_init(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_start,
				   .u.start.status_gfn = XEN_SPML_NO_STATUS };
	struct xen_spml_range range = { .nr = 1 };
	int ret;

	if (!xen_hvm_domain())
		return -ENODEV;
	page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	frame = __pa(page) >> PAGE_SHIFT;
	ret = call(&op);
	if (ret)
		goto err;
	range.gfn = frame;
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_arm };
	op.u.ranges.ranges = (unsigned long)&range;
	op.u.ranges.nr_ranges = 1;
	ret = call(&op);
	if (!ret)
		return 0;
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_stop };
	call(&op);
err:
	free_page((unsigned long)page);
	return ret;
}

static void __exit watch_exit(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_stop };

	area("none", NULL);
	call(&op);
	free_page((unsigned long)page);
}

module_init(watch_init);
module_exit(watch_exit);
MODULE_DESCRIPTION("A frame followed by the log, for tests of who else writes to it");
MODULE_LICENSE("GPL");
