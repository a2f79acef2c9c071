/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The virtual machine under the tests
 *
 * The guest runs the host's own code: its first 32 MiB of linear and of
 * guest-physical addresses are the host's, and never armed. Its test pages lie
 * elsewhere in each of the three address spaces, so that no address can be
 * taken for another:
 *
 *	page i	  linear GVA(i), guest-physical GPA(i), host-physical test_mem[i]
 *	tables	  guest-physical PT_GPA..., host-physical guest_pt[]
 *	superpage SUPER_GVA, SUPER_GPA, super_mem: 2 MiB in guest and EPT
 *	gigantic  guest-physical GIGA_GPA + x is host-physical x
 *
 * vm_reset() puts all of it, VMCS and logs into one known state before each
 * test: EPML on, room for 256 records, low-water mark 0, PML off, nothing armed
 * (all EPT dirty flags set). Tests change the VMCS by vmwrite().
 */
#ifndef VM_H
#define VM_H

#define SEL_CODE	    0x08
#define SEL_DATA	    0x10
#define SEL_USER_DATA	    0x1b
#define SEL_USER_CODE	    0x23
#define SEL_CODE32	    0x28
#define SEL_TSS		    0x30

#define MSR_APIC_BASE	    0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC	    0x480
#define MSR_VMX_EPT_VPID    0x48c
#define MSR_VMX_PINBASED    0x48d
#define MSR_VMX_PROCBASED   0x48e
#define MSR_VMX_PROCBASED2  0x48b
#define MSR_VMX_PROCBASED3  0x492
#define MSR_VMX_EXIT	    0x48f
#define MSR_VMX_ENTRY	    0x490
#define MSR_VMX_VMFUNC	    0x491
#define MSR_X2APIC_SVR	    0x80f
#define MSR_X2APIC_ICR	    0x830
#define MSR_EFER	    0xc0000080

#define VMCS_HOST_RSP	    0x6c14

#ifndef __ASSEMBLER__

#include "host.h"

enum {
	VMCS_POSTED_VECTOR = 0x0002,
	VMCS_EPML_VECTOR = 0x000c,
	VMCS_EPML_MARK = 0x000e,
	VMCS_GUEST_CS = 0x0802,
	VMCS_GUEST_SS = 0x0804,
	VMCS_GUEST_TR = 0x080e,
	VMCS_INTERRUPT_STATUS = 0x0810,
	VMCS_PML_INDEX = 0x0812,
	VMCS_EPML_INDEX = 0x0816,
	VMCS_HOST_ES = 0x0c00,
	VMCS_HOST_CS = 0x0c02,
	VMCS_HOST_TR = 0x0c0c,
	VMCS_MSR_BITMAP = 0x2004,
	VMCS_PML_ADDRESS = 0x200e,
	VMCS_VIRTUAL_APIC = 0x2012,
	VMCS_POSTED_DESCRIPTOR = 0x2016,
	VMCS_VMFUNC = 0x2018,
	VMCS_EPTP = 0x201a,
	VMCS_EPTP_LIST = 0x2024,
	VMCS_VMREAD_BITMAP = 0x2026,
	VMCS_VMWRITE_BITMAP = 0x2028,
	VMCS_TERTIARY = 0x2034,
	VMCS_EPML_ADDRESS = 0x2050,
	VMCS_LINK = 0x2800,
	VMCS_PINBASED = 0x4000,
	VMCS_PROCBASED = 0x4002,
	VMCS_EXCEPTIONS = 0x4004,
	VMCS_EXIT_CONTROLS = 0x400c,
	VMCS_ENTRY_CONTROLS = 0x4012,
	VMCS_ENTRY_EVENT = 0x4016,
	VMCS_SECONDARY = 0x401e,
	VMCS_ERROR = 0x4400,
	VMCS_EXIT_REASON = 0x4402,
	VMCS_VECTORING_INFO = 0x4408,
	VMCS_EXIT_LENGTH = 0x440c,
	VMCS_GUEST_ES_LIMIT = 0x4800,
	VMCS_GUEST_ES_AR = 0x4814,
	VMCS_GUEST_CS_AR = 0x4816,
	VMCS_GUEST_SS_AR = 0x4818,
	VMCS_GUEST_TR_AR = 0x4822,
	VMCS_TIMER = 0x482e,
	VMCS_QUALIFICATION = 0x6400,
	VMCS_GUEST_CR0 = 0x6800,
	VMCS_GUEST_CR3 = 0x6802,
	VMCS_GUEST_CR4 = 0x6804,
	VMCS_GUEST_TR_BASE = 0x6814,
	VMCS_GUEST_GDTR_BASE = 0x6816,
	VMCS_GUEST_IDTR_BASE = 0x6818,
	VMCS_GUEST_DR7 = 0x681a,
	VMCS_GUEST_RSP = 0x681c,
	VMCS_GUEST_RIP = 0x681e,
	VMCS_GUEST_RFLAGS = 0x6820,
	VMCS_HOST_CR0 = 0x6c00,
	VMCS_HOST_CR3 = 0x6c02,
	VMCS_HOST_CR4 = 0x6c04,
	VMCS_HOST_TR_BASE = 0x6c0a,
	VMCS_HOST_GDTR_BASE = 0x6c0c,
	VMCS_HOST_IDTR_BASE = 0x6c0e,
	VMCS_HOST_RIP = 0x6c16,
};

