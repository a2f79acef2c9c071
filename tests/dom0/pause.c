// SPDX-License-Identifier: GPL-2.0-only
/*
 * pause DOMID: takes all vCPUs of a domain off their processors for 5 ms, every 25 ms,
 * until its input ends; prints how often. Exit status 1: Xen refused.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	struct pollfd input = { .fd = 0, .events = POLLIN };
	unsigned int domid, times = 0;

	if (argc != 2 || !xc)
		return 2;
	domid = atoi(argv[1]);
	while (!poll(&input, 1, 20)) {
		if (xc_domain_pause(xc, domid))
			break;
		poll(NULL, 0, 5);
		if (xc_domain_unpause(xc, domid))
			break;
		times++;
	}
	printf("%u\n", times);
	if (input.revents)
		return 0;
	fprintf(stderr, "pause: %s\n", strerror(errno));
	return 1;
}
