// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: the oracle finds what is missed. It looks at this process's child, which is
 * stopped, after changes made through /proc/PID/mem and by the child itself. The "tracker"
 * reports the truth, or the truth with one page left out.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../../libooh/cmd/oracle.h"
#include "check.h"

#define PAGE	 4096UL
#define RESERVED (4UL << 40)

static char *area, *shared_area, *file_area;
static pid_t child;
static int file;
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

static uint64_t word_of(int pagemap, const char *at)
{
	uint64_t word;

	CHECK(pread(pagemap, &word, sizeof(word), (uint64_t)at / PAGE * 8) == 8);
	return word;
}

/* The kernel takes a page of a file out of memory: its content stays the same. */
static void page_out_at(char *at)
{
	struct iovec page = { at, PAGE };
	int pidfd = syscall(SYS_pidfd_open, child, 0), pagemap, i;
	uint64_t word = 1UL << 63;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", child);
	pagemap = open(path, O_RDONLY);
	CHECK(pidfd >= 0 && pagemap >= 0);
	for (i = 0; i < 100 && word >> 63; i++) {
		/* it may still be on its way to a list of the kernel's: let all CPUs finish that */
		CHECK(!posix_fadvise(file, at - file_area, PAGE, POSIX_FADV_DONTNEED));
		CHECK(syscall(SYS_process_madvise, pidfd, &page, 1, MADV_PAGEOUT, 0) == PAGE);
		word = word_of(pagemap, at);
		usleep(10000);
	}
	CHECK(!(word >> 63));
	close(pagemap);
	close(pidfd);
}

static void page_out(void)
{
	page_out_at(file_area);
}

static void page_out_next(void)
{
	page_out_at(file_area + PAGE);
}

static bool out_when_read;

/* The oracle's: the page is taken out between the look at its entry and the read. */
ssize_t pread(int fd, void *to, size_t len, off_t at)
{
	if (out_when_read && at == (off_t)(uint64_t)file_area) {
		out_when_read = false;
		page_out();
	}
	return syscall(SYS_pread64, fd, to, len, at);
}

/* The file's second page has no entry. To read the first has the kernel map it, too. */
static void look_while_it_comes(struct oracle *o, const struct ooh_range *v, size_t n)
{
	struct oracle_round r;

	page_out_next();
	/* out, and at hand */
	CHECK(pread(file, &(char){ 0 }, 1, PAGE) == 1);
	out_when_read = true;
	look(o, &r, v, n);
	CHECK(!out_when_read && !r.missed);
}

/* And somebody else writes to the file. */
static void page_out_and_write(void)
{
	page_out();
	CHECK(pwrite(file, "z", 1, 0) == 1);
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
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	raise(SIGSTOP);
	area[5 * PAGE] = 9; /* one page */
	raise(SIGSTOP);
	area[5 * PAGE] = 9; /* written, not changed */
	raise(SIGSTOP);
	madvise(area + 7 * PAGE, PAGE, MADV_DONTNEED);
	raise(SIGSTOP);
	munmap(area + 8 * PAGE, PAGE); /* gone: nothing to compare */
	raise(SIGSTOP);
	for (;;) {
		(void)*(volatile char *)file_area;
		(void)*(volatile char *)(file_area + PAGE);
		raise(SIGSTOP);
	}
	_exit(0);
}

int main(int argc, char **argv)
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
	/* not in memory alone, as a page that nobody can take out would be */
	CHECK(argc == 2);
	file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(file >= 0 && !ftruncate(file, 2 * PAGE) && pwrite(file, "a", 1, 0) == 1 &&
	      pwrite(file, "b", 1, PAGE) == 1 && !fsync(file));
	file_area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(file_area != MAP_FAILED && *file_area == 'a');
	/* address space alone costs nothing */
	CHECK(mmap(NULL, RESERVED, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
	child = fork();
	if (!child)
		steps();
	CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	/* what two processes map is not taken out */
	CHECK(!madvise(file_area, 2 * PAGE, MADV_DONTNEED));
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

	/* others write after the look: the tracker cannot report that before the next round ... */
	some[0] = (struct ooh_range){ base + 3 * PAGE, base + 4 * PAGE };
	between = poke_3;
	look(o, &r, NULL, 0);
	CHECK(!r.changed && !r.missed);
	between = NULL;
	look(o, &r, NULL, 0);
	CHECK(r.changed == 1 && r.missed == 1 && told[0] == base + 3 * PAGE);
	/* ... and if it was reported already, not even then */
	between = poke_3;
	look(o, &r, some, 1);
	CHECK(!r.changed && r.extra == 1);
	between = NULL;
	look(o, &r, NULL, 0);
	CHECK(!r.changed && !r.missed);
	/* a page reported one round late is missed, in private and in shared memory */
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

	/*
	 * Reported, and taken out before it could be copied again. That it is back with its old
	 * content is no change, and its content now may have been reported.
	 */
	let_run();
	look(o, &r, &all, 1);
	for (i = 0; i < 2; i++) {
		between = i ? page_out_and_write : page_out;
		look(o, &r, &all, 1);
		between = NULL;
		let_run();
		some[0] = (struct ooh_range){ 0, (uint64_t)file_area };
		some[1] = (struct ooh_range){ (uint64_t)file_area + PAGE, all.end };
		look(o, &r, some, 2);
		CHECK(!r.missed);
	}
	/* so was the page beside it, which the kernel mapped because of the oracle's own read */
	page_out_next();
	CHECK(pwrite(file, "c", 1, PAGE) == 1 && !fsync(file));
	out_when_read = true;
	between = page_out_next;
	look(o, &r, &all, 1);
	CHECK(!out_when_read);
	between = NULL;
	let_run();
	some[0].end = (uint64_t)file_area + PAGE;
	some[1].start = (uint64_t)file_area + 2 * PAGE;
	look(o, &r, some, 2);
	CHECK(!r.missed);
	/* a tracker that has not seen it go need not report that it is back */
	look_while_it_comes(o, some, 2);
	let_run();
	look(o, &r, some, 2);
	CHECK(!r.missed);
	/* but what it had then is known */
	look_while_it_comes(o, some, 2);
	CHECK(pwrite(file, "d", 1, PAGE) == 1);
	look(o, &r, some, 2);
	CHECK(r.missed == 1 && told[0] == (uint64_t)file_area + PAGE);
	some[0].end = (uint64_t)file_area;
	some[1].start = (uint64_t)file_area + PAGE;
	/* it is known again: another change is one */
	CHECK(pwrite(file, "y", 1, 0) == 1);
	look(o, &r, some, 2);
	CHECK(r.missed == 1 && told[0] == (uint64_t)file_area);
	/* so is one between a report that lacks it and the next */
	between = page_out_and_write;
	look(o, &r, some, 2);
	between = NULL;
	let_run();
	look(o, &r, some, 2);
	CHECK(r.missed == 1 && told[0] == (uint64_t)file_area);

	/* new, and out again before the tracker looked; new, and still there */
	for (i = 0; i < 2; i++) {
		page_out();
		look(o, &r, &all, 1);
		let_run();
		between = i ? NULL : page_out;
		look(o, &r, some, 2);
		between = NULL;
		CHECK(r.missed == (uint64_t)i && (!i || told[0] == (uint64_t)file_area));
	}
	/* there when the tracker began, and out when the oracle did */
	oracle_free(o);
	o = oracle_new(child);
	CHECK(o && !oracle_copy(o));
	page_out();
	CHECK(!oracle_copy(o));
	let_run();
	look(o, &r, some, 2);
	CHECK(!r.missed);

	oracle_free(o);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return 0;
}
