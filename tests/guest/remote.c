// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a file that its server changes, and nobody on this machine, is followed as far
 * as the kernel learns of the change: the server makes the kernel drop the page.
 */
#include "fuse.h"
#include "processes.h"

#define NR    16UL
#define ALONE ((void *)0x220000000000UL) /* a page table without any entry */

static char content(int fd, unsigned long page)
{
	char c = 0;

	if (pread(fd, &c, 1, page * PAGE) != 1)
		error("the file");
	return c;
}

int main(void)
{
	struct fuse_server *s = fuse_mount();
	char *p, *quiet = touched(8);
	struct round r = { 0 };
	int fd, t;

	if (!s) {
		printf("skip: FUSE: %s\n", strerror(errno));
		return 77;
	}
	fd = open(s->file, O_RDONLY | O_CLOEXEC);
	p = mmap(ALONE, NR * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || p == MAP_FAILED)
		error(s->file);
	/* into the page cache, not into the page table */
	for (unsigned long i = 0; i < NR; i++)
		content(fd, i);
	t = tracker_of(getpid());
	collect(t, &r);
	collect(t, &r);
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "nothing was written: %lu", reported_in(&r, p, NR));
	for (unsigned long k = 2; k < NR; k += 4) {
		bool told;

		if (!fuse_change(s, k, 50 + k))
			error("the server");
		collect(t, &r);
		told = reported(&r, p + k * PAGE);
		check(!reported(&r, p + PAGE) && !reported(&r, p + 13 * PAGE) &&
			      reported_in(&r, quiet, 8) == 0,
		      "page %lu changed by the server: others stay unreported", k);
		collect(t, &r);
		told |= reported(&r, p + k * PAGE);
		check(told, "page %lu is reported, in that round or the next", k);
		check(content(fd, k) == (char)(50 + k), "its content is new");
		collect(t, &r);
	}
	close(t);
	munmap(p, NR * PAGE);
	close(fd);
	fuse_unmount(s);
	return verdict();
}