enum {
	EXIT_VMCALL = 18,
	EXIT_VMREAD = 23,
	EXIT_VMWRITE = 25,
	EXIT_EPT_VIOLATION = 48,
	EXIT_TIMER = 52,
	EXIT_VMFUNC = 59,
	EXIT_LOG_FULL = 62,
};
#define FULL_PML	 0 /* qualification of EXIT_LOG_FULL */
#define FULL_EPML	 1

#define SECONDARY_EPT	 (1u << 1)
#define SECONDARY_X2APIC (1u << 4)
#define SECONDARY_VINTR	 (1u << 9)
#define SECONDARY_VMFUNC (1u << 13)
#define SECONDARY_SHADOW (1u << 14)
#define SECONDARY_PML	 (1u << 17)
#define TERTIARY_EPML	 (1ull << 32)
#define ERROR_CONTROLS	 7  /* VM entry with invalid control fields */
#define ERROR_FIELD	 12 /* VMREAD or VMWRITE of an unsupported field */

#define EPT_WRITE	 0x002
#define EPT_A		 0x100
#define EPT_D		 0x200
#define PTE_P		 0x001
#define PTE_W		 0x002
#define PTE_U		 0x004
#define PTE_A		 0x020
#define PTE_D		 0x040

#define PAGES		 1024
#define GVA(i)		 (0x7f40000000ull + (i)*PAGE)
#define GPA(i)		 (0x10000000ull + (i)*PAGE)
#define PT_GPA		 0x20000000ull
#define SUPER_GVA	 0x7f40400000ull
#define SUPER_GPA	 0x30000000ull
#define GIGA_GPA	 0x40000000ull
#define RECORDS		 256

enum { PT_PML4, PT_PDPT, PT_PD_LOW, PT_PD, PT_0, PT_1, PT_NR };

/* the guest's page-table page that holds the entry of page i */
#define PT_OF(i) (PT_GPA + (PT_0 + (i) / 512) * PAGE)

/* flags of a record */
#define REC_WALK 1
#define REC_USER 2

struct record {
	u64 gva, gpa;
};

/* SDM volume 3, posted-interrupt descriptor: a bit for each vector; bit 0 of control: a
 * notification is outstanding */
struct posted_descriptor {
	u32 requests[8];
	u64 control, reserved[3];
} __attribute__((aligned(64)));

