// SPDX-License-Identifier: GPL-2.0-only
/*
 * roomy GIB: reserves so much address space, as runtimes of languages and sanitizers do, writes
 * to 500 pages of it, far from each other, and goes on with one. Not a test by itself.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

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
	for (size_t i = 0; i < 500; i++)
		place[size / 500 * i] = 1;
	puts("ready");
	fclose(stdout);
	for (;;) {
		place[size / 2]++;
		usleep(10000);
	}
}
