// SPDX-License-Identifier: GPL-2.0-only
/*
 * SPML: the ring that Xen fills, and the calls that arm frames and end rounds.
 * include/xen/spml.h is the contract.
 */
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/xen.h>
#include <xen/interface/hvm/hvm_op.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <asm/xen/cpuid.h>

#include "ooh.h"
#include "xen-spml.h"
#include "trace.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_SPML
#define XEN_HVM_CPUID_SPML (1U << 7)
#endif

#define RANGES 8192

static struct page **pages;
static unsigned int nr_pages;
static struct xen_spml_ring *ring; /* page 0, then records: mapped in one piece */
static u64 *records;
static u64 cons, mask;
static bool registered;
static struct xen_spml_range *ranges;
static u64 max_tracked;

u64 ooh_spml_overflows, ooh_spml_hypercalls, ooh_spml_drain_ns, ooh_spml_map_ns;
u64 ooh_spml_arm_ns;

int ooh_spml_op(struct xen_hvm_spml *op)
{
	ooh_spml_hypercalls++;
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

/* The ring may be put up again after the domain was restored elsewhere. */
static int spml_register(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_register };
	unsigned int i;
	u64 *gfns;
	int ret;

	gfns = kvmalloc_array(nr_pages, sizeof(*gfns), GFP_KERNEL);
	if (!gfns)
		return -ENOMEM;
	for (i = 0; i < nr_pages; i++)
		gfns[i] = page_to_pfn(pages[i]);
	op.u.reg.gfns = (unsigned long)gfns;
	op.u.reg.nr_pages = nr_pages;
	ret = ooh_spml_op(&op);
	kvfree(gfns);
	cons = 0;
	registered = ret == 0;
	return ret;
}

static void spml_unregister(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_unregister };
	int ret = registered ? ooh_spml_op(&op) : 0;

	/* -ENODEV: after a migration there is none to let go of */
	if (ret && ret != -ENODEV)
		pr_warn("Xen did not let go of the ring\n");
	registered = false;
}

static void free_ring(void)
{
	unsigned int i;

	if (ring)
		vunmap(ring);
	for (i = 0; pages && i < nr_pages && pages[i]; i++)
		__free_page(pages[i]);
	kvfree(pages);
	vfree(ranges);
}

static int alloc_ring(void)
{
	unsigned int i;

	pages = kvcalloc(nr_pages, sizeof(*pages), GFP_KERNEL);
	ranges = vmalloc_array(RANGES, sizeof(*ranges));
	if (!pages || !ranges)
		return -ENOMEM;
	for (i = 0; i < nr_pages; i++) {
		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pages[i])
			return -ENOMEM;
	}
	ring = vmap(pages, nr_pages, VM_MAP, PAGE_KERNEL);
	if (!ring)
		return -ENOMEM;
	records = (void *)ring + PAGE_SIZE;
	mask = (nr_pages - 1) * XEN_SPML_RECORDS_PER_PAGE - 1ULL;
	return 0;
}

int ooh_spml_init(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_info };
	u32 base = xen_cpuid_base();
	int ret;

	if (!base || !xen_hvm_domain()) {
		pr_err("not a Xen HVM or PVH guest: no page modification log to read\n");
		return -ENODEV;
	}
	if (cpuid_eax(base) < base + 4 || !(cpuid_eax(base + 4) & XEN_HVM_CPUID_SPML)) {
		pr_err("Xen offers no SPML to this domain: a Xen without it, or spml=1 is missing "
		       "in the domain's configuration\n");
		return -ENODEV;
	}
	ret = ooh_spml_op(&op);
	if (ret) {
		pr_err("Xen refuses SPML: error %d\n", ret);
		return ret == -ENOSYS || ret == -EOPNOTSUPP ? -ENODEV : ret;
	}
	if (op.u.info.version != XEN_SPML_INTERFACE_VERSION) {
		pr_err("Xen's SPML has version %u, this module knows %u\n", op.u.info.version,
		       XEN_SPML_INTERFACE_VERSION);
		return -ENODEV;
	}
	max_tracked = op.u.info.max_tracked;

	/* one record a frame at most: with room for all memory none is dropped */
	nr_pages = ooh_ring_pages;
	if (nr_pages == OOH_RING_AUTO) {
		nr_pages = 1 + roundup_pow_of_two(
				       DIV_ROUND_UP(totalram_pages(), XEN_SPML_RECORDS_PER_PAGE));
		nr_pages = min(nr_pages, op.u.info.max_ring_pages);
	}
	if (nr_pages < 2 || !is_power_of_2(nr_pages - 1) || nr_pages > op.u.info.max_ring_pages) {
		pr_err("ring_pages=%u: must be 1 + a power of two, and no more than %u\n",
		       ooh_ring_pages, op.u.info.max_ring_pages);
		return -EINVAL;
	}
	ret = alloc_ring();
	if (ret) {
		pr_err("no memory for a ring of %u pages\n", nr_pages);
		goto err;
	}
	ret = spml_register();
	if (ret) {
		pr_err("Xen refuses the ring of %u pages: error %d\n", nr_pages, ret);
		goto err;
	}
	pr_info("SPML: ring for %llu records, up to %llu frames\n", mask + 1, max_tracked);
	return 0;
err:
	free_ring();
	return ret;
}

void ooh_spml_exit(void)
{
	spml_unregister();
	free_ring();
}

void ooh_spml_info(struct ooh_info *info)
{
	info->mechanisms = 1U << OOH_MECH_SPML | (u32)ooh_epml_there() << OOH_MECH_EPML;
	info->ring_records = mask + 1;
	info->max_pages = max_tracked;
}

