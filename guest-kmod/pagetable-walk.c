// SPDX-License-Identifier: GPL-2.0-only
/*
 * The levels above the page tables: which page tables an address space has.
 *
 * These levels are read as a whole in each round, as their own pages are not armed. They are
 * compared with a copy from the last round, so that a walk is needed only when something
 * changed.
 *
 * Page tables are read without a lock, as the kernel's fast GUP does it, in sections between
 * ooh_tables_hold() and ooh_tables_release(). Each section goes down from the top anew.
 */
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "pagetable-simd.h"
#include "pagetable-walk.h"
#include "rmap.h"

/* What matters of an entry above the page tables. */
#define UPPER_BITS (PTE_PFN_MASK | _PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_PSE | _PAGE_SPECIAL)

/* A process has the lower half of the topmost table. */
#define TOP_ENTRIES (PTRS_PER_PGD / 2)

/* One page of entries as it was. */
struct ooh_upper {
	unsigned long addr; /* first one that it maps */
	enum level { TOP, P4DS, PUDS, PMDS } level;
	u64 *entries;
};

/* What a pmd maps; 0: nothing. Swap and migration entries map nothing now. */
static u64 pmd_bits(pmd_t pmd)
{
	u64 val = pmd_val(pmd);

	if (pmd_none(pmd) || !pmd_present(pmd))
		return 0;
	if (!pmd_leaf(pmd))
		return (val & PTE_PFN_MASK) | _PAGE_PRESENT;
	return (pmd_pfn(pmd) << PAGE_SHIFT) | _PAGE_PRESENT | _PAGE_PSE | (val & _PAGE_SPECIAL);
}

/* 1 GiB pages are seen as 512 huge entries */
static u64 pud_bits(pud_t pud, unsigned int i)
{
	return ((pud_pfn(pud) + i * OOH_SLOTS) << PAGE_SHIFT) | _PAGE_PRESENT | _PAGE_PSE;
}

/* The entries read on the way down to an address. */
struct way {
	pgd_t pgd;
	p4d_t *p4dp, p4d;   /* with four levels the pgd once more */
	unsigned long skip; /* how much of the address space is known not to be in use */
};

/* The pud over addr, or NULL. The tables are held. */
static pud_t *pud_of(struct mm_struct *mm, unsigned long addr, struct way *way)
{
	pgd_t *pgdp = pgd_offset(mm, addr);

	way->pgd = READ_ONCE(*pgdp);
	way->p4dp = NULL;
	way->skip = PGDIR_SIZE;
	if (pgd_none(way->pgd))
		return NULL;
	way->p4dp = p4d_offset_lockless(pgdp, way->pgd, addr);
	way->p4d = READ_ONCE(*way->p4dp);
	way->skip = P4D_SIZE;
	if (p4d_none(way->p4d))
		return NULL;
	way->skip = PUD_SIZE;
	return pud_offset(&way->p4d, addr);
}

static bool pud_used(pud_t pud)
{
	return !pud_none(pud) && pud_present(pud);
}

struct ooh_pmd_page ooh_pmd_page(struct mm_struct *mm, unsigned long addr)
{
	struct ooh_pmd_page page = { .addr = addr & PUD_MASK };
	struct way way;
	pud_t *pudp = pud_of(mm, addr, &way), pud;

	if (!pudp)
		return page;
	pud = READ_ONCE(*pudp);
	if (!pud_used(pud))
		return page;
	if (pud_leaf(pud))
		page.huge = pud_val(pud);
	else
		page.pmds = pmd_offset(&pud, page.addr);
	return page;
}

u64 ooh_pmd_now(const struct ooh_pmd_page *page, unsigned long addr)
{
	if (page->pmds)
		return pmd_bits(READ_ONCE(page->pmds[pmd_index(addr)]));
	return page->huge ? pud_bits(__pud(page->huge), pmd_index(addr)) : 0;
}

/* The page that u is a copy of, or NULL. The tables are held. */
static const u64 *page_of(struct mm_struct *mm, const struct ooh_upper *u)
{
	const pud_t *puds;
	struct way way;
	pud_t pud;

	if (u->level == TOP)
		return (const u64 *)mm->pgd;
	puds = pud_of(mm, u->addr, &way);
	if (u->level == P4DS)
		return (const u64 *)way.p4dp;
	if (u->level == PUDS || !puds)
		return (const u64 *)puds;
	pud = READ_ONCE(*puds);
	/* the page that holds it was unchanged, but only a moment ago */
	if (!pud_used(pud) || pud_leaf(pud))
		return NULL;
	return (const u64 *)pmd_offset(&pud, u->addr);
}

/*
 * Is everything as it was? For each entry in use there is a copy of the page that it leads
 * to, after the copy of its own page.
 */
