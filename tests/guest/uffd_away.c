// SPDX-License-Identifier: GPL-2.0-only
/*
 * uffd_away READY SERVED: memory whose pages another process provides, by a userfaultfd that only
 * that process has. The child, in a session of its own, has the memory. Each SIGUSR1 discards every
 * fourth page. The child's pid goes into READY, which is written again when that is done. The
 * number of provided pages goes into SERVED. Not a test by itself: see test_criu_patches.py.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE  4096UL
#define PAGES 256

static void tell(const char *file, long n)
{
	FILE *f = fopen(file, "w");

	if (!f || fprintf(f, "%ld\n", n) < 0 || fclose(f))
		_exit(2);
}

static void hand_over(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec v = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &v,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &m, 0) != 1)
		_exit(2);
}

static int take_over(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec v = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = {
		.msg_iov = &v,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(sock, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		_exit(2);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static int own_memory(int sock, const char *ready)
{
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC), signal;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	volatile char *at;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (unsigned long)at;
	reg.range.len = PAGES * PAGE;
	if (at == MAP_FAILED || uffd < 0 || ioctl(uffd, UFFDIO_API, &api) ||
	    ioctl(uffd, UFFDIO_REGISTER, &reg))
		return 2;
	hand_over(sock, uffd);
	close(uffd);
	close(sock);
	for (int i = 0; i < PAGES; i++)
		at[i * PAGE]++;
	for (;;) {
		tell(ready, getpid());
		sigwait(&set, &signal);
		for (int i = 0; i < PAGES; i += 4)
			madvise((void *)(at + i * PAGE), PAGE, MADV_DONTNEED);
	}
}

int main(int argc, char **argv)
{
	static char page[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg m;
	int pair[2], uffd;
	long served = 0;

	if (argc != 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 2;
	if (!fork()) {
		setsid();
		close(pair[0]);
		return own_memory(pair[1], argv[1]);
	}
	close(pair[1]);
	uffd = take_over(pair[0]);
	while (read(uffd, &m, sizeof(m)) == sizeof(m)) {
		struct uffdio_copy copy = {
			.dst = m.arg.pagefault.address & -PAGE,
			.src = (unsigned long)page,
			.len = PAGE,
		};

		if (m.event != UFFD_EVENT_PAGEFAULT || ioctl(uffd, UFFDIO_COPY, &copy))
			return 1;
		tell(argv[2], ++served);
	}
	return 0;
}
