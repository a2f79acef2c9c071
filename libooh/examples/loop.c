// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * loop PID [RECORDS]: an event loop that collects when the log has filled up to the
 * mark, and at least once a second; until the process ends.
 *
 *	cc -o loop loop.c $(pkg-config --cflags --libs libooh)
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ooh.h>

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
	struct pollfd log = { .events = POLLIN };
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t;
	ssize_t n;

	if (pid < 1) {
		fprintf(stderr, "usage: loop PID [RECORDS]\n");
		return 2;
	}
	setlinebuf(stdout); /* whoever reads it sees each line as it comes */
	if (ooh_open(pid, NULL, 0, &t, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	/* a backend without a log has no descriptor; poll(2) passes over a negative one */
	log.fd = ooh_fd(t, argc > 2 ? strtoul(argv[2], NULL, 0) : 0);
	if (log.fd < 0 && log.fd != -EOPNOTSUPP) {
		fprintf(stderr, "no descriptor: %s\n", strerror(-log.fd));
		ooh_close(t);
		return 1;
	}
	printf("%s, %s\n", why, log.fd < 0 ? "by the clock" : "by the log and the clock");
	do {
		const struct ooh_range *r;
		int ready = poll(&log, 1, 1000);

		if (ready < 0 && errno != EINTR)
			break;
		n = ooh_collect(t, 0, &r, NULL);
		if (n >= 0)
			printf("%zd ranges, because of the %s\n", n, ready > 0 ? "log" : "clock");
		fflush(stdout);
	} while (n >= 0);
	printf("%s\n", ooh_reason(t));
	ooh_close(t);
	return 0;
}
