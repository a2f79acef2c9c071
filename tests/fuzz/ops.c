// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the calls, and judges Xen's answers. In an orderly epoch Xen is started all the
 * time, and nothing but Xen writes to its status page, so its content can be judged. In
 * the other epochs anything goes.
 */
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/interface/hvm/hvm_op.h>
#include <asm/asm.h>
#include <asm/xen/hypercall.h>

#include "fuzz.h"

#define OP     sizeof(struct xen_hvm_spml)
#define AROUND 0xa5

const char *const fz_code_names[FZ_CODES] = { "0",	"EFAULT", "EINVAL", "ENODEV",	  "ENOSPC",
					      "ENOMEM", "EBUSY",  "ENOSYS", "EOPNOTSUPP", "other" };
static const int codes[FZ_CODES - 1] = { 0,	  -EFAULT, -EINVAL, -ENODEV,	-ENOSPC,
					 -ENOMEM, -EBUSY,  -ENOSYS, -EOPNOTSUPP };
/* an orderly epoch */
static struct {
	bool on;
	struct xen_spml_status *status;
	u64 records; /* when it began */
	atomic64_t got;
} orderly;

/* Xen can read these, and not write them. */
static const struct xen_hvm_spml read_only[] = {
	{ .cmd = XEN_SPML_info },
	{ .cmd = XEN_SPML_collect, .u.collect.flags = XEN_SPML_COLLECT_PEEK },
};

static struct xen_hvm_spml shared[3];

bool fz_started(void)
{
	return orderly.on;
}

int fz_code_index(int ret)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(codes) && codes[i] != ret; i++)
		;
	return i;
}

int fz_hypercall(struct xen_hvm_spml *op)
{
	return HYPERVISOR_hvm_op(HVMOP_spml, op);
}

/*
 * Judgement.
 */

static unsigned int index_of(u32 cmd)
{
	return min_t(u32, cmd, FZ_UNKNOWN);
}

static void judge_collect(const struct xen_hvm_spml *op, const struct xen_hvm_spml *then, int ret)
{
	const struct xen_spml_collect *was = &op->u.collect, *now = &then->u.collect;
	bool peek = was->flags & XEN_SPML_COLLECT_PEEK, more = now->flags & XEN_SPML_COLLECT_MORE;

	if (ret == -EINVAL)
		return;
	if (now->done < was->done || now->done > now->nr_groups || (peek && now->done != was->done))
		fz_bad("collect: %u groups, then %u, of %u\n", was->done, now->done,
		       now->nr_groups);
	if (ret)
		return;
	if ((now->flags ^ was->flags) & ~XEN_SPML_COLLECT_MORE || (peek && more))
		fz_bad("collect: flags %#x, then %#x\n", was->flags, now->flags);
	if (more ? now->done != now->nr_groups || !now->cursor : now->cursor)
		fz_bad("collect: %s, %u groups of %u, cursor %#llx\n", more ? "more" : "all",
		       now->done, now->nr_groups, now->cursor);
}

static void judge_fields(struct fz_args *c, const struct xen_hvm_spml *now, int ret)
{
	struct xen_hvm_spml same = *now;
	const struct xen_hvm_spml *was = &c->op;
	unsigned int i;

	if (now->cmd != was->cmd || now->pad != was->pad) {
		fz_bad("op %u: Xen changed the head\n", was->cmd);
		return;
	}
	switch (was->cmd) {
	case XEN_SPML_info:
		same.u.info = was->u.info;
		if (!ret && (now->u.info.version != XEN_SPML_INTERFACE_VERSION ||
			     now->u.info.tracked > now->u.info.max_tracked))
			fz_bad("info: version %u, %llu frames of %llu\n", now->u.info.version,
			       now->u.info.tracked, now->u.info.max_tracked);
		break;
	case XEN_SPML_arm:
	case XEN_SPML_forget:
	case XEN_SPML_rearm:
		same.u.ranges.done = was->u.ranges.done;
		same.u.ranges.offset = was->u.ranges.offset;
		if (!ret && (now->u.ranges.done != was->u.ranges.nr_ranges || now->u.ranges.offset))
			fz_bad("op %u: success with %u of %u ranges done, %u frames\n", was->cmd,
			       now->u.ranges.done, was->u.ranges.nr_ranges, now->u.ranges.offset);
		if (ret && now->u.ranges.done < was->u.ranges.done)
			fz_bad("op %u: done went from %u to %u\n", was->cmd, was->u.ranges.done,
			       now->u.ranges.done);
		break;
	case XEN_SPML_collect:
		same.u.collect.done = was->u.collect.done;
		same.u.collect.flags = was->u.collect.flags;
		same.u.collect.logged = was->u.collect.logged;
		same.u.collect.cursor = was->u.collect.cursor;
		judge_collect(was, now, ret);
		break;
	}
	for (i = 0; i < OP; i++)
		if (((u8 *)&same)[i] != ((u8 *)was)[i]) {
			fz_bad("op %u: Xen changed byte %u of the argument\n", was->cmd, i);
			break;
		}
}