struct regs {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

extern bool has_epml;
extern u8 test_mem[PAGES][PAGE], super_mem[512][PAGE];
extern u64 guest_pt[PT_NR][512], pml_log[512];
extern u64 ept_pdpt[512], ept_pd[512];
extern struct record epml_log[RECORDS];
extern u8 virtual_apic[PAGE], vmread_bitmap[PAGE], vmwrite_bitmap[PAGE];
extern u8 vmcs[PAGE], shadow_vmcs[PAGE];
extern volatile struct posted_descriptor posted;
extern struct tss guest_tss;
extern u8 guest_stack[16384];
extern struct regs regs;
extern u64 qualification;

/* ---- host side */

bool vmx_on(void);
void vm_reset(void);

int vmx_read(u32 field, u64 *value); /* 0, or the VM-instruction error */
int vmx_write(u32 field, u64 value);
u64 vmread(u32 field);
void vmwrite(u32 field, u64 value);
u64 shadow_read(u32 field);
void shadow_write(u32 field, u64 value);

/* the EPT leaf entry for a guest-physical address, the guest's for page i */
u64 *ept_leaf(u64 gpa);
u64 *guest_pte(u32 i);
void arm(u64 gpa); /* clears the leaf's dirty flag; vm_enter() does INVEPT */
bool armed(u64 gpa);
void arm_pages(u32 first, u32 n);

/* the n-th record since index 255, and how many there are */
const struct record *record(u32 n);
u32 records(void);
/* record n is the access to linear address gva, with these flags */
void check_record(u32 n, u64 gva, u64 gpa, u32 flags);
/* the records are those of n pages from first on, in this order */
void check_pages(u32 first, u32 n);

/* the guest may use these VM functions; the test is skipped where there are none */
void vm_functions_on(u64 functions);
/* the processor's own APIC, which the guest may write, too; from then on */
void x2apic_on(void);
/* notifications at POSTED_VECTOR are processed in the guest, from `posted` */
void vm_post_interrupts(void);

/* start fn in the guest, at CPL 0 or 3; go on: basic exit reason */
u32 vm_start(void (*fn)(void));
u32 vm_start_user(void (*fn)(void));
u32 vm_resume(void);
/* VMLAUNCH only: the VM-instruction error, 0 if the guest was entered */
u32 vm_entry_error(void (*fn)(void));
/* the same, and the guest function must return without any exit */
void vm_run(void (*fn)(void));
void vm_run_user(void (*fn)(void));
void vm_finish(void);

/* ---- guest side */

enum { CALL_DONE, CALL_TRAP, CALL_STOP };

extern bool in_guest;
extern volatile u32 irqs; /* notifications, at IRQ_VECTOR */
extern volatile u64 irq_rip;
extern void (*guest_hook)(struct frame *f); /* takes the traps, instead of the host */
#define IRQ_VECTOR    0x51
#define POSTED_VECTOR 0x61

void guest_trap(struct frame *f);
void guest_return(void);
void guest_stop(void); /* an exit on purpose; the host goes on with vm_resume() */

/* sends this processor the notification that something is posted */
static inline void notify_posted(void)
{
	posted.control = 1;
	wrmsr(MSR_X2APIC_ICR, 1u << 18 | POSTED_VECTOR);
}

static inline volatile u64 *page(u32 i)
{
	return (volatile u64 *)GVA(i);
}

/* VMREAD, VMWRITE in the guest: 0 if they did what they say, else the flag that failed them */
static inline int guest_vmread(u64 field, u64 *value)
{
	bool invalid, valid;

	__asm__ volatile("vmread %3, %2"
			 : "=@ccc"(invalid), "=@ccz"(valid), "=r"(*value)
			 : "r"(field));
	return invalid ? 1 : valid ? 2 : 0;
}

static inline int guest_vmwrite(u64 field, u64 value)
{
	bool invalid, valid;

	__asm__ volatile("vmwrite %3, %2"
			 : "=@ccc"(invalid), "=@ccz"(valid)
			 : "r"(field), "r"(value));
	return invalid ? 1 : valid ? 2 : 0;
}

#endif /* __ASSEMBLER__ */
#endif
