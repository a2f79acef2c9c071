// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaves: what a last-level page table maps, compared with what it mapped
 * when it was looked through last.
 *
 * Page tables are read without a lock, like the kernel's fast GUP does it:
 * with interrupts off, because a table is not freed before every CPU that
 * might use it took an interrupt or left its read side. Each such section goes
 * down from the top anew.
 */
#include <linux/idr.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>

#include "ooh.h"

/*
 * What matters of an entry: where it points and whether it is there. Accessed
 * and dirty flags change without a meaning here.
 */
#define ENTRY_BITS (PTE_PFN_MASK | _PAGE_PRESENT | _PAGE_PROTNONE | _PAGE_SPECIAL)

/*
 * Content without a frame: swapped out, or on its way to another frame. Which
 * swap slot it is says nothing: a page can be brought in, written and swapped
 * out to the same one in a round. None of the bits above, so that a compare
 * by them always finds such an entry.
 */
#define ENTRY_OUT _PAGE_RW

/* Leaf ids are dense, so that a record finds its leaf by an array. */
#define MAX_LEAVES (1U << 22)
static DEFINE_IDA(ids);
static struct ooh_leaf **leaves;
static u32 leaves_size;

struct ooh_leaf *ooh_leaf_of(ooh_node node)
{
	return leaves[(node & ~OOH_NODE_TABLE) >> (node & OOH_NODE_TABLE ? 0 : 9)];
}

static ooh_node table_node(const struct ooh_leaf *leaf)
{
	return OOH_NODE_TABLE | leaf->id;
}

static bool huge(u64 pmd)
{
	return pmd & _PAGE_PSE;
}

static bool present(u64 entry)
{
	return pte_present(__pte(entry));
}

bool ooh_absent(u64 val)
{
	return val == OOH_ABSENT_OUT || (val & OOH_ABSENT) == OOH_ABSENT;
}

static u64 entry_bits(u64 entry)
{
	if (present(entry))
		return entry & ENTRY_BITS;
	return pte_none(__pte(entry)) ? 0 : ENTRY_OUT;
}

/* A frame that can be followed: not the zero page, not a device's memory. */
static bool ordinary(u64 entry)
{
	return present(entry) && !(entry & _PAGE_SPECIAL) && pfn_valid(pte_pfn(__pte(entry)));
}

struct ooh_leaf *ooh_leaf_create(struct ooh_tracker *t, unsigned long addr)
{
	struct ooh_leaf *leaf;
	int id;

	leaf = kzalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);
	if (!leaf)
		return NULL;
	leaf->slots = kvzalloc(sizeof(*leaf->slots), GFP_KERNEL_ACCOUNT);
	id = leaf->slots ? ida_alloc_range(&ids, 1, MAX_LEAVES - 1, GFP_KERNEL) : -ENOMEM;
	if (id < 0)
		goto err_leaf;
	if (id >= leaves_size) {
		u32 size = max(2 * leaves_size, 1024U);
		struct ooh_leaf **grown =
			kvrealloc(leaves, size * sizeof(*leaves), GFP_KERNEL | __GFP_ZERO);

		if (!grown)
			goto err_id;
		leaves = grown;
		leaves_size = size;
	}
	leaves[id] = leaf;
	leaf->id = id;
	leaf->tracker = t;
	leaf->addr = addr;
	return leaf;

err_id:
	ida_free(&ids, id);
err_leaf:
	kvfree(leaf->slots);
	kfree(leaf);
	return NULL;
}

void ooh_leaf_exit(void)
{
	kvfree(leaves);
	ida_destroy(&ids);
}

/* The entry of this slot is now val: follow the frame that it names. */
static void set_slot(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	ooh_node node = ooh_page_node(leaf->id, slot);
	u64 old = leaf->slots->pte[slot];

	leaf->slots->pte[slot] = val;
	leaf->absent += ooh_absent(val) - ooh_absent(old);
	if (present(old) && present(val) && pte_pfn(__pte(old)) == pte_pfn(__pte(val)) &&
	    ordinary(old) == ordinary(val)) {
		/* the same frame under another protection is no change */
		if (ooh_absent(old) == ooh_absent(val))
			return;
	} else {
		if (ordinary(old))
			ooh_frame_unlink(pte_pfn(__pte(old)), node);
		if (ordinary(val))
			ooh_frame_link(pte_pfn(__pte(val)), node);
		leaf->mapped += !!val - !!old;
	}
	__set_bit(slot, leaf->pending);
	leaf->dirty = true;
}

