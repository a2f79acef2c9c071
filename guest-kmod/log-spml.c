// SPDX-License-Identifier: GPL-2.0-only
/*
 * SPML: the calls that arm frames, and that get and clean the bitmap of those written.
 * include/xen/spml.h is the contract.
 */
#include <linux/bitmap.h>
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
#include "inject.h"
#include "log.h"
#include "log-spml.h"
#include "trace.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_SPML
#define XEN_HVM_CPUID_SPML (1U << 7)
#endif

#define RANGES	 8192
#define REFUSALS 32 /* frames passed over one by one, before all the others count as refused */

/*
 * What one hypercall brings: a page, with groups of 512 frames. Xen hands out no more at a
 * time, and flushes translations once for each page, so that larger ones would save little.
 */
#define NR_GROUPS (PAGE_SIZE / sizeof(struct xen_spml_group))

static struct xen_spml_group *groups;
static struct xen_spml_status *status; /* in a page of its own, where Xen writes */
static bool started, shut_down;
static bool resumed; /* the domain was, and nobody has asked yet whether Xen knows it */
static struct xen_spml_range *ranges;
static u64 max_tracked;

int ooh_spml_op(struct xen_hvm_spml *op)
{
	ooh_counters.hypercalls++;
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

/* It may be started again after the domain was restored elsewhere. */
static int start_xen(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_start };
	int ret;

	if (shut_down)
		return -ENODEV;
	op.u.start.status_gfn = page_to_pfn(virt_to_page(status));
	ret = ooh_spml_op(&op);
	if (!ret) {
		started = true;
		WRITE_ONCE(resumed, false);
	}
	return ret;
}

static int tell_xen_to_stop(void)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_stop };

	return ooh_spml_op(&op);
}

/* False: Xen goes on. */
static bool stop_xen(void)
{
	int ret = started ? tell_xen_to_stop() : 0;

	/* -ENODEV: after a migration there is nothing to stop */
	if (ret && ret != -ENODEV) {
		pr_warn("Xen did not stop logging: error %d\n", ret);
		return false;
	}
	started = false;
	return true;
}

static void free_all(void)
{
	free_page((unsigned long)status);
	free_page((unsigned long)groups);
	vfree(ranges);
}

#if OOH_RESUME_NOTIFIER
/* Saved and restored, or migrated: whatever Xen knew has stayed behind. */
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
/* A collect finds out; who waits for the log does not. */
static void listen_for_resume(bool on)
{
}
#endif

static int spml_init(void)
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
	ranges = vmalloc_array(RANGES, sizeof(*ranges));
	groups = (void *)get_zeroed_page(GFP_KERNEL);
	status = (void *)get_zeroed_page(GFP_KERNEL);
	ret = -ENOMEM;
	if (!ranges || !groups || !status) {
		pr_err("no memory for what Xen reports\n");
		goto err;
	}
	ret = start_xen();
	if (ret == -EBUSY) {
		/* for the kernel before this one, which crashed */
		tell_xen_to_stop();
		ret = start_xen();
	}
	if (ret) {
		pr_err("Xen does not start logging: error %d\n", ret);
		goto err;
	}
	listen_for_resume(true);
	pr_info("SPML: up to %llu frames\n", max_tracked);
	return 0;
err:
	free_all();
	return ret;
}

static void spml_exit(void)
{
	listen_for_resume(false);
	/* a page that Xen writes to is nobody else's ever */
	if (!stop_xen())
		status = NULL;
	free_all();
}

void ooh_spml_shutdown(void)
{
	stop_xen();
	shut_down = true;
}

u64 ooh_spml_max_tracked(void)
{
	return max_tracked;
}

u64 ooh_spml_waiting(void)
{
	return READ_ONCE(resumed) ? U64_MAX : READ_ONCE(status->logged);
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

/* What Xen knows is of no use any more: from here on nothing is armed. -ENOMEM, -ENODEV */
int ooh_spml_anew(void)
{
	int ret;

	stop_xen();
	ret = start_xen();
	if (ret)
		pr_err_ratelimited("Xen does not start logging again: error %d\n", ret);
	return ret && ret != -ENOMEM ? -ENODEV : ret;
}

static void nobody_group(unsigned long pfn, unsigned long *bits)
{
	bitmap_zero(bits, OOH_GROUP_FRAMES);
}

const struct ooh_log_sink ooh_spml_nobody = { nobody_group };

/* A fault for tests: frames that everybody takes for armed, and Xen does not follow. */
static void leave_unarmed(const struct xen_spml_group *group, const unsigned long *bits)
{
	unsigned int first, last, n = 0;
	struct xen_hvm_spml op;

	for_each_set_bitrange(first, last, bits, XEN_SPML_GROUP_FRAMES)
		ranges[n++] =
			(struct xen_spml_range){ .gfn = group->gfn + first, .nr = last - first };
	ooh_spml_range_op(XEN_SPML_forget, ranges, n, &op);
}

/* Returns how many frames there were. */
static u64 hand_over(const struct ooh_log_sink *sink, const struct xen_spml_group *group)
{
	DECLARE_BITMAP(bits, OOH_GROUP_FRAMES);
	enum ooh_inject fault = ooh_injected();
	unsigned int i, frames;

	BUILD_BUG_ON(OOH_GROUP_FRAMES != XEN_SPML_GROUP_FRAMES);
	bitmap_from_arr64(bits, group->bits, OOH_GROUP_FRAMES);
	frames = bitmap_weight(bits, OOH_GROUP_FRAMES);
	if (fault == OOH_INJECT_NOREARM)
		leave_unarmed(group, bits);
	for (i = 0; fault == OOH_INJECT_DROPRECORD && i < OOH_GROUP_LONGS; i++)
		bits[i] &= ~OOH_INJECT_SIXTEENTH;
	sink->group(group->gfn, bits);
	return frames;
}

static int start_over(u32 *reasons, int error)
{
	*reasons |= OOH_LOG_ANEW;
	*reasons |= error == -ENODEV ? OOH_REASON_RESTORED : OOH_REASON_HYPERCALL;
	return ooh_spml_anew();
}

int ooh_spml_drain(const struct ooh_log_sink *sink, u32 *reasons)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_collect };
	struct xen_spml_collect *c = &op.u.collect;
	u64 frames = 0, began, now;
	unsigned int i;
	int ret;

	/* for a tracker to hear of it */
	if (ooh_injected() == OOH_INJECT_LOST && sink != &ooh_spml_nobody) {
		tell_xen_to_stop();
		ooh_inject_end();
	}
	/* if Xen does not know the domain any more it says so now */
	WRITE_ONCE(resumed, false);
	c->groups = (unsigned long)groups;
	c->nr_groups = NR_GROUPS;
	/* one call has the logs emptied and ends the round; others are for what had no room */
	do {
		began = ktime_get_ns();
		c->done = 0;
		ret = started ? ooh_spml_op(&op) : -ENODEV;
		now = ktime_get_ns();
		ooh_counters.drain_ns += now - began;
		if (ret)
			return start_over(reasons, ret);
		for (i = 0; i < c->done; i++) {
			frames += hand_over(sink, &groups[i]);
			cond_resched();
		}
		ooh_counters.map_ns += ktime_get_ns() - now;
	} while (c->flags & XEN_SPML_COLLECT_MORE);
	trace_ooh_drain(frames, frames);
	return 0;
}

/*
 * What the logs hold from before is none of the trackers' business. If what Xen knew stayed
 * behind in a migration, it is started again.
 */
int ooh_spml_start(void)
{
	u32 reasons = 0;

	if (shut_down)
		return -ENODEV;
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
