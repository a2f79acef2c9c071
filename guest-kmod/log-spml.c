// SPDX-License-Identifier: GPL-2.0-only
/*
 * SPML: the ring that Xen fills, and the calls that arm frames and end rounds.
 * include/xen/spml.h is the contract.
 */
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/xen.h>
#include <xen/interface/hvm/hvm_op.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <asm/xen/cpuid.h>

#include "compat/compat.h"
#include "counters.h"
#include "inject.h"
#include "log.h"
#include "log-spml.h"
#include "trace.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_SPML
#define XEN_HVM_CPUID_SPML (1U << 7)
#endif

#define RANGES	  8192
#define RING_AUTO (~0U - 1) /* neither a size nor somebody's -1 */
#define AT_ONCE	  8192	    /* records handed over before others may run */
#define REFUSALS  32 /* frames passed over one by one, before all the others count as refused */

static unsigned int ring_pages = RING_AUTO;
module_param(ring_pages, uint, 0400);
MODULE_PARM_DESC(ring_pages,
		 "pages of the ring with Xen: 1 + a power of two; default: room for all memory");

static struct page **pages;
static unsigned int nr_pages, max_pages;
static struct xen_spml_ring *ring; /* page 0, then records: mapped in one piece */
static u64 *records;
static u64 cons, mask;
static bool registered, shut_down;
static struct xen_spml_range *ranges;
static u64 max_tracked;

int ooh_spml_op(struct xen_hvm_spml *op)
{
	ooh_counters.hypercalls++;
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

/* The ring may be put up again after the domain was restored elsewhere. */
static int register_ring(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_register };
	unsigned int i;
	u64 *gfns;
	int ret;

	if (shut_down)
		return -ENODEV;
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

static void unregister_ring(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_unregister };
	int ret = registered ? ooh_spml_op(&op) : 0;

	/* -ENODEV: after a migration there is none to let go of */
	if (ret && ret != -ENODEV)
		pr_warn("Xen did not let go of the ring: error %d\n", ret);
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
	ring = NULL;
	pages = NULL;
}

static int alloc_ring(unsigned int nr)
{
	unsigned int i;

	nr_pages = nr;
	pages = kvcalloc(nr_pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	for (i = 0; i < nr_pages; i++) {
		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
		if (!pages[i])
			goto err;
	}
	ring = vmap(pages, nr_pages, VM_MAP, PAGE_KERNEL);
	if (!ring)
		goto err;
	records = (void *)ring + PAGE_SIZE;
	mask = (nr_pages - 1) * XEN_SPML_RECORDS_PER_PAGE - 1ULL;
	return 0;
err:
	free_ring();
	return -ENOMEM;
}

/* One record a frame at most: with room for all memory none is dropped. */
static unsigned int wanted_pages(void)
{
	if (ring_pages != RING_AUTO)
		return ring_pages;
	return min(max_pages,
		   1 + (unsigned int)roundup_pow_of_two(
			       DIV_ROUND_UP(totalram_pages(), XEN_SPML_RECORDS_PER_PAGE)));
}

static int spml_init(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_info };
	u32 base = xen_cpuid_base();
	unsigned int nr;
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
	max_pages = op.u.info.max_ring_pages;
	nr = wanted_pages();
	if (nr < 2 || !is_power_of_2(nr - 1) || nr > max_pages) {
		pr_err("ring_pages=%u: must be 1 + a power of two, and no more than %u\n", nr,
		       max_pages);
		return -EINVAL;
	}
	ranges = vmalloc_array(RANGES, sizeof(*ranges));
	ret = ranges ? alloc_ring(nr) : -ENOMEM;
	if (ret) {
		pr_err("no memory for a ring of %u pages\n", nr);
		goto err;
	}
	ret = register_ring();
	if (ret) {
		pr_err("Xen refuses the ring of %u pages: error %d\n", nr, ret);
		goto err;
	}
	pr_info("SPML: ring for %llu records, up to %llu frames\n", mask + 1, max_tracked);
	return 0;
err:
	free_ring();
	vfree(ranges);
	return ret;
}

static void spml_exit(void)
{
	unregister_ring();
	free_ring();
	vfree(ranges);
}

void ooh_spml_shutdown(void)
{
	unregister_ring();
	shut_down = true;
}

u64 ooh_spml_ring_records(void)
{
	return mask + 1;
}

u64 ooh_spml_max_tracked(void)
{
	return max_tracked;
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

int ooh_spml_range_op(u32 cmd, struct xen_spml_range *r, unsigned int nr, struct xen_hvm_spml *op)
{
	u64 began = ktime_get_ns();
	int ret;

	*op = (struct xen_hvm_spml){ .cmd = cmd };
	op->u.ranges.ranges = (unsigned long)r;
	op->u.ranges.nr_ranges = nr;
	ret = ooh_spml_op(op);
	ooh_counters.arm_ns += ktime_get_ns() - began;
	return ret;
}

/* How many of the frames came before the one that the operation stumbled on? */
static unsigned int frames_done(const struct xen_hvm_spml *op, unsigned int n)
{
	unsigned int i, done = op->u.ranges.offset;

	for (i = 0; i < min(op->u.ranges.done, n); i++)
		done += ranges[i].nr;
	return done;
}

/*
 * A frame that Xen does not take is passed over. Where it takes none any more (a quota
 * that is used up), it is not asked for each.
 */
int ooh_spml_arm(const u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn))
{
	unsigned int n, done, tries = 0;
	struct xen_hvm_spml op;
	int ret, first = 0;

	while (nr) {
		n = make_ranges(pfns, nr);
		ret = ooh_spml_range_op(XEN_SPML_arm, ranges, n, &op);
		if (!ret)
			break;
		if (!first)
			first = ret;
		done = frames_done(&op, n);
		/* an error, but not with one of these frames: then none is as it should be */
		if (done >= nr)
			done = 0;
		pfns += done;
		nr -= done;
		do {
			refused(*pfns++);
			nr--;
		} while (nr && (ret == -ENOSPC || ret == -ENODEV || tries >= REFUSALS));
		tries++;
	}
	return first;
}

