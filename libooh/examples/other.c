// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * other PID [ROUNDS]: how much does another process write in each 100 ms?
 *
 *	cc -o other other.c $(pkg-config --cflags --libs libooh)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <ooh.h>

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? atoi(argv[1]) : -1;
	int rounds = argc > 2 ? atoi(argv[2]) : 10, rc;
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t;

	rc = ooh_open(pid, NULL, 0, &t, why, sizeof(why));
	if (rc) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	printf("%s\n", why);
	while (rounds--) {
		const struct ooh_range *r;
		unsigned int result;
		size_t bytes = 0;
		ssize_t i, n;

		usleep(100000);
		n = ooh_collect(t, 0, &r, &result);
		if (n < 0) {
			fprintf(stderr, "%s\n", ooh_reason(t));
			rc = 1;
			break;
		}
		for (i = 0; i < n; i++)
			bytes += r[i].end - r[i].start;
		printf("%zu KiB in %zd ranges%s%s\n", bytes / 1024, n,
		       result & OOH_ALL_DIRTY ? ", everything: " : "",
		       result & OOH_ALL_DIRTY ? ooh_reason(t) : "");
	}
	ooh_close(t);
	return rc;
}
