// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes pages on demand: prints the address of 64 pages, all filled. Then, for each line
 * "N N ..." on standard input, it writes these pages and prints "done". At a line "exec"
 * the program executes itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char line[256], *p, *end;
	char *area =
		mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argc;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(area, 1, 64 * 4096);
	printf("%p\n", area);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "exec", 4))
			execv(argv[0], argv);
		for (p = line; *p != '\n'; p = end) {
			long n = strtol(p, &end, 10);

			if (end == p)
				break;
			area[n * 4096 + n]++;
		}
		puts("done");
		fflush(stdout);
	}
	return 0;
}
