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
#include <time.h>
#include <unistd.h>
#include "../../libooh/cmd/oracle.h"

#define PAGE	 4096UL
#define RESERVED (4UL << 40)
#define CHECK(x)                                                       \
	do {                                                           \
		if (!(x)) {                                            \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #x); \
			exit(1);                                       \
		}                                                      \
	} while (0)

static char *area, *shared_area;
static pid_t child;
static uint64_t told[4];
static int ntold;
static char poked = 20;
static void (*between)(void); /* the look and the judgement */

static void note(void *arg, uint64_t page, const char *mapping)
{
	CHECK(arg == told && *mapping);
	if (ntold < 4)
		told[ntold++] = page;
}

static void look(struct oracle *o, struct oracle_round *r, const struct ooh_range *v, size_t n)
{
	ntold = 0;
	CHECK(!oracle_look(o));
	if (between)
		between();
	CHECK(!oracle_judge(o, v, n, r, note, told));
}

/* What somebody else writes meanwhile, as a process that shares the memory */
static void poke(uint64_t at, char what)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	fd = open(path, O_RDWR);
	CHECK(pwrite(fd, &what, 1, at) == 1);
	close(fd);
}

static void poke_3(void)
{
	poke((uint64_t)area + 3 * PAGE, poked++);
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
	struct timespec began, ended;
	uint64_t base;
	int status, i;

	area = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(area, 1, 16 * PAGE);
	base = (uint64_t)area;
	shared_area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared_area[0] = 1;
	/* address space alone costs nothing */
	CHECK(mmap(NULL, RESERVED, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
	child = fork();
	if (!child)
		steps();
	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	o = oracle_new(child);
	CHECK(o);
	CHECK(!oracle_copy(o));

	clock_gettime(CLOCK_MONOTONIC, &began);
	look(o, &r, NULL, 0); /* nothing ran */
	CHECK(r.mapped > 16 && !r.changed && !r.missed && !r.reported);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	CHECK(ended.tv_sec - began.tv_sec < 4);
	look(o, &r, &all, 1);
	CHECK(!r.changed && r.extra == r.reported && r.extra);

	/* others write after the look: the tracker is not to blame before the next round ... */
	some[0] = (struct ooh_range){ base + 3 * PAGE, base + 4 * PAGE };
	between = poke_3;
	look(o, &r, NULL, 0);
	CHECK(!r.changed && !r.missed);
	between = NULL;
	look(o, &r, NULL, 0);
	CHECK(r.changed == 1 && r.missed == 1 && told[0] == base + 3 * PAGE);
	/* ... and if it was told already, not even then */
	between = poke_3;
	look(o, &r, some, 1);
	CHECK(!r.changed && r.extra == 1);
	between = NULL;
	look(o, &r, NULL, 0);
	CHECK(!r.changed && !r.missed);
	/* told one round late is missed, in private memory and in shared memory */
	for (i = 0; i < 2; i++) {
		uint64_t at = i ? (uint64_t)shared_area : base + 3 * PAGE;

		some[0] = (struct ooh_range){ at, at + PAGE };
		poke(at, poked++);
		look(o, &r, NULL, 0);
		CHECK(r.changed == 1 && r.missed == 1 && told[0] == at);
		look(o, &r, some, 1);
		CHECK(!r.changed && !r.missed && r.extra == 1);
	}

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