static bool all_same(struct mm_struct *mm, const struct ooh_pmds *old)
{
	const struct ooh_upper *u = old->upper, *end = u + old->nr_upper;
	const u64 *entries;
	struct ooh_hold hold;
	bool same = old->known;
	int how;

	for (; same && u < end; u++) {
		if ((u - old->upper) % 64 == 63)
			cond_resched();
		how = ooh_entries_begin();
		ooh_tables_hold(mm, &hold);
		entries = page_of(mm, u);
		same = entries &&
		       !ooh_entries_differ(how, entries, u->entries,
					   u->level == TOP ? TOP_ENTRIES : OOH_SLOTS, UPPER_BITS);
		ooh_tables_release(mm, &hold);
		ooh_entries_end(how);
	}
	return same;
}

/* Room for the pmds of one pud, and for the copies that go with them. */
static int make_room(struct ooh_pmds *out)
{
	if (out->size - out->nr < PTRS_PER_PMD) {
		size_t size = max_t(size_t, 2 * out->size, 2 * PTRS_PER_PMD);
		struct ooh_pmd *v =
			ooh_kvrealloc(out->v, out->size * sizeof(*v), size * sizeof(*v));

		if (!v)
			return -ENOMEM;
		out->v = v;
		out->size = size;
	}
	while (out->size_upper - out->nr_upper < PMDS + 1) {
		size_t n = out->size_upper + 1;
		struct ooh_upper *v =
			ooh_kvrealloc(out->upper, (n - 1) * sizeof(*v), n * sizeof(*v));

		if (!v)
			return -ENOMEM;
		out->upper = v;
		v[n - 1].entries = kmalloc(PAGE_SIZE, GFP_KERNEL_ACCOUNT);
		if (!v[n - 1].entries)
			return -ENOMEM;
		out->size_upper = n;
	}
	return 0;
}

static const u64 *take_copy(struct ooh_pmds *out, unsigned long addr, enum level level,
			    const void *from)
{
	struct ooh_upper *u = &out->upper[out->nr_upper++];
	unsigned int i, nr = level == TOP ? TOP_ENTRIES : OOH_SLOTS;
	const u64 *entries = from;

	u->addr = addr;
	u->level = level;
	for (i = 0; i < nr; i++)
		u->entries[i] = READ_ONCE(entries[i]);
	return u->entries;
}

/* What the pmds of one pud map. The tables are held. */
static void walk_pmds(pud_t pud, unsigned long addr, struct ooh_pmds *out)
{
	const u64 *pmds = pud_leaf(pud) ? NULL : take_copy(out, addr, PMDS, pmd_offset(&pud, addr));
	unsigned int i;

	for (i = 0; i < PTRS_PER_PMD; i++) {
		u64 val = pmds ? pmd_bits(__pmd(pmds[i])) : pud_bits(pud, i);

		if (val)
			out->v[out->nr++] = (struct ooh_pmd){ addr + i * PMD_SIZE, val };
	}
}

/* If the entry changed since the copy was taken, the copy does not show what was seen. */
static void compare(struct ooh_pmds *out, u64 seen, u64 copy)
{
	if ((seen ^ copy) & UPPER_BITS)
		out->known = false;
}

/* Most of an address space is holes: they are skipped table by table. */
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out)
{
	const u64 *top = NULL, *p4ds = NULL, *copy = NULL;
	unsigned long addr = 0;

	if (all_same(mm, out))
		return 1;
	out->nr = out->nr_upper = 0;
	out->known = true;
	while (addr < TASK_SIZE_MAX) {
		const pud_t *puds;
		unsigned int left;
		bool used = false;
		struct ooh_hold hold;
		struct way way;

		if (make_room(out)) {
			out->known = false;
			return -ENOMEM;
		}
		ooh_tables_hold(mm, &hold);
		if (!addr)
			top = take_copy(out, 0, TOP, mm->pgd);
		puds = pud_of(mm, addr, &way);
		compare(out, pgd_val(way.pgd), top[pgd_index(addr)]);
		if (!pgtable_l5_enabled()) {
			/* read twice */
			compare(out, p4d_val(way.p4d), top[pgd_index(addr)]);
		} else if (way.p4dp) {
			if (!(addr & ~PGDIR_MASK))
				p4ds = take_copy(out, addr, P4DS, way.p4dp);
			compare(out, p4d_val(way.p4d), p4ds[p4d_index(addr)]);
		}
		if (puds && !pud_index(addr))
			copy = take_copy(out, addr, PUDS, puds);
		if (!puds)
			addr = (addr | (way.skip - 1)) + 1;
		for (left = PTRS_PER_PUD - pud_index(addr); puds && left && !used; left--) {
			pud_t pud = READ_ONCE(*puds++);

			compare(out, pud_val(pud), copy[pud_index(addr)]);
			used = pud_used(pud);
			if (used)
				walk_pmds(pud, addr, out);
			addr += PUD_SIZE;
		}
		ooh_tables_release(mm, &hold);
		cond_resched();
	}
	return 0;
}

void ooh_walk_free(struct ooh_pmds *pmds)
{
	while (pmds->size_upper)
		kfree(pmds->upper[--pmds->size_upper].entries);
	kvfree(pmds->upper);
	kvfree(pmds->v);
}
