// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: one page, for tests that watch one frame. Prints the frame's number, then
 * writes to it once for each SIGUSR1. The page lies in a huge page of the program's own, so
 * that nobody else writes to memory that Xen may map as one superpage.
 */
#include <signal.h>
#include <stdint.h>
#include "tracker.h"

#define HUGE (2UL << 20)

static char *in_a_huge_page(void)
{
	char *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		error("mmap");
	p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	/* without a huge page the page alone will do */
	madvise(p, HUGE, MADV_HUGEPAGE);
	p += 100 * PAGE;
	*p = 1;
	return p;
}

int main(void)
{
	volatile char *p = in_a_huge_page();
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), sig;
	uint64_t word;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (mlock((void *)p, PAGE) || fd < 0 || pread(fd, &word, 8, (uintptr_t)p / PAGE * 8) != 8)
		error("pagemap");
	printf("%llu\n", (unsigned long long)(word & ((1ULL << 55) - 1)));
	fflush(stdout);
	while (!sigwait(&set, &sig))
		++*p;
	return 0;
}
