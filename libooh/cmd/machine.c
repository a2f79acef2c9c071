// SPDX-License-Identifier: GPL-2.0-only
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <qemu/ooh-pml.h>
#include "machine.h"

/* include/xen/spml.h, which includes Xen's own headers */
#define HVMOP_spml	   26
#define XEN_SPML_info	   0
#define XEN_HVM_CPUID_SPML (1u << 7)

/* <xen/privcmd.h>, which distributions do not install */
#define HYPERVISOR_hvm_op  34
#define PRIVCMD_HYPERCALL  _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))
#define CAP_SYS_PTRACE_BIT (1ull << 19)

struct privcmd_hypercall {
	uint64_t op;
	uint64_t arg[5];
};

/* The first line of a file, without its end; false: there is none. */
static bool first_line(const char *path, char *to, size_t size)
{
	FILE *f = fopen(path, "re");
	bool good = f && fgets(to, size, f);

	if (f)
		fclose(f);
	if (good)
		to[strcspn(to, "\n")] = '\0';
	else
		to[0] = '\0';
	return good;
}

/* The rest of the first line that begins so; NULL: there is none. To be freed. */
static char *line_of(const char *path, const char *begin)
{
	FILE *f = fopen(path, "re");
	char *line = NULL, *found = NULL;
	size_t cap = 0;

	while (f && !found && getline(&line, &cap, f) > 0)
		if (!strncmp(line, begin, strlen(begin)))
			found = strdup(line + strlen(begin));
	free(line);
	if (f)
		fclose(f);
	return found;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);
	const char *at;

	for (at = text; at && (at = strstr(at, word)); at += len)
		if (at > text && at[-1] == ' ' && strchr(" \n", at[len]))
			return true;
	return false;
}

/* The base of the leaves (each with subleaf 0) of the hypervisor with this signature; 0: it is another one. */
static uint32_t leaves_of(const char *signature)
{
	uint32_t base, a, sig[3];

	/* a Xen that pretends to be Hyper-V has its own leaves higher up */
	for (base = 0x40000000; base < 0x40010000; base += 0x100) {
		__cpuid_count(base, 0, a, sig[0], sig[1], sig[2]);
		if (!memcmp(sig, signature, 12))
			return base;
	}
	return 0;
}

static enum answer yes_if(bool it_is)
{
	return it_is ? YES : NO;
}

/*
 * Xen's own word: a guest that has access to hypercalls (root's, with xen_privcmd) can tell a
 * Xen that knows no SPML from one that has none for this guest.
 */
static enum answer xen_is_patched(void)
{
	uint64_t op[64] = { XEN_SPML_info };
	struct privcmd_hypercall call = {
		.op = HYPERVISOR_hvm_op,
		.arg = { HVMOP_spml, (uintptr_t)op },
	};
	int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC), rc;

	if (fd < 0)
		return UNKNOWN;
	rc = ioctl(fd, PRIVCMD_HYPERCALL, &call) < 0 ? errno : 0;
	close(fd);
	return !rc || rc == EOPNOTSUPP ? YES : rc == ENOSYS ? NO : UNKNOWN;
}

static void look_at_xen(struct machine *m)
{
	uint32_t base = leaves_of("XenVMMXenVMM"), a = 0, b, c, d;
	char line[256];

	snprintf(m->hypervisor, sizeof(m->hypervisor), "Xen");
	first_line("/proc/xen/capabilities", line, sizeof(line));
	if (strstr(line, "control_d")) {
		FILE *xl = popen("xl info 2>/dev/null", "re");

		m->kind = XEN_HOST;
		while (xl && fgets(line, sizeof(line), xl))
			if (!strncmp(line, "virt_caps", 9))
				m->offered = yes_if(has_word(line, "spml"));
		if (xl)
			pclose(xl);
		return;
	}
	first_line("/sys/hypervisor/guest_type", line, sizeof(line));
	if (!strcmp(line, "PV")) {
		m->kind = XEN_PV_GUEST;
		return;
	}
	m->kind = XEN_GUEST;
	if (base) {
		__cpuid_count(base, 0, a, b, c, d);
		if (a >= base + 4)
			__cpuid_count(base + 4, 0, a, b, c, d);
		else
			a = 0;
	}
	m->offered = yes_if(a & XEN_HVM_CPUID_SPML);
	m->patched = m->offered == YES ? YES : xen_is_patched();
}