void ooh_leaf_destroy(struct ooh_leaf *leaf)
{
	unsigned int i;

	while (!ooh_frames_room(OOH_SLOTS + 1))
		ooh_frames_flush();
	for (i = 0; i < OOH_SLOTS; i++)
		set_slot(leaf, i, 0);
	ooh_leaf_set_pmd(leaf, 0);
	leaves[leaf->id] = NULL;
	ida_free(&ids, leaf->id);
	kvfree(leaf->slots);
	kfree(leaf);
}

/* Takes note of another entry above the leaf. The caller has room in the queue. */
void ooh_leaf_set_pmd(struct ooh_leaf *leaf, u64 pmd)
{
	if (leaf->pmd && !huge(leaf->pmd))
		ooh_frame_unlink(pte_pfn(__pte(leaf->pmd)), table_node(leaf));
	leaf->pmd = pmd;
	if (pmd && !huge(pmd))
		ooh_frame_link(pte_pfn(__pte(pmd)), table_node(leaf));
	leaf->rescan = true;
}

void ooh_leaf_set_absent(struct ooh_leaf *leaf, unsigned int slot, u64 val)
{
	if (val != leaf->slots->pte[slot] || val == OOH_ABSENT_OUT)
		set_slot(leaf, slot, val);
}

void ooh_leaf_mark_present(struct ooh_leaf *leaf)
{
	unsigned int i;

	for (i = 0; i < OOH_SLOTS; i++)
		if (leaf->slots->pte[i])
			__set_bit(i, leaf->pending);
	leaf->dirty |= leaf->mapped != 0;
}

void ooh_leaf_mark_all(struct ooh_leaf *leaf)
{
	bitmap_fill(leaf->pending, OOH_SLOTS);
	leaf->dirty = true;
}

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

/* The pud over addr, or NULL. Interrupts are off. */
static pud_t *pud_of(struct mm_struct *mm, unsigned long addr, unsigned long *skip)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;

	*skip = PGDIR_SIZE;
	if (pgd_none(READ_ONCE(*pgd)))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	*skip = P4D_SIZE;
	if (p4d_none(READ_ONCE(*p4d)))
		return NULL;
	*skip = PUD_SIZE;
	return pud_offset(p4d, addr);
}

static u64 read_pmd(struct mm_struct *mm, unsigned long addr, pte_t **table)
{
	unsigned long skip;
	pud_t *pudp = pud_of(mm, addr, &skip), pud;
	pmd_t pmd;

	*table = NULL;
	if (!pudp)
		return 0;
	pud = READ_ONCE(*pudp);
	if (pud_none(pud) || !pud_present(pud))
		return 0;
	if (pud_leaf(pud))
		return pud_bits(pud, pmd_index(addr));
	pmd = READ_ONCE(*(pmd_offset(&pud, addr)));
	if (pmd_bits(pmd) && !pmd_leaf(pmd))
		*table = (pte_t *)pmd_page_vaddr(pmd);
	return pmd_bits(pmd);
}

#define BLOCK 64 /* entries looked at together */

/*
 * Is one of a block's entries not what it was? The accessed and dirty flags that
 * the CPU sets make a table look written in each round in which it is used, so this
 * is most of what a round costs. An entry read while it is being written may be
 * misjudged; that write is logged, and the table comes again in the next round.
 */
static bool block_differs(const u64 *new, const u64 *old)
{
	u64 diff = 0;
	unsigned int i;

	for (i = 0; i < BLOCK; i++)
		diff |= READ_ONCE(new[i]) ^ old[i];
	return diff & ENTRY_BITS;
}

/* The same with four entries an instruction, between kernel_fpu_begin() and _end(). */
static bool block_differs_avx2(const u64 *new, const u64 *old)
{
	u64 mask = ENTRY_BITS;
	bool same;

#define STEP(offset)                                    \
	"vmovdqu " #offset "(%[new]), %%ymm1\n\t"       \
	"vpxor " #offset "(%[old]), %%ymm1, %%ymm1\n\t" \
	"vpor %%ymm1, %%ymm0, %%ymm0\n\t"
	/* clang-format off */
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n\t"
		     STEP(0) STEP(32) STEP(64) STEP(96) STEP(128) STEP(160) STEP(192) STEP(224)
		     STEP(256) STEP(288) STEP(320) STEP(352) STEP(384) STEP(416) STEP(448) STEP(480)
		     "vpbroadcastq %[mask], %%ymm1\n\t"
		     "vptest %%ymm1, %%ymm0"
		     : "=@ccz"(same)
		     : [new] "r"(new), [old] "r"(old), [mask] "m"(mask)
		     : "memory");
	/* clang-format on */
