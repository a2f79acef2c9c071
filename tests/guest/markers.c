// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: shared memory that the process itself has write-protected by userfaultfd is
 * followed, too. The kernel puts markers into the page table: entries that name no frame.
 * Another process's writes leave them as they are.
 */
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "processes.h"

#define NR 64UL

static int fd;

static void writer(char letter)
{
	if (letter && pwrite(fd, &letter, 1, letter * PAGE) != 1)
		_exit(1);
}

static int protected_by_us(char *p)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	struct uffdio_range range = { (unsigned long)p, NR * PAGE };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect wp = { .range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int u = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (u < 0 || ioctl(u, UFFDIO_API, &api) || ioctl(u, UFFDIO_REGISTER, &reg) ||
	    ioctl(u, UFFDIO_WRITEPROTECT, &wp))
		error("userfaultfd");
	return u;
}

int main(void)
{
	static char ones[PAGE];
	struct round r = { 0 };
	struct process other;
	char *p;
	int t, u;

	memset(ones, 1, PAGE);
	fd = memfd_create("markers", 0);
	if (fd < 0)
		error("memfd");
	for (unsigned long i = 0; i < NR; i++)
		if (pwrite(fd, ones, PAGE, i * PAGE) != (ssize_t)PAGE)
			error("pwrite");
	/* in a page table of its own, which is not written because of another page */
	p = mmap((void *)0x220000000000UL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		error("mmap");
	other = process_of(writer);

	u = protected_by_us(p);
	t = tracker_of(getpid());
	collect(t, &r);
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "markers, nothing written: %lu pages",
	      reported_in(&r, p, NR));
	for (char k = 1; k < 9; k++) {
		tell(&other, k);
		collect(t, &r);
		check(reported(&r, p + k * PAGE), "page %d, written by another process", k);
		check(reported_in(&r, p, NR) == 1, "no other page: %lu", reported_in(&r, p, NR));
	}
	/* the markers go when the userfaultfd is closed */
	close(u);
	collect(t, &r);
	tell(&other, 20);
	collect(t, &r);
	check(reported(&r, p + 20 * PAGE) && reported_in(&r, p, NR) == 1,
	      "without markers again: %lu", reported_in(&r, p, NR));
	kill(other.pid, SIGKILL);
	return verdict();
}
