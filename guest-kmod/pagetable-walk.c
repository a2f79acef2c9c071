// SPDX-License-Identifier: GPL-2.0-only
/*
 * The levels above the page tables: which page tables an address space has.
 *
 * They are read in each round, whole: their own pages are not armed. What is read is
 * compared with a copy of the round before, so that a walk is needed only where
 * something changed.
 *
 * Page tables are read without a lock, like the kernel's fast GUP does it:
 * with interrupts off, because a table is not freed before every CPU that
 * might use it took an interrupt or left its read side. Each such section goes
 * down from the top anew.
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

/* One page of entries as it was: of pmds, or of puds */
struct ooh_upper {
	unsigned long addr; /* first one that it maps */
	bool puds;
	u64 *entries;
};

/*
 * Could it lead to a table? Kernels up to 6.12 free the tables of guests after an interrupt on
 * the CPUs that use the address space, of which this one need not be: a table may be anything by
 * now. What is read there is of no use then, and the next round finds a change.
 */
static bool table_at(u64 entry)
{
	return pfn_valid((entry & PTE_PFN_MASK) >> PAGE_SHIFT);
}

/* What a pmd maps; 0: nothing. Swap and migration entries map nothing now. */
static u64 pmd_bits(pmd_t pmd)
{
	u64 val = pmd_val(pmd);

	if (pmd_none(pmd) || !pmd_present(pmd))
		return 0;
	if (!pmd_leaf(pmd))
		return table_at(val) ? (val & PTE_PFN_MASK) | _PAGE_PRESENT : 0;
	return (pmd_pfn(pmd) << PAGE_SHIFT) | _PAGE_PRESENT | _PAGE_PSE | (val & _PAGE_SPECIAL);
}

/* 1 GiB pages are seen as 512 huge entries */
static u64 pud_bits(pud_t pud, unsigned int i)
{
	return ((pud_pfn(pud) + i * OOH_SLOTS) << PAGE_SHIFT) | _PAGE_PRESENT | _PAGE_PSE;
}

/* The pud over addr, or NULL. Interrupts are off. */
static pud_t *pud_of(struct mm_struct *mm, unsigned long addr, unsigned long *skip)
{
	pgd_t *pgdp = pgd_offset(mm, addr), pgd = READ_ONCE(*pgdp);
	p4d_t p4d;

	*skip = PGDIR_SIZE;
	if (pgd_none(pgd) || !table_at(pgd_val(pgd)))
		return NULL;
	p4d = READ_ONCE(*p4d_offset_lockless(pgdp, pgd, addr));
	*skip = P4D_SIZE;
	if (p4d_none(p4d) || !table_at(p4d_val(p4d)))
		return NULL;
	*skip = PUD_SIZE;
	return pud_offset(&p4d, addr);
}

static bool pud_used(pud_t pud)
{
	return !pud_none(pud) && pud_present(pud) && (pud_leaf(pud) || table_at(pud_val(pud)));
}

struct ooh_pmd_page ooh_pmd_page(struct mm_struct *mm, unsigned long addr)
{
	struct ooh_pmd_page page = { .addr = addr & PUD_MASK };
	unsigned long skip;
	pud_t *pudp = pud_of(mm, addr, &skip), pud;

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

/* The first address from addr on that has a page of puds; TASK_SIZE_MAX: none */
static unsigned long next_puds(struct mm_struct *mm, unsigned long addr)
{
	unsigned long skip;

	while (addr < TASK_SIZE_MAX && !pud_of(mm, addr, &skip))
		addr = (addr | (skip - 1)) + 1;
	return min(addr, TASK_SIZE_MAX);
}

/* Is this page as it was? */
static bool same_page(struct mm_struct *mm, const struct ooh_upper *u, int how)
{
	unsigned long skip;
	const pud_t *puds = pud_of(mm, u->addr, &skip);
	const u64 *entries = (const u64 *)puds;

	if (!puds)
		return false;
	if (!u->puds) {
		pud_t pud = READ_ONCE(*puds);

		/* the page that holds it was the same, but that was a moment ago */
		if (!pud_used(pud) || pud_leaf(pud))
			return false;
		entries = (const u64 *)pmd_offset(&pud, u->addr);
	}
	return !ooh_entries_differ(how, entries, u->entries, OOH_SLOTS, UPPER_BITS);
}

/*
 * Is everything as it was? Pages of pmds follow the page of puds that they belong
 * to, for each entry of it that is in use one.
 */
static bool all_same(struct mm_struct *mm, const struct ooh_pmds *old)
{
	const struct ooh_upper *u = old->upper, *end = u + old->nr_upper;
	unsigned long addr = 0, flags;
	bool same = old->known;

	for (; same && u <= end; u++) {
		int how = ooh_entries_begin();

		local_irq_save(flags);
		if (u == end)
			same = next_puds(mm, addr) == TASK_SIZE_MAX;
		else
			same = (!u->puds || next_puds(mm, addr) == u->addr) &&
			       same_page(mm, u, how);
		local_irq_restore(flags);
		ooh_entries_end(how);
		if (u < end && u->puds)
			addr = u->addr + P4D_SIZE;
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
	while (out->size_upper - out->nr_upper < 2) {
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

static const u64 *take_copy(struct ooh_pmds *out, unsigned long addr, bool puds, const void *from)
{
	struct ooh_upper *u = &out->upper[out->nr_upper++];
	const u64 *entries = from;
	unsigned int i;

	u->addr = addr;
	u->puds = puds;
	for (i = 0; i < OOH_SLOTS; i++)
		u->entries[i] = READ_ONCE(entries[i]);
	return u->entries;
}

/* What the pmds of one pud map. Interrupts are off. */
static void walk_pmds(pud_t pud, unsigned long addr, struct ooh_pmds *out)
{
	const u64 *pmds =
		pud_leaf(pud) ? NULL : take_copy(out, addr, false, pmd_offset(&pud, addr));
	unsigned int i;

	for (i = 0; i < PTRS_PER_PMD; i++) {
		u64 val = pmds ? pmd_bits(__pmd(pmds[i])) : pud_bits(pud, i);

		if (val)
			out->v[out->nr++] = (struct ooh_pmd){ addr + i * PMD_SIZE, val };
	}
}

/* Holes, most of an address space, are passed over table by table. */
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out)
{
	unsigned long addr = 0, flags, skip;
	const u64 *copy = NULL;

	if (all_same(mm, out))
		return 1;
	out->nr = out->nr_upper = 0;
	out->known = true;
	while (addr < TASK_SIZE_MAX) {
		const pud_t *puds;
		unsigned int left;
		bool used = false;

		if (make_room(out)) {
			out->known = false;
			return -ENOMEM;
		}
		local_irq_save(flags);
		puds = pud_of(mm, addr, &skip);
		if (puds && !pud_index(addr))
			copy = take_copy(out, addr, true, puds);
		if (!puds) {
			out->known &= !pud_index(addr);
			addr = (addr | (skip - 1)) + 1;
		}
		for (left = PTRS_PER_PUD - pud_index(addr); puds && left && !used; left--) {
			pud_t pud = READ_ONCE(*puds++);

			/* changed since: the copy does not tell what was seen */
			if ((pud_val(pud) ^ copy[pud_index(addr)]) & UPPER_BITS)
				out->known = false;
			used = pud_used(pud);
			if (used)
				walk_pmds(pud, addr, out);
			addr += PUD_SIZE;
		}
		local_irq_restore(flags);
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
