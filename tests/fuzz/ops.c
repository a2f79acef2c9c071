// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the calls, and judges what Xen answers. In an orderly epoch one ring is registered
 * all the time and only drain() writes its consumer index: what collect says can
 * be judged exactly. In the others everything goes.
 */
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/interface/hvm/hvm_op.h>
#include <asm/asm.h>
#include <asm/xen/hypercall.h>

#include "fuzz.h"

#define OP     sizeof(struct xen_hvm_spml)
#define AROUND 0xa5

const char *const fz_code_names[FZ_CODES] = { "0",	"EFAULT",     "EINVAL", "ENODEV",
					      "ENOSPC", "ENOMEM",     "EBUSY",	"EILSEQ",
					      "ENOSYS", "EOPNOTSUPP", "other" };
static const int codes[FZ_CODES - 1] = { 0,	  -EFAULT, -EINVAL, -ENODEV, -ENOSPC,
					 -ENOMEM, -EBUSY,  -EILSEQ, -ENOSYS, -EOPNOTSUPP };
/* the ring of an orderly epoch */
static struct {
	bool on;
	unsigned int nr;
	u16 page[FZ_MAX_RING];
	struct xen_spml_ring *header;
	u64 cons, size, records;
	struct mutex lock;
} ring = { .lock = __MUTEX_INITIALIZER(ring.lock) };

/* Xen can read these, and not write them. */
static const struct xen_hvm_spml read_only[] = {
	{ .cmd = XEN_SPML_info },
	{ .cmd = XEN_SPML_collect, .u.collect.flags = XEN_SPML_COLLECT_PEEK },
};

static struct xen_hvm_spml shared[3];