u64 ooh_spml_waiting(void)
{
	u64 n = READ_ONCE(ring->prod) - READ_ONCE(cons);

	if (READ_ONCE(ring->flags))
		return U64_MAX;
	/* the two are not read at one time: somebody may be draining */
	return (s64)n < 0 ? 0 : n;
}

/* Runs of neighbouring frames become ranges. */
static unsigned int make_ranges(const u64 *pfns, unsigned int nr)
{
	unsigned int n = 0;

	for (; nr; nr--, pfns++) {
		if (n && ranges[n - 1].gfn + ranges[n - 1].nr == *pfns)
			ranges[n - 1].nr++;
		else
			ranges[n++] = (struct xen_spml_range){ .gfn = *pfns, .nr = 1 };
	}
	return n;
}

static int range_op(u32 cmd, struct xen_spml_range *r, unsigned int nr, struct xen_hvm_spml *op)
{
	u64 began = ktime_get_ns();
	int ret;

	*op = (struct xen_hvm_spml){ .cmd = cmd };
	op->u.ranges.ranges = (unsigned long)r;
	op->u.ranges.nr_ranges = nr;
	ret = ooh_spml_op(op);
	ooh_spml_arm_ns += ktime_get_ns() - began;
	return ret;
}

static void refuse_range(const struct xen_spml_range *r, u64 from, u64 to,
			 void (*refused)(unsigned long pfn))
{
	for (; from < to; from++)
		refused(r->gfn + from);
}

/* Arms what Xen lets us arm; each frame that is not armed then is handed to refused(). */
int ooh_spml_arm(u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn))
{
	struct xen_spml_range *r = ranges;
	unsigned int n = make_ranges(pfns, nr);
	struct xen_hvm_spml op;
	int ret, first = 0;

	while (n) {
		ret = range_op(XEN_SPML_arm, r, n, &op);
		if (!ret)
			break;
		if (!first)
			first = ret;
		r += min(op.u.ranges.done, n);
		n -= min(op.u.ranges.done, n);
		if (!n)
			break;
		/* pass over the frame it stumbled on and go on after it, if that can help */
		if (ret != -EINVAL && ret != -ENOMEM)
			break;
		refused(r->gfn + op.u.ranges.offset);
		r->gfn += op.u.ranges.offset + 1;
		r->nr -= op.u.ranges.offset + 1;
		if (!r->nr) {
			r++;
			n--;
		}
	}
	/* no room for more, or no ring: the rest would be refused one by one */
	if (n && ret)
		refuse_range(r, min_t(u64, op.u.ranges.offset, r->nr), r->nr, refused);
	for (r++; n > 1 && ret; n--, r++)
		refuse_range(r, 0, r->nr, refused);
	return first;
}

int ooh_spml_forget(u64 *pfns, unsigned int nr)
{
	struct xen_hvm_spml op;

	return range_op(XEN_SPML_forget, ranges, make_ranges(pfns, nr), &op);
}

/* Frames that a collect found logged and Xen does not know of. Passes over others. */
int ooh_spml_rearm(struct xen_spml_range *r, unsigned int nr)
{
	struct xen_hvm_spml op;

	return range_op(XEN_SPML_rearm, r, nr, &op);
}

/* The ring is of no use any more: a new one, with everything armed anew. */
int ooh_spml_start_over(u32 reason)
{
	int ret;

	ooh_trackers_all_dirty(reason);
	spml_unregister();
	ret = spml_register();
	if (ret) {
		pr_err_ratelimited("Xen refuses the ring: error %d\n", ret);
		return -ENODEV;
	}
	ooh_epml_log_again();
	ooh_frames_rearm_all();
	return 0;
}

static void drain(u64 prod)
{
	if (READ_ONCE(ooh_inject) == OOH_INJECT_DROPRECORD) {
		for (; cons != prod; cons++)
			if (cons % 16)
				ooh_frames_logged(records, mask, cons, cons + 1);
		return;
	}
	ooh_frames_logged(records, mask, cons, prod);
	cons = prod;
}

int ooh_spml_collect(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_collect };
	u64 began = ktime_get_ns(), now;
	int ret;

	switch (READ_ONCE(ooh_inject)) {
	case OOH_INJECT_NOREARM:
		op.u.collect.flags = XEN_SPML_COLLECT_PEEK;
		break;
	case OOH_INJECT_CORRUPT:
		/* for a tracker to hear of it */
		if (!ooh_trackers)
			break;
		WRITE_ONCE(ring->cons, cons + (1ULL << 60));
		WRITE_ONCE(ooh_inject, OOH_INJECT_NONE);
		break;
	default:
		break;
	}
	ret = registered ? ooh_spml_op(&op) : -ENODEV;
	now = ktime_get_ns();
	ooh_spml_drain_ns += now - began;
	if (ret == -EILSEQ) {
		pr_warn("the ring's consumer index was corrupt: everything counts as dirty\n");
		return ooh_spml_start_over(OOH_REASON_CORRUPT);
	}
	if (ret == -ENODEV)
		return ooh_spml_start_over(OOH_REASON_RESTORED);
	if (ret)
		return ooh_spml_start_over(OOH_REASON_HYPERCALL);
	if (op.u.collect.prod - cons > mask + 1)
		return ooh_spml_start_over(OOH_REASON_CORRUPT);
	trace_ooh_drain(op.u.collect.prod - cons, op.u.collect.rearmed, op.u.collect.prod);

	drain(op.u.collect.prod);
	/* Xen may use the slots again when they have been read */
	smp_store_release(&ring->cons, cons);
	if (op.u.collect.flags & XEN_SPML_F_OVERFLOW) {
		ooh_spml_overflows++;
		ooh_trackers_all_dirty(OOH_REASON_OVERFLOW);
	}
	ooh_frames_unarmed();
	ooh_spml_map_ns += ktime_get_ns() - now;
	return 0;
}
