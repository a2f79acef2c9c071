// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: preloaded; ends the program at the DIE_AT-th call that changes a file system, as a
 * crash would, without doing it. (What the disk has of calls before it is the kernel's affair.)
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static void step(void)
{
	static int calls;
	const char *at = getenv("DIE_AT");

	if (at && ++calls == atoi(at))
		_exit(77);
}

#define WRAP(type, name, parameters, arguments)                   \
	type name parameters;                                     \
	type name parameters                                      \
	{                                                         \
		type(*real) parameters = dlsym(RTLD_NEXT, #name); \
                                                                  \
		step();                                           \
		return real arguments;                            \
	}

WRAP(int, unlinkat, (int dir, const char *name, int flags), (dir, name, flags))
WRAP(int, mkdirat, (int dir, const char *name, mode_t mode), (dir, name, mode))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, renameat2, (int a, const char *from, int b, const char *to, unsigned int flags),
     (a, from, b, to, flags))
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, syncfs, (int fd), (fd))
WRAP(ssize_t, write, (int fd, const void *buf, size_t size), (fd, buf, size))