static bool has_pci_device(unsigned int vendor, unsigned int device)
{
	DIR *d = opendir("/sys/bus/pci/devices");
	char path[300], line[16];
	bool found = false;
	struct dirent *e;

	while (d && !found && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", e->d_name);
		if (!first_line(path, line, sizeof(line)) || strtoul(line, NULL, 16) != vendor)
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", e->d_name);
		found = first_line(path, line, sizeof(line)) && strtoul(line, NULL, 16) == device;
	}
	if (d)
		closedir(d);
	return found;
}

static void look_for_hypervisor(struct machine *m)
{
	uint32_t a, b, c, d, sig[4] = { 0 };
	char type[16];

	__cpuid_count(1, 0, a, b, c, d);
	/* a PV guest may see the processor's own leaves */
	if (first_line("/sys/hypervisor/type", type, sizeof(type)) && !strcmp(type, "xen")) {
		look_at_xen(m);
		return;
	}
	if (!(c & (1u << 31))) {
		m->kind = BARE;
		return;
	}
	if (leaves_of("XenVMMXenVMM")) {
		look_at_xen(m);
		return;
	}
	if (leaves_of("KVMKVMKVM\0\0\0")) {
		m->kind = KVM_GUEST;
		snprintf(m->hypervisor, sizeof(m->hypervisor), "KVM");
		m->offered = yes_if(has_pci_device(OOH_PML_PCI_VENDOR_ID, OOH_PML_PCI_DEVICE_ID));
		return;
	}
	m->kind = OTHER_GUEST;
	__cpuid_count(0x40000000, 0, a, sig[0], sig[1], sig[2]);
	snprintf(m->hypervisor, sizeof(m->hypervisor), "%s", (char *)sig);
}

static void look_for_module(struct machine *m)
{
	char path[128], line[256], *deps;
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", m->release);
	f = fopen(path, "re");
	m->installed = f ? NO : UNKNOWN;
	while (f && m->installed == NO && fgets(line, sizeof(line), f)) {
		deps = strchr(line, ':');
		if (deps)
			*deps = '\0';
		deps = strrchr(line, '/');
		if (deps && !strncmp(deps, "/ooh.ko", 7))
			m->installed = YES;
	}
	if (f)
		fclose(f);
	m->loaded = !access("/sys/module/ooh", F_OK);
	first_line("/sys/kernel/security/lockdown", line, sizeof(line));
	m->locked_down = strstr(line, "[integrity]") || strstr(line, "[confidentiality]");
	if (!m->locked_down) {
		first_line("/sys/module/module/parameters/sig_enforce", line, sizeof(line));
		m->locked_down = line[0] == 'Y';
	}
	fd = open("/dev/ooh", O_RDWR | O_CLOEXEC);
	m->device_error = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
}

void machine_look(struct machine *m)
{
	struct utsname u;
	char line[64];
	char *flags, *caps;

	*m = (struct machine){
		.pml = UNKNOWN, .offered = UNKNOWN, .patched = UNKNOWN, .installed = UNKNOWN
	};
	uname(&u);
	snprintf(m->release, sizeof(m->release), "%s", u.release);
	sscanf(u.release, "%u.%u", &m->linux_major, &m->linux_minor);
	look_for_hypervisor(m);
	/* a dom0 sees what Xen leaves over */
	if (m->kind == BARE) {
		flags = line_of("/proc/cpuinfo", "vmx flags");
		m->pml = yes_if(has_word(flags, "pml"));
		free(flags);
	}
	look_for_module(m);
	caps = line_of("/proc/self/status", "CapEff:");
	m->may_trace_all = caps && strtoull(caps, NULL, 16) & CAP_SYS_PTRACE_BIT;
	free(caps);
	if (first_line("/proc/sys/kernel/yama/ptrace_scope", line, sizeof(line)))
		m->ptrace_scope = atoi(line);
}

void machine_name(const struct machine *m, char *to, size_t size)
{
	static const char *const names[] = {
		[BARE] = "no hypervisor above this kernel",
		[XEN_GUEST] = "a guest of Xen",
		[XEN_PV_GUEST] = "a PV guest of Xen",
		[XEN_HOST] = "the host (dom0) of a Xen",
		[KVM_GUEST] = "a guest of KVM",
		[OTHER_GUEST] = "a guest of another hypervisor",
	};

	snprintf(to, size, "%s%s%s%s", names[m->kind], m->kind == OTHER_GUEST ? " (" : "",
		 m->kind == OTHER_GUEST ? m->hypervisor : "", m->kind == OTHER_GUEST ? ")" : "");
}

