// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a file is reported even if others write to it while the clock is set back, so
 * that its time is the same afterwards, and the clock is then set forward again.
 */
#include <time.h>
#include <sys/stat.h>

#include "ramfs.h"

#define NR    64UL
#define TRIES 100

static struct timespec changed(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		error("fstat");
	return st.st_ctim;
}

static bool same(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Writes page n at the time when. Files get the time of the last tick, or of the last setting. */
static bool written_at(const char *path, unsigned long n, struct timespec when)
{
	struct timespec now, began, ended;
	int fd = open(path, O_RDWR | O_CLOEXEC), tries;
	bool done = false;
	char c;

	if (fd < 0 || pread(fd, &c, 1, n * PAGE) != 1)
		error(path);
	for (tries = 0; !done && tries < TRIES; tries++) {
		c++;
		if (clock_gettime(CLOCK_REALTIME, &now) || clock_gettime(CLOCK_MONOTONIC, &began) ||
		    clock_settime(CLOCK_REALTIME, &when) || pwrite(fd, &c, 1, n * PAGE) != 1 ||
		    clock_gettime(CLOCK_MONOTONIC, &ended))
			error("clock");
		now.tv_sec += ended.tv_sec - began.tv_sec;
		if (clock_settime(CLOCK_REALTIME, &now))
			error("clock_settime");
		done = same(changed(fd), when);
	}
	close(fd);
	return done;
}

int main(void)
{
	struct round r = { 0 };
	struct timespec before;
	char path[64], *p;
	int fd, t;

	ramfs_mount();
	snprintf(path, sizeof(path), "%s/file", ramfs_folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (unsigned long i = 0; i < NR; i++)
		if (pwrite(fd, "x", 1, i * PAGE + PAGE - 1) != 1)
			error(path);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	p = mmap(NULL, NR * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		error("mmap");
	before = changed(fd);
	/* old enough to be trusted */
	sleep(1);
	t = tracker_of(getpid());
	collect(t, &r);
	collect(t, &r);
	check(!reported_in(&r, p, NR), "nobody writes: %lu pages", reported_in(&r, p, NR));

	check(written_at(path, 3, before), "a file that was written bears the same time");
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE), "it is reported: %lu pages", reported_in(&r, p, NR));
	collect(t, &r);
	collect(t, &r);
	check(!reported_in(&r, p, NR), "and then no more: %lu", reported_in(&r, p, NR));
	close(t);
	munmap(p, NR * PAGE);
	close(fd);
	ramfs_unmount();
	return verdict();
}
