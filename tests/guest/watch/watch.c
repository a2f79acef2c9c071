// SPDX-License-Identifier: GPL-2.0-only
/*
 * A frame of the kernel's followed by HVMOP_spml, and nothing else: who else writes to it is
 * the test's to arrange. Module parameters, in /sys/module/watch/parameters:
 *
 *	frame	its number
 *	store	writing N stores N in it, reading says what is there
 *	round	reading ends a round: 1 if the frame was reported in it, else 0
 *	area	writing "runstate" or "time" registers vCPU 0's area of that name in the
 *		frame, "none" takes both back
 *	own	writing "map" has the guest map a grant of its own of the frame's page, at
 *		another frame; "unmap" ends that, and "mend" gives the frame a page again.
 *		Reading says what is at the other frame.
 *
 * The frame is armed by insmod, unless it has follow=0, which goes without SPML. ooh.ko must
 * not be loaded: a domain follows frames for one of its programs.
 */
#include <linux/module.h>
#include <linux/mm.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <xen/grant_table.h>
#include <xen/xen.h>
#include <xen/interface/grant_table.h>
#include <xen/interface/memory.h>
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

static bool follow = true;
module_param(follow, bool, 0444);

static struct page *other; /* without memory, but for a grant */
static int ref;
static grant_handle_t handle;
static bool mapped, hole;

static int call(struct xen_hvm_spml *op)
{
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

static int store(const char *text, const struct kernel_param *kp)
{
	return kstrtou64(text, 0, page + 511);
}

static int stored(char *text, const struct kernel_param *kp)
{
	return sysfs_emit(text, "%lld\n", READ_ONCE(page[511]));
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

static int map_own(void)
{
	struct gnttab_map_grant_ref op = {
		.host_addr = PFN_PHYS(page_to_pfn(other)),
		.flags = GNTMAP_host_map,
		.dom = cpuid_ecx(xen_cpuid_base() + 4), /* this domain */
	};

	if (mapped || hole)
		return -EBUSY;
	ref = gnttab_grant_foreign_access(op.dom, frame, 0);
	if (ref < 0)
		return ref;
	op.ref = ref;
	if (HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, &op, 1) || op.status) {
		gnttab_end_foreign_access(ref, NULL);
		return -EIO;
	}
	handle = op.handle;
	mapped = hole = true;
	return 0;
}

static int unmap_own(void)
{
	struct gnttab_unmap_grant_ref op = { .host_addr = PFN_PHYS(page_to_pfn(other)),
					     .handle = handle };

	if (!mapped)
		return -EINVAL;
	if (HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &op, 1) || op.status)
		return -EIO;
	gnttab_end_foreign_access(ref, NULL);
	mapped = false;
	return 0;
}

/* Memory for the frame, which the kernel would come upon when the page is freed. */
static int mend_own(void)
{
	xen_pfn_t pfn = frame;
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = DOMID_SELF };

	set_xen_guest_handle(r.extent_start, &pfn);
	if (mapped || !hole)
		return -EINVAL;
	if (HYPERVISOR_memory_op(XENMEM_populate_physmap, &r) != 1)
		return -ENOMEM;
	hole = false;
	return 0;
}

static int own(const char *text, const struct kernel_param *kp)
{
	if (sysfs_streq(text, "map"))
		return map_own();
	if (sysfs_streq(text, "unmap"))
		return unmap_own();
	return sysfs_streq(text, "mend") ? mend_own() : -EINVAL;
}

static int at_other(char *text, const struct kernel_param *kp)
{
	return sysfs_emit(text, "%lld\n", READ_ONCE(((u64 *)page_address(other))[511]));
}

static const struct kernel_param_ops store_ops = { .set = store, .get = stored };
static const struct kernel_param_ops own_ops = { .set = own, .get = at_other };
static const struct kernel_param_ops round_ops = { .get = end_round };
static const struct kernel_param_ops area_ops = { .set = area };
module_param_cb(store, &store_ops, NULL, 0600);
module_param_cb(own, &own_ops, NULL, 0600);
module_param_cb(round, &round_ops, NULL, 0400);
module_param_cb(area, &area_ops, NULL, 0200);

static void let_go(void)
{
	if (other)
		gnttab_free_pages(1, &other);
	free_page((unsigned long)page);
}

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
	ret = gnttab_alloc_pages(1, &other);
	if (ret)
		goto err;
	frame = __pa(page) >> PAGE_SHIFT;
	if (!follow)
		return 0;
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
	let_go();
	return ret;
}

static void __exit watch_exit(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_stop };

	area("none", NULL);
	if (mapped)
		unmap_own();
	if (hole)
		mend_own();
	/* what has no memory, or is still in use, is not given back */
	if ((!follow || !call(&op)) && !hole)
		let_go();
}

module_init(watch_init);
module_exit(watch_exit);
MODULE_DESCRIPTION("A frame followed by the log, for tests of who else writes to it");
MODULE_LICENSE("GPL");
