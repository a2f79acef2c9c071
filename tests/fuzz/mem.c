// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory that the calls use. Every word of the plain and status areas holds a
 * pattern that no record can look like, so that whatever Xen writes to a page that is
 * not for its status shows. Threads write only to the first words of
 * plain pages (NOISE) and to what may be Xen's count (HEADER).
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/mutex.h>
#include <linux/vmalloc.h>
#include <asm/xen/cpuid.h>
#include <asm/xen/hypercall.h>
#include <xen/grant_table.h>
#include <xen/interface/grant_table.h>
#include <xen/interface/memory.h>

#include "fuzz.h"

#define WORDS  (PAGE_SIZE / sizeof(u64))
#define NOISE  8	   /* words of a plain page */
#define HEADER 1	   /* words of struct xen_spml_status */
#define GFNS   (1UL << 21) /* frames below can be memory of the guest's */

static struct page *block[FZ_AREAS];
static unsigned long *asked;
static DECLARE_BITMAP(listed_plain, FZ_PAGES);
static DECLARE_BITMAP(listed_status, FZ_PAGES);
/* of these, what may have been a vCPU's log: the processor's records are two words */
static DECLARE_BITMAP(log_plain, FZ_PAGES);
static DECLARE_BITMAP(log_status, FZ_PAGES);

/* What is behind a frame of the balloon area, guarded by its bit in busy. */
enum { MEMORY, HOLE, GRANT };
static u8 state[FZ_PAGES];
static grant_ref_t ref[FZ_PAGES];
static grant_handle_t handle[FZ_PAGES];
static DECLARE_BITMAP(busy, FZ_PAGES);
static atomic_t grants = ATOMIC_INIT(0);

static bool super_gone, lost; /* lost: memory that Xen did not give back */
static DEFINE_MUTEX(super_lock);

unsigned long fz_gfn(enum fz_area a, unsigned int i)
{
	return page_to_pfn(block[a]) + i;
}

void *fz_va(enum fz_area a, unsigned int i)
{
	return page_address(block[a]) + i * PAGE_SIZE;
}

bool fz_always_ram(u64 gfn)
{
	return gfn - fz_gfn(FZ_PLAIN, 0) < FZ_PAGES || gfn - fz_gfn(FZ_STATUS, 0) < FZ_PAGES;
}

static u64 pattern(enum fz_area a, unsigned int i, unsigned int word)
{
	return 0x5a5a000000000fffULL | (u64)a << 40 | (u64)i << 28 | word << 16;
}

static void fill(enum fz_area a, unsigned int i)
{
	u64 *p = fz_va(a, i);
	unsigned int w;

	for (w = 0; w < WORDS; w++)
		p[w] = pattern(a, i, w);
}

void fz_list(enum fz_area a, unsigned int i)
{
	if (a == FZ_PLAIN)
		set_bit(i, listed_plain);
	if (a == FZ_STATUS)
		set_bit(i, listed_status);
}

void fz_list_log(enum fz_area a, unsigned int i)
{
	if (a == FZ_PLAIN)
		set_bit(i, log_plain);
	if (a == FZ_STATUS)
		set_bit(i, log_status);
	fz_list(a, i);
}

void fz_ask(u64 gfn, u64 nr)
{
	u64 end = gfn + nr;

	if (end < gfn || end > GFNS)
		end = GFNS;
	for (; gfn < end; gfn++)
		/* atomic, but seldom needed: most were asked for before */
		if (!test_bit(gfn, asked))
			set_bit(gfn, asked);
}

bool fz_asked(u64 gfn)
{
	return fz_loose || (gfn < GFNS && test_bit(gfn, asked));
}

/* Linear address and flags, or a frame of the guest's, armed or not. */
static bool is_log_record(u64 v, unsigned int w)
{
	return w % 2 ? !(v & ~PAGE_MASK) && v >> PAGE_SHIFT < GFNS : !(v & 0xff8);
}

static void check_page(enum fz_area a, unsigned int i, bool listed)
{
	bool log = test_bit(i, a == FZ_PLAIN ? log_plain : log_status);
	u64 *p = fz_va(a, i);
	unsigned int w = a == FZ_PLAIN ? NOISE : listed ? HEADER : 0;
	bool dirty = false;

	for (; w < WORDS; w++) {
		if (p[w] == pattern(a, i, w))
			continue;
		dirty = true;
		if (!log || !is_log_record(p[w], w)) {
			fz_bad("canary: %s page %u, word %u holds %#llx, %s\n",
			       a == FZ_PLAIN ? "plain" : "status", i, w, p[w],
			       log ? "which is no record" : "which is not Xen's to write");
			break;
		}
	}
	if (dirty || listed)
		fill(a, i);
}

