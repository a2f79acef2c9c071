/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs here share: a tracker on /dev/ooh, and verdicts. Exit status: 0
 * pass, 1 fail, 77 skip (reason on stdout), 2 error (of the test itself or its
 * environment). Every claim is checked in both directions: the page that was written is
 * reported, and the page that was not is not.
 */
#ifndef TRACKER_H
#define TRACKER_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ooh/uapi.h>

#define PAGE 4096UL

static int failures;

__attribute__((noreturn)) static inline void error(const char *what)
{
	printf("error: %s: %s\n", what, strerror(errno));
	exit(2);
}

__attribute__((format(printf, 2, 3))) static inline void check(bool good, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf(good ? "ok:   " : "FAIL: ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	fflush(stdout);
	failures += !good;
}

static inline int verdict(void)
{
	return failures ? 1 : 0;
}

static inline int tracker_open(void)
{
	int fd = open("/dev/ooh", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skip: /dev/ooh: %s\n", strerror(errno));
		exit(77);
	}
	return fd;
}

/* The mechanism that the test is run for: a backend's name in OOH_TESTED, or any. */
static inline const char *tested(void)
{
	return getenv("OOH_TESTED");
}

static inline unsigned int mechanism(void)
{
	return !tested() ? 0 : strcmp(tested(), "epml") ? OOH_MECH_SPML : OOH_MECH_EPML;
}

/* That it can be opened says that we may trace the process. */
static inline int open_mem(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* 0 or an errno */
static inline int try_attach(int fd, pid_t pid)
{
	struct ooh_attach a = {
		.size = sizeof(a),
		.pid = pid,
		.mem = open_mem(pid),
		.mechanism = mechanism(),
	};
	int err;

	if (a.mem < 0)
		return errno;
	err = ioctl(fd, OOH_IOC_ATTACH, &a) ? errno : 0;
	close(a.mem);
	return err;
}

static inline int tracker_of(pid_t pid)
{
	int fd = tracker_open();

	errno = try_attach(fd, pid);
	if (errno)
		error("OOH_IOC_ATTACH");
	return fd;
}

/* The ranges of one round. */
struct round {
	struct ooh_range *v;
	size_t nr;
	unsigned long pages;
	unsigned int flags, reason;
};

/* The call that ends a round, for those who make it themselves. */
static inline struct ooh_collect collect_into(struct ooh_range *v, unsigned int len)
{
	return (struct ooh_collect){
		.size = sizeof(struct ooh_collect),
		.vec = (unsigned long)v,
		.vec_len = len,
	};
}

/* 0 or an errno */
static inline int try_collect(int fd, struct round *r)
{
	struct ooh_collect c;
	size_t size = 0;

	free(r->v);
	memset(r, 0, sizeof(*r));
	do {
		r->v = realloc(r->v, (size += 4096) * sizeof(*r->v));
		if (!r->v)
			error("realloc");
		/* our own memory is tracked, too: touch it first */
		memset(r->v + r->nr, 0, (size - r->nr) * sizeof(*r->v));
		c = collect_into(r->v + r->nr, size - r->nr);
		c.flags = r->nr ? OOH_COLLECT_CONTINUE : 0;
		if (ioctl(fd, OOH_IOC_COLLECT, &c))
			return errno;
		r->nr += c.vec_len;
		r->pages += c.pages;
		r->flags |= c.flags;
		r->reason |= c.reason;
	} while (c.flags & OOH_F_MORE);
	return 0;
}

static inline void collect(int fd, struct round *r)
{
	errno = try_collect(fd, r);
	if (errno)
		error("OOH_IOC_COLLECT");
}

static inline struct ooh_dev_stats stats_of(int fd)
{
	struct ooh_dev_stats s = { .size = sizeof(s) };

	if (ioctl(fd, OOH_IOC_STATS, &s))
		error("OOH_IOC_STATS");
	return s;
}

static inline bool in_ranges(const struct ooh_range *v, ssize_t n, const volatile void *p)
{
	unsigned long addr = (unsigned long)p;

	for (ssize_t i = 0; i < n; i++)
		if (addr >= v[i].start && addr < v[i].end)
			return true;
	return false;
}

static inline bool reported(const struct round *r, const volatile void *p)
{
	return in_ranges(r->v, r->nr, p);
}

/* How many of the nr pages from p on are reported? */
static inline unsigned long reported_in(const struct round *r, const volatile char *p,
					unsigned long nr)
{
	unsigned long n = 0;

	for (unsigned long i = 0; i < nr; i++)
		n += reported(r, p + i * PAGE);
	return n;
}

static inline char *pages_of(unsigned long nr, int flags)
{
	char *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		error("mmap");
	madvise(p, nr * PAGE, MADV_NOHUGEPAGE);
	return p;
}

static inline char *touched(unsigned long nr)
{
	char *p = pages_of(nr, MAP_PRIVATE);

	memset(p, 1, nr * PAGE);
	return p;
}

#endif /* TRACKER_H */
