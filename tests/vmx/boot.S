/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From real mode to C in long mode; the stubs behind the IDT; the way into the
 * guest and out of it.
 */
#include "vm.h"

	.section .text.start, "ax"
	.code16
	.globl start
start:
	cli
	ljmp	$0, $1f
1:	xor	%ax, %ax
	mov	%ax, %ds
	in	$0x92, %al		/* A20 */
	or	$2, %al
	out	%al, $0x92
	lgdtl	gdtr
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $protected

	.code32
protected:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$bss_begin, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	shr	$2, %ecx
	xor	%eax, %eax
	cld
	rep stosl

	/* the first GiB, one to one, in pages of 2 MiB */
	mov	$host_pdpt + 3, %eax
	mov	%eax, host_pml4
	mov	$host_pd + 3, %eax
	mov	%eax, host_pdpt
	mov	$host_pd, %edi
	mov	$0x83, %eax
	mov	$512, %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	loop	2b

	mov	$0x2020, %eax		/* VMXE, PAE */
	mov	%eax, %cr4
	mov	$host_pml4, %eax
	mov	%eax, %cr3
	mov	$MSR_EFER, %ecx
	rdmsr
	or	$0x100, %eax		/* LME */
	wrmsr
	mov	$0x80010021, %eax	/* PG, WP, NE, PE */
	mov	%eax, %cr0
	ljmpl	$SEL_CODE, $long

	.code64
long:
	mov	$host_stack_end, %rsp
	call	host_main
3:	hlt
	jmp	3b

	.align	8
gdtr:
	.word	gdt_end - gdt - 1
	.long	gdt
	.globl	gdt
	.data
	.align	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* SEL_CODE */
	.quad	0x00cf93000000ffff	/* SEL_DATA */
	.quad	0x00cff3000000ffff	/* SEL_USER_DATA */
	.quad	0x00affb000000ffff	/* SEL_USER_CODE */
	.quad	0x00cf9b000000ffff	/* SEL_CODE32 */
	.quad	0, 0			/* SEL_TSS, host_main fills it in */
gdt_end:

	.bss
	.align	4096
host_pml4: .skip 4096
host_pdpt: .skip 4096
host_pd:   .skip 4096
	.globl	host_pml4
	.skip	16384
host_stack_end:
	.globl	host_stack_end

/* ---- exceptions and interrupts, of host and guest: trap(struct frame *) */

	.text
	.globl	stubs
	.align	16
stubs:
	vector = 0
	.rept	256
	.align	16
	/* the vectors for which the processor pushes an error code */
	.if	(vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21)
	push	$0
	.endif
	pushq	$vector
	jmp	trap_common
	vector = vector + 1
	.endr

trap_common:
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	mov	%rsp, %rdi
	cld
	call	trap
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rbx
	pop	%rbp
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	add	$16, %rsp
	iretq

/* ---- int vmx_enter(struct regs *, int resume): 0 after a VM exit, 1: no entry */

	.globl	vmx_enter, vmx_exit
vmx_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	mov	$VMCS_HOST_RSP, %eax
	vmwrite	%rsp, %rax
	test	%esi, %esi
	mov	0x00(%rdi), %rax
	mov	0x08(%rdi), %rcx
	mov	0x10(%rdi), %rdx
	mov	0x18(%rdi), %rbx
	mov	0x20(%rdi), %rbp
	mov	0x28(%rdi), %rsi
	mov	0x38(%rdi), %r8
	mov	0x40(%rdi), %r9
	mov	0x48(%rdi), %r10
	mov	0x50(%rdi), %r11
	mov	0x58(%rdi), %r12
	mov	0x60(%rdi), %r13
	mov	0x68(%rdi), %r14
	mov	0x70(%rdi), %r15
	mov	0x30(%rdi), %rdi
	jnz	4f
	vmlaunch
	jmp	5f
4:	vmresume
5:	mov	$1, %eax
	jmp	6f
vmx_exit:
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, 0x00(%rdi)
	mov	%rcx, 0x08(%rdi)
	mov	%rdx, 0x10(%rdi)
	mov	%rbx, 0x18(%rdi)
	mov	%rbp, 0x20(%rdi)
	mov	%rsi, 0x28(%rdi)
	mov	%r8, 0x38(%rdi)
	mov	%r9, 0x40(%rdi)
	mov	%r10, 0x48(%rdi)
	mov	%r11, 0x50(%rdi)
	mov	%r12, 0x58(%rdi)
	mov	%r13, 0x60(%rdi)
	mov	%r14, 0x68(%rdi)
	mov	%r15, 0x70(%rdi)
	pop	%rax
	mov	%rax, 0x30(%rdi)
	xor	%eax, %eax
6:	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* what a guest function returns to; at CPL 3 too a VMCALL is an exit */
	.globl	guest_return
guest_return:
	xor	%eax, %eax		/* CALL_DONE */
	vmcall
	ud2

	.section .note.GNU-stack, "", @progbits
