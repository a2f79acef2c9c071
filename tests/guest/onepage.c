// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a page of its own, for tests that watch one frame. Prints the
 * frame's number, then writes to it once for each SIGUSR1.
 */
#include <signal.h>
#include <stdint.h>
#include "tracker.h"

int main(void)
{
	volatile char *p = touched(1);
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
