// SPDX-License-Identifier: GPL-2.0-only
/* vm: VMX operation, the VMCS, both kinds of page tables */
#include "vm.h"

#define ALIGNED __attribute__((aligned(4096)))

/* guest code that does not come back ends here: instructions */
#define WATCHDOG 20000000

extern char vmx_exit[];
int vmx_enter(struct regs *r, int resume);

bool has_epml;
u8 test_mem[PAGES][PAGE] ALIGNED, super_mem[512][PAGE] __attribute__((aligned(0x200000)));
u64 guest_pt[PT_NR][512] ALIGNED, pml_log[512] ALIGNED;
u64 ept_pdpt[512] ALIGNED, ept_pd[512] ALIGNED;
struct record epml_log[RECORDS] ALIGNED;
u8 virtual_apic[PAGE] ALIGNED, vmread_bitmap[PAGE] ALIGNED, vmwrite_bitmap[PAGE] ALIGNED;
u8 vmcs[PAGE] ALIGNED, shadow_vmcs[PAGE] ALIGNED;
u8 guest_stack[16384] ALIGNED;
struct tss guest_tss;
volatile struct posted_descriptor posted;
struct regs regs;
u64 qualification;

static u8 vmxon_region[PAGE] ALIGNED, msr_bitmap[PAGE] ALIGNED;
static u64 ept_pml4[512] ALIGNED, ept_pt[3][512] ALIGNED;
static bool launched;

static int vmptrld(void *region)
{
	u64 pa = (u64)region;
	bool failed;

	__asm__ volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	return failed;
}

static void vmclear(void *region)
{
	u64 pa = (u64)region;
	bool failed;

	__asm__ volatile("vmclear %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	need(!failed);
}

int vmx_read(u32 field, u64 *value)
{
	bool invalid, valid;

	__asm__ volatile("vmread %3, %2"
			 : "=@ccc"(invalid), "=@ccz"(valid), "=r"(*value)
			 : "r"((u64)field));
	return invalid ? -1 : valid ? (int)vmread(VMCS_ERROR) : 0;
}

int vmx_write(u32 field, u64 value)
{
	bool invalid, valid;

	__asm__ volatile("vmwrite %3, %2"
			 : "=@ccc"(invalid), "=@ccz"(valid)
			 : "r"((u64)field), "r"(value));
	return invalid ? -1 : valid ? (int)vmread(VMCS_ERROR) : 0;
}

u64 vmread(u32 field)
{
	u64 value;
	int err = vmx_read(field, &value);

	if (err)
		error("VMREAD of %x fails with %x", field, (u32)err);
	return value;
}

void vmwrite(u32 field, u64 value)
{
	int err = vmx_write(field, value);

	if (err)
		error("VMWRITE of %x fails with %x", field, (u32)err);
}

u64 shadow_read(u32 field)
{
	u64 value;

	need(!vmptrld(shadow_vmcs));
	value = vmread(field);
	vmclear(shadow_vmcs);
	need(!vmptrld(vmcs));
	return value;
}

void shadow_write(u32 field, u64 value)
{
	need(!vmptrld(shadow_vmcs));
	vmwrite(field, value);
	vmclear(shadow_vmcs);
	need(!vmptrld(vmcs));
}

bool vmx_on(void)
{
	u32 a = 1, b, c, d;
	u64 pa = (u64)vmxon_region;
	bool failed;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	if (!(c & 1 << 5)) {
		print("this processor has no VMX\n");
		return false;
	}
	if (!(rdmsr(MSR_FEATURE_CONTROL) & 1))
		wrmsr(MSR_FEATURE_CONTROL, 5);
	*(u32 *)vmxon_region = rdmsr(MSR_VMX_BASIC);
	__asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(pa) : "memory");
	if (failed)
		print("VMXON fails\n");
	has_epml = rdmsr(0x482) >> (32 + 17) & 1 && rdmsr(MSR_VMX_PROCBASED3) & TERTIARY_EPML;
	return !failed;
}

static void controls(u32 field, u32 msr, u32 wanted)
{
	u64 allowed = rdmsr(msr);

	wanted |= (u32)allowed;
	if (wanted & ~(u32)(allowed >> 32))
		error("VMCS field %x: no %x in this processor", field,
		      wanted & ~(u32)(allowed >> 32));
	vmwrite(field, wanted);
}