/* Did Xen refuse to arm a frame that is ordinary memory at all times? */
static void judge_refusal(struct fz_args *c, const struct xen_hvm_spml *now)
{
	const struct xen_spml_ranges *a = &now->u.ranges;
	struct xen_spml_range one;

	if (!c->inner_good || c->may == FZ_MAY(-EINVAL) || c->op.u.ranges.offset ||
	    a->done >= a->nr_ranges)
		return;
	memcpy(&one, (struct xen_spml_range *)a->ranges + a->done, sizeof(one));
	if (!one.pad && a->offset < one.nr && fz_always_ram(one.gfn + a->offset))
		fz_bad("arm: frame %#llx is refused\n", one.gfn + a->offset);
}

/* What Xen wrote to the buffer, and that it wrote nothing else there. */
static void judge_groups(struct fz_worker *w, const struct fz_args *c,
			 const struct xen_spml_collect *now)
{
	u32 from = c->op.u.collect.done, to = c->op.u.collect.nr_groups, i;
	struct xen_spml_group g, *all = (struct xen_spml_group *)now->groups;
	u8 *end = (u8 *)w->groups + 2 * PAGE_SIZE;
	unsigned int n;

	for (i = from; i < now->done; i++) {
		memcpy(&g, all + i, sizeof(g));
		memset(all + i, AROUND, sizeof(g));
		if (fz_planted(FZ_PLANT_RECORD))
			g.gfn = 0x3ffffffe00;
		if (g.gfn % XEN_SPML_GROUP_FRAMES || !memchr_inv(g.bits, 0, sizeof(g.bits)))
			fz_bad("collect: group %u begins at %#llx\n", i, g.gfn);
		for (n = 0; n < XEN_SPML_GROUP_FRAMES; n++) {
			if (!(g.bits[n / 64] >> n % 64 & 1))
				continue;
			fz_count(FZ_RECORDS);
			atomic64_inc(&orderly.got);
			if (!fz_asked(g.gfn + n)) {
				fz_bad("collect: frame %#llx, which was never armed\n", g.gfn + n);
				break;
			}
		}
	}
	/* elements that it did not fill, it may have written to */
	for (i = now->done; i < to && (u8 *)(all + i + 1) <= end; i++)
		memset(all + i, AROUND, sizeof(g));
	if (memchr_inv(w->groups, AROUND, 2 * PAGE_SIZE))
		fz_bad("collect: Xen wrote beside the groups\n");
}

static int timed(struct fz_worker *w, struct fz_args *c, struct xen_hvm_spml *at)
{
	u64 began = ktime_get_ns(), took;
	int ret = fz_hypercall(at);

	took = ktime_get_ns() - began;
	w->ns[index_of(c->op.cmd)] += took;
	w->longest[index_of(c->op.cmd)] = max(w->longest[index_of(c->op.cmd)], took);
	return ret;
}

