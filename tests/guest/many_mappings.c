// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: thousands of mappings of a page each, each with a page table of its own, are
 * followed page by page.
 */
#include "tracker.h"

#define NR   4000UL
#define STEP (2UL << 20)
#define AT   ((char *)0x230000000000UL)

static void map_one(unsigned long i)
{
	if (mmap(AT + i * STEP, PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		error("mmap");
	AT[i * STEP] = 1;
}

/* How many of pages first, first + step ... are reported, and how many others */
static void judged(const struct round *r, unsigned long first, unsigned long step, const char *what)
{
	unsigned long missed = 0, extra = 0;

	for (unsigned long i = 0; i < NR; i++) {
		bool should = step && i >= first && (i - first) % step == 0;

		missed += should && !reported(r, AT + i * STEP);
		extra += !should && reported(r, AT + i * STEP);
	}
	check(!missed && !extra, "%s: %lu missed, %lu extra", what, missed, extra);
}

int main(void)
{
	struct round r = { 0 };
	unsigned long i;
	int t;

	for (i = 0; i < NR; i++)
		map_one(i);
	t = tracker_of(getpid());
	collect(t, &r);
	judged(&r, 0, 0, "nothing written");
	for (i = 5; i < NR; i += 100)
		AT[i * STEP]++;
	collect(t, &r);
	judged(&r, 5, 100, "some written");
	for (i = 7; i < NR; i += 200)
		if (munmap(AT + i * STEP, PAGE))
			error("munmap");
	collect(t, &r);
	for (i = 7; i < NR; i += 200)
		map_one(i);
	collect(t, &r);
	judged(&r, 7, 200, "some unmapped and mapped again");
	collect(t, &r);
	judged(&r, 0, 0, "quiet again");
	return verdict();
}
