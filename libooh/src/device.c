// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The two logs that the CPU writes, one of the guest's own (epml) and one that the hypervisor
 * hands over (spml), both through the module: see ooh/uapi.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <ooh/uapi.h>
#include "backend.h"
#include "mem.h"
#include "proc.h"

#define DEVICE "/dev/ooh"
#define VECTOR 4096

struct device {
	struct own_fd fd;
	struct ooh_range vec[VECTOR];
};

static const char *not_offered(unsigned int mechanism, const struct ooh_info *info)
{
	if (mechanism == OOH_MECH_SPML)
		return "the module ooh offers no log of the hypervisor's";
	if (info->via == OOH_VIA_QEMU)
		return "KVM offers no EPML to its guests";
	return "Xen offers no EPML to this guest: the processor has none, or epml=1 is missing "
	       "in the guest's configuration";
}

/* A descriptor, and what the module says of itself. */
static int open_device(unsigned int mechanism, struct ooh_info *info, char *why, size_t size)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC), rc;

	if (fd < 0) {
		rc = -errno;
		if (rc == -ENOENT)
			return backend_why(why, size, rc,
					   DEVICE
					   " is absent: the module ooh is "
					   "not loaded (needs a Xen guest created with spml=1, "
					   "or a KVM guest with QEMU's device ooh-pml)");
		return backend_why(why, size, rc, DEVICE ": %s", strerrordesc_np(-rc));
	}
	*info = (struct ooh_info){ .size = sizeof(*info) };
	if (ioctl(fd, OOH_IOC_INFO, info)) {
		rc = -errno;
		backend_why(why, size, rc, DEVICE " does not answer as the module ooh does: %s",
			    strerrordesc_np(-rc));
	} else if (info->version != OOH_ABI_VERSION) {
		rc = backend_why(why, size, -EPROTO,
				 "the module ooh speaks version %u, this "
				 "library version %u",
				 info->version, OOH_ABI_VERSION);
	} else if (!(info->mechanisms & (1u << mechanism))) {
		rc = backend_why(why, size, -EOPNOTSUPP, "%s", not_offered(mechanism, info));
	} else {
		return fd;
	}
	close(fd);
	return rc;
}

static int spml_probe(char *why, size_t size)
{
	struct ooh_info info;
	int fd = open_device(OOH_MECH_SPML, &info, why, size);

	if (fd < 0)
		return fd;
	close(fd);
	return backend_why(why, size, 0, "a log written by the CPU (PML), handed over by %s",
			   info.via == OOH_VIA_QEMU ? "KVM, through QEMU's device" : "Xen");
}

static int epml_probe(char *why, size_t size)
{
	struct ooh_info info;
	int fd = open_device(OOH_MECH_EPML, &info, why, size);

	if (fd < 0)
		return fd;
	close(fd);
	return backend_why(why, size, 0, "a log written by the CPU for this guest (EPML)");
}

static int device_attach(struct ooh_tracker *t)
{
	unsigned int mechanism = t->backend == &backend_epml ? OOH_MECH_EPML : OOH_MECH_SPML;
	struct ooh_attach attach = {
		.size = sizeof(attach),
		.pid = t->pid,
		.mechanism = mechanism,
	};
	struct ooh_info info;
	struct device *s;
	int fd, rc;

	fd = open_device(mechanism, &info, t->reason, sizeof(t->reason));
	if (fd < 0)
		return fd;
	/* whoever may open it may trace the process: the kernel judges that here */
	attach.mem = proc_open(t->pid, "mem", O_RDONLY);
	rc = attach.mem < 0 ? attach.mem : ioctl(fd, OOH_IOC_ATTACH, &attach) ? -errno : 0;
	if (attach.mem >= 0)
		close(attach.mem);
	if (rc) {
		close(fd);
		return backend_why(
			t->reason, sizeof(t->reason), rc, "the module ooh: %s",
			rc == -EBUSY ? "others track by another mechanism, and it is one at a time"
				     : strerrordesc_np(-rc));
	}
	s = mem_new(sizeof(*s));
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	rc = own_take(&s->fd, fd);
	if (rc < 0) {
		mem_free(s, sizeof(*s));
		return rc;
	}
	t->priv = s;
	return 0;
}

