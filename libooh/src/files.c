// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A read lease (fcntl(2), F_SETLEASE) is granted only while nobody has the file open for writing,
 * by a descriptor or by a mapping that can write. So it is asked for at each look, and given back
 * at once: whoever wants to write meanwhile waits for some microseconds. Between two looks at
 * which it was granted a file can only have been changed by somebody who opened it in between,
 * and that sets its time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include "files.h"
#include "mem.h"

#define MOST	256 /* files, each of which takes a descriptor */
#define SETTLED 3   /* seconds: more than a file system's times are coarse, and a tick */

/* What a file system is good for */
enum { FS_NO, FS_TIMES, FS_READ_ONLY };

/* Where the times can be relied on: local, one inode for a number, and no other way to write */
static const struct {
	const char *name;
	int kind;
} trusted[] = {
	{ "ext2", FS_TIMES },	   { "ext3", FS_TIMES },	{ "ext4", FS_TIMES },
	{ "xfs", FS_TIMES },	   { "f2fs", FS_TIMES },	{ "squashfs", FS_READ_ONLY },
	{ "erofs", FS_READ_ONLY }, { "iso9660", FS_READ_ONLY }, { "cramfs", FS_READ_ONLY },
	{ "romfs", FS_READ_ONLY },
};

struct file {
	dev_t dev;
	ino_t ino;
	struct own_fd fd; /* -1: nothing can be said of it */
	int kind;
	bool used;
	bool quiet; /* at the last look nobody could write, and a change since would be seen */
	bool same;
	struct timespec changed;
	off_t size;
};

static int watch_clock(struct own_fd *clock)
{
	/* in a hundred years */
	struct itimerspec never = { .it_value.tv_sec = time(NULL) + INT64_C(3155760000) };
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK), rc;

	if (fd < 0)
		return -errno;
	if (timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	rc = own_take(clock, fd);
	return rc < 0 ? rc : 0;
}

/* A set clock, if only for a moment, can give a file a time that it had before. */
static bool clock_was_set(struct files *f)
{
	uint64_t ticks;

	if (!own_there(&f->clock))
		return true;
	return read(f->clock.fd, &ticks, sizeof(ticks)) >= 0 || errno != EAGAIN;
}

int files_init(struct files *f, pid_t pid)
{
	*f = (struct files){ .pid = pid, .clock.fd = -1 };
	return watch_clock(&f->clock);
}

void files_free(struct files *f)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		own_close(&f->v[i].fd);
	own_close(&f->clock);
	mem_free(f->v, f->cap * sizeof(*f->v));
	f->v = NULL;
	f->n = f->cap = 0;
}

/* Files that the look before did not find mapped are let go of. */
void files_begin(struct files *f)
{
	size_t i, kept = 0;

	for (i = 0; i < f->n; i++) {
		struct file *x = &f->v[i];

		if (!x->used) {
			own_close(&x->fd);
			continue;
		}
		x->used = x->same = false;
		f->v[kept++] = *x;
	}
	f->n = kept;
	/* a device can have another file system by now */
	f->nfs = 0;
}

/* By the list of mounts, so that no file system is asked that might not answer. */
static int kind_of(const struct files *f, dev_t dev)
{
	unsigned int major, minor;
	char path[40], *line = NULL, *type;
	int kind = FS_NO;
	size_t size = 0, i;
	FILE *mounts;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", f->pid);
	mounts = fopen(path, "re");
	while (mounts && getline(&line, &size, mounts) > 0) {
		if (sscanf(line, "%*d %*d %u:%u", &major, &minor) != 2 ||
		    makedev(major, minor) != dev)
			continue;
		type = strstr(line, " - ");
		for (i = 0; type && i < sizeof(trusted) / sizeof(trusted[0]); i++) {
			size_t n = strlen(trusted[i].name);

			if (!strncmp(type + 3, trusted[i].name, n) && type[3 + n] == ' ')
				kind = trusted[i].kind;
		}
		break;
	}
	if (mounts)
		fclose(mounts);
	free(line);
	return kind;
}

