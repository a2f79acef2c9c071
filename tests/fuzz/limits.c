// SPDX-License-Identifier: GPL-2.0-only
/* Each quota of the interface: the last that is granted, and the first that is refused. */
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

/* The value and what it has to be; told together. */
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

static int enroll_leg(const u64 *gfns, u32 nr, u32 done)
{
	op = (struct xen_hvm_spml){ .cmd = XEN_SPML_register };
	op.u.reg.gfns = (unsigned long)gfns;
	op.u.reg.nr_pages = nr;
	op.u.reg.done = done;
	return fz_hypercall(&op);
}

static int enroll(const u64 *gfns, u32 nr)
{
	return enroll_leg(gfns, nr, 0);
}

static u64 tracked(void)
{
	return simple(XEN_SPML_info) ? ~0ULL : op.u.info.tracked;
}

static void ring_pages(u64 *gfns, u32 max)
{
	is("ring of no page", enroll(gfns, 0), -EINVAL);
	is("ring without records", enroll(gfns, 1), -EINVAL);
	is("ring of 1 + 3 pages", enroll(gfns, 4), -EINVAL);
	is("end of a ring that never began", enroll_leg(gfns, 2, 2), -EINVAL);
	is("smallest ring", enroll(gfns, 2), 0);
	is("second ring", enroll(gfns + 2, 2), -EBUSY);
	is("smallest ring goes", simple(XEN_SPML_unregister), 0);
	is("largest ring", enroll(gfns, max), 0);
	is("largest ring goes", simple(XEN_SPML_unregister), 0);
	is("one page too many", enroll(gfns, max + 1), -EINVAL);
	is("next size of ring", enroll(gfns, 2 * (max - 1) + 1), -EINVAL);
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

/* The smallest ring takes 512 records, and not one more. */
static void records(void)
{
	struct xen_spml_ring *ring = fz_va(FZ_RING, 0);
	unsigned int i;

	is("arm as many as the ring has records", range(XEN_SPML_arm, fz_gfn(FZ_PLAIN, 0), 512), 0);
	is("arm one more", range(XEN_SPML_arm, fz_gfn(FZ_BALLOON, 0), 1), 0);
	for (i = 0; i < 512; i++)
		fz_write(i);
	is("collect a full ring", simple(XEN_SPML_collect), 0);
	is("records of a full ring", op.u.collect.prod, 512);
	is("a full ring has not overflowed", op.u.collect.flags, 0);
	WRITE_ONCE(ring->cons, 512);
	for (i = 0; i < 512; i++)
		fz_write(i);
	WRITE_ONCE(*(u64 *)fz_va(FZ_BALLOON, 0), 1);
	simple(XEN_SPML_collect);
	is("one record too many", op.u.collect.flags, XEN_SPML_F_OVERFLOW);
	is("records in spite of it", op.u.collect.prod, 1024);
	is("armed again in spite of it", op.u.collect.rearmed, 513);
	WRITE_ONCE(ring->cons, 1024);
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
	simple(XEN_SPML_unregister);
	move(left + 1, 1, true);
}

/* Xen's memory for frames that lie far from one another: a guest must not have all of it. */
static void scattered(u64 *gfns, u64 max)
{
	unsigned int quota = 2 * (max / CHUNK) + 16, i;

	if (!move(quota + 1, CHUNK, false))
		return;
	for (i = 0; i < quota && !range(XEN_SPML_arm, FAR + i * CHUNK, 1); i++)
		;
	is("most scattered frames", i, quota);
	is("one scattered frame too many", range(XEN_SPML_arm, FAR + quota * CHUNK, 1), -ENOSPC);
	simple(XEN_SPML_unregister);
	enroll(gfns, 2);
	is("room for it in another ring", range(XEN_SPML_arm, FAR + quota * CHUNK, 1), 0);
	simple(XEN_SPML_unregister);
	move(quota + 1, CHUNK, true);
}

void fz_limits(void)
{
	unsigned int nr = FZ_AREAS * FZ_PAGES + 1, i;
	u64 *gfns = vmalloc_array(nr, sizeof(*gfns)), max;
	struct page *one_more = alloc_page(GFP_KERNEL);
	u32 max_ring;

	if (!gfns || !one_more) {
		fz_bad("no memory\n");
		goto out;
	}
	/* the ring area first: records() looks into its first page */
	for (i = 0; i < nr - 1; i++)
		gfns[i] = frame((i + FZ_RING * FZ_PAGES) % (nr - 1));
	gfns[i] = page_to_pfn(one_more);
	simple(XEN_SPML_info);
	max = op.u.info.max_tracked;
	max_ring = op.u.info.max_ring_pages;
	is("arm without a ring", range(XEN_SPML_arm, frame(0), 1), -ENODEV);
	is("arm again without a ring", range(XEN_SPML_rearm, frame(0), 1), -ENODEV);
	is("log without a ring", log_op(XEN_SPML_log_register, frame(0), 0, 16), -ENODEV);
	ring_pages(gfns, max_ring);
	enroll(gfns, 2);
	nr_ranges();
	logs();
	records();
	simple(XEN_SPML_unregister);
	enroll(gfns, max_ring);
	frames(max);
	enroll(gfns, 2);
	scattered(gfns, max);
out:
	if (one_more)
		__free_page(one_more);
	vfree(gfns);
}
