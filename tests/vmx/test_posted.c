// SPDX-License-Identifier: GPL-2.0-only
/*
 * Posted interrupts, which test_costs.c measures: what is posted is taken by the guest without an
 * exit, and a notification that finds nothing posted is no interrupt. (SDM volume 3,
 * posted-interrupt processing)
 */
#include "vm.h"

static void post_one(void)
{
	__asm__ volatile("sti");
	posted.requests[IRQ_VECTOR / 32] = 1u << IRQ_VECTOR % 32;
	notify_posted();
	__asm__ volatile("nop");
}

TEST(posted)
{
	vm_post_interrupts();
	vm_run(post_one);
	check_eq(irqs, 1);
	check_eq(posted.control, 0);
	check_eq(posted.requests[IRQ_VECTOR / 32], 0);
}

static void post_nothing(void)
{
	__asm__ volatile("sti");
	notify_posted();
	__asm__ volatile("nop");
}

TEST(nothing_posted)
{
	vm_post_interrupts();
	vm_run(post_nothing);
	check_eq(irqs, 0);
	check_eq(posted.control, 0);
	check_eq(vmread(VMCS_INTERRUPT_STATUS), 0);
}
