// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the clock of the emulated machine charges, by loops that cause one kind of event
 * many times (testbed/costs has what it should be; tests/testbed/test_costs.py compares).
 *
 *	calibrate LOOP...
 *
 * syscall; cpuid (a VM exit in a guest); fault (pages touched first); walk (more pages than
 * the TLB holds); switch (of address spaces); unmap (of one page); cold (accessed flags);
 * spin (nothing, but that timer interrupts come); spml, epml (rounds in which pages were written).
 * One line a loop, with the events.
 * Exit status: 0, 2 something does not work here.
 */
#define NO_TRACKER
#include <cpuid.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "events.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif

#define PAGES 16384UL
#define TIMES 20000

static void die(const char *what)
{
	fprintf(stderr, "calibrate: %s: %s\n", what, strerror(errno));
	exit(2);
}

static char *fresh(unsigned long pages)
{
	char *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	madvise(mem, pages * PAGE, MADV_NOHUGEPAGE);
	return mem;
}

static void touch(char *mem, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		((volatile char *)mem)[i * PAGE]++;
}

static void loop_syscall(struct point *a)
{
	take(a, NULL);
	for (int i = 0; i < TIMES; i++)
		syscall(SYS_getppid);
}

static void loop_cpuid(struct point *a)
{
	unsigned int eax, ebx, ecx, edx;

	take(a, NULL);
	for (int i = 0; i < TIMES; i++)
		__cpuid(0, eax, ebx, ecx, edx);
}

static void loop_fault(struct point *a)
{
	char *mem = fresh(PAGES);

	take(a, NULL);
	touch(mem, PAGES);
	munmap(mem, PAGES * PAGE);
}

static void loop_walk(struct point *a)
{
	char *mem = fresh(PAGES);

	touch(mem, PAGES);
	take(a, NULL);
	for (int i = 0; i < 8; i++)
		touch(mem, PAGES);
	munmap(mem, PAGES * PAGE);
}

static void loop_switch(struct point *a)
{
	int there[2], back[2];
	char byte = 0;
	pid_t pid;

	if (pipe(there) || pipe(back))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
			;
		_exit(0);
	}
	take(a, NULL);
	for (int i = 0; i < TIMES / 4; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			die("pipe");
	close(there[1]);
	waitpid(pid, NULL, 0);
}

static void loop_unmap(struct point *a)
{
	char *mem = fresh(1);

	take(a, NULL);
	for (int i = 0; i < TIMES / 2; i++) {
		touch(mem, 1);
		madvise(mem, PAGE, MADV_DONTNEED);
	}
}

static void loop_cold(struct point *a)
{
	char *mem = fresh(PAGES / 8);

	touch(mem, PAGES / 8);
	take(a, NULL);
	for (int i = 0; i < 16; i++) {
		if (madvise(mem, PAGES / 8 * PAGE, MADV_COLD))
			die("MADV_COLD");
		touch(mem, PAGES / 8);
	}
}

static void loop_spin(struct point *a)
{
	take(a, NULL);
	for (volatile int i = 0; i < 1000 * TIMES; i++)
		;
}

/* Rounds of this process's own tracker. Dom0, where the others run too, has no libooh. */
static void rounds(struct point *a, const char *backend)
{
	void *lib = dlopen("libooh.so.0", RTLD_NOW);
	__typeof__(ooh_open) *open = lib ? dlsym(lib, "ooh_open") : NULL;
	__typeof__(ooh_collect) *collect = lib ? dlsym(lib, "ooh_collect") : NULL;
	char *mem = fresh(PAGES / 4), why[OOH_REASON_LEN] = "no libooh";
	const struct ooh_range *v;
	struct ooh_tracker *t;

	touch(mem, PAGES / 4);
	if (!open || !collect || open(getpid(), backend, 0, &t, why, sizeof(why))) {
		fprintf(stderr, "calibrate: %s\n", why);
		exit(2);
	}
	for (int i = -1; i < 32; i++) {
		if (i == 0)
			take(a, NULL);
		for (unsigned long p = 0; p < PAGES / 4; p++)
			((volatile char *)mem)[p * PAGE]++;
		if (collect(t, 0, &v, NULL) < 0)
			die("ooh_collect");
	}
}

static void loop_spml(struct point *a)
{
	rounds(a, "spml");
}

static void loop_epml(struct point *a)
{
	rounds(a, "epml");
}

static const struct {
	const char *name;
	void (*run)(struct point *begin);
} loops[] = {
	{ "syscall", loop_syscall }, { "cpuid", loop_cpuid },	{ "fault", loop_fault },
	{ "walk", loop_walk },	     { "switch", loop_switch }, { "unmap", loop_unmap },
	{ "cold", loop_cold },	     { "spin", loop_spin },	{ "spml", loop_spml },
	{ "epml", loop_epml },
};

int main(int argc, char **argv)
{
	static struct point a, b;

	events_init();
	if (!emulated) {
		fprintf(stderr, "calibrate: this is not the emulated machine\n");
		return 2;
	}
	if (pin(0))
		die("sched_setaffinity");
	for (int i = 1; i < argc; i++) {
		size_t n = 0;

		while (n < sizeof(loops) / sizeof(loops[0]) && strcmp(loops[n].name, argv[i]))
			n++;
		if (n == sizeof(loops) / sizeof(loops[0])) {
			fprintf(stderr, "calibrate: no loop %s\n", argv[i]);
			return 2;
		}
		loops[n].run(&a);
		take(&b, NULL);
		printf("bench calibrate loop %s cpus %ld ", loops[n].name,
		       sysconf(_SC_NPROCESSORS_ONLN));
		print_events(&a, &b);
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
