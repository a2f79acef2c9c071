/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host under the tests: output, traps, and the runner with its four verdicts
 *
 * A test is a function between TEST(name) { ... }. It succeeds by returning.
 * check() fails it, skip() and error() end it, an exception of the host is an
 * error. One line on the serial port for each: "TEST name: VERDICT reason".
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE	     4096ull
#define ARRAY_LEN(a) (sizeof(a) / sizeof(*(a)))

struct test {
	const char *name;
	void (*run)(void);
	bool always; /* also where there is no EPML */
};

#define TEST(id)	TEST_(id, false)
#define TEST_ALWAYS(id) TEST_(id, true)
#define TEST_(id, always)                                                                       \
	static void test_##id(void);                                                            \
	static const struct test entry_##id = { #id, test_##id, always };                       \
	static const struct test *const pointer_##id __attribute__((section(".tests"), used)) = \
		&entry_##id;                                                                    \
	static void test_##id(void)

enum verdict { SUCCESS, FAILURE, ERROR, SKIP };

/* ends the test */
void __attribute__((noreturn, format(printf, 2, 3))) end(enum verdict v, const char *fmt, ...);

#define skip(...)  end(SKIP, __VA_ARGS__)
#define error(...) end(ERROR, __VA_ARGS__)

/* a claim about the processor */
#define check(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			end(FAILURE, __FILE_NAME__ ":" STR(__LINE__) ": " #cond ": " __VA_ARGS__); \
	} while (0)
#define check_eq(a, b)                                                                           \
	do {                                                                                     \
		u64 a_ = (a), b_ = (b);                                                          \
		if (a_ != b_)                                                                    \
			end(FAILURE,                                                             \
			    __FILE_NAME__ ":" STR(__LINE__) ": " #a " is %lx, expected %lx", a_, \
			    b_);                                                                 \
	} while (0)
/* what a test relies on */
#define need(cond)                                                         \
	do {                                                               \
		if (!(cond))                                               \
			error(__FILE_NAME__ ":" STR(__LINE__) ": " #cond); \
	} while (0)
#define STR(x)	STR_(x)
#define STR_(x) #x

void __attribute__((format(printf, 1, 2))) print(const char *fmt, ...);
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* as boot.S pushes them, then the processor's part */
struct frame {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 vector, error_code;
	u64 rip, cs, rflags, rsp, ss;
};

extern u64 idt[512], gdt[];
struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1, ist[7], reserved2;
	u16 reserved3, iomap;
} __attribute__((packed));

static inline void outb(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static inline u64 read_cr0(void)
{
	u64 v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v));
	return v;
}

static inline u64 read_cr3(void)
{
	u64 v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline u64 read_cr4(void)
{
	u64 v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

#endif
