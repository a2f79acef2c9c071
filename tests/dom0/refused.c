// SPDX-License-Identifier: GPL-2.0-only
/*
 * refused DOMID: what SPML excludes, tried on a running domain, one line each: its
 * name and the name of the error, or "granted". What was granted is not undone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xen/hvm/params.h>

static void tell(const char *what, int ret)
{
	printf("%s %s\n", what, ret < 0 ? strerrorname_np(errno) : "granted");
}

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	uint8_t access = XENMEM_access_r;
	uint64_t gfn = 0x100;
	unsigned int domid;
	xen_pfn_t frame = 0x80000;
	uint32_t port;
	void *ring;

	if (argc != 2 || !xc)
		return 2;
	domid = atoi(argv[1]);
	/* without a listener there is nobody to restrict access for */
	ring = xc_monitor_enable(xc, domid, &port);
	if (!ring) {
		fprintf(stderr, "refused: no monitor: %s\n", strerror(errno));
		return 1;
	}
	tell("altp2m", xc_hvm_param_set(xc, domid, HVM_PARAM_ALTP2M, XEN_ALTP2M_external));
	tell("access", xc_set_mem_access(xc, domid, XENMEM_access_r, gfn, 1));
	tell("access-multi", xc_set_mem_access_multi(xc, domid, &access, &gfn, 1));
	tell("sharing", xc_memshr_control(xc, domid, 1));
	tell("paging", xc_mem_paging_enable(xc, domid, &port));
	/* it returns how many frames were done, and sets no error for none */
	errno = 0;
	if (xc_domain_populate_physmap(xc, domid, 1, 0, XENMEMF_populate_on_demand, &frame) == 1)
		puts("pod granted");
	else
		printf("pod %s\n", errno ? strerrorname_np(errno) : "refused");
	tell("device", xc_assign_device(xc, domid, 0x00010000, 0));
	munmap(ring, 4096);
	xc_monitor_disable(xc, domid);
	return 0;
}
