// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot of the emulator in the midst of a guest: what the processor holds
 * between VM entry and VM exit (address, vector, mark) is in it, and the index is
 * in memory as always. The machine that saved goes on, and so does each that is
 * started from the snapshot: test_vmx.py runs both.
 */
#include "../../testbed/agent/simcall.h"
#include "vm.h"

static volatile int64_t saved;
static volatile u32 before, after;

static void save(void)
{
	__asm__ volatile("sti");
	*page(1) = 1;
	before = irqs;
	saved = simcall_save();
	*page(2) = 2;
	*page(3) = 3;
	after = irqs;
}

TEST(snapshot)
{
	vmwrite(VMCS_EPML_MARK, 254);
	arm_pages(0, 8);
	vm_run(save);
	if (saved)
		error("the emulator takes no snapshot: %lx", (u64)saved);
	check_pages(1, 3);
	check_eq(before, 0);
	check_eq(after, 2);
	/* the log is still where it was */
	check_eq(shadow_read(VMCS_EPML_INDEX), 252);
}
