// SPDX-License-Identifier: GPL-2.0-only
/*
 * Maps and changes another domain's pages, from dom0's command line:
 *
 *	mapped DOMID FRAME ro|rw	map a frame of the guest's until the input ends; prints
 *					"mapped", then for each line that comes in stores its
 *					number in the frame (rw) and prints what is there
 *	mapped DOMID type FRAME ro|rw	its type, as a device model changes it
 *	mapped DOMID churn FIRST NR	start, ask and end tracking of NR frames as VRAM in
 *					turns, as a device model does, until Xen refuses, as it
 *					does when the domain goes; prints how often
 *
 * Exit status 1: Xen refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>

static int fail(const char *what)
{
	fprintf(stderr, "mapped: %s: %s\n", what, strerror(errno));
	return 1;
}

static int hold(unsigned int domid, xen_pfn_t frame, int writable)
{
	xenforeignmemory_handle *fm = xenforeignmemory_open(NULL, 0);
	volatile unsigned long *p;
	char line[32];
	int err;

	if (!fm)
		return fail("xenforeignmemory_open");
	p = xenforeignmemory_map(fm, domid, writable ? PROT_READ | PROT_WRITE : PROT_READ, 1,
				 &frame, &err);
	if (!p)
		return fail("map");
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("mapped");
	while (fgets(line, sizeof(line), stdin)) {
		if (writable)
			p[0] = strtoul(line, NULL, 0);
		printf("%lu\n", p[0]);
	}
	return xenforeignmemory_unmap(fm, (void *)p, 1) ? fail("unmap") : 0;
}

static int type(unsigned int domid, unsigned long frame, const char *how)
{
	xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);

	if (!dm)
		return fail("xendevicemodel_open");
	return xendevicemodel_set_mem_type(dm, domid,
					   strcmp(how, "ro") ? HVMMEM_ram_rw : HVMMEM_ram_ro, frame,
					   1)
		       ? fail("set_mem_type")
		       : 0;
}

static int churn(unsigned int domid, unsigned long first, unsigned int nr)
{
	xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
	unsigned long *bits = calloc(nr / 64 + 1, sizeof(long));
	unsigned long times = 0;

	if (!dm || !bits)
		return fail("xendevicemodel_open");
	while (!xendevicemodel_track_dirty_vram(dm, domid, first, nr, bits) &&
	       !xendevicemodel_track_dirty_vram(dm, domid, first, nr, bits) &&
	       !xendevicemodel_track_dirty_vram(dm, domid, 0, 0, bits))
		times++;
	printf("%lu %s\n", times, strerrorname_np(errno));
	return 0;
}

int main(int argc, char **argv)
{
	unsigned int domid;

	if (argc < 4)
		return 2;
	domid = strtoul(argv[1], NULL, 10);
	if (!strcmp(argv[2], "type") && argc == 5)
		return type(domid, strtoul(argv[3], NULL, 0), argv[4]);
	if (!strcmp(argv[2], "churn") && argc == 5)
		return churn(domid, strtoul(argv[3], NULL, 0), strtoul(argv[4], NULL, 0));
	if (argc == 4)
		return hold(domid, strtoul(argv[2], NULL, 0), !strcmp(argv[3], "rw"));
	return 2;
}
