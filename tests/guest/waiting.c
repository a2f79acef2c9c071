// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: waits until its log is lost, for SECONDS at most, with a low-water mark that is
 * never reached. Then everything is reported, with the reason. For tests that save and restore
 * the guest.
 */
#include <poll.h>

#include "tracker.h"

#define NR 100UL

int main(int argc, char **argv)
{
	struct ooh_lowat mark = { .size = sizeof(mark) };
	char *p = touched(NR);
	int fd = tracker_of(getpid());
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct round r = { 0 };

	if (argc != 2 || ioctl(fd, OOH_IOC_LOWAT, &mark))
		error("OOH_IOC_LOWAT");
	puts("ok:   waits");
	fflush(stdout);
	check(poll(&poll_fd, 1, atoi(argv[1]) * 1000) == 1 && poll_fd.revents == POLLIN,
	      "is told that the log is lost");
	collect(fd, &r);
	check(reported_in(&r, p, NR) == NR && r.reason == OOH_REASON_RESTORED,
	      "%lu of %lu pages reported, reason %#x", reported_in(&r, p, NR), NR, r.reason);
	check(poll(&poll_fd, 1, 1000) == 0, "waits again");
	return verdict();
}
