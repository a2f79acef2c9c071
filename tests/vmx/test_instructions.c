// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions that write more than once: a locked read-modify-write makes one
 * record, a string instruction one for each page it comes to, a store over a page
 * boundary one for each side. A fault between the sides leaves the first record,
 * which is why a record says only that a write may have taken place.
 * (Specification, 5)
 */
#include "vm.h"

static volatile u32 faults;

static void locked(void)
{
	u64 one = 1, zero = 0;

	__asm__ volatile("lock xadd %0, %1" : "+r"(one), "+m"(*page(3)));
	__asm__ volatile("lock cmpxchg %2, %0" : "+m"(*page(4)), "+a"(zero) : "r"(7ull));
	zero = 9;
	/* does not match: the processor writes the old value back */
	__asm__ volatile("lock cmpxchg %2, %0" : "+m"(*page(5)), "+a"(zero) : "r"(7ull));
}

TEST(locked_rmw)
{
	arm_pages(0, 8);
	vm_run(locked);
	check_pages(3, 3);
	check_eq(test_mem[3][0], 1);
	check_eq(test_mem[4][0], 7);
	check_eq(test_mem[5][0], 0);
}

static void move(void)
{
	u64 from = GVA(100) + 0x800, to = GVA(200) + 0x800, n = 4 * PAGE;

	__asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
}

TEST(rep_movs)
{
	memset(test_mem[100], 0x5a, 5 * PAGE);
	arm_pages(90, 200);
	vm_run(move);
	check_pages(200, 5);
	check(!memcmp(test_mem[200] + 0x800, test_mem[100], 4 * PAGE - 0x800), "copy");
	for (u32 i = 90; i < 200; i++)
		check_eq(armed(GPA(i)), true);
}

static void move_backwards(void)
{
	u64 from = GVA(100) + 0x7f8, to = GVA(204) + 0x7f8, n = 3 * PAGE / 8;

	from += 3 * PAGE;
	__asm__ volatile("std; rep movsq; cld" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
}

TEST(rep_movs_backwards)
{
	arm_pages(200, 8);
	vm_run(move_backwards);
	check_eq(records(), 4);
	for (u32 i = 0; i < 4; i++)
		check_record(i, GVA(204 - i), GPA(204 - i), 0);
}

static void across(void)
{
	*(volatile u64 *)(GVA(10) + PAGE - 4) = 0x1122334455667788;
	*(volatile u64 *)(GVA(10) + PAGE - 4) = 0x1122334455667788;
}

TEST(over_a_boundary)
{
	arm_pages(8, 8);
	vm_run(across);
	check_pages(10, 2);
	check_eq(test_mem[11][0], 0x44);
}

static void page_in(struct frame *f)
{
	faults += f->vector == 14;
	/* in the guest, at the guest's address of its tables: these are the host's */
	*guest_pte(11) |= PTE_P;
}

TEST(fault_between)
{
	faults = 0;
	guest_hook = page_in;
	*guest_pte(11) &= ~(u64)PTE_P;
	arm_pages(8, 8);
	vm_run(across);
	check_eq(faults, 1);
	/* the first page's record is from before the fault */
	check_pages(10, 2);
}

static void push(void)
{
	u64 old;

	__asm__ volatile("mov %%rsp, %0\n\t"
			 "mov %1, %%rsp\n\t"
			 "push $1\n\t"
			 "push $2\n\t"
			 "push $3\n\t"
			 "pop %%rax\n\t"
			 "mov %0, %%rsp"
			 : "=&r"(old)
			 : "r"(GVA(51) + 16)
			 : "rax", "memory");
}

TEST(pushing)
{
	arm_pages(48, 8);
	vm_run(push);
	check_eq(records(), 2);
	check_record(0, GVA(51), GPA(51), 0);
	check_record(1, GVA(50), GPA(50), 0);
}
