// SPDX-License-Identifier: GPL-2.0-only
/*
 * softreset DOMID: Xen's part of what happens to a domain whose kernel starts another one
 * (kexec). The domain stays paused. "xl unpause" makes it go on as if nothing had happened, and
 * find out. xl, which would do the rest, must not be running.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>
#include <xen/sched.h>

static int fail(const char *what)
{
	fprintf(stderr, "softreset: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	xc_domaininfo_t info = { 0 };
	unsigned int domid, i;

	if (argc != 2 || !xc)
		return 2;
	domid = atoi(argv[1]);
	if (xc_domain_shutdown(xc, domid, SHUTDOWN_soft_reset))
		return fail("shutdown");
	for (i = 0; i < 1000 && !(info.flags & XEN_DOMINF_shutdown); i++) {
		poll(NULL, 0, 10);
		if (xc_domain_getinfo_single(xc, domid, &info))
			return fail("getinfo");
	}
	if (xc_domain_pause(xc, domid))
		return fail("pause");
	return xc_domain_soft_reset(xc, domid) ? fail("soft_reset") : 0;
}