static bool device_intact(const struct ooh_tracker *t)
{
	const struct device *s = t->priv;

	return own_there(&s->fd);
}

static int device_lowat(struct ooh_tracker *t, uint64_t records)
{
	struct device *s = t->priv;
	struct ooh_lowat mark = { .size = sizeof(mark), .records = records };

	return ioctl(s->fd.fd, OOH_IOC_LOWAT, &mark) ? -errno : s->fd.fd;
}

static void all_dirty(struct ooh_tracker *t, unsigned int why)
{
	static const char *const words[] = {
		"the guest was restored or migrated",
		"no memory to keep the state",
		"the hypervisor refused to collect",
	};
	size_t i, at = 0;

	t->result |= OOH_ALL_DIRTY;
	t->reason[0] = '\0';
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(why & (1u << i)))
			continue;
		backend_why(t->reason + at, sizeof(t->reason) - at, 0, "%s%s", at ? ", " : "",
			    words[i]);
		at = strlen(t->reason);
	}
	if (!at)
		backend_why(t->reason, sizeof(t->reason), 0, "the module's reason %#x", why);
}

static int device_collect(struct ooh_tracker *t)
{
	struct device *s = t->priv;
	struct ooh_collect c;
	unsigned int i, call = 0;
	int rc;

	do {
		c = (struct ooh_collect){
			.size = sizeof(c),
			.flags = call,
			.vec = (uintptr_t)s->vec,
			.vec_len = VECTOR,
		};
		/* a signal of the caller's ends a wait, but not when a part of it is here */
		while (ioctl(s->fd.fd, OOH_IOC_COLLECT, &c))
			if (errno != EINTR || !call)
				return -errno;
		for (i = 0; i < c.vec_len; i++) {
			rc = ranges_add(&t->written, s->vec[i].start, s->vec[i].end);
			if (rc)
				return rc;
		}
		if (c.flags & OOH_F_ALL_DIRTY)
			all_dirty(t, c.reason);
		call = OOH_COLLECT_CONTINUE;
	} while (c.flags & OOH_F_MORE);
	return 0;
}

static void device_detach(struct ooh_tracker *t)
{
	struct device *s = t->priv;

	own_close(&s->fd);
	mem_free(s, sizeof(*s));
}

static int device_stats(struct ooh_tracker *t, struct ooh_tracker_stats *stats)
{
	struct device *s = t->priv;
	struct ooh_dev_stats m = { .size = sizeof(m) };

	if (ioctl(s->fd.fd, OOH_IOC_STATS, &m))
		return -errno;
	stats->records = m.records;
	stats->mapped = m.mapped;
	stats->tables = m.tables;
	stats->armed = m.armed;
	stats->drain_ns = m.drain_ns;
	stats->map_ns = m.map_ns;
	stats->arm_ns = m.arm_ns;
	stats->foreign = m.foreign;
	stats->hypercalls = m.hypercalls;
	stats->log_records = m.log_records;
	stats->log_walks = m.log_walks;
	stats->log_user = m.log_user;
	stats->notifications = m.notifications;
	return 0;
}

const struct backend backend_epml = {
	.name = "epml",
	.probe = epml_probe,
	.attach = device_attach,
	.collect = device_collect,
	.detach = device_detach,
	.intact = device_intact,
	.stats = device_stats,
	.lowat = device_lowat,
};

const struct backend backend_spml = {
	.name = "spml",
	.probe = spml_probe,
	.attach = device_attach,
	.collect = device_collect,
	.detach = device_detach,
	.intact = device_intact,
	.stats = device_stats,
	.lowat = device_lowat,
};
