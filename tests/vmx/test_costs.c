// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the clock charges for an event (testbed/costs), for those that no program in a Linux
 * guest causes often enough, or whose two halves it cannot part. A window is gone through with
 * no costs and with all of them: the difference is what was charged in it. It is printed, with
 * the events counted in the window, and test_vmx.py compares it with the table.
 */
#include "../../testbed/agent/simcall.h"
#include "vm.h"

#define TIMES		 200
#define MSR_STAR	 0xc0000081
#define MSR_LSTAR	 0xc0000082
#define MSR_SYSCALL_MASK 0xc0000084

static u64 begun[SIMCALL_CNT_MAX], now[SIMCALL_CNT_MAX];
/* of all windows since the costs were set: the clock's ticks, and the events */
static u64 sum[SIMCALL_CNT_MAX];

static void __attribute__((noinline)) window_begins(void)
{
	simcall_counters(begun, SIMCALL_CNT_MAX);
}

static void __attribute__((noinline)) window_ends(void)
{
	simcall_counters(now, SIMCALL_CNT_MAX);
	for (u32 i = 0; i < SIMCALL_CNT_MAX; i++)
		sum[i] += now[i] - begun[i];
}

#define COSTLY_NAME(name) #name,
static const char *const costly_name[] = { SIMCALL_COSTLY_EVENTS(COSTLY_NAME) };

/* `windows` goes through its windows */
static void measure(const char *event, void (*windows)(void))
{
	u64 bare = 0;

	/* the first time is for accessed flags and the like */
	for (u32 turn = 0; turn < 3; turn++) {
		if (simcall_costs(turn == 2 ? 100 : 0, SIMCALL_COST_ALL))
			skip("this machine has no table of costs");
		memset(sum, 0, sizeof(sum));
		windows();
		if (turn == 1)
			bare = sum[SIMCALL_CNT_TICKS];
	}
	simcall_costs(0, SIMCALL_COST_ALL);
	print("[%s charged %lu vmexit %lu", event, sum[SIMCALL_CNT_TICKS] - bare,
	      sum[SIMCALL_CNT_EXITS]);
	for (u32 i = 0; i < SIMCALL_COST_EVENTS; i++)
		print(" %s %lu", costly_name[i], sum[SIMCALL_CNT_COSTLY + i]);
	print("] ");
}

/* ---- in the host: an instruction again and again */

#define REPEATED(name, instruction)               \
	static void repeat_##name(void)           \
	{                                         \
		window_begins();                  \
		for (u32 i = 0; i < TIMES; i++) { \
			instruction;              \
		}                                 \
		window_ends();                    \
	}

static const struct {
	u64 first, second;
} nothing;

REPEATED(invept, __asm__ volatile("invept %0, %1" : : "m"(nothing), "r"(2ull) : "memory"))
REPEATED(invvpid, __asm__ volatile("invvpid %0, %1" : : "m"(nothing), "r"(2ull) : "memory"))
REPEATED(invpcid, __asm__ volatile("invpcid %0, %1" : : "m"(nothing), "r"(2ull) : "memory"))
REPEATED(vmread, vmread(VMCS_EPTP))
REPEATED(vmwrite, vmwrite(VMCS_PML_INDEX, 511))

TEST(costs_invept)
{
	measure("invept", repeat_invept);
}

TEST(costs_invvpid)
{
	measure("invvpid", repeat_invvpid);
}

TEST(costs_invpcid)
{
	measure("invpcid", repeat_invpcid);
}

TEST(costs_vmread)
{
	measure("vmread", repeat_vmread);
}

TEST(costs_vmwrite)
{
	measure("vmwrite", repeat_vmwrite);
}

static void send_ipis(void)
{
	/* to a processor that is not there: nothing stays pending */
	window_begins();
	for (u32 i = 0; i < TIMES; i++)
		wrmsr(MSR_X2APIC_ICR, 7ull << 32 | POSTED_VECTOR);
	window_ends();
}

/* ---- in the guest */

static void shadow_reads(void)
{
	u64 value;

	window_begins();
	for (u32 i = 0; i < TIMES; i++)
		guest_vmread(VMCS_EPML_INDEX, &value);
	window_ends();
}

static void shadow_writes(void)
{
	window_begins();
	for (u32 i = 0; i < TIMES; i++)
		guest_vmwrite(VMCS_EPML_INDEX, 100);
	window_ends();
}

static void run_shadow_reads(void)
{
	vm_run(shadow_reads);
}

static void run_shadow_writes(void)
{
	vm_run(shadow_writes);
}

TEST(costs_shadow_vmread)
{
	measure("shadow_vmread", run_shadow_reads);
}

TEST(costs_shadow_vmwrite)
{
	measure("shadow_vmwrite", run_shadow_writes);
}

