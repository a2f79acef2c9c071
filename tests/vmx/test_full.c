// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log is full: a VM exit before the access, like a fault. Memory, flags, logs
 * and both indices are as they were; when there is room, the instruction is
 * executed again and makes its record. While an event is delivered, the exit has
 * the event. (Specification, 7)
 */
#include "vm.h"

static volatile u32 hooked;

static void write_page_3(void)
{
	*page(3) = 0x77;
}

static void check_full(void)
{
	check_eq(vmread(VMCS_EXIT_REASON), EXIT_LOG_FULL);
	check_eq(qualification, FULL_EPML);
}

TEST(full)
{
	u64 rip;

	shadow_write(VMCS_EPML_INDEX, 0xffff);
	arm_pages(0, 8);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	check_full();
	check_eq(armed(GPA(3)), true);
	check_eq(test_mem[3][0], 0);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0xffff);
	check_eq(vmread(VMCS_VECTORING_INFO) >> 31, 0);
	for (u32 i = 0; i < RECORDS; i++)
		check_eq(epml_log[i].gva, 0xeeeeeeeeeeeeeeee);
	rip = vmread(VMCS_GUEST_RIP);
	check(rip >= (u64)write_page_3 && rip < (u64)write_page_3 + 32, "RIP %lx", rip);
	/* no room yet: the same again */
	check_eq(vm_resume(), EXIT_LOG_FULL);
	check_full();
	check_eq(vmread(VMCS_GUEST_RIP), rip);
	/* the page is not armed any more: there is nothing to record */
	*ept_leaf(GPA(3)) |= EPT_D;
	vm_finish();
	check_eq(test_mem[3][0], 0x77);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0xffff);
}

TEST(full_and_resumed)
{
	shadow_write(VMCS_EPML_INDEX, 0xffff);
	arm_pages(0, 8);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	check_pages(3, 1);
	check_eq(test_mem[3][0], 0x77);
}

static void read_page_3(void)
{
	(void)*page(3);
}

/* an accessed flag is no reason to look at the log */
TEST(accessed_flags_do_not_count)
{
	shadow_write(VMCS_EPML_INDEX, 0xffff);
	arm_pages(0, 8);
	*ept_leaf(GPA(3)) &= ~(u64)EPT_A;
	vm_run(read_page_3);
	check_eq(*ept_leaf(GPA(3)) & (EPT_A | EPT_D), EPT_A);
}

static void across(void)
{
	*(volatile u64 *)(GVA(10) + PAGE - 4) = 0x1122334455667788;
}

/* full at the second of two pages: the first record stays, and is not made again */
TEST(full_between_two_pages)
{
	shadow_write(VMCS_EPML_INDEX, 0);
	arm_pages(0, 16);
	check_eq(vm_start(across), EXIT_LOG_FULL);
	check_full();
	check_eq(epml_log[0].gva, GVA(10));
	check_eq(armed(GPA(10)), false);
	check_eq(armed(GPA(11)), true);
	check_eq(*(u32 *)&test_mem[10][PAGE - 4], 0);
	check_eq(*(u32 *)&test_mem[11][0], 0);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	check_pages(11, 1);
	check_eq(*(u32 *)&test_mem[10][PAGE - 4], 0x55667788);
	check_eq(*(u32 *)&test_mem[11][0], 0x11223344);
}

/* in the midst of a string instruction: it goes on where it was */
static void move(void)
{
	u64 from = GVA(100), to = GVA(200), n = 6 * PAGE;

	__asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
}

TEST(full_in_rep_movs)
{
	memset(test_mem[100], 0x3c, 6 * PAGE);
	shadow_write(VMCS_EPML_INDEX, 1);
	arm_pages(200, 6);
	check_eq(vm_start(move), EXIT_LOG_FULL);
	check_full();
	check_eq(regs.rcx, 4 * PAGE);
	check_eq(regs.rdi, GVA(202));
	check_eq(epml_log[1].gva, GVA(200));
	check_eq(epml_log[0].gva, GVA(201));
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	check_pages(202, 4);
	check(!memcmp(test_mem[200], test_mem[100], 6 * PAGE), "copy");
}

static void hook(struct frame *f)
{
	hooked++;
	f->rip += 2;
}

static void undefined(void)
{
	u64 old;

	__asm__ volatile("mov %%rsp, %0\n\t"
			 "mov %1, %%rsp\n\t"
			 "ud2\n\t"
			 "mov %0, %%rsp"
			 : "=&r"(old)
			 : "r"(GVA(21))
			 : "memory");
}

/* the frame of a #UD goes to an armed page: the exit says what was being delivered */
TEST(full_while_an_exception_is_delivered)
{
	hooked = 0;
	guest_hook = hook;
	shadow_write(VMCS_EPML_INDEX, 0xffff);
	arm_pages(16, 8);
	check_eq(vm_start(undefined), EXIT_LOG_FULL);
	check_full();
	check_eq(vmread(VMCS_VECTORING_INFO), 1u << 31 | 3 << 8 | 6);
	check_eq(vmread(VMCS_GUEST_RSP), GVA(21));
	check_eq(hooked, 0);
	check_eq(armed(GPA(20)), true);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vmwrite(VMCS_ENTRY_EVENT, vmread(VMCS_VECTORING_INFO));
	vm_finish();
	check_eq(hooked, 1);
	check_pages(20, 1);
}

/* the notification interrupt itself may find the log full */
static void enable(void)
{
	u64 old;

	__asm__ volatile("mov %%rsp, %0\n\t"
			 "mov %1, %%rsp\n\t"
			 "sti\n\t"
			 "nop\n\t"
			 "nop\n\t"
			 "cli\n\t"
			 "mov %0, %%rsp"
			 : "=&r"(old)
			 : "r"(GVA(21))
			 : "memory");
}

TEST(full_while_an_interrupt_is_delivered)
{
	shadow_write(VMCS_EPML_INDEX, 0xffff);
	vmwrite(VMCS_INTERRUPT_STATUS, IRQ_VECTOR);
	arm_pages(16, 8);
	check_eq(vm_start(enable), EXIT_LOG_FULL);
	check_full();
	check_eq(vmread(VMCS_VECTORING_INFO), 1u << 31 | IRQ_VECTOR);
	check_eq(irqs, 0);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vmwrite(VMCS_ENTRY_EVENT, vmread(VMCS_VECTORING_INFO));
	vm_finish();
	check_eq(irqs, 1);
	check_pages(20, 1);
}