static int fs_of(struct files *f, dev_t dev)
{
	const size_t room = sizeof(f->fs) / sizeof(f->fs[0]);
	size_t i;

	for (i = 0; i < f->nfs; i++)
		if (f->fs[i].dev == dev)
			return f->fs[i].kind;
	if (f->nfs == room)
		return FS_NO;
	f->fs[f->nfs] = (struct known_fs){ dev, kind_of(f, dev) };
	return f->fs[f->nfs++].kind;
}

/* The name of a mapping, as the process sees it; only the kernel's list has all of it. */
static bool name_of(const struct files *f, const struct vma *vma, char *name, size_t size)
{
	char path[40], start[24], *line = NULL, *at;
	bool found = false;
	size_t room = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", f->pid);
	snprintf(start, sizeof(start), "%08" PRIx64 "-", vma->start);
	maps = fopen(path, "re");
	while (maps && !found && getline(&line, &room, maps) > 0) {
		if (strncmp(line, start, strlen(start)))
			continue;
		at = strchr(line, '/');
		if (!at)
			break;
		at[strcspn(at, "\n")] = '\0';
		/* what is not printed as it is, is not looked for */
		found = !strchr(at, '\\') && strlen(at) < size;
		if (found)
			strcpy(name, at);
		break;
	}
	if (maps)
		fclose(maps);
	free(line);
	return found;
}

static bool is_it(int fd, const struct vma *vma)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_dev == vma->dev &&
	       st.st_ino == vma->ino;
}

/* By its name: it can be something else by now, which must not be opened in earnest. */
static int open_by_name(const struct files *f, const struct vma *vma)
{
	char path[4200], name[4096], link[40];
	int at, fd = -1;

	if (!name_of(f, vma, name, sizeof(name)))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/root%s", f->pid, name);
	at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0)
		return -1;
	if (is_it(at, vma)) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
		fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	close(at);
	return fd;
}