int ooh_spml_forget(const u64 *pfns, unsigned int nr)
{
	struct xen_hvm_spml op;

	return ooh_spml_range_op(XEN_SPML_forget, ranges, make_ranges(pfns, nr), &op);
}

/* The ring is of no use any more: a new one, with which nothing is armed. */
int ooh_spml_new_ring(void)
{
	int ret;

	unregister_ring();
	ret = register_ring();
	if (ret)
		pr_err_ratelimited("Xen refuses the ring: error %d\n", ret);
	return ret ? -ENODEV : 0;
}

static void nobody_records(const u64 *gpas, u64 nr)
{
}

static unsigned long nobody_bits(unsigned long pfn, unsigned long bits)
{
	return 0;
}

const struct ooh_log_sink ooh_spml_nobody = { nobody_records, nobody_bits };

static void hand_over(const struct ooh_log_sink *sink, u64 from, u64 to)
{
	u64 n;

	/* up to the end of the ring, and the rest from its beginning on */
	for (; from != to; from += n) {
		n = min3(to - from, mask + 1 - (from & mask), (u64)AT_ONCE);
		sink->records(records + (from & mask), n);
		cond_resched();
	}
}

static void drain_ring(const struct ooh_log_sink *sink, u64 prod)
{
	if (ooh_injected() == OOH_INJECT_DROPRECORD) {
		for (; cons != prod; cons++)
			if (cons % 16)
				hand_over(sink, cons, cons + 1);
		return;
	}
	hand_over(sink, cons, prod);
	cons = prod;
}

static int start_over(u32 *reasons, u32 reason)
{
	*reasons |= reason | OOH_LOG_ANEW;
	return ooh_spml_new_ring();
}

int ooh_spml_drain(const struct ooh_log_sink *sink, u32 *reasons)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_collect };
	u64 began = ktime_get_ns(), now;
	int ret;

	if (ooh_injected() == OOH_INJECT_NOREARM)
		op.u.collect.flags = XEN_SPML_COLLECT_PEEK;
	/* for a tracker to hear of it */
	if (ooh_injected() == OOH_INJECT_CORRUPT && sink != &ooh_spml_nobody) {
		WRITE_ONCE(ring->cons, cons + (1ULL << 60));
		ooh_inject_end();
	}
	ret = registered ? ooh_spml_op(&op) : -ENODEV;
	now = ktime_get_ns();
	ooh_counters.drain_ns += now - began;
	if (ret == -EILSEQ || (!ret && op.u.collect.prod - cons > mask + 1)) {
		pr_warn("the ring's consumer index was corrupt: everything counts as dirty\n");
		return start_over(reasons, OOH_REASON_CORRUPT);
	}
	if (ret)
		return start_over(reasons,
				  ret == -ENODEV ? OOH_REASON_RESTORED : OOH_REASON_HYPERCALL);
	trace_ooh_drain(op.u.collect.prod - cons, op.u.collect.rearmed, op.u.collect.prod);

	drain_ring(sink, op.u.collect.prod);
	/* Xen may use the slots again when they have been read */
	smp_store_release(&ring->cons, cons);
	if (op.u.collect.flags & XEN_SPML_F_OVERFLOW) {
		ooh_counters.overflows++;
		*reasons |= OOH_REASON_OVERFLOW;
	}
	ooh_counters.map_ns += ktime_get_ns() - now;
	return 0;
}

/* Memory was added since the ring was made. Nobody reads it now. */
static void grow_ring(void)
{
	unsigned int nr = wanted_pages(), before = nr_pages;

	if (nr <= before)
		return;
	unregister_ring();
	free_ring();
	if (!alloc_ring(nr))
		return;
	pr_warn("no memory for a ring of %u pages: it stays at %u\n", nr, before);
	/* if there is none for this either, the next start tries again */
	if (alloc_ring(before))
		nr_pages = 0;
}

/*
 * What the logs hold from before is none of the trackers' business. If the ring stayed
 * behind in a migration, it is put up again.
 */
int ooh_spml_start(void)
{
	u32 reasons = 0;

	if (shut_down)
		return -ENODEV;
	grow_ring();
	if (!ring)
		return -ENOMEM;
	/* registers the ring if it is not */
	return ooh_spml_drain(&ooh_spml_nobody, &reasons);
}

static bool spml_usable(void)
{
	return !shut_down;
}

static void spml_stop(void)
{
}

const struct ooh_log_ops ooh_log_spml = {
	.mechanism = OOH_MECH_SPML,
	.init = spml_init,
	.exit = spml_exit,
	.usable = spml_usable,
	.start = ooh_spml_start,
	.stop = spml_stop,
	.arm = ooh_spml_arm,
	.forget = ooh_spml_forget,
	.drain = ooh_spml_drain,
	.waiting = ooh_spml_waiting,
};
