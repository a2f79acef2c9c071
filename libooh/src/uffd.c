// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A userfaultfd watches the memory of the process that created it. So the
 * tracked process has to create it, by a system call that we let it make; the
 * descriptor is then copied here and closed there. Everything after that
 * (UFFDIO_*) works on the creator's memory, whoever calls it. When the last
 * copy is closed, by us or by our end, the kernel removes every protection.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include "remote.h"
#include "stop.h"
#include "uffd.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

static int handshake(int fd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	return ioctl(fd, UFFDIO_API, &api) ? -errno : 0;
}

/* Can this process have one with these features? */
int uffd_probe(int flags, uint64_t features, char *why, size_t size)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	int rc;

	if (fd < 0) {
		rc = -errno;
		if (rc == -ENOSYS)
			return backend_why(why, size, rc, "the kernel has no userfaultfd(2)");
		return backend_why(why, size, rc,
				   "userfaultfd(2) is not permitted: %s (see "
				   "/proc/sys/vm/unprivileged_userfaultfd)",
				   strerrordesc_np(-rc));
	}
	rc = handshake(fd, features);
	close(fd);
	if (rc)
		return backend_why(why, size, rc,
				   "the kernel's userfaultfd cannot do this (features %#llx): %s",
				   (unsigned long long)features, strerrordesc_np(-rc));
	return 0;
}

/* A seccomp filter could kill the process for a system call it never makes. */
static bool under_seccomp(pid_t pid)
{
	char path[40], line[128];
	int mode = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Seccomp: %d", &mode) == 1)
			break;
	fclose(f);
	return mode != 0;
}

/* A main thread that has ended has no descriptors any more: then another one's are asked for. */
static int take_over(const struct ooh_tracker *t, pid_t tid, int there)
{
	int pidfd = tid == t->pid ? t->pidfd.fd : syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	int fd;

	if (pidfd < 0)
		return -errno;
	fd = syscall(SYS_pidfd_getfd, pidfd, there, 0);
	if (fd < 0)
		fd = -errno;
	if (pidfd != t->pidfd.fd)
		close(pidfd);
	return fd;
}

struct creation {
	struct ooh_tracker *t;
	int flags;
};

/* With the process stopped by this thread. The descriptor, here, or -errno. */
static int create_there(void *arg)
{
	const struct creation *c = arg;
	struct ooh_tracker *t = c->t;
	struct remote r;
	long there, rc;
	int fd = -1;

	rc = remote_begin(&r, t->pid);
	if (rc)
		return backend_why(
			t->reason, sizeof(t->reason), rc,
			"process %d cannot be tracked so, it would have to call userfaultfd(2): %s",
			t->pid,
			rc == -ENOEXEC
				? "not a 64-bit program, or one without a syscall instruction"
				: strerrordesc_np(-rc));
	there = remote_syscall(&r, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | c->flags, 0, 0);
	if (there >= 0) {
		fd = take_over(t, r.tid, there);
		remote_syscall(&r, SYS_close, there, 0, 0);
	}
	rc = remote_end(&r);
	if (there < 0)
		return backend_why(t->reason, sizeof(t->reason), there,
				   "userfaultfd(2) in process %d: %s", t->pid,
				   strerrordesc_np(-there));
	if (fd < 0)
		return backend_why(t->reason, sizeof(t->reason), fd, "pidfd_getfd(2): %s",
				   strerrordesc_np(-fd));
	if (rc) {
		close(fd);
		return backend_why(t->reason, sizeof(t->reason), rc,
				   "the registers of process %d: %s", t->pid, strerrordesc_np(-rc));
	}
	return fd;
}

int uffd_open(struct ooh_tracker *t, int flags, uint64_t features)
{
	struct creation c = { .t = t, .flags = flags };
	bool stopped;
	int fd, rc;

	if (t->pid == getpid()) {
		fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
		if (fd < 0)
			return backend_why(t->reason, sizeof(t->reason), -errno,
					   "userfaultfd(2): %s", strerrordesc_np(errno));
	} else {
		if (under_seccomp(t->pid))
			return backend_why(
				t->reason, sizeof(t->reason), -EPERM,
				"process %d cannot be tracked so: it runs under a seccomp filter, which might end it for calling userfaultfd(2)",
				t->pid);
		fd = t->flags & OOH_STOPPED ? create_there(&c)
					    : stop_and_do(t->pid, create_there, &c, &stopped);
		if (fd < 0 && !(t->flags & OOH_STOPPED) && !stopped)
			return backend_why(t->reason, sizeof(t->reason), fd,
					   "stopping process %d: %s", t->pid, strerrordesc_np(-fd));
		if (fd < 0)
			return fd;
	}
	rc = handshake(fd, features);
	if (rc) {
		close(fd);
		return backend_why(t->reason, sizeof(t->reason), rc, "UFFDIO_API: %s",
				   strerrordesc_np(-rc));
	}
	return fd;
}

/* EINVAL, EPERM: this kind of memory cannot be watched. EBUSY: another one watches it. */
int uffd_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register arg = {
		.range = { .start = start, .len = end - start },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(fd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

/* 0, or -EBUSY with the reason: what we would protect is watched already. Registers the rest. */
int uffd_free_for_us(struct ooh_tracker *t, int fd, const struct vmas *vmas)
{
	size_t i;

	for (i = 0; i < vmas->n; i++)
		if (vma_protectable(&vmas->v[i]) &&
		    uffd_register(fd, vmas->v[i].start, vmas->v[i].end) == -EBUSY)
			return backend_why(
				t->reason, sizeof(t->reason), -EBUSY,
				"another userfaultfd watches memory of process %d: another tracker, or its own",
				t->pid);
	return 0;
}

/* ENOENT: something in the range is not registered. ESRCH: the memory is gone. */
int uffd_protect(int fd, uint64_t start, uint64_t end, bool on)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = start, .len = end - start },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	while (ioctl(fd, UFFDIO_WRITEPROTECT, &arg)) {
		/* EAGAIN: its mappings are just changing */
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return 0;
}