/* function 1, for no page: it looks at the bitmap only */
static void vm_functions(void)
{
	static const u64 bitmap[8] __attribute__((aligned(64)));
	u64 gpa = GPA(0);

	window_begins();
	for (u32 i = 0; i < TIMES; i++)
		__asm__ volatile("vmfunc" : "+b"(gpa) : "a"(1), "c"(bitmap) : "memory");
	window_ends();
}

static void run_vm_functions(void)
{
	vm_run(vm_functions);
}

TEST(costs_vmfunc)
{
	vm_functions_on(1 << 1);
	measure("vmfunc", run_vm_functions);
}

static void posts(void)
{
	__asm__ volatile("sti");
	window_begins();
	for (u32 i = 0; i < TIMES; i++) {
		posted.requests[IRQ_VECTOR / 32] = 1u << IRQ_VECTOR % 32;
		notify_posted();
	}
	window_ends();
}

static void run_posted(void)
{
	u32 before = irqs;

	vm_run(posts);
	check_eq(irqs - before, TIMES);
}

TEST(costs_posted_interrupt)
{
	vm_post_interrupts();
	measure("posted_interrupt", run_posted);
}

TEST(costs_ipi)
{
	x2apic_on();
	measure("ipi", send_ipis);
}

/* ---- halves of a pair: the window begins on one side, and ends on the other */

static void calls_out(void)
{
	for (;;) {
		window_begins();
		guest_stop();
	}
}

static void exits(void)
{
	vm_start(calls_out);
	for (u32 i = 0; i < TIMES; i++) {
		window_ends();
		vm_resume();
	}
}

static void comes_in(void)
{
	for (;;) {
		window_ends();
		guest_stop();
	}
}

static void entries(void)
{
	window_begins();
	vm_start(comes_in);
	for (u32 i = 0; i < TIMES; i++) {
		window_begins();
		vm_resume();
	}
}

TEST(costs_vmexit)
{
	measure("vmexit", exits);
}

TEST(costs_vmentry)
{
	measure("vmentry", entries);
}

static void into_handler(struct frame *f)
{
	window_ends();
	f->rip += 2;
}

static void out_of_handler(struct frame *f)
{
	f->rip += 2;
	window_begins();
}

static void faults_in(void)
{
	for (u32 i = 0; i < TIMES; i++) {
		window_begins();
		__asm__ volatile("ud2" : : : "memory");
	}
}

static void faults_out(void)
{
	for (u32 i = 0; i < TIMES; i++) {
		__asm__ volatile("ud2" : : : "memory");
		window_ends();
	}
}

static void exceptions(void)
{
	guest_hook = into_handler;
	vm_run(faults_in);
}

static void returns(void)
{
	guest_hook = out_of_handler;
	vm_run(faults_out);
}

TEST(costs_exception)
{
	measure("exception", exceptions);
}

TEST(costs_iret)
{
	measure("iret", returns);
}

/* the kernel's side has no stack: it looks at the clock only */
static u64 to_kernel, to_user;

static void __attribute__((naked)) kernel(void)
{
	__asm__("rdtsc\n\t"
		"mov %eax, %r9d\n\t"
		"sysretq");
}

static void user(void)
{
	u32 before, between, behind;

	to_kernel = to_user = 0;
	for (u32 i = 0; i < TIMES; i++) {
		__asm__ volatile("rdtsc\n\t"
				 "mov %%eax, %0\n\t"
				 "syscall\n\t"
				 "mov %%r9d, %1\n\t"
				 "rdtsc\n\t"
				 "mov %%eax, %2"
				 : "=&r"(before), "=&r"(between), "=&r"(behind)
				 :
				 : "rax", "rcx", "rdx", "r9", "r11", "memory");
		to_kernel += between - before;
		to_user += behind - between;
	}
}

static void syscalls(void)
{
	vm_run_user(user);
	sum[SIMCALL_CNT_TICKS] = to_kernel;
	sum[SIMCALL_CNT_COSTLY + SIMCALL_COST_syscall] = TIMES;
}

static void sysrets(void)
{
	vm_run_user(user);
	sum[SIMCALL_CNT_TICKS] = to_user;
	sum[SIMCALL_CNT_COSTLY + SIMCALL_COST_sysret] = TIMES;
}

static void syscall_on(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
	wrmsr(MSR_STAR, (u64)(SEL_USER_DATA - 8) << 48 | (u64)SEL_CODE << 32);
	wrmsr(MSR_LSTAR, (u64)kernel);
	wrmsr(MSR_SYSCALL_MASK, 0);
}

TEST(costs_syscall)
{
	syscall_on();
	measure("syscall", syscalls);
}

TEST(costs_sysret)
{
	syscall_on();
	measure("sysret", sysrets);
}
