// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: tracks itself and writes PAGES pages in each of ROUNDS rounds;
 * fails if one of them is not reported. For tests that make the log lose
 * records: everything must be reported then, with the reason.
 */
#include "tracker.h"

int main(int argc, char **argv)
{
	unsigned long nr = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	int rounds = argc > 2 ? atoi(argv[2]) : 4;
	char *p = touched(nr);
	struct round r = { 0 };
	int fd = tracker_of(getpid());

	for (int k = 0; k < rounds; k++) {
		for (unsigned long i = 0; i < nr; i++)
			p[i * PAGE]++;
		collect(fd, &r);
		check(reported_in(&r, p, nr) == nr,
		      "round %d: %lu of %lu reported, flags %#x reason %#x", k,
		      reported_in(&r, p, nr), nr, r.flags & OOH_F_ALL_DIRTY, r.reason);
	}
	return verdict();
}
