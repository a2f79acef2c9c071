// SPDX-License-Identifier: GPL-2.0-only
/* Each quota of the interface: the last that is granted, and the first that is refused. */
#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/seq_file.h>
#include <linux/vmalloc.h>

#include "fuzz.h"

#define FAR   (1UL << 24) /* frames above all memory */
#define CHUNK (1UL << 13) /* frames whose state Xen keeps in one piece */

static struct {
	const char *name;
	bool ok;
} results[64];
static unsigned int nr_results;

/* The value, and what it has to be: printed together. */
static bool is(const char *name, s64 got, s64 wanted)
{
	if (nr_results < ARRAY_SIZE(results)) {
		results[nr_results].name = name;
		results[nr_results++].ok = got == wanted;
	}
	if (got != wanted)
		fz_bad("%s: %lld instead of %lld\n", name, got, wanted);
	return got == wanted;
}

void fz_limits_show(struct seq_file *m)
{
	unsigned int i;

	for (i = 0; i < nr_results; i++)
		seq_printf(m, "limit %s: %s\n", results[i].ok ? "ok" : "broken", results[i].name);
}

static u64 frame(unsigned int i)
{
	return fz_gfn(i / FZ_PAGES, i % FZ_PAGES);
}

static struct xen_hvm_spml op; /* what the last call left */

static int ranges(u32 cmd, const struct xen_spml_range *r, u32 nr)
{
	op = (struct xen_hvm_spml){ .cmd = cmd };
	op.u.ranges.ranges = (unsigned long)r;
	op.u.ranges.nr_ranges = nr;
	return fz_hypercall(&op);
}

static int range(u32 cmd, u64 gfn, u32 nr)
{
	struct xen_spml_range r = { .gfn = gfn, .nr = nr };

	return ranges(cmd, &r, 1);
}

static int simple(u32 cmd)
{
	op = (struct xen_hvm_spml){ .cmd = cmd };
	return fz_hypercall(&op);
}

static int start(u64 status_gfn)
{
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_start, .u.start.status_gfn = status_gfn };
	return fz_hypercall(&op);
}

static int start_without(void)
{
	return start(XEN_SPML_NO_STATUS);
}

static u64 tracked(void)
{
	return simple(XEN_SPML_info) ? ~0ULL : op.u.info.tracked;
}

static void starts(void)
{
	struct xen_spml_status *status = fz_va(FZ_STATUS, 0);

	fz_list(FZ_STATUS, 0);
	is("status at no memory", start(FAR), -EINVAL);
	is("status in a page", start(fz_gfn(FZ_STATUS, 0)), 0);
	is("nothing is logged yet", status->logged, 0);
	is("start twice", start_without(), -EBUSY);
	is("stop", simple(XEN_SPML_stop), 0);
	is("start without status", start_without(), 0);
	is("stop again", simple(XEN_SPML_stop), 0);
	is("stop twice", simple(XEN_SPML_stop), -ENODEV);
}

static void nr_ranges(void)
{
	struct xen_spml_range *r = vzalloc((XEN_SPML_MAX_RANGES + 1) * sizeof(*r));

	if (!r) {
		fz_bad("no memory for ranges\n");
		return;
	}
	r[XEN_SPML_MAX_RANGES - 1] = (struct xen_spml_range){ .gfn = frame(0), .nr = 1 };
	is("most ranges, to arm", ranges(XEN_SPML_arm, r, XEN_SPML_MAX_RANGES), 0);
	is("the last of the most ranges", tracked(), 1);
	is("one range too many, to arm", ranges(XEN_SPML_arm, r, XEN_SPML_MAX_RANGES + 1), -EINVAL);
	is("one range too many, to forget", ranges(XEN_SPML_forget, r, XEN_SPML_MAX_RANGES + 1),
	   -EINVAL);
	is("most ranges, to forget", ranges(XEN_SPML_forget, r, XEN_SPML_MAX_RANGES), 0);
	is("nothing is left", tracked(), 0);
	vfree(r);
}

static unsigned int weight(const struct xen_spml_group *g)
{
	unsigned int i, bits = 0;

	for (i = 0; i < ARRAY_SIZE(g->bits); i++)
		bits += hweight64(g->bits[i]);
	return bits;
}

static int collect(struct xen_spml_group *to, u32 nr)
{
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_collect };
	op.u.collect.groups = (unsigned long)to;
	op.u.collect.nr_groups = nr;
	return fz_hypercall(&op);
}

static int collect_more(void)
{
	op.u.collect.done = 0;
	return fz_hypercall(&op);
}

static void write_all(void)
{
	unsigned int i;

	for (i = 0; i < FZ_PAGES; i++)
		fz_write(i);
	WRITE_ONCE(*(u64 *)fz_va(FZ_BALLOON, 0), 1);
}

