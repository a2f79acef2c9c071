// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmas.h"

/* Two mappings that no tracker can follow and no oracle can read. */
static bool unreadable(const char *name)
{
	return !strncmp(name, "[vvar", 5) || !strcmp(name, "[vsyscall]");
}

static int add(struct vmas *out, const char *line)
{
	uint64_t start, end, inode;
	char perm[8] = "";
	struct vma *v;
	int pos = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %" SCNu64 " %n", &start, &end, perm,
		   &inode, &pos) < 4 ||
	    !pos)
		return -EPROTO;
	if (unreadable(line + pos))
		return 0;
	/* Listed in several steps: what was merged meanwhile comes again. */
	if (out->n && start < out->v[out->n - 1].end)
		start = out->v[out->n - 1].end;
	if (start >= end)
		return 0;
	if (out->n == out->cap) {
		size_t cap = out->cap ? 2 * out->cap : 128;

		v = realloc(out->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		out->v = v;
		out->cap = cap;
	}
	v = &out->v[out->n++];
	*v = (struct vma){
		.start = start,
		.end = end,
		.write = perm[1] == 'w',
		.exec = perm[2] == 'x',
		.shared = perm[3] == 's',
		.file = inode != 0,
	};
	strncpy(v->name, line + pos, sizeof(v->name) - 1);
	return 0;
}

/* ESRCH: no such process, or one without memory */
int vmas_read(pid_t pid, struct vmas *out)
{
	char path[40], *line = NULL;
	size_t size = 0;
	int rc = 0;
	FILE *f;

	out->n = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	errno = 0;
	while (!rc && getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		rc = add(out, line);
	}
	if (!rc && ferror(f))
		rc = errno == ENOMEM ? -ENOMEM : -ESRCH;
	if (!rc && !out->n)
		rc = -ESRCH;
	free(line);
	fclose(f);
	return rc;
}

void vmas_free(struct vmas *vmas)
{
	free(vmas->v);
	vmas->v = NULL;
	vmas->n = vmas->cap = 0;
}
