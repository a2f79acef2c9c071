// SPDX-License-Identifier: GPL-2.0-only
/*
 * collector PID BACKEND: a tracker at the end of two pipes. For each line on standard input it
 * collects, and prints a line "FLAGS RANGES | RANGES | RANGES": all ranges, those that were
 * written, and those that are unknown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ooh.h>

static uint64_t put(const struct ooh_range *r, ssize_t n)
{
	uint64_t pages = 0;
	ssize_t i;

	for (i = 0; i < n; i++) {
		printf(" %llx-%llx", (unsigned long long)r[i].start, (unsigned long long)r[i].end);
		pages += (r[i].end - r[i].start) / 4096;
	}
	return pages;
}

int main(int argc, char **argv)
{
	char why[OOH_REASON_LEN], line[16];
	struct ooh_tracker *t;
	struct ooh_tracker_stats stats;
	const struct ooh_range *r;
	unsigned int flags;
	unsigned long rounds = 0, unknown = 0;
	ssize_t n;
	int rc;

	if (argc < 3)
		return 2;
	rc = ooh_open(atoi(argv[1]), argv[2], 0, &t, why, sizeof(why));
	if (rc) {
		fprintf(stderr, "%d %s\n", rc, why);
		return 1;
	}
	printf("%s\n", ooh_backend_name(t));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		n = ooh_collect(t, 0, &r, &flags);
		if (n < 0)
			printf("error %zd %s", n, ooh_reason(t));
		else
			printf("%u", flags);
		rounds += n >= 0;
		put(r, n);
		n = ooh_written(t, &r);
		fputs(" |", stdout);
		put(r, n);
		n = ooh_unknown(t, &r);
		fputs(" |", stdout);
		unknown += put(r, n);
		putchar('\n');
		fflush(stdout);
	}
	rc = ooh_stats(t, &stats, sizeof(stats)) || stats.rounds != rounds ||
	     stats.unknown != unknown;
	ooh_close(t);
	return rc;
}
