// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory whose pages a thread of the same process provides, by userfaultfd: each page holds
 * its number. Each SIGUSR1 discards a page in the middle. Not a test by itself: CRIU
 * must not wait for a page of it while the process is frozen (criu-faults).
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE  4096UL
#define PAGES 64

static int uffd;

static void *provide(void *unused)
{
	static char page[PAGE];
	struct uffd_msg m;

	while (read(uffd, &m, sizeof(m)) == sizeof(m)) {
		struct uffdio_copy copy = {
			.dst = m.arg.pagefault.address & -PAGE,
			.src = (unsigned long)page,
			.len = PAGE,
		};

		memset(page, copy.dst / PAGE, PAGE);
		if (m.event != UFFD_EVENT_PAGEFAULT || ioctl(uffd, UFFDIO_COPY, &copy))
			_exit(1);
	}
	return unused;
}

int main(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	pthread_t thread;
	sigset_t set;
	int sig;

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = (unsigned long)mem;
	reg.range.len = PAGES * PAGE;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, NULL, provide, NULL)) {
		perror("faultfd");
		return 1;
	}
	for (int i = 0; i < PAGES; i++)
		((volatile char *)mem)[i * PAGE];
	for (int i = 0; !sigwait(&set, &sig); i++)
		madvise(mem + (10 + 10 * i % 50) * PAGE, PAGE, MADV_DONTNEED);
	return 0;
}
