/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mappings of a process, as /proc/PID/maps lists them. */
#ifndef OOH_VMAS_H
#define OOH_VMAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vma {
	uint64_t start, end;
	bool write, exec;
	bool shared;
	bool file; /* backed by an inode */
	dev_t dev;
	ino_t ino;
	uint64_t offset; /* in the file */
	char name[96];	 /* its beginning; enough for [vdso] and to tell a mapping */
};

struct vmas {
	struct vma *v;
	size_t n, cap;
};

/*
 * Can write protection by userfaultfd tell alone what was written? Not in shared memory, which
 * others write by mappings of their own. Not in a file's private mapping either: the mark
 * of a protected page outlives the page (dropped, reclaimed), and the copy made by the next
 * write bears it from the start. Taken off it is when the instruction is tried again; a
 * thread that is stopped before that leaves new content which counts as clean.
 */
static inline bool vma_protectable(const struct vma *vma)
{
	return !vma->shared && !vma->file;
}

int vmas_read(pid_t pid, struct vmas *out);
void vmas_free(struct vmas *vmas);

#endif
