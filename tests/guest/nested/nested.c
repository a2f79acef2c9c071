// SPDX-License-Identifier: GPL-2.0-only
/*
 * The smallest hypervisor: a guest of the guest (L2) which shares the kernel's
 * page tables, adds one to the first byte of each of a few pages, and ends with
 * VMCALL. Module parameters, in /sys/module/nested/parameters:
 *
 *	frame	the first of the pages, which lie in a row
 *	run	writing N has L2 write to the first N pages; an error if it did not end
 *		the way it should
 *	sum	of the first bytes, as the kernel reads them
 *
 * VMX operation begins with insmod and ends with rmmod. For a guest of one vCPU.
 */
#include <linux/module.h>
#include <linux/mm.h>
#include <asm/desc.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>

#define PAGES 16

static unsigned long buffer, vmxon_page, vmcs_page;

static ulong frame;
module_param(frame, ulong, 0444);

static bool vmxon(u64 pa)
{
	u8 bad;

	asm volatile("vmxon %1; setna %0" : "=qm"(bad) : "m"(pa) : "cc", "memory");
	return !bad;
}

static bool vmclear(u64 pa)
{
	u8 bad;

	asm volatile("vmclear %1; setna %0" : "=qm"(bad) : "m"(pa) : "cc", "memory");
	return !bad;
}

static bool vmptrld(u64 pa)
{
	u8 bad;

	asm volatile("vmptrld %1; setna %0" : "=qm"(bad) : "m"(pa) : "cc", "memory");
	return !bad;
}

static void put(unsigned long field, unsigned long value)
{
	u8 bad;

	asm volatile("vmwrite %1, %2; setna %0" : "=qm"(bad) : "rm"(value), "r"(field) : "cc");
	if (bad)
		pr_err("nested: field %lx\n", field);
}

static unsigned long get(unsigned long field)
{
	unsigned long value;

	asm volatile("vmread %1, %0" : "=rm"(value) : "r"(field) : "cc");
	return value;
}

static unsigned long msr(unsigned int nr)
{
	u64 value;

	rdmsrl(nr, value);
	return value;
}

/* wanted, with what has to be set and without what may not be */
static u32 control(u32 wanted, unsigned int cap)
{
	return (wanted | (u32)msr(cap)) & (msr(cap) >> 32);
}

static unsigned long tr_base(unsigned long gdt, u16 tr)
{
	const struct ldttss_desc *d = (void *)(gdt + (tr & ~7));

	return d->base0 | d->base1 << 16 | (unsigned long)d->base2 << 24 |
	       (unsigned long)d->base3 << 32;
}

