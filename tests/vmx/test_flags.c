// SPDX-License-Identifier: GPL-2.0-only
/*
 * The flags of a record. U: software in user mode made the access; what the
 * processor does on its behalf (pushing a frame on the supervisor's stack) is
 * the supervisor's. W: it is a page walk's access to a paging-structure entry,
 * a write as far as EPT dirty flags go. (Specification, 4)
 */
#include "vm.h"

static volatile u32 hooked;

static void write_page_1(void)
{
	*page(1) = 1;
}

static void read_page_1(void)
{
	(void)*page(1);
}

TEST(user)
{
	arm_pages(0, 4);
	vm_run_user(write_page_1);
	check_eq(records(), 1);
	check_record(0, GVA(1), GPA(1), REC_USER);
}

static void interrupted(struct frame *f)
{
	hooked = f->vector + f->cs;
}

static void interrupt(void)
{
	*page(1) = 1;
	__asm__ volatile("int $0x80");
	*page(2) = 1;
}

TEST(implicit_supervisor)
{
	hooked = 0;
	guest_hook = interrupted;
	guest_tss.rsp[0] = GVA(20) + 0xf00;
	arm_pages(0, 32);
	vm_run_user(interrupt);
	check_eq(hooked, 0x80 + SEL_USER_CODE);
	check_eq(records(), 3);
	check_record(0, GVA(1), GPA(1), REC_USER);
	check_record(1, GVA(20), GPA(20), 0);
	check_record(2, GVA(2), GPA(2), REC_USER);
}

/* the walk that a write needs, then the write */
TEST(walk)
{
	arm_pages(0, 4);
	arm(PT_OF(1));
	vm_run(write_page_1);
	check_eq(records(), 2);
	check_record(0, GVA(1), PT_OF(1), REC_WALK);
	check_record(1, GVA(1), GPA(1), 0);
	check_eq(armed(PT_OF(1)), false);
}

/* reading needs it too, and the flags of the guest's entry do not matter */
TEST(walk_of_a_read)
{
	*guest_pte(1) &= ~(u64)(PTE_A | PTE_D);
	arm_pages(0, 4);
	arm(PT_OF(1));
	vm_run(read_page_1);
	check_eq(records(), 1);
	check_record(0, GVA(1), PT_OF(1), REC_WALK);
	check_eq(armed(GPA(1)), true);
	check_eq(*guest_pte(1) & (PTE_A | PTE_D), PTE_A);
}

/* U of a walk's record is that of the access that needs the translation */
TEST(walk_for_user)
{
	arm_pages(0, 4);
	arm(PT_OF(1));
	vm_run_user(write_page_1);
	check_eq(records(), 2);
	check_record(0, GVA(1), PT_OF(1), REC_WALK | REC_USER);
	check_record(1, GVA(1), GPA(1), REC_USER);
}

/* all levels: from the root down, each table once */
TEST(walk_from_the_root)
{
	static const u32 tables[] = { PT_PML4, PT_PDPT, PT_PD, PT_0 };
	u32 n = 0;

	for (u32 i = 0; i < ARRAY_LEN(tables); i++)
		arm(PT_GPA + tables[i] * PAGE);
	arm_pages(1, 1);
	vm_run(write_page_1);
	/* the tables that the fetch of the guest's code goes through come first */
	for (u32 i = 0; i < records(); i++) {
		const struct record *r = record(i);

		check(r->gva & REC_WALK || r->gva == GVA(1), "record %u is %lx", i, r->gva);
		if (r->gva == (GVA(1) | REC_WALK))
			check_eq(r->gpa, PT_GPA + tables[ARRAY_LEN(tables) - 2 + n++] * PAGE);
	}
	check_eq(records(), 5);
	check_eq(n, 2);
	check_record(4, GVA(1), GPA(1), 0);
}

/* a program that writes page tables through a mapping of its own: no walk */
TEST(a_store_to_a_table)
{
	*guest_pte(1) += PT_OF(1) - GPA(1);
	arm(PT_OF(1));
	/* the walk for the store sets the flag first */
	vm_run(write_page_1);
	check_eq(records(), 1);
	check_record(0, GVA(1), PT_OF(1), REC_WALK);
}
