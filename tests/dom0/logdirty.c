// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's own consumers of the log, from dom0's command line:
 *
 *	logdirty DOMID on | off		log-dirty mode, as a live migration has it
 *	logdirty DOMID clean		dirty frames since the last time, as a migration's round
 *	logdirty DOMID vram FIRST NR	VRAM tracking of NR frames (0: stop)
 *	logdirty DOMID access FRAME	take the right to execute from a frame that the guest
 *					writes to, track it as VRAM for a second; prints
 *					"kept" or "lost"
 *
 * clean and vram print the frames that were dirty, one a line (vram's first call
 * for a range starts and counts all as dirty). Exit status 1: Xen refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xendevicemodel.h>

static int fail(const char *what)
{
	fprintf(stderr, "logdirty: %s: %s\n", what, strerror(errno));
	return 1;
}

static void print(const unsigned long *bits, unsigned long first, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++)
		if (bits[i / 64] >> i % 64 & 1)
			printf("%lu\n", first + i);
}

static int vram(unsigned int domid, unsigned long first, unsigned int nr)
{
	xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
	unsigned long *bits = calloc(nr / 64 + 1, sizeof(long));

	if (!dm || !bits)
		return fail("xendevicemodel_open");
	if (xendevicemodel_track_dirty_vram(dm, domid, first, nr, bits))
		return fail("track_dirty_vram");
	print(bits, first, nr);
	return 0;
}

static int clean(xc_interface *xc, unsigned int domid)
{
	DECLARE_HYPERCALL_BUFFER(unsigned long, bits);
	xen_pfn_t last;
	unsigned long nr, bytes;

	if (xc_domain_maximum_gpfn(xc, domid, &last) < 0)
		return fail("maximum_gpfn");
	nr = last + 1;
	bytes = (nr / 64 + 1) * sizeof(long);
	bits = xc_hypercall_buffer_alloc_pages(xc, bits, (bytes + 4095) / 4096);
	if (!bits)
		return fail("no memory");
	if (xc_logdirty_control(xc, domid, XEN_DOMCTL_SHADOW_OP_CLEAN, HYPERCALL_BUFFER(bits), nr,
				0, NULL) < 0)
		return fail("clean");
	print(bits, 0, nr);
	return 0;
}

static int access_kept(xc_interface *xc, unsigned int domid, unsigned long frame)
{
	xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
	unsigned long bits = 0;
	xenmem_access_t access = 0;
	uint32_t port;
	void *ring;
	int ret = 1, seen = 0;

	if (!dm)
		return fail("xendevicemodel_open");
	ring = xc_monitor_enable(xc, domid, &port);
	if (!ring)
		return fail("xc_monitor_enable");
	if (xc_set_mem_access(xc, domid, XENMEM_access_rw, frame, 1)) {
		fail("xc_set_mem_access");
		goto out;
	}
	/* the first call counts everything as dirty */
	for (int i = 0; i < 40 && !(i > 1 && seen); i++) {
		if (xendevicemodel_track_dirty_vram(dm, domid, frame & ~15UL, 16, &bits)) {
			fail("track_dirty_vram");
			goto out;
		}
		seen = bits >> (frame & 15) & 1;
		usleep(250000);
	}
	if (!seen) {
		fprintf(stderr, "logdirty: the guest did not write\n");
		goto out;
	}
	if (xc_get_mem_access(xc, domid, frame, &access)) {
		fail("xc_get_mem_access");
		goto out;
	}
	printf("%s\n", access == XENMEM_access_rw ? "kept" : "lost");
	ret = 0;
out:
	xc_set_mem_access(xc, domid, XENMEM_access_rwx, frame, 1);
	munmap(ring, 4096);
	xc_monitor_disable(xc, domid);
	return ret;
}

static int mode(xc_interface *xc, unsigned int domid, const char *how)
{
	unsigned int op =
		strcmp(how, "on") ? XEN_DOMCTL_SHADOW_OP_OFF : XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;

	return xc_logdirty_control(xc, domid, op, NULL, 0, 0, NULL) < 0 ? fail(how) : 0;
}

int main(int argc, char **argv)
{
	xc_interface *xc;
	unsigned int domid;

	if (argc < 3) {
		fprintf(stderr, "usage: logdirty DOMID on|off|clean|access FRAME|vram FIRST NR\n");
		return 2;
	}
	domid = strtoul(argv[1], NULL, 10);
	if (!strcmp(argv[2], "vram") && argc == 5)
		return vram(domid, strtoul(argv[3], NULL, 0), strtoul(argv[4], NULL, 0));
	xc = xc_interface_open(NULL, NULL, 0);
	if (!xc)
		return fail("xc_interface_open");
	if (!strcmp(argv[2], "access") && argc == 4)
		return access_kept(xc, domid, strtoul(argv[3], NULL, 0));
	if (!strcmp(argv[2], "clean"))
		return clean(xc, domid);
	if (!strcmp(argv[2], "on") || !strcmp(argv[2], "off"))
		return mode(xc, domid, argv[2]);
	fprintf(stderr, "logdirty: unknown command %s\n", argv[2]);
	return 2;
}