static void reset_ept(void)
{
	const u64 table = 7 | EPT_A, leaf = 0x37 | EPT_A | EPT_D;

	memset(ept_pdpt, 0, sizeof(ept_pdpt));
	memset(ept_pd, 0, sizeof(ept_pd));
	memset(ept_pt, 0, sizeof(ept_pt));
	ept_pml4[0] = (u64)ept_pdpt | table;
	ept_pdpt[0] = (u64)ept_pd | table;
	ept_pdpt[GIGA_GPA >> 30] = leaf | 0x80;
	for (u32 i = 0; i < 16; i++)
		ept_pd[i] = i << 21 | leaf | 0x80;
	ept_pd[GPA(0) >> 21 & 511] = (u64)ept_pt[0] | table;
	ept_pd[GPA(512) >> 21 & 511] = (u64)ept_pt[1] | table;
	ept_pd[PT_GPA >> 21 & 511] = (u64)ept_pt[2] | table;
	ept_pd[SUPER_GPA >> 21 & 511] = (u64)super_mem | leaf | 0x80;
	for (u32 i = 0; i < PAGES; i++)
		ept_pt[i / 512][i % 512] = (u64)test_mem[i] | leaf;
	for (u32 i = 0; i < PT_NR; i++)
		ept_pt[2][i] = (u64)guest_pt[i] | leaf;
}

static void reset_guest_tables(void)
{
	const u64 flags = PTE_P | PTE_W | PTE_U | PTE_A, leaf = flags | PTE_D;

	memset(guest_pt, 0, sizeof(guest_pt));
	guest_pt[PT_PML4][0] = (PT_GPA + PT_PDPT * PAGE) | flags;
	guest_pt[PT_PDPT][0] = (PT_GPA + PT_PD_LOW * PAGE) | flags;
	for (u64 i = 0; i < 16; i++)
		guest_pt[PT_PD_LOW][i] = i << 21 | leaf | 0x80;
	guest_pt[PT_PDPT][GVA(0) >> 30 & 511] = (PT_GPA + PT_PD * PAGE) | flags;
	guest_pt[PT_PD][GVA(0) >> 21 & 511] = (PT_GPA + PT_0 * PAGE) | flags;
	guest_pt[PT_PD][GVA(512) >> 21 & 511] = (PT_GPA + PT_1 * PAGE) | flags;
	guest_pt[PT_PD][SUPER_GVA >> 21 & 511] = SUPER_GPA | leaf | 0x80;
	for (u32 i = 0; i < PAGES; i++)
		guest_pt[PT_0 + i / 512][i % 512] = GPA(i) | leaf;
}

