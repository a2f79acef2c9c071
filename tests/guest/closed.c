// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a program closes all descriptors, among them those of its own tracker, and opens
 * files, which get the same numbers. The tracker begins anew with everything dirty. It reads and
 * closes none of the files, neither at a collect nor when it is closed.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <ooh.h>

#include "tracker.h"

#define NR    16UL
#define FILES 24

static char *area;
static int files[FILES], pair[2];
static struct stat before[FILES];

/* Files and a pair of sockets, on the lowest numbers there are. */
static void take_numbers(void)
{
	for (int i = 0; i < FILES; i++) {
		char name[] = "/tmp/closed.XXXXXX";

		files[i] = mkstemp(name);
		if (files[i] < 0 || unlink(name) || write(files[i], "hello", 5) != 5 ||
		    lseek(files[i], 0, SEEK_SET) || fstat(files[i], &before[i]))
			error("a file");
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || write(pair[0], "message", 7) != 7)
		error("socketpair");
}

static void untouched(const char *name, const char *when)
{
	int lost = 0;

	for (int i = 0; i < FILES; i++) {
		struct stat st;
		char b[8];

		lost += fstat(files[i], &st) || st.st_ino != before[i].st_ino ||
			pread(files[i], b, sizeof(b), 0) != 5 || memcmp(b, "hello", 5) ||
			lseek(files[i], 0, SEEK_CUR);
	}
	check(!lost, "%s: %s, %d of %d files are lost", name, when, lost, FILES);
}

static void try_backend(const char *name)
{
	const struct ooh_range *v;
	char why[OOH_REASON_LEN], b[8];
	struct ooh_tracker *t;
	unsigned int flags;
	ssize_t n;

	if (ooh_open(0, name, 0, &t, why, sizeof(why))) {
		check(false, "%s: %s", name, why);
		return;
	}
	/* a low-water mark has descriptors of its own; not every backend has one */
	ooh_fd(t, 100);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	take_numbers();
	area[3 * PAGE]++;
	n = ooh_collect(t, 0, &v, &flags);
	check(n > 0 && (flags & OOH_ALL_DIRTY) && in_ranges(v, n, area + 3 * PAGE),
	      "%s: everything is dirty once: %zd, %s", name, n, ooh_reason(t));
	untouched(name, "after a collect");
	area[5 * PAGE]++;
	n = ooh_collect(t, 0, &v, &flags);
	check(n > 0 && !flags && in_ranges(v, n, area + 5 * PAGE) &&
		      !in_ranges(v, n, area + 7 * PAGE),
	      "%s: then what was written: %zd, flags %#x", name, n, flags);
	ooh_close(t);
	untouched(name, "after the end");
	check(read(pair[1], b, sizeof(b)) == 7 && !memcmp(b, "message", 7),
	      "%s: the message is there", name);
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
}

int main(void)
{
	struct ooh_backend backends[8];
	int nr = ooh_backends(backends, 8, sizeof(backends[0])), tried = 0;

	area = touched(NR);
	for (int i = 0; i < nr && i < 8; i++) {
		const char *name = backends[i].name;

		/* these cannot track their own process */
		if (!backends[i].usable || !strcmp(name, "uffd-wp") || !strcmp(name, "soft-dirty"))
			continue;
		tried++;
		try_backend(name);
	}
	if (!tried) {
		printf("skip: no backend here that can track its own process\n");
		return 77;
	}
	return verdict();
}
