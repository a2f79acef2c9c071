// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arguments of a call: addresses and values, good ones and bad ones, and which
 * answers Xen may give to them.
 */
#include <linux/cpumask.h>
#include <asm/irq_vectors.h>

#include "fuzz.h"

/* An address at which nothing can be read or written. */
void *fz_bad_address(struct fz_rng *r, void *two_pages)
{
	unsigned long addresses[] = {
		0,
		8,
		1UL << 47,
		(1UL << 63) | 0x1000,
		-8UL,
		-1UL,
		(unsigned long)two_pages + 2 * PAGE_SIZE,
		(unsigned long)two_pages + 2 * PAGE_SIZE - 1 - fz_below(r, 7),
	};

	return (void *)FZ_PICK(r, addresses);
}

/* An odd number of bytes that lie in nothing but a given two pages. */
void *fz_good_address(struct fz_rng *r, void *two_pages, unsigned int size)
{
	if (size >= PAGE_SIZE)
		return two_pages;
	switch (fz_below(r, 4)) {
	case 0: /* over the boundary */
		return two_pages + PAGE_SIZE - 1 - fz_below(r, size - 1);
	case 1: /* up to the last byte */
		return two_pages + 2 * PAGE_SIZE - size;
	case 2:
		return two_pages + fz_below(r, 2 * PAGE_SIZE - size);
	}
	return two_pages + (fz_below(r, 2 * PAGE_SIZE - size) & ~7U);
}

static u64 some_gfn(struct fz_rng *r)
{
	static const u64 gfns[] = {
		0,	    1,
		0x9f,	    0xa0,
		0xff,	    0x100,
		0xfec00,    0xfee00,
		0xfeff8,    0xfefff,
		0xfffff,    0x100000,
		0x200000,   (1ULL << 24) - 1,
		1ULL << 27, (1ULL << 36) - 1,
		1ULL << 36, (1ULL << 40) - 1,
		1ULL << 40, (1ULL << 52) - 1,
		1ULL << 52, 1ULL << 63,
		~0ULL - 1,  ~0ULL,
	};

	switch (fz_below(r, 16)) {
	case 0:
		return FZ_PICK(r, gfns);
	case 1:
		return fz_rand(r) >> fz_below(r, 64);
	case 2: /* any memory of the guest's */
		return fz_below(r, 1 << 19);
	case 3: /* at the ends of what one lookup of Xen's covers */
		return (fz_below(r, 16) << 15) - fz_below(r, 3);
	case 4:
	case 5:
		return fz_gfn(FZ_STATUS, fz_below(r, FZ_PAGES));
	case 6:
	case 7:
		return fz_gfn(FZ_BALLOON, fz_below(r, FZ_PAGES));
	case 8:
	case 9:
		return fz_gfn(FZ_SUPER, fz_below(r, FZ_PAGES));
	}
	return fz_gfn(FZ_PLAIN, fz_below(r, FZ_PAGES));
}

static u32 some_nr(struct fz_rng *r)
{
	static const u32 small[] = { 0, 1, 1, 1, 1, 2, 3, 7, 31, 64, 65 };
	static const u32 large[] = { 511, 512, 513, 1024, 2047 };
	static const u32 huge[] = { 32767, 32768, 32769, 1 << 20, ~0U, ~0U - 1 };

	if (!fz_below(r, 10000))
		return FZ_PICK(r, huge);
	return fz_below(r, 24) ? FZ_PICK(r, small) : FZ_PICK(r, large);
}

static void make_ranges(struct fz_worker *w, struct fz_args *c, bool arm)
{
	static const u32 boundary[] = { 255, 256, 257, FZ_RANGES };
	static const u32 beyond[] = { XEN_SPML_MAX_RANGES + 1, ~0U };
	struct fz_rng *r = &w->rng;
	struct xen_spml_ranges *a = &c->op.u.ranges;
	u32 nr = fz_below(r, 32) ? fz_below(r, 6) : FZ_PICK(r, boundary), i;
	struct xen_spml_range *to = fz_good_address(r, w->ranges, max(1U, nr) * sizeof(*to));

	for (i = 0; i < nr; i++) {
		struct xen_spml_range one = { .gfn = some_gfn(r), .nr = some_nr(r) };

		if (nr > 16 && one.nr > 64)
			one.nr = 1;
		if (!fz_below(r, 100))
			one.pad = 1;
		memcpy(to + i, &one, sizeof(one));
		if (arm)
			fz_ask(one.gfn, one.nr);
	}
	a->ranges = (unsigned long)to;
	a->nr_ranges = nr;
	c->inner_good = true;
	c->may = FZ_MAY(0) | FZ_MAY(-EINVAL) | FZ_MAY(-ENODEV);
	if (arm)
		c->may |= FZ_MAY(-ENOSPC) | FZ_MAY(-ENOMEM);
	switch (fz_below(r, 48)) {
	case 0:
		a->ranges = (unsigned long)fz_bad_address(r, w->ranges);
		c->inner_good = false;
		break;
	case 1: /* runs out of what can be read */
		a->ranges = (unsigned long)w->ranges;
		a->nr_ranges = FZ_RANGES + 1 + fz_below(r, 300);
		/* what is there comes from earlier calls, also of other kinds */
		memset(w->ranges, 0, 2 * PAGE_SIZE);
		c->inner_good = false;
		break;
	case 2:
		a->nr_ranges = FZ_PICK(r, beyond);
		c->may = FZ_MAY(-EINVAL);
		break;
	case 3:
		a->pad = fz_rand(r) | 1;
		c->may = FZ_MAY(-EINVAL);
		break;
	case 4: /* in the midst of a call that never was */
		a->done = fz_below(r, nr + 1);
		a->offset = fz_below(r, 4) ? fz_below(r, 70) : (u32)fz_rand(r);
		break;
	case 5:
		a->done = nr + 1 + fz_below(r, 1000);
		c->may = FZ_MAY(-EINVAL);
		break;
	}
	if (!c->inner_good)
		c->may |= FZ_MAY(-EFAULT);
}