/* No call is in progress and Xen has stopped: nothing may change any more. */
void fz_check_canaries(void)
{
	unsigned int i;

	if (fz_planted(FZ_PLANT_CANARY)) {
		i = find_first_zero_bit(listed_status, FZ_PAGES);
		((u64 *)fz_va(FZ_STATUS, i))[100]++;
	}
	for (i = 0; i < FZ_PAGES; i++) {
		check_page(FZ_PLAIN, i, test_bit(i, listed_plain));
		check_page(FZ_STATUS, i, test_bit(i, listed_status));
	}
	bitmap_zero(listed_plain, FZ_PAGES);
	bitmap_zero(listed_status, FZ_PAGES);
	bitmap_zero(log_plain, FZ_PAGES);
	bitmap_zero(log_status, FZ_PAGES);
	bitmap_zero(asked, GFNS);
}

void fz_write(unsigned int i)
{
	u64 *p = fz_va(FZ_PLAIN, i);

	WRITE_ONCE(p[i % NOISE], p[i % NOISE] + 1);
	fz_count(FZ_WRITES);
}

void fz_write_some(struct fz_rng *r)
{
	unsigned int n = fz_below(r, 12), i;

	while (n--)
		fz_write(fz_below(r, FZ_PAGES));
	i = fz_below(r, FZ_PAGES);
	if (!test_and_set_bit(i, busy)) {
		if (state[i] != HOLE)
			WRITE_ONCE(*(u64 *)fz_va(FZ_BALLOON, i), fz_rand(r));
		clear_bit(i, busy);
	}
	if (mutex_trylock(&super_lock)) {
		if (!super_gone)
			WRITE_ONCE(*(u64 *)fz_va(FZ_SUPER, fz_below(r, FZ_PAGES)), fz_rand(r));
		mutex_unlock(&super_lock);
	}
}

void fz_scribble(struct fz_rng *r)
{
	unsigned int i = find_next_bit(listed_status, FZ_PAGES, fz_below(r, FZ_PAGES));

	if (i < FZ_PAGES)
		WRITE_ONCE(*(u64 *)fz_va(FZ_STATUS, i), fz_rand(r) >> fz_below(r, 64));
}

/*
 * Changes of what is behind a frame.
 */

static int reserve(unsigned int cmd, unsigned long gfn, unsigned int order)
{
	xen_pfn_t frame = gfn;
	struct xen_memory_reservation op = {
		.nr_extents = 1,
		.extent_order = order,
		.domid = DOMID_SELF,
	};

	set_xen_guest_handle(op.extent_start, &frame);
	return HYPERVISOR_memory_op(cmd, &op) == 1 ? 0 : -ENOMEM;
}

static int decrease(unsigned long gfn)
{
	return reserve(XENMEM_decrease_reservation, gfn, 0);
}

static int populate(unsigned long gfn)
{
	return reserve(XENMEM_populate_physmap, gfn, 0);
}

/*
 * The guest grants a page of its own to itself. Xen then maps the page at the other
 * frame only: the page's own frame becomes a hole. When the grant is unmapped, nothing
 * leads to the page any more, but the domain owns it until the domain ends. So what the
 * domain may have above its memory limits the number of grants.
 */
static void map_grant(unsigned int i, struct fz_rng *r)
{
	u32 domid = cpuid_ecx(xen_cpuid_base() + 4);
	unsigned int from = fz_below(r, FZ_PAGES);
	struct gnttab_map_grant_ref op = {
		.host_addr = (u64)fz_gfn(FZ_BALLOON, i) << PAGE_SHIFT,
		.flags = GNTMAP_host_map,
		.dom = domid,
	};
	int got;

	if (test_and_set_bit(from, busy))
		return;
	if (state[from] != MEMORY || atomic_inc_return(&grants) > fz_max_grants)
		goto out;
	got = gnttab_grant_foreign_access(domid, fz_gfn(FZ_BALLOON, from), 0);
	if (got < 0)
		goto out;
	op.ref = got;
	if (HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, &op, 1) || op.status) {
		pr_warn_once("Xen refuses to map a grant: status %d\n", op.status);
		if (gnttab_end_foreign_access_ref(got))
			gnttab_free_grant_reference(got);
		goto out;
	}
	ref[i] = got;
	handle[i] = op.handle;
	state[i] = GRANT;
	state[from] = HOLE;
	fz_count(FZ_GRANTED);
out:
	clear_bit(from, busy);
}

static void unmap_grant(unsigned int i)
{
	struct gnttab_unmap_grant_ref op = {
		.host_addr = (u64)fz_gfn(FZ_BALLOON, i) << PAGE_SHIFT,
		.handle = handle[i],
	};

	if (HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &op, 1) || op.status) {
		fz_bad("Xen does not unmap a grant: status %d\n", op.status);
		return;
	}
	if (gnttab_end_foreign_access_ref(ref[i]))
		gnttab_free_grant_reference(ref[i]);
	else
		fz_bad("a grant that was unmapped is still in use\n");
	state[i] = HOLE;
}

