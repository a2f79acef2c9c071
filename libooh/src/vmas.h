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
	bool file;     /* backed by an inode */
	char name[96]; /* its beginning; enough for [vdso] and to tell a mapping */
};

struct vmas {
	struct vma *v;
	size_t n, cap;
};

int vmas_read(pid_t pid, struct vmas *out);
void vmas_free(struct vmas *vmas);

#endif
