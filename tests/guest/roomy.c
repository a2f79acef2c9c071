// SPDX-License-Identifier: GPL-2.0-only
/*
 * roomy GIB: reserves so much address space, as runtimes of languages and sanitizers do, writes
 * to 500 pages of it, far from each other, and goes on with 100 of them a second, one after
 * the other. Not a test by itself.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 500

int main(int argc, char **argv)
{
	size_t size = argc == 2 ? strtoul(argv[1], NULL, 10) << 30 : 0;
	char *place;

	place = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (place == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	/* a huge page for each would be more memory than there is */
	madvise(place, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PAGES; i++)
		place[size / PAGES * i] = 1;
	puts("ready");
	fclose(stdout);
	for (size_t i = 0;; i++) {
		place[size / PAGES * (i % PAGES)]++;
		usleep(10000);
	}
}