static void reset_vmcs(void)
{
	u32 revision = rdmsr(MSR_VMX_BASIC);

	memset(vmcs, 0, PAGE);
	memset(shadow_vmcs, 0, PAGE);
	*(u32 *)vmcs = revision;
	*(u32 *)shadow_vmcs = revision | 1u << 31;
	vmclear(shadow_vmcs);
	vmclear(vmcs);
	need(!vmptrld(vmcs));
	launched = false;

	/* exits: external interrupts, NMI, watchdog; HLT */
	controls(VMCS_PINBASED, MSR_VMX_PINBASED, 1 | 1 << 3 | 1 << 6);
	controls(VMCS_PROCBASED, MSR_VMX_PROCBASED,
		 1 << 7 | (has_epml ? 1 << 17 : 0) | 1 << 21 | 1 << 28 | 1u << 31);
	controls(VMCS_SECONDARY, MSR_VMX_PROCBASED2,
		 SECONDARY_EPT | SECONDARY_X2APIC | SECONDARY_VINTR | SECONDARY_SHADOW);
	controls(VMCS_EXIT_CONTROLS, MSR_VMX_EXIT, 1 << 9);
	controls(VMCS_ENTRY_CONTROLS, MSR_VMX_ENTRY, 1 << 9);
	vmwrite(VMCS_TIMER, WATCHDOG);
	vmwrite(VMCS_EXCEPTIONS, 0);
	vmwrite(VMCS_MSR_BITMAP, (u64)msr_bitmap);
	vmwrite(VMCS_VIRTUAL_APIC, (u64)virtual_apic);
	vmwrite(VMCS_VMREAD_BITMAP, (u64)vmread_bitmap);
	vmwrite(VMCS_VMWRITE_BITMAP, (u64)vmwrite_bitmap);
	/* write-back, 4 levels, accessed and dirty flags */
	vmwrite(VMCS_EPTP, (u64)ept_pml4 | 6 | 3 << 3 | 1 << 6);
	vmwrite(VMCS_LINK, (u64)shadow_vmcs);
	vmwrite(VMCS_PML_ADDRESS, (u64)pml_log);
	vmwrite(VMCS_PML_INDEX, 511);

	vmwrite(VMCS_HOST_CR0, read_cr0());
	vmwrite(VMCS_HOST_CR3, read_cr3());
	vmwrite(VMCS_HOST_CR4, read_cr4());
	for (u32 i = VMCS_HOST_ES; i < VMCS_HOST_TR; i += 2)
		vmwrite(i, i == VMCS_HOST_CS ? SEL_CODE : SEL_DATA);
	vmwrite(VMCS_HOST_TR, SEL_TSS);
	vmwrite(VMCS_HOST_TR_BASE, 0); /* not used: traps do not change the stack */
	vmwrite(VMCS_HOST_GDTR_BASE, (u64)gdt);
	vmwrite(VMCS_HOST_IDTR_BASE, (u64)idt);
	vmwrite(VMCS_HOST_RIP, (u64)vmx_exit);

	for (u32 i = 0; i < 8; i++) { /* ES, CS, SS, DS, FS, GS, LDTR, TR */
		vmwrite(VMCS_GUEST_ES_LIMIT + 2 * i, 0xffffffff);
		vmwrite(VMCS_GUEST_ES_AR + 2 * i, 0x10000);
	}
	vmwrite(VMCS_GUEST_ES_LIMIT + 14, sizeof(guest_tss) - 1);
	vmwrite(VMCS_GUEST_ES_LIMIT + 16, 0x3f); /* GDTR */
	vmwrite(VMCS_GUEST_ES_LIMIT + 18, sizeof(idt) - 1);
	vmwrite(VMCS_GUEST_TR, SEL_TSS);
	vmwrite(VMCS_GUEST_TR_AR, 0x8b);
	vmwrite(VMCS_GUEST_TR_BASE, (u64)&guest_tss);
	vmwrite(VMCS_GUEST_GDTR_BASE, (u64)gdt);
	vmwrite(VMCS_GUEST_IDTR_BASE, (u64)idt);
	vmwrite(VMCS_GUEST_DR7, 0x400);
	vmwrite(VMCS_GUEST_CR0, read_cr0());
	vmwrite(VMCS_GUEST_CR3, PT_GPA + PT_PML4 * PAGE);
	vmwrite(VMCS_GUEST_CR4, read_cr4());
	if (!has_epml)
		return;
	vmwrite(VMCS_TERTIARY, TERTIARY_EPML);
	vmwrite(VMCS_EPML_ADDRESS, (u64)epml_log);
	vmwrite(VMCS_EPML_VECTOR, IRQ_VECTOR);
	vmwrite(VMCS_EPML_MARK, 0);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
}

void vm_reset(void)
{
	reset_ept();
	reset_guest_tables();
	memset(test_mem, 0, sizeof(test_mem));
	memset(epml_log, 0xee, sizeof(epml_log));
	memset(pml_log, 0xee, sizeof(pml_log));
	memset(virtual_apic, 0, PAGE);
	memset(vmread_bitmap, 0xff, PAGE);
	memset(vmwrite_bitmap, 0xff, PAGE);
	vmread_bitmap[VMCS_EPML_INDEX / 8] &= ~(1 << VMCS_EPML_INDEX % 8);
	vmwrite_bitmap[VMCS_EPML_INDEX / 8] &= ~(1 << VMCS_EPML_INDEX % 8);
	memset(&guest_tss, 0, sizeof(guest_tss));
	guest_tss.rsp[0] = (u64)guest_stack + sizeof(guest_stack) / 2;
	guest_tss.iomap = sizeof(guest_tss);
	memset(&regs, 0, sizeof(regs));
	irqs = 0;
	irq_rip = 0;
	guest_hook = NULL;
	reset_vmcs();
}

u64 *ept_leaf(u64 gpa)
{
	u64 *entry = &ept_pdpt[gpa >> 30 & 511];

	if (*entry & 0x80)
		return entry;
	need(gpa >> 30 == 0);
	entry = &ept_pd[gpa >> 21 & 511];
	if (*entry & 0x80)
		return entry;
	need(*entry);
	return (u64 *)(*entry & ~(PAGE - 1)) + (gpa >> 12 & 511);
}

u64 *guest_pte(u32 i)
{
	return &guest_pt[PT_0 + i / 512][i % 512];
}

void arm(u64 gpa)
{
	*ept_leaf(gpa) &= ~EPT_D;
}

bool armed(u64 gpa)
{
	return !(*ept_leaf(gpa) & EPT_D);
}

void arm_pages(u32 first, u32 n)
{
	for (u32 i = first; i < first + n; i++)
		arm(GPA(i));
}

void vm_functions_on(u64 functions)
{
	if ((rdmsr(MSR_VMX_VMFUNC) & functions) != functions)
		skip("this processor has no VM functions %lx", functions);
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) | SECONDARY_VMFUNC);
	vmwrite(VMCS_VMFUNC, functions);
}

