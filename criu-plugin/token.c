// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot of a virtual machine has the state of the kernel's random numbers in it. After a
 * restore getrandom() returns what it returned before, until the kernel has gathered new
 * entropy. What is not part of a snapshot goes into each token, too: the CPU's own random
 * numbers, the time of day, and the time stamp counter.
 */
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif
#include "token.h"

/* One to one: different values stay different. */
static uint64_t stir(uint64_t v)
{
	v ^= v >> 30;
	v *= 0xbf58476d1ce4e5b9ull;
	v ^= v >> 27;
	v *= 0x94d049bb133111ebull;
	return v ^ v >> 31;
}

#ifdef __x86_64__
static uint64_t cpu_random(void)
{
	unsigned int a, b, c, d;
	unsigned long long v;
	unsigned char good = 0;
	int tries;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_RDRND))
		return 0;
	/* Intel: ten failures in a row mean that it is broken */
	for (tries = 0; tries < 10 && !good; tries++)
		__asm__ volatile("rdrand %0; setc %1" : "=r"(v), "=qm"(good) : : "cc");
	return good ? v : 0;
}

static uint64_t cpu_clock(void)
{
	return __builtin_ia32_rdtsc();
}
#else
static uint64_t cpu_random(void)
{
	return 0;
}

static uint64_t cpu_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}
#endif

void token_make(uint8_t token[static TOKEN_LEN])
{
	uint64_t v[2] = { 0, 0 };
	struct timespec t;

	/* Early in boot it would wait; then the rest has to do. */
	if (getrandom(v, sizeof(v), GRND_NONBLOCK) != sizeof(v))
		v[1] = (uint64_t)getpid() << 32;
	clock_gettime(CLOCK_REALTIME, &t);
	v[0] ^= stir(t.tv_sec * 1000000000ull + t.tv_nsec) ^ cpu_random();
	v[1] ^= stir(cpu_clock()) ^ cpu_random();
	memcpy(token, v, TOKEN_LEN);
}