static void call_at(struct fz_worker *w, struct fz_args *c, struct xen_hvm_spml *at, bool good)
{
	u8 *area = w->op;
	unsigned int offset = (u8 *)at - area;
	struct xen_hvm_spml now;
	int ret;

	if (good)
		memcpy(at, &c->op, OP);
	ret = timed(w, c, at);
	if (c->op.cmd == XEN_SPML_arm && fz_planted(FZ_PLANT_CODE))
		ret = -EPERM;
	w->table[index_of(c->op.cmd)][fz_code_index(ret)]++;
	if (!good) {
		fz_count(FZ_BAD_HANDLES);
		if (ret != -EFAULT)
			fz_bad("op %u at %px, which is nothing: answer %d\n", c->op.cmd, at, ret);
		return;
	}
	if (!(FZ_MAY(ret) & c->may))
		fz_bad("op %u: answer %d (argument %*ph)\n", c->op.cmd, ret, (int)OP, &c->op);
	memcpy(&now, at, OP);
	memset(at, AROUND, OP);
	if (memchr_inv(area, AROUND, 2 * PAGE_SIZE)) {
		fz_bad("op %u: Xen wrote beside the argument at %#x\n", c->op.cmd, offset);
		memset(area, AROUND, 2 * PAGE_SIZE);
	}
	judge_fields(c, &now, ret);
	if (c->op.cmd == XEN_SPML_arm && ret == -EINVAL)
		judge_refusal(c, &now);
	if (c->op.cmd != XEN_SPML_collect)
		return;
	/* other threads may have had a mixture of arguments lead to our buffer */
	if (!ret && c->inner_good && !fz_loose)
		judge_groups(w, c, &now.u.collect);
	memset(w->groups, AROUND, 2 * PAGE_SIZE);
	if (!ret && now.u.collect.flags & XEN_SPML_COLLECT_MORE)
		fz_count(FZ_MORES);
}

/*
 * Other threads overwrite the argument while Xen works on it. Not for starting: a
 * mixture would make Xen write to any memory of the guest. A collect can only be led to
 * write to the threads' own buffers.
 */
static void shared_call(struct fz_worker *w, struct fz_args *c)
{
	struct xen_hvm_spml *op = &shared[fz_below(&w->rng, 3)];
	int ret;

	memcpy(op, &c->op, OP);
	ret = timed(w, c, op);
	w->table[index_of(c->op.cmd)][fz_code_index(ret)]++;
	if (fz_code_index(ret) == FZ_CODES - 1)
		fz_bad("op %u with an argument that changes: answer %d\n", c->op.cmd, ret);
}

void fz_call(struct fz_worker *w)
{
	struct fz_rng *r = &w->rng;
	struct fz_args c;
	void *hole;

	fz_make_call(w, &c);
	if (fz_loose && c.op.cmd >= XEN_SPML_arm && c.op.cmd <= XEN_SPML_collect && fz_below(r, 2))
		return shared_call(w, &c);
	switch (fz_below(r, 64)) {
	case 0:
		call_at(w, &c, fz_bad_address(r, w->op), false);
		break;
	case 1:
		c.op = FZ_PICK(r, read_only);
		call_at(w, &c, (void *)&read_only[c.op.cmd == XEN_SPML_collect], false);
		break;
	case 2:
		hole = fz_hole_get(r);
		if (hole) {
			call_at(w, &c, hole + fz_below(r, PAGE_SIZE - OP), false);
			fz_hole_put(hole);
		}
		break;
	default:
		call_at(w, &c, fz_good_address(r, w->op, OP), true);
	}
	if (!fz_below(r, 4))
		fz_write_some(r);
	if (!fz_below(r, 4))
		fz_own_log(r);
	if (!fz_below(r, 16))
		fz_change_some(r);
	if (!orderly.on && !fz_below(r, 64))
		fz_scribble(r);
}

/*
 * A vCPU's own log.
 */

static bool read_index(unsigned long *index)
{
	u8 ok = 0;

	asm volatile("1:\tvmread %[field], %[index]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok), [index] "+r"(*index)
		     : [field] "r"((unsigned long)XEN_EPML_INDEX)
		     : "cc");
	return ok;
}

