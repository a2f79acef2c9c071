// SPDX-License-Identifier: GPL-2.0-only
/*
 * filemap FILE [OTHER]: maps 8 pages of FILE twice (private and writable, shared and read-only),
 * reads them, and prints both addresses; maps OTHER somewhere else. For each line on standard
 * input it does what the line says, and prints "done": "copy N" writes to a page of the private
 * mapping, "same N" writes what it reads there, "drop N" drops it, "exec N" makes it executable,
 * "read" reads all mapped pages, "over FILE" maps another file in place of both, and "shift FILE"
 * maps FILE from its second page on in place of both.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE  4096L
#define PAGES 8

static char *area[2];
static sigjmp_buf there_is_none;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(there_is_none, 1);
}

static void map(const char *path, int fixed, off_t at)
{
	int fd = open(path, O_RDONLY);

	area[0] = mmap(area[0], PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | fixed, fd, at);
	area[1] = mmap(area[1], PAGES * PAGE, PROT_READ, MAP_SHARED | fixed, fd, at);
	if (fd < 0 || area[0] == MAP_FAILED || area[1] == MAP_FAILED)
		exit(2);
	close(fd);
}

static void read_all(void)
{
	volatile int i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < PAGES; k++)
			if (!sigsetjmp(there_is_none, 1))
				*(volatile char *)(area[i] + k * PAGE);
}

int main(int argc, char **argv)
{
	char line[4096], word[8], path[4000];
	volatile char *at;

	if (argc < 2)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGBUS, on_bus);
	if (argc > 2)
		map(argv[2], 0, 0);
	area[0] = area[1] = NULL;
	map(argv[1], 0, 0);
	read_all();
	printf("%p %p\n", area[0], area[1]);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%7s %3999s", word, path) < 1)
			return 2;
		at = area[0] + atoi(path) * PAGE;
		if (!strcmp(word, "copy"))
			at[100]++;
		else if (!strcmp(word, "same"))
			at[100] = at[100];
		else if (!strcmp(word, "drop"))
			madvise((void *)at, PAGE, MADV_DONTNEED);
		else if (!strcmp(word, "exec"))
			mprotect((void *)at, PAGE, PROT_READ | PROT_EXEC);
		else if (!strcmp(word, "over"))
			map(path, MAP_FIXED, 0);
		else if (!strcmp(word, "shift"))
			map(path, MAP_FIXED, PAGE);
		else
			read_all();
		puts("done");
		fflush(stdout);
	}
	return 0;
}