/* both L1 after the exit and L2 are what the kernel is right now */
static void fill(const struct desc_ptr *gdt, const struct desc_ptr *idt)
{
	unsigned long cr0 = read_cr0(), cr3 = __read_cr3(), cr4 = native_read_cr4();
	u16 tr;

	asm("str %0" : "=r"(tr));
	put(PIN_BASED_VM_EXEC_CONTROL, control(0, MSR_IA32_VMX_PINBASED_CTLS));
	put(CPU_BASED_VM_EXEC_CONTROL, control(0, MSR_IA32_VMX_PROCBASED_CTLS));
	put(VM_EXIT_CONTROLS, control(VM_EXIT_HOST_ADDR_SPACE_SIZE, MSR_IA32_VMX_EXIT_CTLS));
	put(VM_ENTRY_CONTROLS, control(VM_ENTRY_IA32E_MODE, MSR_IA32_VMX_ENTRY_CTLS));
	put(SECONDARY_VM_EXEC_CONTROL, 0);
	put(EXCEPTION_BITMAP, 0);
	put(CR3_TARGET_COUNT, 0);
	put(VM_EXIT_MSR_STORE_COUNT, 0);
	put(VM_EXIT_MSR_LOAD_COUNT, 0);
	put(VM_ENTRY_MSR_LOAD_COUNT, 0);
	put(VM_ENTRY_INTR_INFO_FIELD, 0);
	put(CR0_GUEST_HOST_MASK, 0);
	put(CR4_GUEST_HOST_MASK, 0);
	put(CR0_READ_SHADOW, cr0);
	put(CR4_READ_SHADOW, cr4);
	put(VMCS_LINK_POINTER, ~0UL);

	put(HOST_CR0, cr0);
	put(HOST_CR3, cr3);
	put(HOST_CR4, cr4);
	put(HOST_CS_SELECTOR, __KERNEL_CS);
	put(HOST_SS_SELECTOR, __KERNEL_DS);
	put(HOST_DS_SELECTOR, 0);
	put(HOST_ES_SELECTOR, 0);
	put(HOST_FS_SELECTOR, 0);
	put(HOST_GS_SELECTOR, 0);
	put(HOST_TR_SELECTOR, tr);
	put(HOST_FS_BASE, msr(MSR_FS_BASE));
	put(HOST_GS_BASE, msr(MSR_GS_BASE));
	put(HOST_TR_BASE, tr_base(gdt->address, tr));
	put(HOST_GDTR_BASE, gdt->address);
	put(HOST_IDTR_BASE, idt->address);
	put(HOST_IA32_SYSENTER_CS, msr(MSR_IA32_SYSENTER_CS));
	put(HOST_IA32_SYSENTER_ESP, msr(MSR_IA32_SYSENTER_ESP));
	put(HOST_IA32_SYSENTER_EIP, msr(MSR_IA32_SYSENTER_EIP));

	put(GUEST_CR0, cr0);
	put(GUEST_CR3, cr3);
	put(GUEST_CR4, cr4);
	put(GUEST_DR7, 0x400);
	put(GUEST_RFLAGS, X86_EFLAGS_FIXED);
	put(GUEST_CS_SELECTOR, __KERNEL_CS);
	put(GUEST_CS_LIMIT, 0xffffffff);
	put(GUEST_CS_AR_BYTES, 0xa09b);
	put(GUEST_SS_SELECTOR, __KERNEL_DS);
	put(GUEST_SS_LIMIT, 0xffffffff);
	put(GUEST_SS_AR_BYTES, 0xc093);
	put(GUEST_DS_AR_BYTES, 0x10000);
	put(GUEST_ES_AR_BYTES, 0x10000);
	put(GUEST_FS_AR_BYTES, 0x10000);
	put(GUEST_GS_AR_BYTES, 0x10000);
	put(GUEST_LDTR_AR_BYTES, 0x10000);
	put(GUEST_FS_BASE, msr(MSR_FS_BASE));
	put(GUEST_GS_BASE, msr(MSR_GS_BASE));
	put(GUEST_TR_SELECTOR, tr);
	put(GUEST_TR_BASE, tr_base(gdt->address, tr));
	put(GUEST_TR_LIMIT, 0x67);
	put(GUEST_TR_AR_BYTES, 0x8b);
	put(GUEST_GDTR_BASE, gdt->address);
	put(GUEST_GDTR_LIMIT, gdt->size);
	put(GUEST_IDTR_BASE, idt->address);
	put(GUEST_IDTR_LIMIT, idt->size);
	put(GUEST_SYSENTER_CS, msr(MSR_IA32_SYSENTER_CS));
	put(GUEST_SYSENTER_ESP, msr(MSR_IA32_SYSENTER_ESP));
	put(GUEST_SYSENTER_EIP, msr(MSR_IA32_SYSENTER_EIP));
	put(GUEST_INTERRUPTIBILITY_INFO, 0);
	put(GUEST_ACTIVITY_STATE, 0);
	put(GUEST_PENDING_DBG_EXCEPTIONS, 0);
}

