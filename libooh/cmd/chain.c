// SPDX-License-Identifier: GPL-2.0-only
/*
 * DIR/000001, DIR/000002, ...: a folder of CRIU's images each. One is complete if it has
 * a file "complete", which comes there by a rename after everything else is on the disk,
 * and all that it builds on is complete, too. The file names the one before.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "chain.h"

#define MARK	"complete"
#define NEW	"complete.new"
#define LONGEST 4096 /* a chain; a longer one is a circle */

void chain_name(char name[static NAME_LEN], long n)
{
	snprintf(name, NAME_LEN, "%06ld", n);
}

static long number_of(const char *name)
{
	char again[NAME_LEN], *end;
	long n = strtol(name, &end, 10);

	if (*end || n <= NO_CHECKPOINT)
		return NO_CHECKPOINT;
	chain_name(again, n);
	return strcmp(name, again) ? NO_CHECKPOINT : n;
}

/* The folder, for this process alone. A descriptor or -errno; EBUSY: somebody has it. */
int chain_open(const char *path, int create)
{
	int dir, rc;

	if (create && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (!flock(dir, LOCK_EX | LOCK_NB))
		return dir;
	rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	close(dir);
	return rc;
}

/* Calls visit for each checkpoint, whether it is complete or not. */
static void for_each(int dir, void (*visit)(int dir, long n, void *arg), void *arg)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (number_of(e->d_name))
			visit(dir, number_of(e->d_name), arg);
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
}

static void higher(int dir, long n, void *arg)
{
	long *highest = arg;

	(void)dir;
	if (n > *highest)
		*highest = n;
}

long chain_highest(int dir)
{
	long n = NO_CHECKPOINT;

	for_each(dir, higher, &n);
	return n;
}

/* The one before n; NO_CHECKPOINT if n is the first. Returns whether n is marked as complete. */
static int read_mark(int dir, long n, long *parent)
{
	char path[2 * NAME_LEN], name[NAME_LEN], text[64], expected[64];
	ssize_t len;
	int fd;

	chain_name(name, n);
	snprintf(path, sizeof(path), "%s/" MARK, name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	if (sscanf(text, "parent %ld", parent) != 1)
		return 0;
	snprintf(expected, sizeof(expected), "parent %ld\nend\n", *parent);
	return !strcmp(text, expected) && *parent >= NO_CHECKPOINT && *parent < n;
}

/* How many checkpoints n is made of; 0 if it, or one of them, is not complete. */
int chain_length(int dir, long n)
{
	int length = 0;

	while (n != NO_CHECKPOINT) {
		if (++length > LONGEST || !read_mark(dir, n, &n))
			return 0;
	}
	return length;
}

static void newer(int dir, long n, void *arg)
{
	long *newest = arg;

	if (n > *newest && chain_length(dir, n))
		*newest = n;
}

/* The last complete one */
long chain_newest(int dir)
{
	long n = NO_CHECKPOINT;

	for_each(dir, newer, &n);
	return n;
}

int chain_begin(int dir, long n)
{
	char name[NAME_LEN];

	chain_name(name, n);
	return mkdirat(dir, name, 0700) ? -errno : 0;
}

static int write_mark(int at, long parent)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "parent %ld\nend\n", parent), rc = 0;
	int fd = openat(at, NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* a short write tells no reason */
	if (write(fd, text, len) != len || fsync(fd))
		rc = -errno;
	close(fd);
	if (!rc && renameat(at, NEW, at, MARK))
		rc = -errno;
	return rc;
}

/* All images of n are written: puts them on the disk, then the mark. */
int chain_finish(int dir, long n, long parent)
{
	char name[NAME_LEN];
	int at, rc = 0;

	chain_name(name, n);
	at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	/* the images, their names, and that of their folder */
	if (syncfs(at) || fsync(at) || fsync(dir))
		rc = -errno;
	if (!rc)
		rc = write_mark(at, parent);
	if (!rc && fsync(at))
		rc = -errno;
	close(at);
	return rc;
}

static void remove_all(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0) && errno == EISDIR)
			remove_all(fd, e->d_name);
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* The mark goes first, so that what is left after a crash is not taken for complete. */
void chain_remove(int dir, long n)
{
	char name[NAME_LEN], path[2 * NAME_LEN];
	int at;

	chain_name(name, n);
	snprintf(path, sizeof(path), "%s/" MARK, name);
	unlinkat(dir, path, 0);
	at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (at >= 0) {
		fsync(at);
		close(at);
	}
	remove_all(dir, name);
}

struct others {
	long keep[LONGEST];
	int n;
	long v[LONGEST];
	int found;
};

static void collect_others(int dir, long n, void *arg)
{
	struct others *o = arg;
	int i;

	(void)dir;
	for (i = 0; i < o->n; i++)
		if (o->keep[i] == n)
			return;
	if (o->found < LONGEST)
		o->v[o->found++] = n;
}

static int descending(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x < y) - (x > y);
}

/* Removes all but keep and what it builds on; who builds on another goes before it. */
void chain_tidy(int dir, long keep)
{
	struct others *o = calloc(1, sizeof(*o));
	int i;

	if (!o)
		return;
	while (keep != NO_CHECKPOINT && o->n < LONGEST) {
		o->keep[o->n++] = keep;
		if (!read_mark(dir, keep, &keep))
			break;
	}
	for_each(dir, collect_others, o);
	qsort(o->v, o->found, sizeof(o->v[0]), descending);
	for (i = 0; i < o->found; i++)
		chain_remove(dir, o->v[i]);
	free(o);
}