#undef STEP
	return !same;
}

static void scan_block(struct ooh_leaf *leaf, unsigned int first, const u64 *table)
{
	u64 *old = leaf->slots->pte;
	unsigned int i;

	for (i = first; i < first + BLOCK; i++) {
		u64 val = entry_bits(READ_ONCE(table[i]));

		if (!val && ooh_absent(old[i]))
			continue;
		if (val != old[i] || val == ENTRY_OUT)
			set_slot(leaf, i, val);
	}
}

/*
 * Compares the leaf with the page tables and follows what changed. False: the
 * entry above it is not what the caller took note of.
 */
bool ooh_leaf_scan(struct ooh_leaf *leaf)
{
	u64 *old = leaf->slots->pte;
	bool fpu = boot_cpu_has(X86_FEATURE_AVX2) && irq_fpu_usable(), same;
	unsigned long flags;
	unsigned int i;
	pte_t *table;

	while (!ooh_frames_room(OOH_SLOTS))
		ooh_frames_flush();

	if (fpu)
		kernel_fpu_begin();
	local_irq_save(flags);
	same = read_pmd(ooh_tracker_mm(leaf->tracker), leaf->addr, &table) == leaf->pmd;
	if (!same)
		goto out;
	leaf->rescan = false;
	if (table) {
		const u64 *new = (const u64 *)table;

		for (i = 0; i < OOH_SLOTS; i += BLOCK)
			if (fpu ? block_differs_avx2(new + i, old + i)
				: block_differs(new + i, old + i))
				scan_block(leaf, i, new);
	} else {
		for (i = 0; i < OOH_SLOTS; i++) {
			u64 val = leaf->pmd ? (leaf->pmd & ~_PAGE_PSE) + ((u64)i << PAGE_SHIFT) : 0;

			if (val != old[i] && (val || !ooh_absent(old[i])))
				set_slot(leaf, i, val);
		}
	}
out:
	local_irq_restore(flags);
	if (fpu)
		kernel_fpu_end();
	return same;
}

static int grow(struct ooh_pmds *out)
{
	size_t size = max_t(size_t, 2 * out->size, 2 * PTRS_PER_PMD);
	struct ooh_pmd *v = kvrealloc(out->v, size * sizeof(*v), GFP_KERNEL);

	if (!v)
		return -ENOMEM;
	out->v = v;
	out->size = size;
	return 0;
}

/* What the pmds of one pud map. Interrupts are off. */
static void walk_pmds(pud_t pud, unsigned long addr, struct ooh_pmds *out)
{
	const pmd_t *pmds = pud_leaf(pud) ? NULL : pmd_offset(&pud, addr);
	unsigned int i;

	for (i = 0; i < PTRS_PER_PMD; i++) {
		u64 val = pmds ? pmd_bits(READ_ONCE(pmds[i])) : pud_bits(pud, i);

		if (val)
			out->v[out->nr++] = (struct ooh_pmd){ addr + i * PMD_SIZE, val };
	}
}

/*
 * Every pmd of mm that maps something, in ascending order. -ENOMEM. Each round
 * comes by here: holes, most of an address space, are passed over table by table.
 */
int ooh_walk(struct mm_struct *mm, struct ooh_pmds *out)
{
	unsigned long addr = 0, flags, skip;

	out->nr = 0;
	while (addr < TASK_SIZE_MAX) {
		const pud_t *puds;
		unsigned int left;
		bool used = false;

		if (out->size - out->nr < PTRS_PER_PMD && grow(out))
			return -ENOMEM;
		local_irq_save(flags);
		puds = pud_of(mm, addr, &skip);
		if (!puds)
			addr = (addr | (skip - 1)) + 1;
		for (left = PTRS_PER_PUD - pud_index(addr); puds && left && !used; left--) {
			pud_t pud = READ_ONCE(*puds++);

			used = !pud_none(pud) && pud_present(pud);
			if (used)
				walk_pmds(pud, addr, out);
			addr += PUD_SIZE;
		}
		local_irq_restore(flags);
	}
	return 0;
}