/* Two groups, and room for none, for one, and for both: nothing is lost. */
static void room(void)
{
	struct xen_spml_group *g = vmalloc_array(2, sizeof(*g));
	unsigned int bits;

	if (!g) {
		fz_bad("no memory for groups\n");
		return;
	}
	is("arm a whole group", range(XEN_SPML_arm, fz_gfn(FZ_PLAIN, 0), FZ_PAGES), 0);
	is("arm a frame of another", range(XEN_SPML_arm, fz_gfn(FZ_BALLOON, 0), 1), 0);
	write_all();
	is("more done than there is room",
	   (collect(g, 1), op.u.collect.done = 2, fz_hypercall(&op)), -EINVAL);
	bits = weight(g);
	op.u.collect.done = 1;
	is("no room left", fz_hypercall(&op), 0);
	is("there is more", op.u.collect.flags, XEN_SPML_COLLECT_MORE);
	is("the rest", collect_more(), 0);
	is("there is none any more", op.u.collect.flags, 0);
	bits += weight(g);
	is("each frame of the round", bits, FZ_PAGES + 1);

	write_all();
	is("collect without room", collect(g, 0), 0);
	is("without room there is more", op.u.collect.flags, XEN_SPML_COLLECT_MORE);
	is("what the status would say", op.u.collect.logged, bits);
	is("collect to nowhere", collect((void *)(1UL << 63), 2), -EFAULT);
	is("collect all", collect(g, 2), 0);
	is("both groups", op.u.collect.done, 2);
	is("each frame of the next round", weight(g) + weight(g + 1), FZ_PAGES + 1);
	write_all();
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_collect };
	op.u.collect.flags = XEN_SPML_COLLECT_PEEK;
	is("peek", fz_hypercall(&op), 0);
	is("logged since", op.u.collect.logged, FZ_PAGES + 1);
	is("and collected", collect(g, 2), 0);
	is("armed again by all of these", weight(g) + weight(g + 1), FZ_PAGES + 1);
	vfree(g);
}

static int log_op(u32 cmd, u64 gfn, u32 vcpu, u8 vector)
{
	op = (struct xen_hvm_spml){ .cmd = cmd };
	op.u.log.gfn = gfn;
	op.u.log.vcpu = vcpu;
	op.u.log.vector = vector;
	return fz_hypercall(&op);
}

static void logs(void)
{
	u64 gfn = fz_gfn(FZ_PLAIN, 0);

	fz_list_log(FZ_PLAIN, 0);
	is("log of an exception's vector", log_op(XEN_SPML_log_register, gfn, 0, 15), -EINVAL);
	is("log of no vCPU", log_op(XEN_SPML_log_register, gfn, num_present_cpus(), 16), -EINVAL);
	is("log at no memory", log_op(XEN_SPML_log_register, FAR, 0, 16), -EINVAL);
	is("no log to go", log_op(XEN_SPML_log_unregister, 0, 0, 0), -ENODEV);
	is("log", log_op(XEN_SPML_log_register, gfn, 0, 16), 0);
	is("second log", log_op(XEN_SPML_log_register, gfn, 0, 16), -EBUSY);
	is("log goes", log_op(XEN_SPML_log_unregister, 0, 0, 0), 0);
	is("log goes twice", log_op(XEN_SPML_log_unregister, 0, 0, 0), -ENODEV);
}

/* Moves pages of ours to far frames, or back. */
static bool move(unsigned int nr, unsigned long stride, bool back)
{
	unsigned int i, to = FZ_BALLOON * FZ_PAGES;

	for (i = 0; i < nr; i++) {
		unsigned long there = FAR + i * stride;

		if (fz_move(back ? there : frame(to + i), back ? frame(to + i) : there)) {
			fz_bad("page %u cannot be moved\n", i);
			return false;
		}
	}
	return true;
}

/* Frames that were moved away stay tracked: so more than the domain's memory can be. */
static void frames(u64 max)
{
	unsigned long gfn = 0, last = max; /* the guest's memory begins at 0 and has few gaps */
	unsigned int left;
	int ret;

	while (gfn < last) {
		ret = range(XEN_SPML_arm, gfn, last - gfn);
		if (ret && ret != -EINVAL)
			fz_bad("arm all memory: %d at %#lx\n", ret, gfn + op.u.ranges.offset);
		if (ret != -EINVAL)
			break;
		gfn += op.u.ranges.offset + 1;
	}
	left = max - tracked();
	if (left >= 2 * FZ_PAGES) {
		fz_bad("%u frames from the quota: too many to move\n", left);
		return;
	}
	if (!move(left + 1, 1, false))
		return;
	is("one frame too many", range(XEN_SPML_arm, FAR, left + 1), -ENOSPC);
	is("the frame it is about", op.u.ranges.offset, left);
	is("most frames", tracked(), max);
	is("most frames, once more", range(XEN_SPML_arm, FAR, left), 0);
	is("room for one", range(XEN_SPML_forget, FAR, 1), 0);
	is("the one there is room for", range(XEN_SPML_arm, FAR + left, 1), 0);
	is("most frames again", tracked(), max);
	simple(XEN_SPML_stop);
	move(left + 1, 1, true);
}

/* Xen's memory for frames that lie far apart: a guest must not get all of it. */
static void scattered(u64 max)
{
	unsigned int quota = 2 * (max / CHUNK) + 16, i;

	if (!move(quota + 1, CHUNK, false))
		return;
	for (i = 0; i < quota && !range(XEN_SPML_arm, FAR + i * CHUNK, 1); i++)
		;
	is("most scattered frames", i, quota);
	is("one scattered frame too many", range(XEN_SPML_arm, FAR + quota * CHUNK, 1), -ENOSPC);
	simple(XEN_SPML_stop);
	start_without();
	is("room for it after another start", range(XEN_SPML_arm, FAR + quota * CHUNK, 1), 0);
	simple(XEN_SPML_stop);
	move(quota + 1, CHUNK, true);
}

void fz_limits(void)
{
	u64 max;

	simple(XEN_SPML_info);
	max = op.u.info.max_tracked;
	is("arm without a start", range(XEN_SPML_arm, frame(0), 1), -ENODEV);
	is("arm again without a start", range(XEN_SPML_rearm, frame(0), 1), -ENODEV);
	is("collect without a start", simple(XEN_SPML_collect), -ENODEV);
	is("log without a start", log_op(XEN_SPML_log_register, frame(0), 0, 16), -ENODEV);
	starts();
	start_without();
	nr_ranges();
	logs();
	room();
	simple(XEN_SPML_stop);
	start_without();
	frames(max);
	start_without();
	scattered(max);
}
