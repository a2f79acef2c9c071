// SPDX-License-Identifier: GPL-2.0-only
/* guest: what runs in the virtual machine besides the tests' own functions */
#include "vm.h"

#define X2APIC_EOI 0x80b

bool in_guest;
volatile u32 irqs;
volatile u64 irq_rip;
void (*guest_hook)(struct frame *f);

static void call(u64 number, u64 a, u64 b, u64 c)
{
	__asm__ volatile("vmcall" : : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
}

void guest_stop(void)
{
	call(CALL_STOP, 0, 0, 0);
}

void guest_trap(struct frame *f)
{
	if (f->vector == IRQ_VECTOR) {
		irqs++;
		irq_rip = f->rip;
		wrmsr(X2APIC_EOI, 0);
	} else if (guest_hook) {
		guest_hook(f);
	} else {
		u64 cr2;

		__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
		call(CALL_TRAP, f->vector, f->rip, cr2);
	}
}
