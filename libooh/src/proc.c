// SPDX-License-Identifier: LGPL-2.1-or-later
/* Neither stdio nor opendir(3), which take locks and memory: see mem.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include "proc.h"

struct entry {
	uint64_t inode, offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

static bool has_ended(const char *stat_path)
{
	char line[512], *p;
	ssize_t n;
	int fd = open(stat_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return true;
	do
		n = read(fd, line, sizeof(line) - 1);
	while (n < 0 && errno == EINTR);
	close(fd);
	if (n <= 0)
		return true;
	line[n] = '\0';
	p = strrchr(line, ')');
	return !p || !p[1] || strchr("ZX", p[2]);
}

static pid_t another_thread(pid_t pid)
{
	_Alignas(struct entry) char part[2048];
	char path[64];
	pid_t found = 0;
	long at, n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	while (!found && (n = syscall(SYS_getdents64, fd, part, sizeof(part))) > 0) {
		for (at = 0; at < n && !found; at += ((struct entry *)(part + at))->length) {
			const struct entry *e = (struct entry *)(part + at);

			snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, e->name);
			if (e->name[0] != '.' && !has_ended(path))
				found = atoi(e->name);
		}
	}
	close(fd);
	return found;
}

pid_t proc_thread(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	return has_ended(path) ? another_thread(pid) : pid;
}

int proc_open(pid_t pid, const char *name, int flags)
{
	pid_t tid = proc_thread(pid);
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	fd = tid ? open(path, flags | O_CLOEXEC) : -1;
	if (!tid || (fd < 0 && errno == ENOENT))
		return -ESRCH;
	return fd < 0 ? -errno : fd;
}
