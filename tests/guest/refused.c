// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process has more frames than Xen lets the machine follow. The frames that Xen
 * refuses count as written in each round, whether they were mapped before the attach or after
 * it, and they are followed once there is room.
 *
 *	refused MIB FILE
 *
 * makes FILE, and goes on when FILE is gone: by then Xen takes more frames
 * (tests/testbed/test_memory.py).
 */
#include "tracker.h"

#define ROUNDS 3

static unsigned long pages;

static char *map(int fd)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		error("mmap");
	return p;
}

/* In each round every page that was written. */
static void complete(int t, char *p, const char *what)
{
	unsigned long before = stats_of(t).refused, told, times;
	struct round r = { 0 };

	for (int k = 0; k < ROUNDS; k++) {
		for (unsigned long i = 0; i < pages; i++)
			p[i * PAGE]++;
		collect(t, &r);
		told = reported_in(&r, p, pages);
		check(told == pages && !r.reason, "%s, round %d: %lu of %lu pages reported", what,
		      k, told, pages);
	}
	collect(t, &r);
	told = reported_in(&r, p, pages);
	times = stats_of(t).refused - before;
	check(times > 1024 && told > 1024 && told < pages,
	      "%s: %lu times refused; without a write %lu pages reported", what, times, told);
}

int main(int argc, char **argv)
{
	int fd = memfd_create("many", MFD_CLOEXEC), t;
	struct round r = { 0 };
	char *p;

	if (argc != 3)
		return 2;
	pages = strtoul(argv[1], NULL, 0) << (20 - 12);
	if (fd < 0 || ftruncate(fd, pages * PAGE))
		error("memfd");
	p = map(fd);
	for (unsigned long i = 0; i < pages; i++)
		p[i * PAGE] = 1;
	t = tracker_of(getpid());
	complete(t, p, "mapped before the attach");
	if (munmap(p, pages * PAGE))
		error("munmap");
	collect(t, &r);
	p = map(fd);
	complete(t, p, "mapped later");

	if (creat(argv[2], 0600) < 0)
		error(argv[2]);
	for (int i = 0; !access(argv[2], F_OK) && i < 3000; i++)
		usleep(100000);
	/* they are tried again at the next one */
	collect(t, &r);
	collect(t, &r);
	check(reported_in(&r, p, pages) == 0, "with room again: %lu pages reported",
	      reported_in(&r, p, pages));
	close(t);
	return verdict();
}
