// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: shared memory in swap that becomes a hole, without being swapped in again, is
 * reported, although neither page table nor page cache has anything of it, before or after.
 * So is private memory in swap that is freed: it has no entry any more, and reads as zeros.
 * $OOH_DIR is a folder for the swap file.
 */
#include <sys/swap.h>

#include "tracker.h"

#define NR 64UL

static char name[200];

static void swap_on(void)
{
	char command[700];

	snprintf(name, sizeof(name), "%s/swapped", getenv("OOH_DIR") ?: "/var/tmp");
	snprintf(command, sizeof(command),
		 "dd if=/dev/zero of=%s bs=1M count=8 2>/dev/null && chmod 600 %s && mkswap %s "
		 ">/dev/null",
		 name, name, name);
	if (system(command) || swapon(name, 0))
		error(name);
}

static bool page_out(char *p)
{
	unsigned char there = 1;

	for (int i = 0; i < 200 && there & 1; i++) {
		madvise(p, PAGE, MADV_PAGEOUT);
		usleep(10000);
		if (mincore(p, PAGE, &there))
			error("mincore");
	}
	return !(there & 1);
}

int main(void)
{
	int fd = memfd_create("swapped", MFD_CLOEXEC), t;
	struct round r = { 0 };
	char *p, *own;

	if (fd < 0 || ftruncate(fd, NR * PAGE))
		error("memfd");
	swap_on();
	/* a page table of its own */
	p = mmap((void *)0x220000000000UL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		error("mmap");
	p[3 * PAGE] = 1;
	p[5 * PAGE] = 1;
	own = mmap((void *)0x230000000000UL, NR * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own == MAP_FAILED)
		error("mmap");
	*own = 1;
	t = tracker_of(getpid());
	check(page_out(p + 3 * PAGE) && page_out(p + 5 * PAGE), "two pages are in swap");
	check(page_out(own), "a private one is");
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE) && reported(&r, own), "they are reported");
	collect(t, &r);
	check(reported(&r, own), "the private one once more: it may have been written since");
	collect(t, &r);
	check(!reported(&r, own), "and no more");
	/* in and out again between two looks, so that it is out at both */
	++*own;
	check(page_out(own), "it was brought in, written, and is in swap again");
	collect(t, &r);
	check(reported(&r, own), "it is reported");
	collect(t, &r);
	check(reported(&r, own), "and once more, as the first time");
	collect(t, &r);
	check(!reported(&r, own), "and no more");
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE))
		error("fallocate");
	if (madvise(own, PAGE, MADV_DONTNEED))
		error("madvise");
	collect(t, &r);
	check(reported(&r, p + 3 * PAGE), "it has become a hole, and is reported");
	check(reported(&r, own), "the private one was let go, and is reported");
	collect(t, &r);
	check(!reported(&r, p + 3 * PAGE) && !reported(&r, own), "but once");
	check(reported(&r, p + 5 * PAGE), "the other one is reported as long as it is in swap");
	check(p[3 * PAGE] == 0 && p[5 * PAGE] == 1, "their content is what it should be");
	close(t);
	munmap(own, NR * PAGE);
	munmap(p, NR * PAGE);
	close(fd);
	if (swapoff(name) || unlink(name))
		error(name);
	return verdict();
}
