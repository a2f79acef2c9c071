/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file system that the module trusts to set a file's time at each change, and that is not
 * shared memory, which always counts as changeable.
 */
#ifndef RAMFS_H
#define RAMFS_H

#include <sys/mount.h>

#include "tracker.h"

static char ramfs_folder[] = "/tmp/ramfs.XXXXXX";

static inline void ramfs_mount(void)
{
	if (!mkdtemp(ramfs_folder) || mount("ramfs", ramfs_folder, "ramfs", 0, NULL))
		error("ramfs");
}

static inline void ramfs_unmount(void)
{
	umount2(ramfs_folder, MNT_DETACH);
	rmdir(ramfs_folder);
}

#endif /* RAMFS_H */
