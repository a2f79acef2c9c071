/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A descriptor that is ours as long as nobody has closed it. */
#ifndef OOH_OWNFD_H
#define OOH_OWNFD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct own_fd {
	int fd;
	int tag; /* F_SETSIG of its open file */
	dev_t dev, rdev;
	ino_t ino;
};

/* fd, or a negative error that is handed on. The descriptor is closed if it cannot be marked. */
int own_take(struct own_fd *o, int fd);
/*
 * As own_take(), for a file on which there will be leases: their signal is one that does no harm
 * to anybody. A lease that is given back takes the mark off: set it again.
 */
#define OWN_QUIET SIGURG
int own_take_quiet(struct own_fd *o, int fd);
/* Does the number still stand for what was taken? Nothing that was never taken is lost. */
bool own_there(const struct own_fd *o);
/* Closes it, unless the number is somebody else's by now. */
void own_close(struct own_fd *o);

#endif
