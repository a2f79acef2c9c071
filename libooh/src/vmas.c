// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/sysmacros.h>
#include "mem.h"
#include "proc.h"
#include "vmas.h"

/* Two mappings that no tracker can follow and no oracle can read. */
static bool unreadable(const char *name)
{
	return !strncmp(name, "[vvar", 5) || !strcmp(name, "[vsyscall]");
}

/* A field of a line ends in a blank; gives what is behind the blanks. */
static const char *skip_field(const char *at)
{
	at += strcspn(at, " ");
	return at + strspn(at, " ");
}

/* start-end perms offset device inode name */
static int add(struct vmas *out, const char *line)
{
	const char *perm, *offset, *device, *inode;
	unsigned long minor;
	uint64_t start, listed, end;
	struct vma *v;
	char *at;
	int rc;

	start = listed = strtoull(line, &at, 16);
	if (*at != '-')
		return -EPROTO;
	end = strtoull(at + 1, &at, 16);
	perm = at + strspn(at, " ");
	if (perm == at || strlen(perm) < 4)
		return -EPROTO;
	offset = skip_field(perm);
	device = skip_field(offset);
	inode = skip_field(device);
	if (*inode < '0' || *inode > '9' || !strchr(device, ':'))
		return -EPROTO;
	if (unreadable(skip_field(inode)))
		return 0;
	/* Listed in several steps: what was merged meanwhile comes again. */
	if (out->n && start < out->v[out->n - 1].end)
		start = out->v[out->n - 1].end;
	if (start >= end)
		return 0;
	if (out->n == out->cap) {
		rc = mem_grow((void **)&out->v, &out->cap, sizeof(*v));
		if (rc)
			return rc;
	}
	v = &out->v[out->n++];
	*v = (struct vma){
		.start = start,
		.end = end,
		.write = perm[1] == 'w',
		.exec = perm[2] == 'x',
		.shared = perm[3] == 's',
		.file = *inode != '0',
		.ino = strtoull(inode, NULL, 10),
		.offset = strtoull(offset, NULL, 16) + (start - listed),
	};
	minor = strtoul(strchr(device, ':') + 1, NULL, 16);
	v->dev = makedev(strtoul(device, NULL, 16), minor);
	strncpy(v->name, skip_field(inode), sizeof(v->name) - 1);
	return 0;
}

/* Adds the mappings of a part of the file; line: the one that it began in, as far as needed. */
static int add_lines(struct vmas *out, char *line, size_t *len, size_t size, const char *part,
		     size_t n)
{
	size_t i;
	int rc;

	for (i = 0; i < n; i++) {
		if (part[i] != '\n') {
			if (*len < size - 1)
				line[(*len)++] = part[i];
			continue;
		}
		line[*len] = '\0';
		*len = 0;
		rc = add(out, line);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * ESRCH: no such process, or one without memory. Not by stdio, which takes
 * locks and memory: see mem.h.
 */
int vmas_read(pid_t pid, struct vmas *out)
{
	char line[256], part[4096];
	size_t len = 0;
	int rc = 0, fd;
	ssize_t n;

	out->n = 0;
	fd = proc_open(pid, "maps", O_RDONLY);
	if (fd < 0)
		return fd;
	while (!rc && (n = read(fd, part, sizeof(part))) != 0) {
		if (n > 0)
			rc = add_lines(out, line, &len, sizeof(line), part, n);
		else if (errno != EINTR)
			rc = errno == ENOMEM ? -ENOMEM : -ESRCH;
	}
	if (!rc && !out->n)
		rc = -ESRCH;
	close(fd);
	return rc;
}

void vmas_free(struct vmas *vmas)
{
	mem_free(vmas->v, vmas->cap * sizeof(*vmas->v));
	vmas->v = NULL;
	vmas->n = vmas->cap = 0;
}