static void make_start(struct fz_worker *w, struct fz_args *c)
{
	struct fz_rng *r = &w->rng;
	struct xen_spml_start *a = &c->op.u.start;
	enum fz_area area = FZ_PICK(r, ((u8[]){ FZ_STATUS, FZ_STATUS, FZ_STATUS, FZ_PLAIN,
						FZ_BALLOON, FZ_SUPER }));
	unsigned int page = fz_below(r, FZ_PAGES / 4 * 3);

	page += page / 3; /* each fourth is a canary */
	a->status_gfn = fz_gfn(area, page);
	c->may = FZ_MAY(0) | FZ_MAY(-EINVAL) | FZ_MAY(-EBUSY) | FZ_MAY(-ENOMEM);
	switch (fz_below(r, 8)) {
	case 0:
		a->status_gfn = XEN_SPML_NO_STATUS;
		c->may &= ~FZ_MAY(-EINVAL);
		return;
	case 1:
		a->pad = fz_rand(r) | 1;
		c->may = FZ_MAY(-EINVAL);
		return;
	case 2: /* no memory of the guest's */
		a->status_gfn =
			FZ_PICK(r, ((u64[]){ 0xfee00, 0xfec00, 0x300000, 1ULL << 40, 1ULL << 52,
					     ~1ULL, fz_gfn(area, 0) | 1ULL << 62 }));
		c->may &= ~FZ_MAY(0);
		return;
	}
	if (!fz_started())
		fz_list(area, page);
}

static void make_collect(struct fz_worker *w, struct fz_args *c)
{
	struct fz_rng *r = &w->rng;
	struct xen_spml_collect *a = &c->op.u.collect;
	u32 nr = fz_below(r, 4) ? fz_below(r, 6) : fz_below(r, FZ_GROUPS + 1);

	a->groups = (unsigned long)fz_good_address(r, w->groups,
						   max(1U, nr) * sizeof(struct xen_spml_group));
	a->nr_groups = nr;
	a->flags = fz_below(r, 3) ? 0 : XEN_SPML_COLLECT_PEEK;
	c->inner_good = true;
	c->may = FZ_MAY(0) | FZ_MAY(-ENODEV);
	switch (fz_below(r, 32)) {
	case 0:
		a->flags = fz_rand(r) | 4;
		c->may = FZ_MAY(-EINVAL);
		break;
	case 1:
		a->pad = fz_rand(r) | 1;
		c->may = FZ_MAY(-EINVAL);
		break;
	case 2: /* a leg of a call that never began */
		a->cursor = fz_rand(r) >> fz_below(r, 64);
		a->done = fz_below(r, nr + 1);
		c->may |= FZ_MAY(-EINVAL);
		break;
	case 3:
		a->done = nr + 1 + fz_below(r, 1000);
		c->may = FZ_MAY(-EINVAL);
		break;
	case 4:
		a->groups = (unsigned long)fz_bad_address(r, w->groups);
		c->inner_good = false;
		break;
	case 5: /* runs out of what can be written to */
		a->groups = (unsigned long)w->groups + PAGE_SIZE;
		a->nr_groups = FZ_GROUPS;
		c->inner_good = false;
		break;
	case 6: /* as after a call that had no room */
		a->flags |= XEN_SPML_COLLECT_MORE;
		break;
	}
	if (!c->inner_good)
		c->may |= FZ_MAY(-EFAULT);
}