void x2apic_on(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 3 << 10);
	wrmsr(MSR_X2APIC_SVR, 0x1ff);
}

void vm_post_interrupts(void)
{
	x2apic_on();
	vmwrite(VMCS_POSTED_VECTOR, POSTED_VECTOR);
	vmwrite(VMCS_POSTED_DESCRIPTOR, (u64)&posted);
	vmwrite(VMCS_PINBASED, vmread(VMCS_PINBASED) | 1 << 7);
	/* acknowledge interrupts on exits */
	vmwrite(VMCS_EXIT_CONTROLS, vmread(VMCS_EXIT_CONTROLS) | 1 << 15);
}

u32 records(void)
{
	return (u16)(RECORDS - 1 - shadow_read(VMCS_EPML_INDEX));
}

const struct record *record(u32 n)
{
	return &epml_log[RECORDS - 1 - n];
}

void check_record(u32 n, u64 gva, u64 gpa, u32 flags)
{
	const struct record *r = record(n);

	if (n >= records())
		end(FAILURE, "record %u is missing: there are %u", n, records());
	if (r->gva != (gva | flags) || r->gpa != gpa)
		end(FAILURE, "record %u is %lx %lx, expected %lx %lx", n, r->gva, r->gpa,
		    gva | flags, gpa);
}

void check_pages(u32 first, u32 n)
{
	check_eq(records(), n);
	for (u32 i = 0; i < n; i++) {
		check_record(i, GVA(first + i), GPA(first + i), 0);
		check_eq(armed(GPA(first + i)), false);
	}
}

static void invept(void)
{
	struct {
		u64 eptp, reserved;
	} desc = { vmread(VMCS_EPTP), 0 };
	bool failed;

	__asm__ volatile("invept %1, %2" : "=@ccbe"(failed) : "m"(desc), "r"(1ull) : "memory");
	need(!failed);
}

/* true: the guest was entered and left */
static bool enter(void)
{
	int failed;

	invept();
	in_guest = true;
	failed = vmx_enter(&regs, launched);
	in_guest = false;
	if (failed)
		return false;
	launched = true;
	qualification = vmread(VMCS_QUALIFICATION);
	return true;
}

u32 vm_resume(void)
{
	u32 reason;

	if (!enter())
		error("VM entry fails with %u", (u32)vmread(VMCS_ERROR));
	reason = vmread(VMCS_EXIT_REASON);
	if (reason >> 31)
		error("VM entry fails with exit reason %x", reason);
	if (reason == EXIT_VMCALL) {
		if (regs.rax == CALL_TRAP)
			error("guest exception %u at %lx, CR2 %lx", (u32)regs.rbx, regs.rcx,
			      regs.rdx);
		/* the next entry goes on behind it */
		vmwrite(VMCS_GUEST_RIP, vmread(VMCS_GUEST_RIP) + vmread(VMCS_EXIT_LENGTH));
	}
	if (reason == EXIT_TIMER)
		error("the guest does not end");
	return reason;
}

static void prepare(void (*fn)(void), bool user)
{
	u64 *sp = (u64 *)(guest_stack + sizeof(guest_stack));

	*--sp = (u64)guest_return;
	vmwrite(VMCS_GUEST_RSP, (u64)sp);
	vmwrite(VMCS_GUEST_RIP, (u64)fn);
	vmwrite(VMCS_GUEST_RFLAGS, 2);
	vmwrite(VMCS_GUEST_CS, user ? SEL_USER_CODE : SEL_CODE);
	vmwrite(VMCS_GUEST_CS_AR, user ? 0xa0fb : 0xa09b);
	vmwrite(VMCS_GUEST_SS, user ? SEL_USER_DATA : SEL_DATA);
	vmwrite(VMCS_GUEST_SS_AR, user ? 0xc0f3 : 0xc093);
}

u32 vm_start(void (*fn)(void))
{
	prepare(fn, false);
	return vm_resume();
}

u32 vm_start_user(void (*fn)(void))
{
	prepare(fn, true);
	return vm_resume();
}

u32 vm_entry_error(void (*fn)(void))
{
	prepare(fn, false);
	return enter() ? 0 : vmread(VMCS_ERROR);
}

static void done(u32 reason)
{
	if (reason != EXIT_VMCALL || regs.rax != CALL_DONE)
		end(FAILURE, "VM exit %u, qualification %lx", reason, qualification);
}

void vm_run(void (*fn)(void))
{
	done(vm_start(fn));
}

void vm_run_user(void (*fn)(void))
{
	done(vm_start_user(fn));
}

void vm_finish(void)
{
	done(vm_resume());
}
