// SPDX-License-Identifier: GPL-2.0-only
/* spmlstats DOMID: how the domain uses SPML, a name and a number a line. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	xc_spml_stats_t s;

	if (argc != 2 || !xc)
		return 2;
	if (xc_domain_spml_stats(xc, atoi(argv[1]), &s)) {
		fprintf(stderr, "spmlstats: %s\n", strerrorname_np(errno));
		return 1;
	}
#define TELL(name) printf(#name " %" PRIu64 "\n", (uint64_t)s.name)
	TELL(max_tracked);
	TELL(tracked);
	TELL(logged);
	TELL(pages);
	TELL(records);
	TELL(pml_full);
	TELL(flushes);
	TELL(longest);
	return 0;
}