bool fz_ring_on(void)
{
	return ring.on;
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
	case XEN_SPML_register:
		/* how far it got, if an operation of another vCPU broke it off */
		same.u.reg.done = was->u.reg.done;
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
		same.u.collect = was->u.collect;
		same.u.collect.pad = now->u.collect.pad;
		if (!ret && (now->u.collect.flags & ~XEN_SPML_F_OVERFLOW))
			fz_bad("collect: flags %#x\n", now->u.collect.flags);
		if (!ret && now->u.collect.cursor)
			fz_bad("collect: not at its end\n");
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

static u64 *record(u64 i)
{
	u64 slot = i & (ring.size - 1);

	return (u64 *)fz_va(FZ_RING, ring.page[1 + slot / XEN_SPML_RECORDS_PER_PAGE]) +
	       slot % XEN_SPML_RECORDS_PER_PAGE;
}

/* Reads what is in the ring of an orderly epoch, like a guest that means well. */
static void drain(void)
{
	u64 prod, v;

	if (!mutex_trylock(&ring.lock))
		return;
	prod = READ_ONCE(ring.header->prod);
	if (READ_ONCE(ring.header->cons) != ring.cons)
		fz_bad("ring: Xen changed the consumer index\n");
	if (prod - ring.cons > ring.size)
		fz_bad("ring: %llu produced, %llu consumed, of %llu\n", prod, ring.cons, ring.size);
	else
		for (; ring.cons != prod; ring.cons++) {
			v = READ_ONCE(*record(ring.cons));
			if (fz_planted(FZ_PLANT_RECORD))
				v = 0x3ffffffff000;
			if (v & ~PAGE_MASK || !fz_asked(v >> PAGE_SHIFT))
				fz_bad("ring: record %llu is %#llx, which was never armed\n",
				       ring.cons, v);
			fz_count(FZ_RECORDS);
		}
	smp_store_release(&ring.header->cons, ring.cons);
	mutex_unlock(&ring.lock);
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
	u64 before = ring.on ? READ_ONCE(ring.header->prod) : 0;
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
	if (c->op.cmd != XEN_SPML_collect || ret)
		return;
	if (now.u.collect.flags & XEN_SPML_F_OVERFLOW)
		fz_count(FZ_OVERFLOWS);
	if (ring.on && !c->op.u.collect.cursor &&
	    (now.u.collect.prod < before || now.u.collect.prod > READ_ONCE(ring.header->prod)))
		fz_bad("collect: up to %llu, of %llu to %llu\n", now.u.collect.prod, before,
		       READ_ONCE(ring.header->prod));
}

/*
 * The argument is overwritten by other threads while Xen works on it. Not for
 * registering: a mixture would make a ring of whatever memory of the guest's.
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
	if (!ring.on && !fz_below(r, 64))
		fz_scribble(r);
	if (ring.on && !fz_below(r, 24))
		drain();
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
		/* mostly what a guest writes that means well */
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

void fz_unregister_all(void)
{
	struct xen_hvm_spml op = {};
	int ret = simple(XEN_SPML_unregister, &op);
	unsigned long index = 0;

	if (ret && ret != -ENODEV)
		fz_bad("unregister: %d\n", ret);
	if (read_index(&index))
		fz_bad("a log without a ring\n");
	op = (struct xen_hvm_spml){};
	ret = simple(XEN_SPML_unregister, &op);
	if (ret != -ENODEV)
		fz_bad("unregister twice: %d\n", ret);
	op = (struct xen_hvm_spml){};
	ret = simple(XEN_SPML_info, &op);
	if (ret || op.u.info.tracked)
		fz_bad("info without a ring: %d, %llu frames\n", ret, op.u.info.tracked);
}

/* A round of which is known what it has to say: both directions. */
static void exact_round(struct fz_rng *r)
{
	struct xen_spml_range range[16];
	struct xen_hvm_spml op = {};
	unsigned int first = fz_below(r, FZ_PAGES), i, n = ARRAY_SIZE(range),
		     page[ARRAY_SIZE(range)];
	u32 seen = 0;
	int ret;

	for (i = 0; i < n; i++) {
		page[i] = (first + i * 19) % FZ_PAGES;
		range[i] = (struct xen_spml_range){ .gfn = fz_gfn(FZ_PLAIN, page[i]), .nr = 1 };
		fz_ask(range[i].gfn, 1);
	}
	/* an entry of before, still in a CPU's log, would count as written: that is allowed, but not exact */
	ret = simple(XEN_SPML_collect, &op);
	if (ret || op.u.collect.prod)
		fz_bad("collect of nothing: %d, %llu records\n", ret, op.u.collect.prod);
	op = (struct xen_hvm_spml){};
	op.u.ranges.ranges = (unsigned long)range;
	op.u.ranges.nr_ranges = n;
	ret = simple(XEN_SPML_arm, &op);
	for (i = 0; i < n; i += 2)
		if (!fz_planted(FZ_PLANT_ROUND))
			fz_write(page[i]);
	op = (struct xen_hvm_spml){};
	if (!ret)
		ret = simple(XEN_SPML_collect, &op);
	if (ret || op.u.collect.flags || op.u.collect.prod > ring.size) {
		fz_bad("exact round: %d, flags %#x, %llu records\n", ret, op.u.collect.flags,
		       op.u.collect.prod);
		return;
	}
	for (; ring.cons != op.u.collect.prod; ring.cons++)
		for (i = 0; i < n; i++)
			if (*record(ring.cons) >> PAGE_SHIFT == range[i].gfn)
				seen ^= 1U << i;
	smp_store_release(&ring.header->cons, ring.cons);
	if (seen != 0x5555 || op.u.collect.prod != n / 2 || op.u.collect.rearmed != n / 2)
		fz_bad("exact round: %#x reported in %llu records, %llu armed again\n", seen,
		       op.u.collect.prod, op.u.collect.rearmed);
	fz_count(FZ_ROUNDS);
}

void fz_orderly_begin(struct fz_rng *r)
{
	struct xen_hvm_spml op = {};
	unsigned int i, first = fz_below(r, FZ_PAGES);
	u64 gfns[FZ_MAX_RING];
	int ret;

	simple(XEN_SPML_info, &op);
	ring.records = op.u.info.records;
	ring.nr = 1 + (1 << fz_below(r, 6));
	for (i = 0; i < ring.nr; i++) {
		ring.page[i] = (first + i * 101) % FZ_PAGES;
		fz_list(FZ_RING, ring.page[i]);
		gfns[i] = fz_gfn(FZ_RING, ring.page[i]);
	}
	ring.size = (ring.nr - 1) * XEN_SPML_RECORDS_PER_PAGE;
	ring.cons = 0;
	ring.header = fz_va(FZ_RING, ring.page[0]);
	op = (struct xen_hvm_spml){};
	op.u.reg.gfns = (unsigned long)gfns;
	op.u.reg.nr_pages = ring.nr;
	ret = simple(XEN_SPML_register, &op);
	if (ret) {
		fz_bad("a ring of %u pages is refused: %d\n", ring.nr, ret);
		return;
	}
	exact_round(r);
	ring.on = true;
	fz_count(FZ_ORDERLY);
}

void fz_orderly_end(void)
{
	struct xen_hvm_spml op = {};
	u64 before, after;

	if (!ring.on)
		return;
	drain();
	ring.on = false;
	before = READ_ONCE(ring.header->prod);
	simple(XEN_SPML_info, &op);
	after = READ_ONCE(ring.header->prod);
	op.u.info.records -= ring.records;
	if (op.u.info.records < before || op.u.info.records > after)
		fz_bad("info: %llu records, the ring had %llu to %llu\n", op.u.info.records, before,
		       after);
}

int fz_worker_init(struct fz_worker *w)
{
	/* vmalloc leaves a page without mapping behind each area */
	w->op = vmalloc(2 * PAGE_SIZE);
	w->ranges = vzalloc(2 * PAGE_SIZE);
	if (!w->op || !w->ranges)
		return -ENOMEM;
	memset(w->op, AROUND, 2 * PAGE_SIZE);
	return 0;
}

void fz_worker_exit(struct fz_worker *w)
{
	vfree(w->op);
	vfree(w->ranges);
}
