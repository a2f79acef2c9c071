// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: pages of a file or of shared memory that the process has mapped, but
 * has no page-table entry for, are reported when somebody else changes them.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tracker.h"

#define NR 1024UL /* two page tables' worth, and on a boundary of them */

static int to, from;

/* Another process writes page n, through a mapping of its own. */
static void writer(int fd, int in, int out)
{
	volatile char *p;
	unsigned long n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	p = mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		_exit(2);
	while (read(in, &n, sizeof(n)) == sizeof(n)) {
		p[n * PAGE]++;
		if (write(out, &n, sizeof(n)) != sizeof(n))
			break;
	}
	_exit(0);
}

static void other_writes(unsigned long n)
{
	if (write(to, &n, sizeof(n)) != sizeof(n) || read(from, &n, sizeof(n)) != sizeof(n))
		error("the other process");
}

static char *map(int fd, int flags)
{
	char *p = mmap((void *)0x220000000000UL, NR * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		error("mmap");
	return p;
}

static void shared_memory(void)
{
	int fd = memfd_create("absent", 0), there[2], back[2], t;
	struct round r = { 0 };
	pid_t pid;
	char *p;

	if (fd < 0 || ftruncate(fd, NR * PAGE) || pipe(there) || pipe(back))
		error("memfd");
	pid = fork();
	if (pid == 0)
		writer(fd, there[0], back[1]);
	to = there[1];
	from = back[0];
	other_writes(3);
	p = map(fd, MAP_SHARED);
	t = tracker_of(getpid());

	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "shared memory, nothing written: %lu pages",
	      reported_in(&r, p, NR));
	other_writes(3);
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE) && reported_in(&r, p, NR) == 1,
	      "a page the other had written, written again: %lu", reported_in(&r, p, NR));
	other_writes(700);
	collect(t, &r);
	check(reported(&r, p + 700 * PAGE) && reported_in(&r, p, NR) == 1,
	      "a page that was a hole: %lu", reported_in(&r, p, NR));
	other_writes(700);
	collect(t, &r);
	check(reported(&r, p + 700 * PAGE) && reported_in(&r, p, NR) == 1, "and once more: %lu",
	      reported_in(&r, p, NR));
	if (pwrite(fd, "x", 1, 20 * PAGE) != 1)
		error("pwrite");
	collect(t, &r);
	check(reported(&r, p + 20 * PAGE) && reported_in(&r, p, NR) == 1, "write(2): %lu",
	      reported_in(&r, p, NR));
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 20 * PAGE, PAGE))
		error("fallocate");
	collect(t, &r);
	check(reported(&r, p + 20 * PAGE) && reported_in(&r, p, NR) == 1, "a hole punched: %lu",
	      reported_in(&r, p, NR));

	/* the page gets an entry, then loses it */
	p[3 * PAGE]++;
	other_writes(3);
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE), "written by both");
	if (madvise(p, NR * PAGE, MADV_DONTNEED))
		error("madvise");
	collect(t, &r);
	other_writes(3);
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE) && reported_in(&r, p, NR) == 1,
	      "its entry dropped, written by the other: %lu", reported_in(&r, p, NR));
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "quiet again");

	munmap(p, NR * PAGE);
	collect(t, &r);
	other_writes(3);
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "unmapped: no business of ours");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(t);
	close(fd);
}

/* A private mapping shows what is written to the file until it has a copy of its own. */
static void private_file(void)
{
	char name[] = "/var/tmp/absent.XXXXXX";
	int fd = mkstemp(name), t;
	struct round r = { 0 };
	char *p;

	if (fd < 0 || ftruncate(fd, NR * PAGE))
		error("file");
	if (pwrite(fd, "x", 1, 5 * PAGE) != 1)
		error("pwrite");
	p = map(fd, MAP_PRIVATE);
	t = tracker_of(getpid());
	collect(t, &r);
	if (pwrite(fd, "y", 1, 5 * PAGE) != 1)
		error("pwrite");
	collect(t, &r);
	check(reported(&r, p + 5 * PAGE), "a file written, privately mapped");
	p[5 * PAGE] = 'z';
	collect(t, &r);
	collect(t, &r);
	if (pwrite(fd, "w", 1, 5 * PAGE) != 1)
		error("pwrite");
	collect(t, &r);
	check(!reported(&r, p + 5 * PAGE), "not seen any more once copied");
	close(t);
	close(fd);
	unlink(name);
}

int main(void)
{
	shared_memory();
	private_file();
	return verdict();
}
