// SPDX-License-Identifier: GPL-2.0-only
/* maxmem DOMID KIB: the most memory that Xen lets the domain have, below what it has, too. */
#include <stdio.h>
#include <stdlib.h>
#include <xenctrl.h>

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);

	if (argc != 3 || !xc)
		return 2;
	if (!xc_domain_setmaxmem(xc, atoi(argv[1]), strtoul(argv[2], NULL, 0)))
		return 0;
	perror("maxmem");
	return 1;
}