/* Moves a page: what its frame was becomes a hole. */
int fz_move(unsigned long from, unsigned long to)
{
	struct xen_add_to_physmap op = {
		.domid = DOMID_SELF,
		.space = XENMAPSPACE_gmfn,
		.idx = from,
		.gpfn = to,
	};

	return HYPERVISOR_memory_op(XENMEM_add_to_physmap, &op);
}

static void move(unsigned int i, struct fz_rng *r)
{
	unsigned int from = fz_below(r, FZ_PAGES);

	if (test_and_set_bit(from, busy))
		return;
	if (state[from] == MEMORY && !fz_move(fz_gfn(FZ_BALLOON, from), fz_gfn(FZ_BALLOON, i))) {
		state[i] = MEMORY;
		state[from] = HOLE;
		fz_count(FZ_MOVED);
	}
	clear_bit(from, busy);
}

static void change_frame(unsigned int i, struct fz_rng *r)
{
	switch (state[i]) {
	case MEMORY:
		if (!decrease(fz_gfn(FZ_BALLOON, i))) {
			state[i] = HOLE;
			fz_count(FZ_BALLOONED);
		}
		break;
	case GRANT:
		unmap_grant(i);
		break;
	case HOLE:
		switch (fz_below(r, 4)) {
		case 0:
			map_grant(i, r);
			break;
		case 1:
			move(i, r);
			break;
		default:
			if (!populate(fz_gfn(FZ_BALLOON, i))) {
				state[i] = MEMORY;
				fz_count(FZ_POPULATED);
			}
		}
	}
}

static void give_up(const char *what, unsigned int i)
{
	lost = true;
	fz_bad("Xen does not give frame %u of the %s area back\n", i, what);
}

/* A superpage again, if Xen has one; single pages otherwise. */
static void populate_super(void)
{
	unsigned int i;

	if (!super_gone)
		return;
	if (!reserve(XENMEM_populate_physmap, fz_gfn(FZ_SUPER, 0), 9)) {
		fz_count(FZ_SUPERPAGES);
	} else {
		for (i = 0; i < FZ_PAGES; i++)
			if (populate(fz_gfn(FZ_SUPER, i)))
				give_up("superpage", i);
	}
	super_gone = false;
}

static void replace_super(void)
{
	if (!mutex_trylock(&super_lock))
		return;
	if (super_gone)
		populate_super();
	else
		super_gone = !reserve(XENMEM_decrease_reservation, fz_gfn(FZ_SUPER, 0), 9);
	mutex_unlock(&super_lock);
}

void fz_change_some(struct fz_rng *r)
{
	unsigned int n = 1 + fz_below(r, 4), i;

	while (n--) {
		i = fz_below(r, FZ_PAGES);
		if (!test_and_set_bit(i, busy)) {
			change_frame(i, r);
			clear_bit(i, busy);
		}
	}
	if (!fz_below(r, 64))
		replace_super();
}

void *fz_hole_get(struct fz_rng *r)
{
	unsigned int i = fz_below(r, FZ_PAGES), n;

	for (n = 0; n < 64; n++, i = (i + 1) % FZ_PAGES) {
		if (test_and_set_bit(i, busy))
			continue;
		if (state[i] == HOLE)
			return fz_va(FZ_BALLOON, i);
		clear_bit(i, busy);
	}
	return NULL;
}

void fz_hole_put(void *va)
{
	clear_bit((va - fz_va(FZ_BALLOON, 0)) / PAGE_SIZE, busy);
}

void fz_settle(void)
{
	unsigned int i;

	for (i = 0; i < FZ_PAGES; i++) {
		if (state[i] == GRANT)
			unmap_grant(i);
		if (state[i] != HOLE)
			continue;
		if (populate(fz_gfn(FZ_BALLOON, i)))
			give_up("balloon", i);
		else
			state[i] = MEMORY;
	}
	populate_super();
}

int fz_mem_init(void)
{
	unsigned int a, i;

	asked = vzalloc(GFNS / 8);
	if (!asked)
		return -ENOMEM;
	for (a = 0; a < FZ_AREAS; a++) {
		block[a] = alloc_pages(GFP_KERNEL, 9);
		if (!block[a])
			return -ENOMEM;
	}
	for (i = 0; i < FZ_PAGES; i++) {
		fill(FZ_PLAIN, i);
		fill(FZ_STATUS, i);
	}
	return 0;
}

void fz_mem_exit(void)
{
	unsigned int a;

	for (a = 0; a < FZ_AREAS; a++)
		if (block[a] && !lost)
			__free_pages(block[a], 9);
	vfree(asked);
}
