// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notification: a record after which there is no more room than the low-water
 * mark says requests a virtual interrupt. It is delivered after the instruction,
 * or as soon as RFLAGS.IF and the priority let it, and is not lost. A mark of 0
 * requests none. (Specification, 6)
 */
#include "vm.h"

#define VIRR(v) (*(u32 *)&virtual_apic[0x200 + (v) / 32 * 16] >> (v) % 32 & 1)
#define VTPR	(*(u32 *)&virtual_apic[0x80])
#define STORES	8
#define ROOM(n) shadow_write(VMCS_EPML_INDEX, (n)-1)

static volatile u32 seen[STORES];
static volatile u64 behind[STORES];

/* a store to page i, and the address behind it */
static inline u64 store(u32 i)
{
	u64 rip;

	__asm__ volatile("movq $1, (%1)\n\t"
			 "1: lea 1b(%%rip), %0"
			 : "=r"(rip)
			 : "r"(GVA(i))
			 : "memory");
	return rip;
}

static void stores_enabled(void)
{
	__asm__ volatile("sti");
	for (u32 i = 0; i < STORES; i++) {
		behind[i] = store(i);
		seen[i] = irqs;
	}
}

static void stores_disabled(void)
{
	for (u32 i = 0; i < STORES; i++) {
		behind[i] = store(i);
		seen[i] = irqs;
	}
}

static void stores_then_sti(void)
{
	stores_disabled();
	__asm__ volatile("sti; nop; nop");
}

/* room 8, mark 5: the third record leaves 5 */
TEST(notification)
{
	ROOM(8);
	vmwrite(VMCS_EPML_MARK, 5);
	arm_pages(0, STORES);
	vm_run(stores_enabled);
	for (u32 i = 0; i < STORES; i++)
		check_eq(seen[i], i < 2 ? 0 : i - 1);
	/* taken behind the instruction that wrote the record */
	check_eq(irq_rip, behind[STORES - 1]);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), 0);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0xffff);
}

TEST(notification_waits_for_if)
{
	ROOM(8);
	vmwrite(VMCS_EPML_MARK, 5);
	arm_pages(0, STORES);
	vm_run(stores_then_sti);
	for (u32 i = 0; i < STORES; i++)
		check_eq(seen[i], 0);
	/* one, however many asked for it */
	check_eq(irqs, 1);
}

/* what was requested is in VIRR and RVI when the guest is left, and after the next entry */
TEST(notification_survives_an_exit)
{
	ROOM(8);
	vmwrite(VMCS_EPML_MARK, 5);
	arm_pages(0, STORES);
	vm_run(stores_disabled);
	check_eq(irqs, 0);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), IRQ_VECTOR);
	check_eq(VIRR(IRQ_VECTOR), 1);
	ROOM(8);
	vm_run(stores_enabled);
	check_eq(irqs, 1);
	check_eq(seen[0], 1);
	check_eq(VIRR(IRQ_VECTOR), 0);
}

TEST(notification_has_a_priority)
{
	ROOM(8);
	vmwrite(VMCS_EPML_MARK, 5);
	VTPR = 0x60;
	arm_pages(0, STORES);
	vm_run(stores_enabled);
	check_eq(irqs, 0);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), IRQ_VECTOR);
	/* RVI becomes the larger of the two */
	VTPR = 0xf0;
	vmwrite(VMCS_INTERRUPT_STATUS, 0x80);
	ROOM(8);
	arm_pages(0, STORES);
	vm_run(stores_enabled);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), 0x80);
	check_eq(VIRR(IRQ_VECTOR), 1);
}

TEST(mark_0_is_none)
{
	ROOM(STORES);
	arm_pages(0, STORES);
	vm_run(stores_enabled);
	check_eq(irqs, 0);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0xffff);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), 0);
	check_eq(VIRR(IRQ_VECTOR), 0);
}

TEST(mark_above_the_room)
{
	vmwrite(VMCS_EPML_MARK, 254);
	arm_pages(0, STORES);
	vm_run(stores_enabled);
	/* after the first record there is room for 255 */
	for (u32 i = 0; i < STORES; i++)
		check_eq(seen[i], i);
}

/* the last record asks; without room there is no record, and so no request */
TEST(mark_1)
{
	ROOM(STORES - 1);
	vmwrite(VMCS_EPML_MARK, 1);
	arm_pages(0, STORES);
	check_eq(vm_start(stores_enabled), EXIT_LOG_FULL);
	check_eq(irqs, 2);
	check_eq(seen[STORES - 4], 0);
	check_eq(seen[STORES - 3], 1);
	check_eq(seen[STORES - 2], 2);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), 0);
}
