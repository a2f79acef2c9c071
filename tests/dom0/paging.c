// SPDX-License-Identifier: GPL-2.0-only
/*
 * What else tests ask of a domain's paging, from dom0's command line:
 *
 *	paging DOMID starve		log-dirty mode on, with its bitmap in place, then take all
 *					free memory for page tables; prints how much there was, in bytes
 *	paging DOMID drain		the latter alone
 *	paging DOMID pool BYTES		set the memory for page tables
 *	paging DOMID view FROM TO	an alternate view in which frame FROM shows what is in TO;
 *					prints its number
 *	paging DOMID views-off		no alternate views any more
 *	paging DOMID switch VIEW	all vCPUs to that view
 *	paging DOMID vmfunc FRAME	let vCPU 0 switch views by VMFUNC; FRAME is for #VE
 *	paging 0 low			the first page of the machine's memory, as 512 numbers
 *
 * Exit status 1: Xen refused.
 */
/* for xc_map_foreign_range */
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xendevicemodel.h>

/* a leaf of the log-dirty bitmap is a page of bits */
#define LEAF (4096 * 8)

static int fail(const char *what)
{
	fprintf(stderr, "paging: %s: %s\n", what, strerror(errno));
	return 1;
}

static int drain(xc_interface *xc, unsigned int domid)
{
	uint64_t had;

	if (xc_get_paging_mempool_size(xc, domid, &had))
		return fail("get_paging_mempool_size");
	/* what is in use cannot be freed, and the call says so */
	if (xc_set_paging_mempool_size(xc, domid, 0) && errno != ENOMEM)
		return fail("set_paging_mempool_size");
	printf("%" PRIu64 "\n", had);
	return 0;
}

static int starve(xc_interface *xc, unsigned int domid)
{
	xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
	xen_pfn_t last;

	if (!dm)
		return fail("xendevicemodel_open");
	if (xc_domain_maximum_gpfn(xc, domid, &last) < 0)
		return fail("maximum_gpfn");
	if (xc_logdirty_control(xc, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0, 0, NULL) <
	    0)
		return fail("on");
	/*
	 * The bitmap takes its memory from the same pool when a frame is marked.
	 * Have it, so that no mark is lost: then log-dirty mode would refuse to clean.
	 */
	for (xen_pfn_t f = 0x100; f <= last && f < 1UL << 20; f += LEAF)
		xendevicemodel_modified_memory(dm, domid, f, 1);
	return drain(xc, domid);
}

static int view(xc_interface *xc, unsigned int domid, unsigned long from, unsigned long to)
{
	uint16_t id;

	if (xc_altp2m_set_domain_state(xc, domid, true))
		return fail("set_domain_state");
	if (xc_altp2m_create_view(xc, domid, XENMEM_access_rwx, &id))
		return fail("create_view");
	if (from != to && xc_altp2m_change_gfn(xc, domid, id, from, to))
		return fail("change_gfn");
	printf("%u\n", id);
	return 0;
}

static int low(xc_interface *xc)
{
	/* the first MiB belongs to DOMID_IO */
	uint64_t *p = xc_map_foreign_range(xc, DOMID_IO, 4096, PROT_READ, 0);

	if (!p)
		return fail("map");
	for (int i = 0; i < 512; i++)
		printf("%" PRIx64 "\n", p[i]);
	return 0;
}

int main(int argc, char **argv)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	unsigned int domid;

	if (!xc)
		return fail("xc_interface_open");
	if (argc < 3)
		return 2;
	domid = strtoul(argv[1], NULL, 10);
	if (!strcmp(argv[2], "starve"))
		return starve(xc, domid);
	if (!strcmp(argv[2], "drain"))
		return drain(xc, domid);
	if (!strcmp(argv[2], "low"))
		return low(xc);
	if (!strcmp(argv[2], "views-off"))
		return xc_altp2m_set_domain_state(xc, domid, false) ? fail(argv[2]) : 0;
	if (!strcmp(argv[2], "view") && argc == 5)
		return view(xc, domid, strtoul(argv[3], NULL, 0), strtoul(argv[4], NULL, 0));
	if (argc != 4)
		return 2;
	if (!strcmp(argv[2], "pool"))
		return xc_set_paging_mempool_size(xc, domid, strtoull(argv[3], NULL, 0))
			       ? fail(argv[2])
			       : 0;
	if (!strcmp(argv[2], "switch"))
		return xc_altp2m_switch_to_view(xc, domid, strtoul(argv[3], NULL, 0))
			       ? fail(argv[2])
			       : 0;
	if (!strcmp(argv[2], "vmfunc"))
		return xc_altp2m_set_vcpu_enable_notify(xc, domid, 0, strtoul(argv[3], NULL, 0))
			       ? fail(argv[2])
			       : 0;
	return 2;
}
