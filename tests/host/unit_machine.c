// SPDX-License-Identifier: GPL-2.0-only
/* Description: what ooh doctor names as the first thing in the way of the processor's log. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../../libooh/cmd/machine.h"

static int failures;

/* The obstacle has this name, or there is none (NULL), and it is told what to do. */
static void check(const char *what, const struct machine *m, const char *id)
{
	struct obstacle o = machine_obstacle(m);
	int good = id ? o.id && !strcmp(o.id, id) && o.what[0] && o.cure[0] : !o.id;

	printf("%s: %s: %s\n", good ? "ok" : "FAIL", what, o.id ? o.id : "nothing in the way");
	failures += !good;
}

int main(void)
{
	/* a guest that lacks nothing but its module */
	const struct machine guest = {
		.kind = XEN_GUEST,
		.linux_major = 6,
		.linux_minor = 12,
		.release = "6.12.1-amd64",
		.offered = YES,
		.patched = YES,
		.installed = YES,
		.device_error = ENOENT,
	};
	struct machine m;

	m = (struct machine){ .kind = BARE, .pml = NO, .device_error = ENOENT };
	check("a processor without PML", &m, "no-pml");
	m.pml = YES;
	check("one with it and no hypervisor", &m, "no-hypervisor");
	m = (struct machine){ .kind = OTHER_GUEST, .device_error = ENOENT };
	check("a hypervisor that is neither Xen nor KVM", &m, "other-hypervisor");
	m = (struct machine){ .kind = XEN_HOST, .offered = YES, .device_error = ENOENT };
	check("dom0", &m, "host");
	m.offered = NO;
	check("dom0 of a Xen without SPML", &m, "xen-without-spml");
	m.offered = UNKNOWN;
	check("dom0, not as root", &m, "host");
	m = (struct machine){ .kind = XEN_PV_GUEST, .device_error = ENOENT };
	check("a PV guest", &m, "pv-guest");

	m = guest;
	m.offered = NO;
	check("spml=1 is missing", &m, "spml-missing");
	m.patched = NO;
	check("Xen without patches", &m, "xen-without-spml");
	m.patched = UNKNOWN;
	check("one of the two", &m, "xen-without-spml");
	m.kind = KVM_GUEST;
	check("QEMU without the device", &m, "no-device");

	m = guest;
	m.linux_minor = 0;
	check("Linux 6.0", &m, "kernel");
	m.linux_major = 7;
	m.linux_minor = 4;
	check("Linux 7.4", &m, "kernel");
	m.linux_minor = 3;
	check("Linux 7.3", &m, "module-not-loaded");
	m = guest;
	check("the module is not loaded", &m, "module-not-loaded");
	m.installed = NO;
	check("the module is not installed", &m, "module-missing");
	m.installed = UNKNOWN;
	check("nobody knows whether it is installed", &m, "module-not-loaded");
	m.loaded = true;
	check("it is loaded, and the device is absent", &m, "device");
	m.device_error = EACCES;
	check("another user's device", &m, "permission");
	m.device_error = 0;
	check("the device opens", &m, NULL);
	return failures != 0;
}
