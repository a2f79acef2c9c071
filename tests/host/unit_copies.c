// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: unit_copies FILE: a process drops its private copy of a page of the file, and
 * writes to the page again. The first fault makes a copy with the mark of a page that nobody
 * wrote. The second, when the instruction is tried again, removes the mark. The process is
 * stopped between the two: its page has another content than before, and has to be reported.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ooh.h>

#define PAGE	4096
#define TRIES	20000
#define ENOUGH	5
#define FILEBIT (UINT64_C(1) << 61)
#define MARK	(UINT64_C(1) << 57)
#define PRESENT (UINT64_C(1) << 63)

static volatile int *turn; /* [0]: do it, [1]: done */

static void child(volatile char *page)
{
	int i = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (turn[0] == i)
			;
		i = turn[0];
		madvise((void *)page, PAGE, MADV_DONTNEED);
		page[100] = i;
		turn[1] = i;
	}
}

static void stop(pid_t pid)
{
	int status;

	ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
		exit(2);
}

/* Is it between the two faults? */
static int is_between(pid_t pid, int pagemap, char *page, const char *content)
{
	char there[PAGE];
	struct iovec to = { there, PAGE }, from = { page, PAGE };
	uint64_t word = 0;

	if (pread(pagemap, &word, 8, (uintptr_t)page / PAGE * 8) != 8)
		exit(2);
	if (!(word & PRESENT) || !(word & MARK) || word & FILEBIT)
		return 0;
	return process_vm_readv(pid, &to, 1, &from, 1, 0) == PAGE && !memcmp(there, content, PAGE);
}

static int is_reported(struct ooh_tracker *t, char *page)
{
	const struct ooh_range *r;
	ssize_t n = ooh_collect(t, OOH_STOPPED, &r, NULL), i;

	if (n < 0) {
		printf("%s\n", ooh_reason(t));
		exit(2);
	}
	for (i = 0; i < n; i++)
		if (r[i].start <= (uintptr_t)page && r[i].end > (uintptr_t)page)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	char why[OOH_REASON_LEN], path[40], content[PAGE], *page;
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1, pagemap, i, k, hits = 0, missed = 0;
	struct ooh_tracker *t;
	pid_t pid;

	turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (page == MAP_FAILED || pread(fd, content, PAGE, 0) != PAGE)
		return 2;
	close(fd);
	pid = fork();
	if (!pid)
		child(page);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pagemap = open(path, O_RDONLY);
	if (ooh_open(pid, "pagemap-scan", 0, &t, why, sizeof(why))) {
		printf("%s\n", why);
		return 2;
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return 2;
	for (i = 1; i < TRIES && hits < ENOUGH; i++) {
		/* a copy that has the mark, and differs from the file */
		turn[0] = i & 127 ? i : ++i;
		while (turn[1] != turn[0])
			sched_yield();
		stop(pid);
		is_reported(t, page);
		is_reported(t, page);
		ptrace(PTRACE_CONT, pid, 0, 0);
		turn[0] = ++i & 127 ? i : ++i;
		for (k = rand() % 3000; k > 0; k--)
			__asm__ volatile("");
		stop(pid);
		if (is_between(pid, pagemap, page, content)) {
			hits++;
			missed += !is_reported(t, page);
		}
		ptrace(PTRACE_CONT, pid, 0, 0);
		while (turn[1] != turn[0])
			sched_yield();
	}
	printf("%d tries, %d times between the faults, %d missed\n", i, hits, missed);
	ooh_close(t);
	kill(pid, SIGKILL);
	return hits ? missed != 0 : 77;
}
