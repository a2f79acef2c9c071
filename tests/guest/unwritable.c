// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a COLLECT whose result cannot be written back to the caller fails with EFAULT
 * and loses nothing: the next one reports what the failed one would have reported.
 */
#include "tracker.h"

#define NR 64UL

static struct ooh_range v[NR];

/* May the memory at p, where a part of the result goes, be written? */
static void writable(void *p, bool yes)
{
	if (mprotect(p, PAGE, yes ? PROT_READ | PROT_WRITE : PROT_READ))
		error("mprotect");
}

int main(void)
{
	struct ooh_collect *c = (struct ooh_collect *)touched(1);
	struct ooh_range *vector = (struct ooh_range *)touched(1);
	char *p = touched(NR);
	struct round r = { 0 };
	int fd = tracker_of(getpid());

	collect(fd, &r);
	for (unsigned long i = 3; i < 30; i += 8) {
		bool in_struct = i % 16 == 3;

		p[i * PAGE]++;
		/* gone from the page tables: only the round that was not reported knew of it */
		if (madvise(p + (i + 1) * PAGE, PAGE, MADV_DONTNEED))
			error("madvise");
		*c = in_struct ? collect_into(v, NR) : collect_into(vector, 64);
		writable(in_struct ? (void *)c : vector, false);
		check(ioctl(fd, OOH_IOC_COLLECT, c) == -1 && errno == EFAULT,
		      "the %s cannot be written: EFAULT", in_struct ? "struct" : "vector");
		writable(in_struct ? (void *)c : vector, true);
		collect(fd, &r);
		check(reported(&r, p + i * PAGE), "the page of that round is in the next");
		check(reported(&r, p + (i + 1) * PAGE), "and the one that was dropped");
		/* what was on its way to the caller may be lost, if the call says so */
		if (r.flags & OOH_F_ALL_DIRTY)
			check(r.reason != 0, "as everything is, with a reason: %#x", r.reason);
		else
			check(reported_in(&r, p, NR) == 2, "their neighbours are not: %lu",
			      reported_in(&r, p, NR));
		collect(fd, &r);
		check(reported_in(&r, p, NR) == 0, "reported once: %lu more",
		      reported_in(&r, p, NR));
	}
	return verdict();
}
