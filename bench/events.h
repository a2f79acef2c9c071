/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a phase of a bench is measured by: time, the collector's share of it, and events of
 * the emulated machine, of which a line is printed, NAME VALUE in turn. On another machine
 * the events are left out.
 */
#ifndef OOH_BENCH_EVENTS_H
#define OOH_BENCH_EVENTS_H

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include <ooh.h>

#include "simcall.h"

#define PAGE 4096UL
/* a second of a CPU with 2.5 GHz, whatever the clock of the guest takes it for */
#define SECOND 2500000000ULL

struct point {
	uint64_t ticks;		     /* of the time stamp counter */
	uint64_t own_ns, process_ns; /* CPU time of this thread, of its process */
	uint64_t events[SIMCALL_CNT_MAX];
	struct ooh_tracker_stats stats;
};

static bool emulated;
static uint64_t ticks_per_second; /* here: SECOND when emulated, else the TSC's real rate */
static uint64_t ticks_per_ns;	  /* times 2^20 */

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static sigjmp_buf no_simcall;

static inline void not_emulated(int sig)
{
	(void)sig;
	siglongjmp(no_simcall, 1);
}

/* Finds out where this runs and how fast the time stamp counter is. */
static inline void events_init(void)
{
	struct sigaction sa = { .sa_handler = not_emulated }, old;
	uint64_t ns, ticks;

	sigaction(SIGILL, &sa, &old);
	if (!sigsetjmp(no_simcall, 1))
		emulated = simcall_version() > 0;
	sigaction(SIGILL, &old, NULL);
	ns = clock_ns(CLOCK_MONOTONIC);
	ticks = __rdtsc();
	usleep(100000);
	ticks_per_ns = ((__rdtsc() - ticks) << 20) / (clock_ns(CLOCK_MONOTONIC) - ns);
	ticks_per_second = emulated ? SECOND : (ticks_per_ns * 1000000000ULL) >> 20;
}

static inline void take(struct point *p, struct ooh_tracker *t)
{
	memset(p, 0, sizeof(*p));
#ifdef NO_TRACKER
	(void)t;
#else
	if (t)
		ooh_stats(t, &p->stats, sizeof(p->stats));
#endif
	if (emulated)
		simcall_counters(p->events, SIMCALL_CNT_MAX);
	p->own_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	p->process_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	p->ticks = __rdtsc();
}

static inline uint64_t to_ticks(uint64_t ns)
{
	return (ns * ticks_per_ns) >> 20;
}

/* What is left until a reading of the time stamp counter; 0 if nothing is. */
static inline struct timespec until(uint64_t ticks)
{
	int64_t left = ticks - __rdtsc();
	uint64_t ns = left > 0 ? ((uint64_t)left << 20) / ticks_per_ns + 1 : 0;

	return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

/* Binds the calling thread to a processor; returns 0, or -1 with errno. */
static inline int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* What the counters have gone on by from a to b; nothing where there are none. */
static inline void print_counters(const char *prefix, const uint64_t *a, const uint64_t *b)
{
	static const struct {
		const char *name;
		int index;
	} events[] = {
#define REASON(n)    (SIMCALL_CNT_EXIT_REASON + (n))
#define COSTLY(name) { #name, SIMCALL_CNT_COSTLY + SIMCALL_COST_##name },
		{ "exits", SIMCALL_CNT_EXITS },
		{ "exit_interrupt", REASON(1) },
		{ "exit_cpuid", REASON(10) },
		{ "exit_hlt", REASON(12) },
		{ "exit_vmcall", REASON(18) },
		{ "exit_msr_write", REASON(32) },
		{ "exit_ept_violation", REASON(48) },
		{ "exit_ept_misconfig", REASON(49) },
		{ "exit_log_full", REASON(62) },
		{ "guest_page_faults", SIMCALL_CNT_GUEST_PF },
		{ "epml_notifications", SIMCALL_CNT_EPML_NOTIFY },
		{ "charged", SIMCALL_CNT_CHARGED },
		{ "executed", SIMCALL_CNT_EXECUTED },
		SIMCALL_COSTLY_EVENTS(COSTLY)
	};

	for (size_t i = 0; emulated && i < sizeof(events) / sizeof(events[0]); i++)
		printf(" %s%s %llu", prefix, events[i].name,
		       (unsigned long long)(b[events[i].index] - a[events[i].index]));
}

/* Begins a line with what has happened between two points; the caller adds to it and ends it. */
static inline void print_events(const struct point *a, const struct point *b)
{
	uint64_t own = b->own_ns - a->own_ns, process = b->process_ns - a->process_ns;

	/* own: the collector's CPU time, during which it ends rounds; helpers: its other threads',
	 * which resolve faults while the tracked program waits */
	printf("ticks %llu second %llu own %llu helpers %llu",
	       (unsigned long long)(b->ticks - a->ticks), (unsigned long long)ticks_per_second,
	       (unsigned long long)to_ticks(own),
	       (unsigned long long)to_ticks(process > own ? process - own : 0));
	print_counters("", a->events, b->events);
#define STAT(name) printf(" " #name " %llu", (unsigned long long)(b->stats.name - a->stats.name));
	STAT(records)
	STAT(log_records)
	STAT(notifications)
	STAT(hypercalls)
	/* the module's phases, in ticks */
#define PHASE(name)               \
	printf(" " #name " %llu", \
	       (unsigned long long)to_ticks(b->stats.name##_ns - a->stats.name##_ns));
	PHASE(drain)
	PHASE(map)
	PHASE(arm)
}

#endif
