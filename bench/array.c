// SPDX-License-Identifier: GPL-2.0-only
/*
 * What being tracked costs the tracked process: a writer goes over its array again and
 * again, word by word, while another process ends a round each emulated second.
 *
 *	overhead ROUNDS MIB BACKEND...
 *
 * BACKEND "none" is a phase without a tracker. The writer has the last processor, the
 * collector the first; on one processor they share it. A second is 2.5 * 10^9
 * instructions, by the time stamp counter, whatever the guest's clock thinks of it.
 *
 * One line a phase, NAME VALUE in turn: ticks (from the end of a collect to the end of
 * the last), pages (that the writer went over meanwhile), collector (ticks it had the
 * processor), collect (ticks in the collects), reported (pages), and events: VM exits by
 * reason, records of the logs, interrupts of the log, hypercalls of the module.
 * Exit status: 0, 2 something does not work here.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include <ooh.h>

#include "simcall.h"

#define PAGE	  4096UL
#define SECOND	  2500000000ULL
#define REASON(n) (SIMCALL_CNT_EXIT_REASON + (n))

/* What a phase is measured by, at one point of time. */
struct point {
	uint64_t ticks, pages, collector_ns;
	uint64_t events[SIMCALL_CNT_MAX];
	struct ooh_stats stats;
};

static volatile uint64_t *written; /* pages, by the writer */

static void die(const char *what)
{
	fprintf(stderr, "overhead: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

__attribute__((noreturn)) static void writer(char *mem, unsigned long size)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t value = 1;; value++)
		for (unsigned long at = 0; at < size; at += PAGE) {
			volatile uint64_t *word = (uint64_t *)(mem + at);

			for (unsigned long i = 0; i < PAGE / sizeof(*word); i++)
				word[i] = value;
			++*written;
		}
}

static void take(struct point *p, struct ooh_tracker *t)
{
	memset(p, 0, sizeof(*p));
	if (t)
		ooh_stats(t, &p->stats);
	simcall_counters(p->events, SIMCALL_CNT_MAX);
	p->collector_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	p->pages = *written;
	p->ticks = __rdtsc();
}

/* ticks in 2^20 ns of the guest's clock */
static uint64_t rate(void)
{
	uint64_t ns = clock_ns(CLOCK_MONOTONIC), ticks = __rdtsc();

	usleep(100000);
	return ((__rdtsc() - ticks) << 20) / (clock_ns(CLOCK_MONOTONIC) - ns);
}

static void sleep_until(uint64_t ticks, uint64_t per_ns)
{
	int64_t left;

	while ((left = ticks - __rdtsc()) > 0) {
		uint64_t ns = ((uint64_t)left << 20) / per_ns + 1;
		struct timespec t = { ns / 1000000000, ns % 1000000000 };

		nanosleep(&t, NULL);
	}
}

static void print(const char *backend, unsigned long mib, int rounds, const struct point *a,
		  const struct point *b, uint64_t collect, uint64_t reported, uint64_t per_ns)
{
	static const struct {
		const char *name;
		int index;
	} events[] = {
		{ "exits", SIMCALL_CNT_EXITS },
		{ "log_full", REASON(62) },
		{ "hypercall", SIMCALL_CNT_VMCALL },
		{ "interrupt", SIMCALL_CNT_EXTINT },
		{ "ept_violation", SIMCALL_CNT_EPT_VIOLATION },
		{ "hlt", REASON(12) },
		{ "msr_write", REASON(32) },
		{ "pml_records", SIMCALL_CNT_PML_RECORDS },
		{ "page_faults", SIMCALL_CNT_GUEST_PF },
	};

	printf("backend %s mib %lu rounds %d ticks %llu pages %llu collector %llu collect %llu "
	       "reported %llu",
	       backend, mib, rounds, (unsigned long long)(b->ticks - a->ticks),
	       (unsigned long long)(b->pages - a->pages),
	       (unsigned long long)(((b->collector_ns - a->collector_ns) * per_ns) >> 20),
	       (unsigned long long)collect, (unsigned long long)reported);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		printf(" %s %llu", events[i].name,
		       (unsigned long long)(b->events[events[i].index] -
					    a->events[events[i].index]));
	printf(" records %llu log_records %llu notifications %llu module_hypercalls %llu\n",
	       (unsigned long long)(b->stats.records - a->stats.records),
	       (unsigned long long)(b->stats.log_records - a->stats.log_records),
	       (unsigned long long)(b->stats.notifications - a->stats.notifications),
	       (unsigned long long)(b->stats.hypercalls - a->stats.hypercalls));
	fflush(stdout);
}

static void phase(const char *backend, pid_t pid, unsigned long mib, int rounds, uint64_t per_ns)
{
	static struct point a, b;
	const struct ooh_range *v;
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t = NULL;
	uint64_t next, collect = 0, reported = 0;
	unsigned int flags;
	bool tracked = strcmp(backend, "none");

	if (tracked && ooh_open(pid, backend, 0, &t, why, sizeof(why))) {
		fprintf(stderr, "overhead: %s\n", why);
		exit(2);
	}
	next = __rdtsc();
	/* one round for what happens only once */
	for (int k = -1; k < rounds; k++) {
		uint64_t began;
		ssize_t n = 0;

		next += k < 0 ? SECOND / 4 : SECOND;
		sleep_until(next, per_ns);
		began = __rdtsc();
		if (tracked)
			n = ooh_collect(t, 0, &v, &flags);
		if (n < 0 || (tracked && flags)) {
			fprintf(stderr, "overhead: %s: %s\n", backend, ooh_reason(t));
			exit(2);
		}
		if (k < 0) {
			take(&a, t);
			continue;
		}
		collect += __rdtsc() - began;
		for (ssize_t i = 0; i < n; i++)
			reported += (v[i].end - v[i].start) / PAGE;
	}
	take(&b, t);
	ooh_close(t);
	print(backend, mib, rounds, &a, &b, collect, reported, per_ns);
}

int main(int argc, char **argv)
{
	int rounds = argc > 3 ? atoi(argv[1]) : 0, cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned long mib = argc > 3 ? strtoul(argv[2], NULL, 10) : 0, size = mib << 20;
	uint64_t per_ns;
	pid_t pid;
	char *mem;

	if (rounds < 1 || !mib) {
		fprintf(stderr, "usage: overhead ROUNDS MIB BACKEND...\n");
		return 2;
	}
	per_ns = rate();
	written = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (written == MAP_FAILED)
		die("mmap");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		pin(cpus - 1);
		mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem == MAP_FAILED)
			die("mmap");
		madvise(mem, size, MADV_NOHUGEPAGE);
		writer(mem, size);
	}
	pin(0);
	/* until its memory is there */
	while (*written < 2 * size / PAGE && !waitpid(pid, NULL, WNOHANG))
		usleep(10000);
	for (int i = 3; i < argc; i++)
		phase(argv[i], pid, mib, rounds, per_ns);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
