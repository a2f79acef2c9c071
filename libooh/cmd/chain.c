// SPDX-License-Identifier: GPL-2.0-only
/*
 * DIR/000001, DIR/000002, ...: a folder of CRIU's images each. One is complete if it has
 * a file "complete", which comes there by a rename after everything else is on the disk,
 * and all that it builds on is complete, too. The file names the one before.
 *
 * A folder is ours if it has the file "ooh-checkpoint", which is written before any image and
 * names number and process. Nothing is ever removed from another one, whatever its name, or
 * from one of another process; and of ours only what criu and ooh make.
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
#include "images.h"

#define MARK	"complete"
#define NEW	"complete.new"
#define OWN	"ooh-checkpoint"
#define LOG	"criu.log"
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

/* A short file of checkpoint n as a string of less than size bytes; false: there is none. */
static bool read_short(int dir, long n, const char *file, char *text, size_t size)
{
	char path[2 * NAME_LEN], name[NAME_LEN];
	ssize_t len;
	int fd;

	chain_name(name, n);
	snprintf(path, sizeof(path), "%s/%s", name, file);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return true;
}

/* Whether the folder is ours; owner: of this process alone, NULL: of any. */
static bool is_ours(int dir, long n, const char *owner)
{
	char text[2 * OWNER_LEN], expected[2 * OWNER_LEN];
	int len;

	if (!read_short(dir, n, OWN, text, sizeof(text)))
		return false;
	len = snprintf(expected, sizeof(expected), "number %ld\nprocess %s", n, owner ?: "");
	if (owner)
		snprintf(expected + len, sizeof(expected) - len, "\nend\n");
	return owner ? !strcmp(text, expected) : !strncmp(text, expected, len);
}

static void higher(int dir, long n, void *arg)
{
	long *highest = arg;

	if (n > *highest && is_ours(dir, n, NULL))
		*highest = n;
}

/* Of ours; a folder of somebody else with such a name is passed by. */
long chain_highest(int dir)
{
	long n = NO_CHECKPOINT;

	for_each(dir, higher, &n);
	return n;
}

/* The one before n; NO_CHECKPOINT if n is the first. Returns whether n is marked as complete. */
static int read_mark(int dir, long n, long *parent)
{
	char text[64], expected[64];

	if (!read_short(dir, n, MARK, text, sizeof(text)))
		return 0;
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

/* The last one that is marked as complete, whether those that it builds on are there or not. */
static void marked(int dir, long n, void *arg)
{
	long *last = arg, parent;

	if (n > *last && read_mark(dir, n, &parent))
		*last = n;
}

long chain_marked(int dir)
{
	long n = NO_CHECKPOINT;

	for_each(dir, marked, &n);
	return n;
}

/* Whether all that n is made of is there and as it was written; if not, why says what is not. */
bool chain_check(int dir, long n, char *why, size_t size)
{
	int i, at, rc;

	for (i = 0; n != NO_CHECKPOINT && i < LONGEST; i++) {
		char name[NAME_LEN], what[384];

		chain_name(name, n);
		at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (at < 0 || !read_mark(dir, n, &n)) {
			snprintf(why, size, "%s is %s", name, at < 0 ? "missing" : "not complete");
			if (at >= 0)
				close(at);
			return false;
		}
		rc = images_check(at, what, sizeof(what));
		close(at);
		if (rc) {
			snprintf(why, size, "%s/%s", name, what);
			return false;
		}
	}
	return n == NO_CHECKPOINT;
}

static int write_owner(int dir, const char *name, long n, const char *owner)
{
	char path[2 * NAME_LEN], text[2 * OWNER_LEN];
	int len = snprintf(text, sizeof(text), "number %ld\nprocess %s\nend\n", n, owner), fd,
	    rc = 0;

	snprintf(path, sizeof(path), "%s/" OWN, name);
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* a short write tells no reason */
	if (write(fd, text, len) != len || fsync(fd))
		rc = -errno;
	close(fd);
	return rc;
}

/* A new folder, marked as ours: *n, or a higher number if somebody's folder is there. */
int chain_begin(int dir, long *n, const char *owner)
{
	char name[NAME_LEN], path[2 * NAME_LEN];
	int rc;

	for (;; ++*n) {
		chain_name(name, *n);
		if (!mkdirat(dir, name, 0700))
			break;
		if (errno != EEXIST)
			return -errno;
	}
	rc = write_owner(dir, name, *n, owner);
	if (rc) {
		/* nothing but that file can be there */
		snprintf(path, sizeof(path), "%s/" OWN, name);
		unlinkat(dir, path, 0);
		unlinkat(dir, name, AT_REMOVEDIR);
	}
	return rc;
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
	rc = images_sum(at);
	/* the images, their names, and that of their folder */
	if (!rc && (syncfs(at) || fsync(at) || fsync(dir)))
		rc = -errno;
	if (!rc)
		rc = write_mark(at, parent);
	if (!rc && fsync(at))
		rc = -errno;
	close(at);
	return rc;
}

/* What criu and ooh make in a folder of images, all of it files and one symbolic link. */
static bool is_made(const char *name)
{
	static const char *const names[] = { MARK,	    NEW,
					     LOG,	    CHECKSUMS,
					     "ooh-marks",   "parent",
					     "stats-dump",  "stats-restore",
					     "irmap-cache", "restored.pid",
					     "criu-options" };
	size_t i, n = strlen(name);

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return n > 4 && !strcmp(name + n - 4, ".img");
}

/* Takes what criu made out of a folder of ours. The mark of completeness goes first. */
static void empty(int at, bool log)
{
	int copy;
	struct dirent *e;
	DIR *d;

	unlinkat(at, MARK, 0);
	fsync(at);
	copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = copy < 0 ? NULL : fdopendir(copy);
	while (d && (e = readdir(d)))
		if (is_made(e->d_name) && (log || strcmp(e->d_name, LOG)))
			unlinkat(at, e->d_name, 0);
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
}

static int open_ours(int dir, long n, const char *owner)
{
	char name[NAME_LEN];

	chain_name(name, n);
	if (!is_ours(dir, n, owner))
		return -1;
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* A checkpoint that failed: what remains is the log. */
void chain_keep_log(int dir, long n, const char *owner)
{
	int at = open_ours(dir, n, owner);

	if (at < 0)
		return;
	empty(at, false);
	close(at);
}

/* A folder that has something else in it stays, and is not ours any more. */
void chain_remove(int dir, long n, const char *owner)
{
	int at = open_ours(dir, n, owner);
	char name[NAME_LEN];

	if (at < 0)
		return;
	empty(at, true);
	unlinkat(at, OWN, 0);
	close(at);
	chain_name(name, n);
	unlinkat(dir, name, AT_REMOVEDIR);
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

/*
 * Removes what the owner has before keep, and keep does not build on; who builds on another
 * goes before it. Does nothing if keep is not complete.
 */
void chain_tidy(int dir, long keep, const char *owner)
{
	struct others *o = calloc(1, sizeof(*o));
	long newest = keep;
	int i;

	if (!o || !chain_length(dir, keep)) {
		free(o);
		return;
	}
	while (keep != NO_CHECKPOINT && o->n < LONGEST) {
		o->keep[o->n++] = keep;
		if (!read_mark(dir, keep, &keep))
			break;
	}
	for_each(dir, collect_others, o);
	qsort(o->v, o->found, sizeof(o->v[0]), descending);
	for (i = 0; i < o->found; i++)
		if (o->v[i] < newest)
			chain_remove(dir, o->v[i], owner);
	free(o);
}
