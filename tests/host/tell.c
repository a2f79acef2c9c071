// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tracker on the end of two pipes: tell PID BACKEND; for each line on standard
 * input collects and prints "FLAGS START-END ..." on one line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ooh.h>

int main(int argc, char **argv)
{
	char why[OOH_REASON_LEN], line[16];
	struct ooh_tracker *t;
	struct ooh_tracker_stats stats;
	const struct ooh_range *r;
	unsigned int flags;
	unsigned long rounds = 0;
	ssize_t i, n;
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
		for (i = 0; i < n; i++)
			printf(" %llx-%llx", (unsigned long long)r[i].start,
			       (unsigned long long)r[i].end);
		putchar('\n');
		fflush(stdout);
	}
	rc = ooh_stats(t, &stats, sizeof(stats)) || stats.rounds != rounds;
	ooh_close(t);
	return rc;
}