static bool write_index(unsigned long index)
{
	u8 ok = 0;

	asm volatile("1:\tvmwrite %[index], %[field]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok)
		     : [field] "r"((unsigned long)XEN_EPML_INDEX), [index] "r"(index)
		     : "cc");
	return ok;
}

static bool vmfunc(unsigned long function, unsigned long b, unsigned long c)
{
	u8 ok = 0;

	asm volatile("1:\t.byte 0x0f, 0x01, 0xd4\n\t"
		     "movb $1, %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok), "+a"(function), "+b"(b), "+c"(c)
		     :
		     : "cc", "memory");
	return ok;
}

void fz_own_log(struct fz_rng *r)
{
	DECLARE_BITMAP(frames, PTRS_PER_PTE) __aligned(64);
	unsigned long index = 0, gpa, bitmap = (unsigned long)frames;
	unsigned int i;

	switch (fz_below(r, 4)) {
	case 0:
		if (read_index(&index) && index > 0xffff)
			fz_bad("an index of %lx\n", index);
		break;
	case 1:
		/* mostly what a well-meaning guest writes */
		index = fz_below(r, 2) ? XEN_EPML_INDEX_EMPTY : fz_rand(r) >> fz_below(r, 64);
		if (write_index(index))
			fz_count(FZ_INDICES);
		break;
	case 2:
		gpa = fz_gfn(fz_below(r, FZ_AREAS), fz_below(r, FZ_PAGES)) << PAGE_SHIFT;
		if (!fz_below(r, 8))
			gpa = fz_rand(r) >> fz_below(r, 64);
		for (i = 0; i < ARRAY_SIZE(frames); i++)
			frames[i] = fz_rand(r) & fz_rand(r);
		/* misaligned, or no address; a user's would be a bug of ours */
		if (!fz_below(r, 8))
			bitmap = fz_below(r, 2) ? bitmap + fz_below(r, 64) : 1UL << 63;
		if (vmfunc(fz_below(r, 8) ? XEN_EPML_VMFUNC_CLEAR : fz_rand(r) >> fz_below(r, 64),
			   gpa, bitmap))
			fz_count(FZ_VMFUNCS);
		break;
	case 3:
		if (vmfunc(XEN_EPML_VMFUNC_FLUSH, fz_rand(r), fz_rand(r)))
			fz_count(FZ_VMFUNCS);
		break;
	}
}

/*
 * Between epochs nothing else runs.
 */

static int simple(u32 cmd, struct xen_hvm_spml *op)
{
	op->cmd = cmd;
	return fz_hypercall(op);
}

void fz_stop_all(void)
{
	struct xen_hvm_spml op = {};
	int ret = simple(XEN_SPML_stop, &op);
	unsigned long index = 0;

	if (ret && ret != -ENODEV)
		fz_bad("stop: %d\n", ret);
	if (read_index(&index))
		fz_bad("a log after the stop\n");
	op = (struct xen_hvm_spml){};
	ret = simple(XEN_SPML_stop, &op);
	if (ret != -ENODEV)
		fz_bad("stop twice: %d\n", ret);
	op = (struct xen_hvm_spml){};
	ret = simple(XEN_SPML_info, &op);
	if (ret || op.u.info.tracked || op.u.info.logged)
		fz_bad("info after the stop: %d, %llu frames, %llu logged\n", ret,
		       op.u.info.tracked, op.u.info.logged);
}

static int collect(struct xen_hvm_spml *op, struct xen_spml_group *groups, u32 nr)
{
	*op = (struct xen_hvm_spml){};
	op->u.collect.groups = (unsigned long)groups;
	op->u.collect.nr_groups = nr;
	return simple(XEN_SPML_collect, op);
}

