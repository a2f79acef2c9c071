// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * We live in other people's processes: a daemon closes all descriptors when it
 * begins, a program closes by number what it never opened. The number is then
 * given to a file of theirs, which must neither be read for ours nor be closed.
 *
 * Device and inode tell files apart, but not one pidfd from another, on older
 * kernels not even from an eventfd. So the open file is marked, too: by the signal that it
 * would send, which is 0 unless somebody sets it, and which nothing sends as long
 * as O_ASYNC is off. A copy that a child inherits is the same open file.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ownfd.h"

static int take(struct own_fd *o, int fd, int tag)
{
	struct stat st;
	int rc;

	if (fd < 0)
		return fd;
	o->tag = tag;
	if (fcntl(fd, F_SETSIG, o->tag) || fstat(fd, &st)) {
		rc = -errno;
		close(fd);
		return rc;
	}
	o->fd = fd;
	o->dev = st.st_dev;
	o->ino = st.st_ino;
	o->rdev = st.st_rdev;
	return fd;
}

int own_take(struct own_fd *o, int fd)
{
	static unsigned int last;

	/* Different from the next one's, which may get the same number. */
	return take(o, fd, 1 + __atomic_fetch_add(&last, 1, __ATOMIC_RELAXED) % (SIGRTMIN - 1));
}

int own_take_quiet(struct own_fd *o, int fd)
{
	return take(o, fd, OWN_QUIET);
}

bool own_there(const struct own_fd *o)
{
	struct stat st;

	return o->fd < 0 || (fcntl(o->fd, F_GETSIG) == o->tag && !fstat(o->fd, &st) &&
			     st.st_dev == o->dev && st.st_ino == o->ino && st.st_rdev == o->rdev);
}

void own_close(struct own_fd *o)
{
	/* The mark will do: after a restore by CRIU it is the same, and the inode is not. */
	if (o->fd >= 0 && fcntl(o->fd, F_GETSIG) == o->tag)
		close(o->fd);
	o->fd = -1;
}
