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
#include "crimage.h"
#include "images.h"
#include "packed.h"

#define MARK	"complete"
#define NEW	"complete.new"
#define OWN	"ooh-checkpoint"
#define LOG	"criu.log"
#define MERGING "ooh-merge"
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

/*
 * The folder, for this process alone but to read. A descriptor or -errno; EBUSY: somebody has it.
 */
int chain_open(const char *path, enum use use)
{
	int dir, rc;

	if (use == CREATE && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (use == READ || !flock(dir, LOCK_EX | LOCK_NB))
		return dir;
	rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	close(dir);
	return rc;
}

/* Calls visit for each checkpoint, whether it is complete or not. */
static void for_each(int dir, void (*visit)(int dir, long n, void *arg), void *arg)
{
	DIR *d = images_list(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (number_of(e->d_name))
			visit(dir, number_of(e->d_name), arg);
	if (d)
		closedir(d);
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

/* Checkpoint n's folder; a descriptor or -1 */
int chain_folder(int dir, long n)
{
	char name[NAME_LEN];

	chain_name(name, n);
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
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

/* The one that n builds on; NO_CHECKPOINT also if n is not complete */
long chain_parent(int dir, long n)
{
	long parent;

	return read_mark(dir, n, &parent) ? parent : NO_CHECKPOINT;
}

/* criu goes by its own link, which has to say the same as our mark. */
static bool check_link(int at, long parent, char *why, size_t size)
{
	char link[64], name[NAME_LEN];
	ssize_t len = readlinkat(at, "parent", link, sizeof(link) - 1);

	if (len < 0)
		return true; /* the images of each process say whether they need one */
	link[len] = '\0';
	chain_name(name, parent);
	if (parent != NO_CHECKPOINT && !strncmp(link, "../", 3) && !strcmp(link + 3, name))
		return true;
	snprintf(why, size, "parent is %s, and should be %s", link,
		 parent == NO_CHECKPOINT ? "absent" : name);
	return false;
}

/* Whether the folder of n alone is whole; if not, why says what is not. */
bool chain_check_one(int dir, long n, char *why, size_t size)
{
	char name[NAME_LEN], what[384];
	long parent;
	bool ok;
	int at;

	chain_name(name, n);
	at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || !read_mark(dir, n, &parent)) {
		snprintf(why, size, "%s is %s", name, at < 0 ? "missing" : "not complete");
		if (at >= 0)
			close(at);
		return false;
	}
	ok = !images_check(at, what, sizeof(what)) && check_link(at, parent, what, sizeof(what));
	close(at);
	if (!ok)
		snprintf(why, size, "%s/%s", name, what);
	return ok;
}

/* Whether all that n is made of is there and as it was written; if not, why says what is not. */
bool chain_check(int dir, long n, char *why, size_t size)
{
	int i;

	for (i = 0; n != NO_CHECKPOINT && i < LONGEST; i++) {
		if (!chain_check_one(dir, n, why, size))
			return false;
		n = chain_parent(dir, n);
	}
	return n == NO_CHECKPOINT;
}

static void read_owner(int dir, long n, char owner[static OWNER_LEN])
{
	char text[2 * OWNER_LEN], *end;

	owner[0] = '\0';
	if (!is_ours(dir, n, NULL) || !read_short(dir, n, OWN, text, sizeof(text)))
		return;
	end = strstr(text, "\nend\n");
	if (!end)
		return;
	*end = '\0';
	snprintf(owner, OWNER_LEN, "%s", strstr(text, "process ") + strlen("process "));
}

static void look_at_files(int dir, struct checkpoint *c)
{
	int at = chain_folder(dir, c->n);
	DIR *d = at < 0 ? NULL : fdopendir(at);
	struct dirent *e;
	struct stat st;

	if (!d)
		return;
	if (!fstat(at, &st))
		c->time = st.st_mtime;
	while ((e = readdir(d))) {
		if (!chain_made(e->d_name) || fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		c->bytes += 512.0 * st.st_blocks;
		c->packed |= packed_name(e->d_name);
		if (!strcmp(e->d_name, MARK))
			c->time = st.st_mtime;
	}
	closedir(d);
}

/* What there is to say of n without reading its images */
struct checkpoint chain_look(int dir, long n)
{
	struct checkpoint c = { .n = n };

	read_owner(dir, n, c.owner);
	c.marked = read_mark(dir, n, &c.parent);
	c.length = chain_length(dir, n);
	look_at_files(dir, &c);
	return c;
}

struct list {
	struct checkpoint *v;
	size_t n, cap;
	bool failed;
};

static void add_to_list(int dir, long n, void *arg)
{
	struct list *l = arg;
	struct checkpoint *v;

	if (l->n == l->cap) {
		v = realloc(l->v, (l->cap + 64) * sizeof(*v));
		if (!v) {
			l->failed = true;
			return;
		}
		l->v = v;
		l->cap += 64;
	}
	l->v[l->n++] = chain_look(dir, n);
}

static int by_number(const void *a, const void *b)
{
	const struct checkpoint *x = a, *y = b;

	return (x->n > y->n) - (x->n < y->n);
}

/* All there are, by number: ours, and complete ones that somebody copied. 0 or -errno. */
int chain_list(int dir, struct checkpoint **list, size_t *n)
{
	struct list l = { 0 };
	size_t i;

	for_each(dir, add_to_list, &l);
	*list = l.v;
	*n = 0;
	for (i = 0; i < l.n; i++)
		if (l.v[i].owner[0] || l.v[i].marked)
			l.v[(*n)++] = l.v[i];
	if (*n)
		qsort(l.v, *n, sizeof(*l.v), by_number);
	return l.failed ? -ENOMEM : 0;
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

/* All images are written: puts them on the disk, then the mark. */
int chain_finish_folder(int dir, int at, long parent)
{
	int rc = images_sum(at);

	/* the images, their names, and that of their folder */
	if (!rc && (syncfs(at) || fsync(at) || fsync(dir)))
		rc = -errno;
	if (!rc)
		rc = write_mark(at, parent);
	if (!rc && fsync(at))
		rc = -errno;
	return rc;
}

int chain_finish(int dir, long n, long parent)
{
	int at = chain_folder(dir, n), rc;

	if (at < 0)
		return -errno;
	rc = chain_finish_folder(dir, at, parent);
	close(at);
	return rc;
}

/* What says of a folder what it is: it must not go along into another one. */
bool chain_is_mark(const char *name)
{
	return !strcmp(name, MARK) || !strcmp(name, NEW) || !strcmp(name, OWN) ||
	       !strcmp(name, MERGING);
}

/* What criu and ooh make in a folder of images, all of it files and one symbolic link. */
bool chain_made(const char *name)
{
	static const char *const names[] = { LOG,	    CHECKSUMS,	    "ooh-marks",
					     "parent",	    "stats-dump",   "stats-restore",
					     "irmap-cache", "restored.pid", "criu-options" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return is_image(name) || packed_name(name) || chain_is_mark(name);
}

/* Takes what criu made out of a folder of ours. The mark of completeness goes first. */
static void empty(int at, bool log)
{
	struct dirent *e;
	DIR *d;

	unlinkat(at, MARK, 0);
	fsync(at);
	d = images_list(at);
	while (d && (e = readdir(d)))
		if (chain_made(e->d_name) && strcmp(e->d_name, OWN) && strcmp(e->d_name, MERGING) &&
		    (log || strcmp(e->d_name, LOG)))
			unlinkat(at, e->d_name, 0);
	if (d)
		closedir(d);
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
	unlinkat(at, MERGING, 0);
	unlinkat(at, OWN, 0);
	close(at);
	chain_name(name, n);
	unlinkat(dir, name, AT_REMOVEDIR);
}

/* Of a list, the checkpoint of this number; NULL: it is not there. */
struct checkpoint *chain_find(struct checkpoint *v, size_t n, long number)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (v[i].n == number)
			return &v[i];
	return NULL;
}

/* Marks what those that are kept build on, too. */
void chain_keep_parents(struct checkpoint *v, size_t n, bool *kept)
{
	const struct checkpoint *parent;
	size_t i;

	for (i = n; i > 0; i--) {
		parent = kept[i - 1] && v[i - 1].marked ? chain_find(v, n, v[i - 1].parent) : NULL;
		if (parent)
			kept[parent - v] = true;
	}
}

/*
 * Removes what the owner has before its newest complete checkpoint, but the last keep complete
 * ones, what they build on, and spare. What others have (copies, too) stays with what it builds on.
 * Who builds on another goes before it.
 */
void chain_tidy(int dir, const char *owner, long keep, long spare)
{
	long newest = NO_CHECKPOINT;
	struct checkpoint *v;
	bool *kept = NULL;
	size_t i, n;

	if (!chain_list(dir, &v, &n) && n)
		kept = calloc(n, sizeof(*kept));
	for (i = n; kept && i > 0; i--) {
		const struct checkpoint *c = &v[i - 1];

		if (!c->length || (!strcmp(c->owner, owner) && !keep))
			continue;
		kept[i - 1] = true;
		if (strcmp(c->owner, owner))
			continue;
		keep--;
		if (newest == NO_CHECKPOINT)
			newest = c->n;
	}
	if (kept)
		chain_keep_parents(v, n, kept);
	for (i = n; kept && i > 0; i--)
		if (!kept[i - 1] && v[i - 1].n < newest && v[i - 1].n != spare)
			chain_remove(dir, v[i - 1].n, owner);
	free(kept);
	free(v);
}

/* ---- merges: DIR/000005.merge becomes DIR/000005, which holds everything then */

static bool is_merge(const char *name, long *n)
{
	char digits[NAME_LEN];
	size_t len = strlen(name), suffix = strlen(MERGED);

	if (len <= suffix || len - suffix >= sizeof(digits) || strcmp(name + len - suffix, MERGED))
		return false;
	snprintf(digits, sizeof(digits), "%.*s", (int)(len - suffix), name);
	*n = number_of(digits);
	return *n != NO_CHECKPOINT;
}

/* Such a folder has the file MERGING from its first moment to its last. */
static void remove_merge(int dir, const char *name)
{
	int at = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (at < 0)
		return;
	if (!faccessat(at, MERGING, F_OK, AT_SYMLINK_NOFOLLOW)) {
		empty(at, true);
		unlinkat(at, OWN, 0);
		unlinkat(at, MERGING, 0);
	}
	close(at);
	unlinkat(dir, name, AT_REMOVEDIR); /* if it is empty */
}

/* What a merge left that did not come to its end, before the exchange or after it. */
void chain_clean_merges(int dir)
{
	DIR *d = images_list(dir);
	struct dirent *e;
	long n;

	while (d && (e = readdir(d)))
		if (is_merge(e->d_name, &n))
			remove_merge(dir, e->d_name);
	if (d)
		closedir(d);
}

static int touch(int at, const char *name)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* The folder in which n is made anew: its name, and a descriptor or -errno. */
int chain_begin_merge(int dir, long n, char *work, size_t size)
{
	char owner[OWNER_LEN], name[NAME_LEN];
	int at, rc;

	read_owner(dir, n, owner);
	if (!owner[0])
		return -EPERM;
	chain_name(name, n);
	snprintf(work, size, "%s" MERGED, name);
	if (mkdirat(dir, work, 0700))
		return -errno;
	at = openat(dir, work, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	rc = at < 0 ? -errno : touch(at, MERGING);
	if (!rc)
		rc = write_owner(dir, work, n, owner);
	if (!rc)
		return at;
	if (at >= 0) {
		unlinkat(at, MERGING, 0);
		close(at);
	}
	unlinkat(dir, work, AT_REMOVEDIR);
	return rc;
}

/*
 * The finished work takes n's place in one step, so at each moment there is a complete n; what was
 * n before goes. 0 or -errno: nothing was done. 1: what was n before is still there.
 */
int chain_replace(int dir, long n, const char *work)
{
	char name[NAME_LEN], path[2 * NAME_LEN];
	int at = chain_folder(dir, n), rc;

	if (at < 0)
		return -errno;
	/* it is known as a merge's when it has the other name */
	rc = touch(at, MERGING);
	if (!rc && (fsync(at) || fsync(dir)))
		rc = -errno;
	close(at);
	chain_name(name, n);
	if (!rc && renameat2(dir, name, dir, work, RENAME_EXCHANGE))
		rc = -errno;
	else if (!rc && fsync(dir))
		rc = 1;
	snprintf(path, sizeof(path), "%s/" MERGING, name);
	unlinkat(dir, path, 0);
	if (!rc)
		remove_merge(dir, work);
	return rc;
}
