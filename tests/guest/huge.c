// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: transparent huge pages, and threads that write all the time.
 *
 * A huge page is one entry above the page tables, but 512 frames of the log: a write
 * is reported to 4 KiB. Threads write while rounds end, so that writes fall into all
 * phases of a collect. Each write must be in that round or in the next.
 */
#include <pthread.h>

#include "tracker.h"

#define NR	1024UL /* two huge pages */
#define THREADS 3

static char *mem;
static volatile bool stop;

static void *writer(void *arg)
{
	unsigned long i = (unsigned long)arg;

	while (!stop) {
		__atomic_fetch_add((unsigned long *)(mem + i % NR * PAGE), 1, __ATOMIC_RELAXED);
		i += 37;
	}
	return NULL;
}

int main(void)
{
	struct round r = { 0 };
	pthread_t t[THREADS];
	unsigned long *seen, missed = 0, changes = 0;
	int fd;

	mem = mmap((void *)0x220000000000UL, NR * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	seen = calloc(NR, sizeof(*seen));
	if (mem == MAP_FAILED || !seen)
		error("memory");
	madvise(mem, NR * PAGE, MADV_HUGEPAGE);
	memset(mem, 0, NR * PAGE);
	memset(seen, 0, NR * sizeof(*seen));
	fd = tracker_of(getpid());
	collect(fd, &r);
	mem[100 * PAGE]++;
	mem[700 * PAGE]++;
	collect(fd, &r);
	check(reported_in(&r, mem, NR) == 2 && reported(&r, mem + 100 * PAGE) &&
		      reported(&r, mem + 700 * PAGE),
	      "two pages of two huge ones: %lu", reported_in(&r, mem, NR));
	/* split in the guest */
	if (mprotect(mem + 3 * PAGE, PAGE, PROT_READ))
		error("mprotect");
	mem[101 * PAGE]++;
	collect(fd, &r);
	check(reported(&r, mem + 101 * PAGE), "after the huge page was split");
	if (mprotect(mem + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE))
		error("mprotect");
	memset(mem, 0, NR * PAGE);
	collect(fd, &r);

	for (unsigned long i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, writer, (void *)(i * 300)))
			error("pthread_create");
	/*
	 * A counter that differs from what was read after the last collect has changed
	 * since then, so it must be in this round. The contract is about reads after
	 * collect has returned.
	 */
	for (int k = 0; k < 60; k++) {
		collect(fd, &r);
		for (unsigned long i = 0; i < NR; i++) {
			unsigned long now = __atomic_load_n((unsigned long *)(mem + i * PAGE),
							    __ATOMIC_RELAXED);

			/* what changed after the collect may be in the next round only */
			if (reported(&r, mem + i * PAGE))
				seen[i] = now;
			else if (now != seen[i])
				changes++;
		}
	}
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	/* nobody writes any more: the last round must bring what is still unseen */
	collect(fd, &r);
	for (unsigned long i = 0; i < NR; i++)
		if (*(unsigned long *)(mem + i * PAGE) != seen[i] && !reported(&r, mem + i * PAGE))
			missed++;
	check(missed == 0, "%d threads, 60 rounds: %lu missed (%lu changed behind a collect)",
	      THREADS, missed, changes);
	return verdict();
}
