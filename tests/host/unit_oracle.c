// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: the oracle bites. It looks at this process's child, which is
 * stopped, after changes made through /proc/PID/mem and by the child itself; the
 * "tracker" is the truth, or the truth with one page left out.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../libooh/cmd/oracle.h"

#define PAGE 4096UL
#define CHECK(x)                                                       \
	do {                                                           \
		if (!(x)) {                                            \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #x); \
			exit(1);                                       \
		}                                                      \
	} while (0)

static char *area;
static pid_t child;
static uint64_t told[4];
static int ntold;

static void note(void *arg, uint64_t page, const char *mapping)
{
	CHECK(arg == told && *mapping);
	if (ntold < 4)
		told[ntold++] = page;
}

static void look(struct oracle *o, struct oracle_round *r, const struct ooh_range *v, size_t n)
{
	ntold = 0;
	CHECK(!oracle_round(o, v, n, r, note, told));
}

/* The child's next step: it stops itself after each. */
static void let_run(void)
{
	int status;

	kill(child, SIGCONT);
	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
}

static void steps(void)
{
	raise(SIGSTOP);
	area[5 * PAGE] = 9; /* one page */
	raise(SIGSTOP);
	area[5 * PAGE] = 9; /* written, not changed */
	raise(SIGSTOP);
	madvise(area + 7 * PAGE, PAGE, MADV_DONTNEED);
	raise(SIGSTOP);
	munmap(area + 8 * PAGE, PAGE); /* gone: nothing to compare */
	raise(SIGSTOP);
	_exit(0);
}

int main(void)
{
	struct ooh_range all = { 0, ~0UL & ~(PAGE - 1) }, some[2];
	struct oracle_round r;
	struct oracle *o;
	uint64_t base;
	int status;

	area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(area, 1, 16 * PAGE);
	base = (uint64_t)area;
	child = fork();
	if (!child)
		steps();
	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	o = oracle_new(child);
	CHECK(o);
	look(o, &r, &all, 1);
	CHECK(r.mapped > 16 && r.changed + r.unreadable == r.mapped && !r.missed);

	look(o, &r, NULL, 0); /* nothing ran */
	CHECK(!r.changed && !r.missed && !r.reported);
	look(o, &r, &all, 1);
	CHECK(!r.changed && r.extra == r.reported && r.extra);

	/* stack and libc's data change too, so all but one page are reported */
	some[0] = (struct ooh_range){ 0, base + 5 * PAGE };
	some[1] = (struct ooh_range){ base + 6 * PAGE, all.end };
	let_run();
	look(o, &r, some, 2);
	CHECK(r.missed == 1 && ntold == 1 && told[0] == base + 5 * PAGE && r.changed >= 1);
	let_run();
	look(o, &r, some, 2); /* the same value again is no change */
	CHECK(!r.missed);

	some[0].end = base + 7 * PAGE;
	some[1].start = base + 8 * PAGE;
	let_run();
	look(o, &r, some, 2); /* dropped: reads as zeros now */
	CHECK(r.missed == 1 && told[0] == base + 7 * PAGE);
	some[0].end = base + 8 * PAGE;
	some[1].start = base + 9 * PAGE;
	let_run();
	look(o, &r, some, 2);
	CHECK(!r.missed);

	oracle_free(o);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return 0;
}
