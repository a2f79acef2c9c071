// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: pages for tests with alternate views of the guest's memory.
 * Prints the frame numbers of three pages: the first holds 'a', the second 'b',
 * the third nothing. Then, for each SIGUSR1, prints what the first one holds,
 * and for each SIGUSR2 switches to view 1 by VMFUNC, writes to the second one there,
 * and switches back.
 */
#include <signal.h>
#include <stdint.h>
#include "tracker.h"

static void vmfunc(unsigned int view)
{
	asm volatile(".byte 0x0f, 0x01, 0xd4" : : "a"(0), "c"(view) : "memory");
}

int main(void)
{
	volatile char *p = touched(3);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), sig;
	uint64_t words[3];
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (mlock((void *)p, 3 * PAGE) || fd < 0 ||
	    pread(fd, words, sizeof(words), (uintptr_t)p / PAGE * 8) != sizeof(words))
		error("pagemap");
	memset((void *)p, 0, 3 * PAGE);
	p[0] = 'a';
	p[PAGE] = 'b';
	for (int i = 0; i < 3; i++)
		printf("%llu ", (unsigned long long)(words[i] & ((1ULL << 55) - 1)));
	printf("\n");
	fflush(stdout);
	while (!sigwait(&set, &sig)) {
		if (sig == SIGUSR1) {
			printf("%c\n", p[0]);
		} else {
			vmfunc(1);
			p[PAGE + 1]++;
			vmfunc(0);
			printf("written\n");
		}
		fflush(stdout);
	}
	return 0;
}