static int open_mapped(const struct files *f, const struct vma *vma)
{
	char path[80];
	int fd;

	/* for those who may (CAP_CHECKPOINT_RESTORE), whatever its name is by now */
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, f->pid, vma->start,
		 vma->end);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = open_by_name(f, vma);
	if (fd >= 0 && !is_it(fd, vma)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * Asks for a lease and gives it back; in between st is read. 0: nobody can write. EAGAIN:
 * somebody can. The kernel tells the owner of a lease that it is in the way by a signal, which
 * the calling thread has blocked; giving it back takes owner and signal off the file.
 */
static int nobody_writes(const struct own_fd *fd, struct stat *st)
{
	struct f_owner_ex self = { F_OWNER_TID, gettid() };
	int rc = -EAGAIN;

	if (fcntl(fd->fd, F_SETOWN_EX, &self) || fcntl(fd->fd, F_SETLEASE, F_RDLCK))
		return -errno;
	/* One that is about to be broken has somebody waiting who may write from now on. */
	if (!fstat(fd->fd, st) && fcntl(fd->fd, F_GETLEASE) == F_RDLCK)
		rc = 0;
	fcntl(fd->fd, F_SETLEASE, F_UNLCK);
	/* the mark of our descriptors: see ownfd.h */
	fcntl(fd->fd, F_SETSIG, fd->tag);
	return rc;
}

struct held_signal {
	sigset_t set, old;
	bool pending;
};

static bool is_pending(void)
{
	sigset_t pending;

	return !sigpending(&pending) && sigismember(&pending, OWN_QUIET) == 1;
}

static void hold_signal(struct held_signal *h)
{
	sigemptyset(&h->set);
	sigaddset(&h->set, OWN_QUIET);
	pthread_sigmask(SIG_BLOCK, &h->set, &h->old);
	h->pending = is_pending();
}

/* What came for a lease is taken away, what came for the program is sent again. */
static void release_signal(struct held_signal *h)
{
	const struct timespec now = { 0 };
	bool foreign = false;
	siginfo_t info;

	while (!h->pending && is_pending() && sigtimedwait(&h->set, &info, &now) > 0)
		foreign |= info.si_code != POLL_MSG;
	if (foreign)
		raise(OWN_QUIET);
	pthread_sigmask(SIG_SETMASK, &h->old, NULL);
}

/* If not, its mappings are better left alone: nothing can be told of them. */
static bool may_lease(const struct file *x)
{
	struct held_signal held;
	struct stat st;
	int rc;

	hold_signal(&held);
	rc = nobody_writes(&x->fd, &st);
	release_signal(&held);
	return !rc || rc == -EAGAIN;
}

static void look_at(struct file *x, const struct timespec *now)
{
	const bool was_quiet = x->quiet;
	struct stat st;
	int rc;

	x->quiet = x->same = false;
	if (x->fd.fd < 0)
		return;
	rc = own_there(&x->fd) ? 0 : -EBADF;
	if (!rc && x->kind == FS_READ_ONLY) {
		x->quiet = true;
		x->same = was_quiet;
		return;
	}
	if (!rc)
		rc = nobody_writes(&x->fd, &st);
	if (rc == -EAGAIN)
		return;
	if (rc) {
		/* not permitted to, or the file system has no leases: it will not be otherwise */
		own_close(&x->fd);
		return;
	}
	x->same = was_quiet && st.st_size == x->size && st.st_ctim.tv_sec == x->changed.tv_sec &&
		  st.st_ctim.tv_nsec == x->changed.tv_nsec;
	x->changed = st.st_ctim;
	x->size = st.st_size;
	/* what is written from now on has another time, however coarse the times are */
	x->quiet = st.st_ctim.tv_sec + SETTLED < now->tv_sec;
}

void files_look(struct files *f)
{
	const bool before = f->clock_set;
	struct held_signal held;
	struct timespec now;
	size_t i;

	/* from the clock that times are made from, and before whatever is compared with it */
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	hold_signal(&held);
	for (i = 0; i < f->n; i++)
		if (f->v[i].used)
			look_at(&f->v[i], &now);
	release_signal(&held);
	/* Before a look it concerns this round, after it the next one: so it spoils both. */
	f->clock_set = clock_was_set(f);
	for (i = 0; i < f->n; i++)
		if ((before || f->clock_set) && f->v[i].kind == FS_TIMES)
			f->v[i].same = false;
}

int files_of(struct files *f, const struct vma *vma)
{
	struct file *x;
	size_t i;
	int fd;

	/* without a device of their own: shared memory, networks, overlays, subvolumes */
	if (!vma->file || !major(vma->dev))
		return NO_FILE;
	for (i = 0; i < f->n; i++)
		if (f->v[i].ino == vma->ino && f->v[i].dev == vma->dev)
			break;
	if (i < f->n) {
		f->v[i].used = true;
		return f->v[i].fd.fd < 0 ? NO_FILE : (int)i;
	}
	if (f->n == MOST || (f->n == f->cap && mem_grow((void **)&f->v, &f->cap, sizeof(*f->v))))
		return NO_FILE;
	x = &f->v[f->n];
	*x = (struct file){ .dev = vma->dev, .ino = vma->ino, .fd.fd = -1, .used = true };
	x->kind = fs_of(f, vma->dev);
	fd = x->kind == FS_NO ? -1 : open_mapped(f, vma);
	if (fd >= 0 && own_take_quiet(&x->fd, fd) >= 0 && x->kind == FS_TIMES && !may_lease(x))
		own_close(&x->fd);
	f->n++;
	return x->fd.fd < 0 ? NO_FILE : (int)(f->n - 1);
}

bool files_same(const struct files *f, int number)
{
	return number != NO_FILE && f->v[number].same;
}

bool files_quiet(const struct files *f, int number)
{
	return number != NO_FILE && f->v[number].quiet;
}

int files_fd(const struct files *f, int number)
{
	return f->v[number].fd.fd;
}