/* The exit reason, or -1: there was no entry. */
static int launch(unsigned long pages)
{
	unsigned long entered = 0, p = buffer;

	asm volatile("push %%rbp\n\t"
		     "vmwrite %%rsp, %[rsp]\n\t"
		     "lea 1f(%%rip), %%rax\n\t"
		     "vmwrite %%rax, %[rip]\n\t"
		     "lea 3f(%%rip), %%rax\n\t"
		     "vmwrite %%rax, %[l2rip]\n\t"
		     /* never; for objtool, which sees no other way to L2 */
		     "test %%rax, %%rax\n\t"
		     "jz 3f\n\t"
		     "vmlaunch\n\t"
		     "jmp 2f\n"
		     /* L2; it has no stack, and needs none */
		     "3:\tincb (%[p])\n\t"
		     "add $4096, %[p]\n\t"
		     "dec %[n]\n\t"
		     "jnz 3b\n\t"
		     "vmcall\n"
		     "1:\tmov $1, %[entered]\n"
		     "2:\tpop %%rbp\n\t"
		     : [entered] "+&r"(entered), [p] "+&r"(p), [n] "+&r"(pages)
		     : [rsp] "r"((unsigned long)HOST_RSP), [rip] "r"((unsigned long)HOST_RIP),
		       [l2rip] "r"((unsigned long)GUEST_RIP)
		     : "rax", "cc", "memory");
	return entered ? (int)(get(VM_EXIT_REASON) & 0xffff) : -1;
}

static int run(const char *text, const struct kernel_param *kp)
{
	unsigned long flags, pages;
	struct desc_ptr gdt, idt;
	int reason, error = -1;

	if (kstrtoul(text, 0, &pages) || !pages || pages > PAGES)
		return -EINVAL;
	local_irq_save(flags);
	asm volatile("sgdt %0" : "=m"(gdt));
	asm volatile("sidt %0" : "=m"(idt));
	if (!vmclear(__pa(vmcs_page)) || !vmptrld(__pa(vmcs_page))) {
		local_irq_restore(flags);
		return -ENXIO;
	}
	fill(&gdt, &idt);
	put(GUEST_RSP, vmcs_page);
	reason = launch(pages);
	/* an exit leaves their limits at 64 KiB */
	asm volatile("lgdt %0" : : "m"(gdt));
	asm volatile("lidt %0" : : "m"(idt));
	if (reason < 0)
		error = get(VM_INSTRUCTION_ERROR);
	local_irq_restore(flags);
	if (reason != EXIT_REASON_VMCALL) {
		pr_err("nested: exit reason %d, error %d\n", reason, error);
		return -EIO;
	}
	return 0;
}

static int sum(char *text, const struct kernel_param *kp)
{
	unsigned int n = 0;

	for (int i = 0; i < PAGES; i++)
		n += *(u8 *)(buffer + i * PAGE_SIZE);
	return sysfs_emit(text, "%u\n", n);
}

static const struct kernel_param_ops run_ops = { .set = run };
static const struct kernel_param_ops sum_ops = { .get = sum };
module_param_cb(run, &run_ops, NULL, 0200);
module_param_cb(sum, &sum_ops, NULL, 0444);

static void let_go(void)
{
	free_pages(buffer, get_order(PAGES * PAGE_SIZE));
	free_page(vmxon_page);
	free_page(vmcs_page);
}

static int __init nested_init(void)
{
	u32 revision;

	if (!boot_cpu_has(X86_FEATURE_VMX))
		return -ENODEV;
	buffer = __get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(PAGES * PAGE_SIZE));
	vmxon_page = get_zeroed_page(GFP_KERNEL);
	vmcs_page = get_zeroed_page(GFP_KERNEL);
	if (!buffer || !vmxon_page || !vmcs_page) {
		let_go();
		return -ENOMEM;
	}
	revision = msr(MSR_IA32_VMX_BASIC) & 0x7fffffff;
	*(u32 *)vmxon_page = revision;
	*(u32 *)vmcs_page = revision;
	frame = __pa(buffer) >> PAGE_SHIFT;
	cr4_set_bits(X86_CR4_VMXE);
	if (!vmxon(__pa(vmxon_page))) {
		cr4_clear_bits(X86_CR4_VMXE);
		let_go();
		return -EIO;
	}
	return 0;
}

static void __exit nested_exit(void)
{
	asm volatile("vmxoff" : : : "cc");
	cr4_clear_bits(X86_CR4_VMXE);
	let_go();
}

module_init(nested_init);
module_exit(nested_exit);
MODULE_DESCRIPTION("A guest of the guest that writes to memory, for tests");
MODULE_LICENSE("GPL");
