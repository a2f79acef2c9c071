// SPDX-License-Identifier: GPL-2.0-only
/*
 * SPML: the hypervisor keeps the processor's log as a bitmap. Its operations arm frames, and
 * get and clear what was written: see transport.h.
 */
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/sched.h>

#include "compat/compat.h"
#include "counters.h"
#include "inject.h"
#include "log.h"
#include "log-spml.h"
#include "trace.h"
#include "transport.h"

#define REFUSALS 32 /* frames skipped one by one, before all the others count as refused */

#ifdef OOH_XEN
#define XEN_TOO " nor Xen"
#else
#define XEN_TOO ", and this module is one without Xen's"
#endif

/* A device that somebody has added to this machine comes first. */
static const struct ooh_transport *const transports[] = {
	&ooh_transport_qemu,
#ifdef OOH_XEN
	&ooh_transport_xen,
#endif
};

static const struct ooh_transport *transport;
static struct ooh_spml_room room;
static bool started, shut_down;

/* May be called again, after the machine was restored elsewhere. */
static int start_logging(void)
{
	int ret;

	if (shut_down)
		return -ENODEV;
	ret = transport->start();
	if (ret == -EBUSY) {
		/* it was started by the kernel before this one, which crashed */
		transport->stop();
		ret = transport->start();
	}
	if (!ret)
		started = true;
	return ret;
}

/* False: the hypervisor goes on logging. */
static bool stop_logging(void)
{
	int ret = started ? transport->stop() : 0;

	/* -ENODEV: after a migration there is nothing to stop */
	if (ret && ret != -ENODEV) {
		pr_warn("%s did not stop logging: error %d\n", transport->name, ret);
		return false;
	}
	started = false;
	return true;
}

static int find_transport(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(transports); i++) {
		ret = transports[i]->open(&room);
		if (ret != -ENXIO) {
			transport = ret ? NULL : transports[i];
			return ret;
		}
	}
	pr_err("no page modification log to read: neither QEMU's device ooh-pml" XEN_TOO "\n");
	return -ENODEV;
}

static int spml_init(void)
{
	int ret = find_transport();

	if (ret)
		return ret;
	ret = start_logging();
	if (ret) {
		pr_err("%s does not start logging: error %d\n", transport->name, ret);
		transport->close(false);
		return ret;
	}
	if (transport->idle_costs)
		stop_logging();
	pr_info("SPML: up to %llu frames, by %s\n", room.max_tracked, transport->name);
	return 0;
}

static void spml_exit(void)
{
	transport->close(!stop_logging());
}

void ooh_spml_shutdown(void)
{
	stop_logging();
	shut_down = true;
}

u64 ooh_spml_max_tracked(void)
{
	return room.max_tracked;
}

u32 ooh_spml_via(void)
{
	return transport->via;
}

u64 ooh_spml_waiting(void)
{
	return transport->waiting();
}

/* Makes ranges of neighbouring frames, as many as there is room for. Returns the frames in them. */
static unsigned int make_ranges(const u64 *pfns, unsigned int nr, unsigned int *nr_ranges)
{
	struct ooh_spml_range *r = room.ranges;
	unsigned int i, n = 0;

	for (i = 0; i < nr; i++) {
		if (n && r[n - 1].gfn + r[n - 1].nr == pfns[i])
			r[n - 1].nr++;
		else if (n < room.nr_ranges)
			r[n++] = (struct ooh_spml_range){ .gfn = pfns[i], .nr = 1 };
		else
			break;
	}
	*nr_ranges = n;
	return i;
}

/* How many of the frames came before the one with which the operation failed? */
static unsigned int frames_before(const struct ooh_spml_place *place, unsigned int nr_ranges)
{
	unsigned int i, frames = place->frames;

	for (i = 0; i < min(place->ranges, nr_ranges); i++)
		frames += room.ranges[i].nr;
	return frames;
}

/*
 * A frame that the hypervisor does not take is skipped. When it takes no more at all (a quota
 * is used up), it is not asked for each frame.
 */
int ooh_spml_arm(const u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn))
{
	unsigned int n, nr_ranges, done, tries = 0;
	struct ooh_spml_place place;
	int ret, first = 0;

	while (nr) {
		n = make_ranges(pfns, nr, &nr_ranges);
		ret = transport->arm(nr_ranges, &place);
		if (!ret) {
			pfns += n;
			nr -= n;
			continue;
		}
		if (!first)
			first = ret;
		done = frames_before(&place, nr_ranges);
		/* an error, but not of one of these frames: then none of them is armed */
		if (done >= n)
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
	unsigned int n, nr_ranges;
	int ret, first = 0;

	for (; nr; pfns += n, nr -= n) {
		n = make_ranges(pfns, nr, &nr_ranges);
		ret = transport->forget(nr_ranges);
		if (!first)
			first = ret;
	}
	return first;
}

/* What the hypervisor knows is of no use any more: now nothing is armed. -ENOMEM, -ENODEV */
int ooh_spml_anew(void)
{
	int ret;

	stop_logging();
	ret = start_logging();
	if (ret)
		pr_err_ratelimited("%s does not start logging again: error %d\n", transport->name,
				   ret);
	return ret && ret != -ENOMEM ? -ENODEV : ret;
}

static void nobody_group(unsigned long pfn, unsigned long *bits)
{
	bitmap_zero(bits, OOH_GROUP_FRAMES);
}

const struct ooh_log_sink ooh_spml_nobody = { nobody_group };

/* A fault for tests: frames that count as armed, and that nobody follows. */
static void leave_unarmed(const struct ooh_spml_group *group, const unsigned long *bits)
{
	unsigned int first, last, n = 0;

	for_each_set_bitrange(first, last, bits, OOH_GROUP_FRAMES)
		room.ranges[n++] =
			(struct ooh_spml_range){ .gfn = group->gfn + first, .nr = last - first };
	transport->forget(n);
}

/* Returns how many frames there were. */
static u64 hand_over(const struct ooh_log_sink *sink, const struct ooh_spml_group *group)
{
	DECLARE_BITMAP(bits, OOH_GROUP_FRAMES);
	enum ooh_inject fault = ooh_injected();
	unsigned int i, frames;

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
	struct ooh_spml_round round = {};
	u64 frames = 0, began, now;
	unsigned int i;
	int ret;

	/* only when there is a tracker that can report it */
	if (ooh_injected() == OOH_INJECT_LOST && sink != &ooh_spml_nobody) {
		transport->stop();
		ooh_inject_end();
	}
	/* the first call empties the logs and ends the round; the others bring what had no room */
	do {
		began = ktime_get_ns();
		ret = started ? transport->collect(&round) : -ENODEV;
		now = ktime_get_ns();
		ooh_counters.drain_ns += now - began;
		if (ret)
			return start_over(reasons, ret);
		for (i = 0; i < round.done; i++) {
			frames += hand_over(sink, &room.groups[i]);
			cond_resched();
		}
		ooh_counters.map_ns += ktime_get_ns() - now;
	} while (round.more);
	trace_ooh_drain(frames, frames);
	return 0;
}

/*
 * What the logs hold from before does not concern the trackers. If what the hypervisor knew
 * stayed behind in a migration, it is started again.
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
	if (transport->idle_costs)
		stop_logging();
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
