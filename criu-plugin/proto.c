// SPDX-License-Identifier: GPL-2.0-only
/*
 * What both ends of the socket do alike.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "proto.h"

bool hold_transfer(int fd, void *data, size_t size, bool out)
{
	char *at = data;

	while (size) {
		ssize_t n = out ? send(fd, at, size, MSG_NOSIGNAL) : recv(fd, at, size, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= n;
	}
	return true;
}

uint64_t hold_pid_ns(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}
