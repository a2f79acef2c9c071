// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process maps a file that nobody can write to over zeros, moves the mapping
 * there, or replaces it by another part or another file. Its pages are reported before any of
 * them is touched: only the mapping shows that the content is another one now.
 */
#include "ramfs.h"

#define NR 64UL

/* Read-only, NR pages of data and as many of other data. */
static int data_file(char what)
{
	char page[PAGE], name[64];
	int fd, readable;

	memset(page, what, PAGE);
	snprintf(name, sizeof(name), "%s/%c", ramfs_folder, what);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		error(name);
	for (unsigned long i = 0; i < 2 * NR; i++, page[0]++)
		if (write(fd, page, PAGE) != (ssize_t)PAGE)
			error("write");
	readable = open(name, O_RDONLY | O_CLOEXEC);
	if (readable < 0 || close(fd))
		error("file");
	return readable;
}

static char *map_at(void *p, int fd, unsigned long first)
{
	p = mmap(p, NR * PAGE, PROT_READ, MAP_PRIVATE | (p ? MAP_FIXED : 0), fd, first * PAGE);
	if (p == MAP_FAILED)
		error("mmap");
	return p;
}

int main(void)
{
	/* address space without a page, which reads as zeros */
	char *zeros = pages_of(3 * NR, MAP_PRIVATE | MAP_NORESERVE), *there = zeros + NR * PAGE;
	char *elsewhere;
	struct round r = { 0 };
	int one, other, t;

	ramfs_mount();
	one = data_file('a');
	other = data_file('b');
	/* until the inode's time is old enough to be trusted */
	sleep(1);
	t = tracker_of(getpid());
	collect(t, &r);
	collect(t, &r);
	check(!reported_in(&r, zeros, 3 * NR), "nothing is there: %lu pages",
	      reported_in(&r, zeros, 3 * NR));

	map_at(there, one, 0);
	collect(t, &r);
	check(reported_in(&r, there, NR) == NR, "mapped over zeros: %lu of %lu",
	      reported_in(&r, there, NR), NR);
	check(!reported(&r, there - PAGE) && !reported(&r, there + NR * PAGE), "and not beside it");
	collect(t, &r);
	check(!reported_in(&r, there, NR), "once: %lu more", reported_in(&r, there, NR));

	map_at(there, one, NR);
	collect(t, &r);
	check(reported_in(&r, there, NR) == NR, "another part of the file: %lu",
	      reported_in(&r, there, NR));
	map_at(there, other, NR);
	collect(t, &r);
	check(reported_in(&r, there, NR) == NR, "another file: %lu", reported_in(&r, there, NR));
	map_at(there, other, NR);
	collect(t, &r);
	check(!reported_in(&r, there, NR), "the same one again is no change: %lu",
	      reported_in(&r, there, NR));

	elsewhere = map_at(NULL, one, 0);
	collect(t, &r);
	if (mremap(elsewhere, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there) != there)
		error("mremap");
	collect(t, &r);
	check(reported_in(&r, there, NR) == NR, "moved there: %lu", reported_in(&r, there, NR));
	check(reported_in(&r, elsewhere, NR) == NR, "gone from where it was: %lu",
	      reported_in(&r, elsewhere, NR));
	if (munmap(there, NR * PAGE))
		error("munmap");
	collect(t, &r);
	check(reported_in(&r, there, NR) == NR, "unmapped: %lu", reported_in(&r, there, NR));
	collect(t, &r);
	check(!reported_in(&r, zeros, 3 * NR), "quiet again");
	ramfs_unmount();
	return verdict();
}
