// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a block device that the process maps is followed when another process writes
 * it through another device node of the same device, $OOH_DEVICE.
 */
#include <sys/stat.h>

#include "processes.h"

#define NR    16UL
#define ALONE ((void *)0x220000000000UL) /* a page table without any entry */

static const char *const nodes[] = { "/dev/ooh-test-one", "/dev/ooh-test-other" };

static void writer(char letter)
{
	int fd;

	if (!letter)
		return;
	fd = open(nodes[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, &letter, 1, letter * PAGE) != 1)
		_exit(1);
	close(fd);
}

int main(void)
{
	const char *device = getenv("OOH_DEVICE");
	struct round r = { 0 };
	struct process other;
	struct stat st;
	char *p, c;
	int fd, t;

	if (!device) {
		printf("skip: no OOH_DEVICE\n");
		return 77;
	}
	if (stat(device, &st))
		error(device);
	for (int i = 0; i < 2; i++) {
		unlink(nodes[i]);
		if (mknod(nodes[i], S_IFBLK | 0600, st.st_rdev))
			error(nodes[i]);
	}
	fd = open(nodes[0], O_RDONLY | O_CLOEXEC);
	p = mmap(ALONE, NR * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || p == MAP_FAILED)
		error(nodes[0]);
	/* into the page cache, not into the page table */
	for (unsigned long i = 0; i < NR; i++)
		if (pread(fd, &c, 1, i * PAGE) != 1)
			error(nodes[0]);
	other = process_of(writer);
	t = tracker_of(getpid());
	collect(t, &r);
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "nothing written: %lu", reported_in(&r, p, NR));
	for (char k = 1; k < (char)NR; k += 3) {
		tell(&other, k);
		collect(t, &r);
		check(reported(&r, p + k * PAGE), "page %d, written through the other node", k);
		check(reported_in(&r, p, NR) == 1, "of the others none: %lu",
		      reported_in(&r, p, NR) - 1);
	}
	collect(t, &r);
	check(reported_in(&r, p, NR) == 0, "quiet again: %lu", reported_in(&r, p, NR));
	killed(other.pid, 1000);
	unlink(nodes[0]);
	unlink(nodes[1]);
	return verdict();
}