/* Only pages that may be written to at any time, and vectors that the kernel ignores. */
static void make_log(struct fz_worker *w, struct fz_args *c)
{
	static const u32 nobody[] = { 128, 8191, 1U << 31, ~0U };
	struct fz_rng *r = &w->rng;
	struct xen_spml_log *a = &c->op.u.log;
	enum fz_area area =
		FZ_PICK(r, ((u8[]){ FZ_PLAIN, FZ_PLAIN, FZ_BALLOON, FZ_SUPER, FZ_STATUS }));
	unsigned int page = fz_below(r, FZ_PAGES / 4 * 3);
	bool reg = c->op.cmd == XEN_SPML_log_register;

	page += page / 3; /* each fourth is a canary */
	/* an orderly epoch's status page is Xen's alone */
	if (fz_started() && area == FZ_STATUS)
		area = FZ_PLAIN;
	a->vcpu = fz_below(r, num_online_cpus());
	c->may = FZ_MAY(0) | FZ_MAY(-ENODEV);
	if (reg) {
		fz_list_log(area, page);
		a->gfn = fz_gfn(area, page);
		a->vector = fz_below(r, 2) ? POSTED_INTR_WAKEUP_VECTOR : POSTED_INTR_VECTOR;
		a->low_water = fz_below(r, 2) ? 0 : fz_rand(r);
		c->may |= FZ_MAY(-EBUSY) | FZ_MAY(-EINVAL) | FZ_MAY(-ENOMEM);
	}
	switch (fz_below(r, 24)) {
	case 0:
		a->vcpu = FZ_PICK(r, nobody);
		c->may = FZ_MAY(-EINVAL);
		break;
	case 1:
		a->pad = fz_rand(r) | 1;
		c->may = FZ_MAY(-EINVAL);
		break;
	case 2:
		a->vector = fz_below(r, 16);
		c->may &= FZ_MAY(-EINVAL) | (reg ? 0 : ~0U);
		break;
	case 3: /* no memory of the guest's */
		a->gfn = FZ_PICK(r, ((u64[]){ 0xfee00, 0xfec00, 0x300000, 1ULL << 40, 1ULL << 52,
					      ~0ULL }));
		c->may &= ~(reg ? FZ_MAY(0) : 0);
		break;
	}
	c->may |= FZ_MAY(-EOPNOTSUPP);
}

void fz_make_call(struct fz_worker *w, struct fz_args *c)
{
	static const u8 cmds[] = {
		XEN_SPML_info,
		XEN_SPML_start,
		XEN_SPML_start,
		XEN_SPML_arm,
		XEN_SPML_arm,
		XEN_SPML_arm,
		XEN_SPML_arm,
		XEN_SPML_forget,
		XEN_SPML_forget,
		XEN_SPML_collect,
		XEN_SPML_collect,
		XEN_SPML_collect,
		XEN_SPML_collect,
		XEN_SPML_stop,
		FZ_UNKNOWN,
		XEN_SPML_rearm,
		XEN_SPML_rearm,
		XEN_SPML_log_register,
		XEN_SPML_log_register,
		XEN_SPML_log_unregister,
	};
	struct fz_rng *r = &w->rng;
	struct xen_hvm_spml *op = &c->op;
	unsigned int i;

	memset(c, 0, sizeof(*c));
	op->cmd = FZ_PICK(r, cmds);
	if (fz_started() && op->cmd == XEN_SPML_stop)
		op->cmd = XEN_SPML_collect;
	switch (op->cmd) {
	case XEN_SPML_start:
		make_start(w, c);
		break;
	case XEN_SPML_arm:
	case XEN_SPML_forget:
		make_ranges(w, c, op->cmd == XEN_SPML_arm);
		break;
	case XEN_SPML_rearm:
		make_ranges(w, c, false);
		if (c->may & FZ_MAY(0))
			c->may |= FZ_MAY(-ENOMEM);
		break;
	case XEN_SPML_log_register:
	case XEN_SPML_log_unregister:
		make_log(w, c);
		break;
	case XEN_SPML_collect:
		make_collect(w, c);
		break;
	case XEN_SPML_info:
		for (i = 0; i < ARRAY_SIZE(op->u.size); i++)
			op->u.size[i] = fz_rand(r);
		c->may = FZ_MAY(0);
		break;
	case XEN_SPML_stop:
		for (i = 0; i < ARRAY_SIZE(op->u.size); i++)
			op->u.size[i] = fz_rand(r);
		c->may = FZ_MAY(0) | FZ_MAY(-ENODEV);
		break;
	default:
		op->cmd += fz_below(r, 2) ? fz_below(r, 3) : (u32)fz_rand(r) >> 1;
		c->may = FZ_MAY(-EOPNOTSUPP);
	}
	if (!fz_below(r, 64)) {
		op->pad = fz_rand(r) | 1;
		c->may = FZ_MAY(-EINVAL);
	}
	if (fz_started() && op->cmd != XEN_SPML_log_unregister)
		c->may &= ~FZ_MAY(-ENODEV);
	if (fz_started() && op->cmd == XEN_SPML_start)
		c->may &= ~FZ_MAY(0);
}
