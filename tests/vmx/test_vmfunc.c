// SPDX-License-Identifier: GPL-2.0-only
/*
 * VM functions 1 and 2: the guest arms pages, those with a bit in a bitmap of
 * their 2 MiB. Clearing the dirty flags alone is not enough, as cached
 * translations still let writes pass; function 2 throws them away. Both are for
 * CPL 0. (Specification, 9)
 */
#include "vm.h"

#define CLEAR	   1
#define INVALIDATE 2
#define N	   10

static u64 bitmap[8] __attribute__((aligned(64)));
static volatile u64 next, from, argument, kept;
static volatile u32 function;

static void vmfunc(u64 fn)
{
	u64 gpa = from, rcx = argument;

	__asm__ volatile("vmfunc" : "+b"(gpa), "+c"(rcx) : "a"(fn) : "memory");
	next = gpa;
	kept = rcx;
}

static void one(void)
{
	vmfunc(function);
}

/* n pages from gpa on; within its 2 MiB */
static void ask(u64 gpa, u32 n)
{
	u32 first = gpa >> 12 & 511;

	memset(bitmap, 0, sizeof(bitmap));
	for (u32 i = first; i < first + n; i++)
		bitmap[i / 64] |= 1ull << i % 64;
	from = gpa;
	argument = (u64)bitmap;
}

static void disarm(void)
{
	for (u32 i = 0; i < PAGES; i++)
		*ept_leaf(GPA(i)) |= EPT_D;
}

static void write_pages(void)
{
	for (u32 i = 0; i < N; i++)
		*page(i) = 1;
}

static void arm_without_2(void)
{
	write_pages();
	vmfunc(CLEAR);
	write_pages();
}

static void arm_with_2(void)
{
	write_pages();
	vmfunc(CLEAR);
	vmfunc(INVALIDATE);
	write_pages();
}

TEST(clear_only)
{
	vm_functions_on(1 << CLEAR);
	ask(GPA(0), N);
	vm_run(arm_without_2);
	check_eq(next, GPA(512));
	/* the flags are clear, the second writes went through what was cached */
	check_eq(records(), 0);
	for (u32 i = 0; i < N + 1; i++)
		check_eq(armed(GPA(i)), i < N);
}

TEST(clear_and_invalidate)
{
	vm_functions_on(1 << CLEAR | 1 << INVALIDATE);
	ask(GPA(0), N);
	arm_pages(0, N);
	vm_run(arm_with_2);
	check_eq(records(), 2 * N);
	for (u32 i = 0; i < 2 * N; i++)
		check_record(i, GVA(i % N), GPA(i % N), 0);
}

TEST(a_whole_table)
{
	vm_functions_on(1 << CLEAR);
	ask(GPA(512), 512);
	function = CLEAR;
	vm_run(one);
	check_eq(next, GPA(1024));
	for (u32 i = 0; i < PAGES; i++)
		check_eq(armed(GPA(i)), i >= 512);
	/* nothing but the dirty flag changed */
	check_eq(*ept_leaf(GPA(600)), ((u64)test_mem[600] | 0x37 | EPT_A));
}

/* those with a bit, from the page asked for on */
TEST(here_and_there)
{
	vm_functions_on(1 << CLEAR);
	function = CLEAR;
	ask(GPA(0), 0);
	for (u32 i = 0; i < 512; i += 7)
		bitmap[i / 64] |= 1ull << i % 64;
	from = GPA(70);
	vm_run(one);
	check_eq(next, GPA(512));
	check_eq(kept, argument);
	for (u32 i = 0; i < PAGES; i++)
		check_eq(armed(GPA(i)), i >= 70 && i < 512 && i % 7 == 0);
	/* none at all, where nothing is mapped either */
	ask(0x3fe00000, 0);
	vm_run(one);
	check_eq(next, 0x40000000);
}

/* it ends at a page that is not mapped, not writable, or large */
TEST(partly)
{
	static const struct {
		u64 clear, set;
	} entries[] = { { ~0ull, 0 }, { EPT_WRITE, 0 }, { 0, 0x38 } };

	vm_functions_on(1 << CLEAR);
	function = CLEAR;
	for (u32 i = 0; i < ARRAY_LEN(entries); i++) {
		u64 *entry = ept_leaf(GPA(5)), good = *entry;

		disarm();
		*entry = (good & ~entries[i].clear) | entries[i].set;
		ask(GPA(2), 8);
		vm_run(one);
		check_eq(next, GPA(5));
		check_eq(armed(GPA(4)), true);
		check_eq(armed(GPA(6)), false);
		/* behind it */
		from = GPA(6);
		vm_run(one);
		check_eq(next, GPA(512));
		check_eq(armed(GPA(9)), true);
		/* without its bit it is in nobody's way */
		disarm();
		ask(GPA(2), 8);
		bitmap[0] &= ~(1ull << 5);
		vm_run(one);
		check_eq(next, GPA(512));
		check_eq(armed(GPA(6)), true);
		*entry = good;
	}
	ask(SUPER_GPA, 3);
	vm_run(one);
	check_eq(next, SUPER_GPA);
	check_eq(armed(SUPER_GPA), false);
	/* above what EPT translates, and where nothing is */
	ask(1ull << 52, 1);
	vm_run(one);
	check_eq(next, 1ull << 52);
	ask(0x3fe03000, 1);
	vm_run(one);
	check_eq(next, 0x3fe03000);
}