/* A round whose result is known: both directions. */
static void exact_round(struct fz_rng *r)
{
	unsigned int first = fz_below(r, FZ_PAGES), i, page[16], n = ARRAY_SIZE(page), bits = 0;
	struct xen_spml_range range[ARRAY_SIZE(page)];
	struct xen_spml_group groups[2]; /* the area is one of them */
	struct xen_hvm_spml op;
	u32 seen = 0;
	int ret;

	for (i = 0; i < n; i++) {
		page[i] = (first + i * 19) % FZ_PAGES;
		range[i] = (struct xen_spml_range){ .gfn = fz_gfn(FZ_PLAIN, page[i]), .nr = 1 };
		fz_ask(range[i].gfn, 1);
	}
	/* an entry of before, still in a CPU's log, would count: allowed, but not exact */
	ret = collect(&op, groups, ARRAY_SIZE(groups));
	if (ret || op.u.collect.done)
		fz_bad("collect of nothing: %d, %u groups\n", ret, op.u.collect.done);
	op = (struct xen_hvm_spml){};
	op.u.ranges.ranges = (unsigned long)range;
	op.u.ranges.nr_ranges = n;
	ret = simple(XEN_SPML_arm, &op);
	for (i = 0; i < n; i += 2)
		if (!fz_planted(FZ_PLANT_ROUND))
			fz_write(page[i]);
	if (!ret)
		ret = collect(&op, groups, ARRAY_SIZE(groups));
	if (ret || op.u.collect.flags || op.u.collect.done > 1) {
		fz_bad("exact round: %d, flags %#x, %u groups\n", ret, op.u.collect.flags,
		       op.u.collect.done);
		return;
	}
	if (op.u.collect.done && groups[0].gfn == fz_gfn(FZ_PLAIN, 0)) {
		for (i = 0; i < n; i++)
			if (groups[0].bits[page[i] / 64] >> page[i] % 64 & 1)
				seen |= 1U << i;
		for (i = 0; i < ARRAY_SIZE(groups[0].bits); i++)
			bits += hweight64(groups[0].bits[i]);
	}
	if (seen != 0x5555 || bits != n / 2)
		fz_bad("exact round: %#x reported in %u bits\n", seen, bits);
	fz_count(FZ_ROUNDS);
}

void fz_orderly_begin(struct fz_rng *r)
{
	struct xen_hvm_spml op = {};
	unsigned int page = fz_below(r, FZ_PAGES);
	int ret;

	simple(XEN_SPML_info, &op);
	orderly.records = op.u.info.records;
	atomic64_set(&orderly.got, 0);
	orderly.status = fz_va(FZ_STATUS, page);
	fz_list(FZ_STATUS, page);
	op = (struct xen_hvm_spml){};
	op.u.start.status_gfn = fz_gfn(FZ_STATUS, page);
	ret = simple(XEN_SPML_start, &op);
	if (ret) {
		fz_bad("start is refused: %d\n", ret);
		return;
	}
	exact_round(r);
	orderly.on = true;
	fz_count(FZ_ORDERLY);
}

/* Nothing else runs: what Xen still has to hand out only grows. */
void fz_orderly_end(void)
{
	struct xen_hvm_spml op = {};
	u64 before, after, got;

	if (!orderly.on)
		return;
	orderly.on = false;
	before = READ_ONCE(orderly.status->logged);
	simple(XEN_SPML_info, &op);
	after = READ_ONCE(orderly.status->logged);
	if (op.u.info.logged < before || op.u.info.logged > after)
		fz_bad("info: %llu frames logged, the status had %llu to %llu\n", op.u.info.logged,
		       before, after);
	got = atomic64_read(&orderly.got);
	op.u.info.records -= orderly.records;
	if (op.u.info.records < got)
		fz_bad("info: %llu frames logged so far, %llu handed out\n", op.u.info.records,
		       got);
}

int fz_worker_init(struct fz_worker *w)
{
	/* vmalloc leaves a page without mapping behind each area */
	w->op = vmalloc(2 * PAGE_SIZE);
	w->ranges = vzalloc(2 * PAGE_SIZE);
	w->groups = vmalloc(2 * PAGE_SIZE);
	if (!w->op || !w->ranges || !w->groups)
		return -ENOMEM;
	memset(w->op, AROUND, 2 * PAGE_SIZE);
	memset(w->groups, AROUND, 2 * PAGE_SIZE);
	return 0;
}

void fz_worker_exit(struct fz_worker *w)
{
	vfree(w->op);
	vfree(w->ranges);
	vfree(w->groups);
}