static struct obstacle in_the_way(const char *id, const char *what, const char *cure)
{
	struct obstacle o = { .id = id };

	snprintf(o.what, sizeof(o.what), "%s", what);
	snprintf(o.cure, sizeof(o.cure), "%s", cure);
	return o;
}

static struct obstacle no_offer(const struct machine *m)
{
	switch (m->kind) {
	case BARE:
		return m->pml == YES
			       ? in_the_way(
					 "no-hypervisor",
					 "the processor has PML, but no hypervisor is here to hand it over",
					 "its guests can have it: docs/install.md, \"Xen host\" and "
					 "\"KVM guest\"")
			       : in_the_way("no-pml",
					    "this processor has no PML, and no hypervisor is here",
					    "PML is Intel's, since Broadwell");
	case XEN_HOST:
		if (m->offered == YES)
			return in_the_way("host", "this is dom0, and the log is for guests",
					  "create a guest with spml=1 in its configuration");
		return m->offered == NO
			       ? in_the_way(
					 "xen-without-spml",
					 "this Xen offers its guests no SPML: it lacks our patches or "
					 "CONFIG_SPML, or the processor has no PML",
					 "xl dmesg | grep \"Page Modification Logging\" shows whether the "
					 "processor has PML; docs/install.md has the patched Xen")
			       : in_the_way(
					 "host", "this is dom0, and the log is for guests",
					 "as root, xl info says in virt_caps whether guests can have spml");
	case XEN_PV_GUEST:
		return in_the_way("pv-guest",
				  "a PV guest has no log, as it has no second-level page tables",
				  "create it with type=\"pvh\" or \"hvm\", and spml=1");
	case XEN_GUEST:
		if (m->patched == NO)
			return in_the_way("xen-without-spml", "this Xen knows no SPML",
					  "the host needs a Xen with our patches");
		if (m->patched == YES)
			return in_the_way(
				"spml-missing", "Xen has SPML, but not for this guest",
				"put spml=1 into the guest's configuration, and create it anew");
		return in_the_way(
			"xen-without-spml",
			"Xen offers this guest no SPML: the host has no Xen with our patches, "
			"or spml=1 is missing in the guest's configuration",
			"as root, with the module xen_privcmd, ooh doctor can say which");
	case KVM_GUEST:
		return in_the_way(
			"no-device", "QEMU gives this guest no device ooh-pml",
			"the host needs QEMU with our patches, started with -device ooh-pml");
	case OTHER_GUEST:
		break;
	}
	return in_the_way("other-hypervisor", "this hypervisor hands no log to its guests",
			  "Xen and QEMU with KVM do, with our patches");
}

/* What has to be put right first before this machine has the processor's log, from the bottom up. */
struct obstacle machine_obstacle(const struct machine *m)
{
	unsigned int version = m->linux_major * 1000 + m->linux_minor;
	struct obstacle o;

	if (!m->device_error)
		return (struct obstacle){ 0 };
	if (m->device_error == EACCES || m->device_error == EPERM)
		return in_the_way(
			"permission", "this user may not open /dev/ooh",
			"gpasswd --add USER ooh, and log in again (the group has to own the "
			"device: packaging/ooh.rules); or be root");
	if (m->offered != YES || m->kind == XEN_HOST)
		return no_offer(m);
	if (version < 6001 || version > 7003) {
		o = in_the_way("kernel", "", "the module is for Linux 6.1 to 7.3");
		snprintf(o.what, sizeof(o.what), "there is no module for Linux %s", m->release);
		return o;
	}
	if (m->loaded)
		return in_the_way("device", "the module ooh is loaded, but /dev/ooh does not open",
				  "ls -l /dev/ooh; in a container, give it the device");
	if (m->installed == NO) {
		o = in_the_way(
			"module-missing", "",
			"apt install ./ooh-dkms*.deb linux-headers-amd64, or make -C guest-kmod "
			"install");
		snprintf(o.what, sizeof(o.what), "the module ooh is not installed for Linux %s",
			 m->release);
		return o;
	}
	return in_the_way("module-not-loaded", "the module ooh is not loaded",
			  m->locked_down ? "modprobe ooh; this kernel takes signed modules alone "
					   "(Secure Boot): docs/install.md, \"Secure Boot\""
					 : "modprobe ooh; dmesg says why if it refuses");
}
