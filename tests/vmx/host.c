// SPDX-License-Identifier: GPL-2.0-only
/* host: serial output, traps, the runner */
#include <stdarg.h>

#include "host.h"
#include "vm.h"

#define COM1	 0x3f8
#define SHUTDOWN 0x8900 /* Bochs: the word "Shutdown" switches the machine off */

u64 idt[512];
static struct tss host_tss;
static void *catch[5];
static enum verdict verdict;
static bool testing;
extern char stubs[];
extern const struct test *const tests_begin[], *const tests_end[];

void *memset(void *p, int c, size_t n)
{
	void *to = p;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return p;
}

void *memcpy(void *p, const void *from, size_t n)
{
	void *to = p;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return p;
}

int memcmp(const void *a, const void *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (((const u8 *)a)[i] != ((const u8 *)b)[i])
			return ((const u8 *)a)[i] - ((const u8 *)b)[i];
	}
	return 0;
}

static void put(char c)
{
	while (!(inb(COM1 + 5) & 0x20))
		;
	outb(COM1, c);
}

/* %s, %x of int, %lx of u64, %u of int */
static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		char buf[24], *p = buf + sizeof(buf);
		bool wide = false;
		u32 base;
		u64 v;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == 'l') {
			wide = true;
			fmt++;
		}
		if (*fmt == 's') {
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			continue;
		}
		base = *fmt == 'x' ? 16 : 10;
		v = wide ? va_arg(ap, u64) : va_arg(ap, u32);
		*--p = 0;
		do {
			*--p = "0123456789abcdef"[v % base];
			v /= base;
		} while (v);
		while (*p)
			put(*p++);
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

static const char *const verdict_name[] = { "SUCCESS", "FAILURE", "ERROR", "SKIP" };

void end(enum verdict v, const char *fmt, ...)
{
	va_list ap;

	verdict = v;
	print("%s ", verdict_name[v]);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	__builtin_longjmp(catch, 1);
}

static void switch_off(void)
{
	while (!(inb(COM1 + 5) & 0x40)) /* the last byte has left */
		;
	for (const char *p = "Shutdown"; *p; p++)
		outb(SHUTDOWN, *p);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* an exception or interrupt, of the host or, the IDT being one, of the guest */
void trap(struct frame *f)
{
	if (in_guest) {
		guest_trap(f);
		return;
	}
	if (testing)
		error("host exception %u, error code %x, at %lx", (u32)f->vector,
		      (u32)f->error_code, f->rip);
	print("host exception %u at %lx\n", (u32)f->vector, f->rip);
	switch_off();
}

static void init_tables(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (u64)idt };
	u64 base = (u64)&host_tss;
	u64 *desc = gdt + SEL_TSS / 8;

	for (u32 i = 0; i < 256; i++) {
		u64 to = (u64)stubs + 16 * i;

		/* interrupt gates that also INT of user mode may take */
		idt[2 * i] = (to & 0xffff) | SEL_CODE << 16 | 0xeeull << 40 | (to >> 16) << 48;
		idt[2 * i + 1] = to >> 32;
	}
	__asm__ volatile("lidt %0" : : "m"(idtr));
	desc[0] = (sizeof(host_tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
		  (base >> 24 & 0xff) << 56;
	desc[1] = base >> 32;
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
	outb(COM1 + 3, 3); /* bytes of 8 bits */
	/* no interrupts from devices */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static void run(const struct test *t)
{
	print("TEST %s: ", t->name);
	testing = true;
	if (!__builtin_setjmp(catch)) {
		vm_reset();
		if (!has_epml && !t->always)
			skip("this processor has no EPML");
		t->run();
		print("SUCCESS");
	}
	in_guest = false;
	testing = false;
	print("\n");
}

void host_main(void)
{
	init_tables();
	if (vmx_on()) {
		for (const struct test *const *t = tests_begin; t < tests_end; t++)
			run(*t);
		print("END\n");
	}
	switch_off();
}
