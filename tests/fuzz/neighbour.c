// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first and only process of another domain, whose memory nobody but itself
 * may change: it looks at all of it again and again, and says so in the kernel's log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS (16UL << 20 >> 3)

int main(void)
{
	unsigned long *p = malloc(WORDS * sizeof(*p)), round, i;

	/* what the kernel logs reaches Xen's log */
	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	if (!freopen("/dev/kmsg", "w", stdout))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; p && i < WORDS; i++)
		p[i] = i;
	for (round = 1; p; round++) {
		for (i = 0; i < WORDS; i++) {
			if (p[i] != (i ^ (round - 1)))
				printf("neighbour: broken: word %lu is %#lx in round %lu\n", i,
				       p[i], round);
			p[i] = i ^ round;
		}
		printf("neighbour: round %lu\n", round);
		sleep(2);
	}
	puts("neighbour: broken: no memory");
	pause();
	return 0;
}
