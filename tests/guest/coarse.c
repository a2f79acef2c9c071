// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a file that another process opens, writes and closes within a round is
 * followed, however coarse its time stamps are; $OOH_DIR is where it lies.
 */
#include <time.h>

#include "processes.h"

#define NR    64UL
#define ALONE ((void *)0x220000000000UL) /* a page table without any entry */

static char name[200];

/* Nobody but this process, for this moment, has the file open for writing. */
static void writer(char letter)
{
	int fd;

	if (!letter)
		return;
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, &letter, 1, letter * PAGE) != 1)
		_exit(1);
	close(fd);
}

static void make_file(void)
{
	static char ones[PAGE];
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	memset(ones, 1, PAGE);
	for (unsigned long i = 0; i < NR; i++)
		if (fd < 0 || write(fd, ones, PAGE) != (ssize_t)PAGE)
			error(name);
	if (fsync(fd))
		error("fsync");
	close(fd);
}

/* A time stamp in seconds says nothing about the current second. */
static void early_in_a_second(void)
{
	struct timespec t;

	for (int i = 0; i < 4000; i++) {
		clock_gettime(CLOCK_REALTIME, &t);
		/* wait for an even one: there are stamps of two seconds */
		if (t.tv_sec % 2 == 0 && t.tv_nsec > 100000000 && t.tv_nsec < 400000000)
			return;
		usleep(1000);
	}
}

int main(void)
{
	const char *dir = getenv("OOH_DIR");
	struct round r = { 0 };
	struct process other;
	unsigned long extra;
	int fd, t;
	char *p;

	if (!dir) {
		printf("skip: no OOH_DIR\n");
		return 77;
	}
	snprintf(name, sizeof(name), "%s/coarse", dir);
	make_file();
	fd = open(name, O_RDONLY | O_CLOEXEC);
	p = mmap(ALONE, NR * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || p == MAP_FAILED)
		error(name);
	close(fd);
	other = process_of(writer);
	usleep(2100000);
	t = tracker_of(getpid());
	early_in_a_second();
	collect(t, &r);
	collect(t, &r);
	collect(t, &r);
	extra = reported_in(&r, p, NR);
	tell(&other, 7);
	collect(t, &r);
	check(reported(&r, p + 7 * PAGE), "page 7, written by another process");
	check(extra == 0, "before it nothing was written: %lu", extra);
	/* nor is anything reported after it: the doubt ends with the second */
	usleep(2100000);
	collect(t, &r);
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "after it: %lu", reported_in(&r, p, NR));
	killed(other.pid, 1000);
	unlink(name);
	return verdict();
}