static volatile u64 faults, fault_at;

static void fault(struct frame *f)
{
	u64 cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	faults = f->vector;
	fault_at = f->vector == 14 ? cr2 : f->rbx;
	/* VMFUNC is three bytes long */
	f->rip += 3;
}

/* the bitmap is read like any data, and before anything is done */
TEST(bitmap_faults)
{
	vm_functions_on(1 << CLEAR);
	function = CLEAR;
	guest_hook = fault;
	ask(GPA(512), 5);
	argument += 8;
	vm_run(one);
	check_eq(faults, 13);
	check_eq(fault_at, GPA(512));
	*guest_pte(3) &= ~(u64)PTE_P;
	argument = GVA(3) + 64;
	vm_run(one);
	check_eq(faults, 14);
	check_eq(fault_at, GVA(3) + 64);
	argument = 1ull << 63;
	vm_run(one);
	check_eq(faults, 13);
	for (u32 i = 512; i < 520; i++)
		check_eq(armed(GPA(i)), false);
}

TEST(bitmap_not_in_ept)
{
	u64 *entry = ept_leaf(GPA(3)), good = *entry;

	vm_functions_on(1 << CLEAR);
	function = CLEAR;
	ask(GPA(512), 5);
	argument = GVA(3);
	*entry = 0;
	check_eq(vm_start(one), EXIT_EPT_VIOLATION);
	/* a read, of data */
	check_eq(qualification & 7, 1);
	for (u32 i = 512; i < 520; i++)
		check_eq(armed(GPA(i)), false);
	*entry = good;
	memset(test_mem[3], 1, 64);
	vm_finish();
	check_eq(next, GPA(1024));
	for (u32 i = 512; i < PAGES; i++)
		check_eq(armed(GPA(i)), i % 8 == 0);
}

static void check_refused(void (*start)(void), u32 fn, bool user)
{
	function = fn;
	check_eq(user ? vm_start_user(start) : vm_start(start), EXIT_VMFUNC);
	/* the exit is before the function */
	check_eq(regs.rbx, from);
	for (u32 i = 0; i < PAGES; i++)
		check_eq(armed(GPA(i)), false);
}

TEST(bad_arguments)
{
	vm_functions_on(1 << CLEAR);
	ask(GPA(0), N);
	from = GPA(0) + 8;
	check_refused(one, CLEAR, false);
	from = GPA(0) + 2048;
	check_refused(one, CLEAR, false);
	/* before the bitmap is looked at */
	argument = 8;
	check_refused(one, CLEAR, false);
}

TEST(vmfunc_in_user_mode)
{
	vm_functions_on(1 << CLEAR | 1 << INVALIDATE);
	ask(GPA(0), 1);
	check_refused(one, CLEAR, true);
	check_refused(one, INVALIDATE, true);
}

TEST(vmfunc_not_enabled)
{
	vm_functions_on(1 << CLEAR);
	ask(GPA(0), 1);
	check_refused(one, INVALIDATE, false);
	vm_functions_on(1 << INVALIDATE);
	check_refused(one, CLEAR, false);
}

TEST(vmfunc_needs_ad_flags)
{
	for (u32 fn = CLEAR; fn <= INVALIDATE; fn++) {
		vm_functions_on(1 << fn);
		vmwrite(VMCS_TERTIARY, 0);
		vmwrite(VMCS_EPTP, vmread(VMCS_EPTP) & ~(1ull << 6));
		check_eq(vm_entry_error(one), ERROR_CONTROLS);
		vmwrite(VMCS_EPTP, vmread(VMCS_EPTP) | 1 << 6);
	}
}

static void switch_eptp(void)
{
	vmfunc(0);
	*page(3) = 1;
}

/* function 0 must not come to an EPTP with which nothing would be recorded */
TEST(switching_eptp)
{
	static u64 list[512] __attribute__((aligned(4096)));

	vm_functions_on(1 << 0);
	list[0] = vmread(VMCS_EPTP);
	list[1] = list[0] & ~(1ull << 6);
	vmwrite(VMCS_EPTP_LIST, (u64)list);
	arm_pages(0, N);
	argument = 0;
	vm_run(switch_eptp);
	check_pages(3, 1);
	argument = 1;
	check_eq(vm_start(switch_eptp), EXIT_VMFUNC);
	vmwrite(VMCS_TERTIARY, 0);
	vm_finish();
}
