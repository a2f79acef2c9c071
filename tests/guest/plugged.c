// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what a process writes to memory that was plugged into the running machine is
 * reported, round after round, also by a tracker that is older than that memory.
 *
 * Waits for such memory, which has to be plugged in from outside (tests/testbed/test_memory.py).
 */
#include <stdint.h>

#include "tracker.h"

#define NR     64UL
#define WAIT_S 60
#define MEMORY (1UL << 30) /* of what there was, the rest stays free */

/* The first address above the memory that the machine had at its start, or 0. */
static unsigned long plugged_at(void)
{
	FILE *f = fopen("/proc/iomem", "r");
	unsigned long start, end, from = 0, had = 0;
	char line[128], *what;

	while (f && fgets(line, sizeof(line), f)) {
		what = strstr(line, " : System RAM");
		if (!what || line[0] == ' ' || sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		if (had)
			from = from ? from : start;
		else if (start == 1UL << 20)
			had = end;
	}
	if (f)
		fclose(f);
	return from;
}

static unsigned long frame_at(int pagemap, const char *p)
{
	uint64_t word;

	if (pread(pagemap, &word, sizeof(word), (unsigned long)p / PAGE * sizeof(word)) !=
	    sizeof(word))
		error("pagemap");
	return word >> 63 ? word & ((1UL << 55) - 1) : 0;
}

int main(void)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), t = tracker_of(getpid());
	unsigned long from, used, n = 0;
	struct round r = { 0 };
	char *area, *there[NR];

	area = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED || pagemap < 0)
		error("mmap");
	madvise(area, MEMORY, MADV_NOHUGEPAGE);
	for (int i = 0; !plugged_at() && i < 10 * WAIT_S; i++)
		usleep(100000);
	from = plugged_at() / PAGE;
	if (!from) {
		printf("error: no memory came\n");
		return 2;
	}
	sleep(2); /* the balloon fills it page by page */
	/* only a few of all that were touched are kept */
	for (used = 0; n < NR && used < MEMORY / PAGE; used++) {
		char *p = area + used * PAGE;

		p[0] = 1;
		if (frame_at(pagemap, p) >= from && used % 2)
			there[n++] = p;
	}
	if (n < NR) {
		printf("error: %lu of %lu pages lie in the new memory\n", n, NR);
		return 2;
	}
	for (int k = 0; k < 6; k++) {
		unsigned long told = 0, extra = 0;

		for (unsigned long i = 0; k && i < n; i += 2)
			there[i][0]++;
		collect(t, &r);
		for (unsigned long i = 0; i < n; i++) {
			told += i % 2 == 0 && reported(&r, there[i]);
			extra += i % 2 && reported(&r, there[i]);
		}
		if (k)
			check(told == n / 2, "round %d: %lu of %lu written pages reported", k, told,
			      n / 2);
		if (k > 1)
			check(extra == 0 && !r.flags, "round %d: %lu others", k, extra);
	}
	return verdict();
}
