// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets libooh run under valgrind, which (3.19) refuses the system calls
 * userfaultfd, pidfd_open and pidfd_getfd, and does not know what PAGEMAP_SCAN
 * writes. Preloaded, it asks a helper (test_valgrind.py) for these three: the helper
 * listens at the socket OOH_SHIM and sends back the descriptor.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <valgrind/memcheck.h>

#define PAGEMAP_SCAN_NR _IOWR('f', 16, uint64_t[12])
enum { SCAN_VEC = 5, SCAN_REGION = 24 };

/* Has the helper make the call and send back the descriptor. */
static long ask(long nr, long a, long b)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	long message[3] = { nr, a, b }, answer = -1;
	struct iovec iov = { .iov_base = &answer, .iov_len = sizeof(answer) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd;

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", getenv("OOH_SHIM"));
	if (connect(sock, (void *)&to, sizeof(to)) ||
	    send(sock, message, sizeof(message), 0) != sizeof(message) ||
	    recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != sizeof(answer))
		abort();
	close(sock);
	if (answer) {
		errno = answer;
		return -1;
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static long pid_of(int pidfd)
{
	char path[40], line[128];
	long pid = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pid: %ld", &pid) == 1)
			break;
	if (f)
		fclose(f);
	return pid;
}

long syscall(long nr, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list ap;
	int i;

	va_start(ap, nr);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	switch (nr) {
	case 323: /* userfaultfd */
		return ask(nr, (int)a[0], 0);
	case 434: /* pidfd_open */
		return ask(nr, (int)a[0], 0);
	case 438: /* pidfd_getfd */
		return ask(nr, pid_of(a[0]), (int)a[1]);
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	return real(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	uint64_t *arg;
	va_list ap;
	int rc;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	rc = real(fd, request, arg);
	if (request == PAGEMAP_SCAN_NR && rc > 0)
		VALGRIND_MAKE_MEM_DEFINED((void *)(uintptr_t)arg[SCAN_VEC],
					  (size_t)rc * SCAN_REGION);
	return rc;
}
