// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records: one for each EPT dirty flag that an access sets, in the order of the
 * accesses, with both addresses. A page that is armed (its flag clear) and not
 * written makes none, nor does a page whose flag is set. (Specification, 4 and 5)
 */
#include "vm.h"

static void write_page_7(void)
{
	*page(7) = 1;
}

TEST(one_page)
{
	arm_pages(0, 16);
	vm_run(write_page_7);
	check_eq(records(), 1);
	check_record(0, GVA(7), GPA(7), 0);
	for (u32 i = 0; i < 16; i++)
		check_eq(armed(GPA(i)), i != 7);
	/* the log beside the record is as it was */
	check_eq(record(1)->gva, 0xeeeeeeeeeeeeeeee);
	check_eq(test_mem[7][0], 1);
}

TEST(not_armed)
{
	vm_run(write_page_7);
	check_eq(records(), 0);
	check_eq(test_mem[7][0], 1);
}

TEST(epml_off)
{
	vmwrite(VMCS_TERTIARY, 0);
	arm_pages(7, 1);
	vm_run(write_page_7);
	check_eq(records(), 0);
	check_eq(armed(GPA(7)), false);
}

static void write_many(void)
{
	for (u32 i = 300; i < 500; i++)
		*page(i) = i;
}

TEST(many_pages)
{
	arm_pages(0, PAGES);
	vm_run(write_many);
	check_eq(records(), 200);
	for (u32 i = 0; i < 200; i++)
		check_record(i, GVA(300 + i), GPA(300 + i), 0);
	for (u32 i = 0; i < PAGES; i++)
		check(armed(GPA(i)) == (i < 300 || i >= 500), "page %u", i);
}

static void out_of_order(void)
{
	static const u16 order[] = { 900, 3, 2, 511, 512, 1023, 0, 3 };

	for (u32 i = 0; i < ARRAY_LEN(order); i++)
		*page(order[i]) = 1;
}

TEST(order)
{
	static const u16 order[] = { 900, 3, 2, 511, 512, 1023, 0 };

	arm_pages(0, PAGES);
	vm_run(out_of_order);
	check_eq(records(), ARRAY_LEN(order));
	for (u32 i = 0; i < ARRAY_LEN(order); i++)
		check_record(i, GVA(order[i]), GPA(order[i]), 0);
}

static void read_then_write(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < 8; i++)
		sum += page(i)[3];
	guest_stop();
	/* the translation that the read left must not let the write pass */
	sum += page(4)[5];
	page(4)[5] = sum + 1;
	page(4)[6] = sum + 2;
}

TEST(reading_is_not_writing)
{
	arm_pages(0, 8);
	check_eq(vm_start(read_then_write), EXIT_VMCALL);
	check_eq(records(), 0);
	vm_finish();
	check_eq(records(), 1);
	check_record(0, GVA(4), GPA(4), 0);
}

static void write_twice(void)
{
	for (u32 i = 0; i < 3; i++) {
		*page(7) = i;
		guest_stop();
	}
}

/* clear dirty flag, INVEPT: the next write is told again, and only then */
TEST(arming_again)
{
	arm_pages(7, 1);
	check_eq(vm_start(write_twice), EXIT_VMCALL);
	check_eq(records(), 1);
	check_eq(vm_resume(), EXIT_VMCALL);
	check_eq(records(), 1);
	arm_pages(7, 1);
	check_eq(vm_resume(), EXIT_VMCALL);
	check_eq(records(), 2);
	check_record(1, GVA(7), GPA(7), 0);
}

static void write_aliases(void)
{
	*page(8) = 1;
	*page(9) = 2;
	*page(10) = 3;
}

/* two linear addresses of one frame: the one that was used, and the frame */
TEST(alias)
{
	*guest_pte(8) = *guest_pte(9);
	arm_pages(8, 3);
	vm_run(write_aliases);
	check_eq(records(), 2);
	check_record(0, GVA(8), GPA(9), 0);
	check_record(1, GVA(10), GPA(10), 0);
	check_eq(armed(GPA(8)), true);
	check_eq(test_mem[9][0], 2);
}

static void write_large(void)
{
	((volatile u64 *)SUPER_GVA)[5 * PAGE / 8] = 1;
	((volatile u64 *)SUPER_GVA)[300 * PAGE / 8] = 2;
	*page(30) = 3;
	*page(31) = 4;
}

/* one flag, one record, of the 4 KiB page that was accessed, for leaves of 2 MiB and 1 GiB */
TEST(large_pages)
{
	*guest_pte(30) += GIGA_GPA + (u64)test_mem[40] - GPA(30);
	*guest_pte(31) += GIGA_GPA + (u64)test_mem[50] - GPA(31);
	arm(SUPER_GPA);
	arm(GIGA_GPA);
	vm_run(write_large);
	check_eq(records(), 2);
	check_record(0, SUPER_GVA + 5 * PAGE, SUPER_GPA + 5 * PAGE, 0);
	check_record(1, GVA(30), GIGA_GPA + (u64)test_mem[40], 0);
	check_eq(armed(SUPER_GPA), false);
	check_eq(armed(GIGA_GPA), false);
	check_eq(super_mem[300][0], 2);
	check_eq(test_mem[50][0], 4);
}
