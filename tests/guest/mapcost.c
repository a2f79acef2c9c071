// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: turning logged frames into pages costs less than the kernel's
 * own PAGEMAP_SCAN of the same process.
 *
 * The process tracks itself. Each round writes one byte in a share of the pages
 * of an array; the module's own clock says what the mapping step cost, and
 * PAGEMAP_SCAN is then timed over the same process in the same run: once
 * reporting what is present (the cheapest complete answer it can give).
 * Emulated time: one nanosecond is the same number of instructions everywhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>
#include <ooh/uapi.h>

#define PAGE 4096UL
#define VEC  1024

static unsigned long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(2);
}

/* One round; returns the pages reported. */
static unsigned long collect(int fd)
{
	static struct ooh_range vec[VEC];
	struct ooh_collect c = { .size = sizeof(c), .vec = (unsigned long)vec };
	unsigned long pages = 0;

	do {
		c.vec_len = VEC;
		c.flags = c.flags & OOH_F_MORE ? OOH_COLLECT_CONTINUE : 0;
		c.reason = 0;
		if (ioctl(fd, OOH_IOC_COLLECT, &c))
			die("OOH_IOC_COLLECT");
		pages += c.pages;
	} while (c.flags & OOH_F_MORE);
	return pages;
}

/* What PAGEMAP_SCAN takes over the whole address space, in ns. */
static unsigned long scan(int fd)
{
	static struct page_region vec[VEC];
	unsigned long start = 0, t = now();

	do {
		struct pm_scan_arg arg = {
			.size = sizeof(arg),
			.start = start,
			.end = 0x7ffffffff000UL,
			.vec = (unsigned long)vec,
			.vec_len = VEC,
			.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
			.return_mask = PAGE_IS_PRESENT,
		};

		if (ioctl(fd, PAGEMAP_SCAN, &arg) < 0)
			die("PAGEMAP_SCAN");
		start = arg.walk_end;
	} while (start < 0x7ffffffff000UL);
	return now() - t;
}

int main(int argc, char **argv)
{
	static const unsigned int every[] = { 100, 10, 1 };
	unsigned long size = (argc > 1 ? strtoul(argv[1], NULL, 0) : 128) << 20;
	int fd = open("/dev/ooh", O_RDWR | O_CLOEXEC);
	int pm = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct ooh_attach attach = {
		.size = sizeof(attach),
		.pid = getpid(),
		.mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
	};
	const char *tested = getenv("OOH_TESTED");
	int bad = 0;
	char *mem;

	if (fd < 0) {
		printf("/dev/ooh: %s\n", strerror(errno));
		return errno == ENOENT ? 77 : 2;
	}
	if (pm < 0)
		die("/proc/self/pagemap");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		die("mmap");
	madvise(mem, size, MADV_NOHUGEPAGE);
	memset(mem, 1, size);
	if (tested)
		attach.mechanism = strcmp(tested, "epml") ? OOH_MECH_SPML : OOH_MECH_EPML;
	if (ioctl(fd, OOH_IOC_ATTACH, &attach))
		die("OOH_IOC_ATTACH");
	collect(fd);

	printf("%7s %9s %9s %12s %12s %12s %12s\n", "share", "written", "reported", "drain ns",
	       "map ns", "arm ns", "scan ns");
	for (unsigned int i = 0; i < sizeof(every) / sizeof(every[0]); i++) {
		unsigned long written = 0, reported, cost;
		struct ooh_dev_stats a = { .size = sizeof(a) }, b = { .size = sizeof(b) };

		for (unsigned long p = 0; p < size / PAGE; p += every[i], written++)
			mem[p * PAGE]++;
		if (ioctl(fd, OOH_IOC_STATS, &a))
			die("OOH_IOC_STATS");
		reported = collect(fd);
		if (ioctl(fd, OOH_IOC_STATS, &b))
			die("OOH_IOC_STATS");
		cost = scan(pm);
		printf("%5u %% %9lu %9lu %12llu %12llu %12llu %12lu\n", 100 / every[i], written,
		       reported, b.drain_ns - a.drain_ns, b.map_ns - a.map_ns, b.arm_ns - a.arm_ns,
		       cost);
		if (reported < written) {
			printf("reported fewer pages than were written\n");
			bad = 1;
		}
		if (b.map_ns - a.map_ns >= cost) {
			printf("mapping costs more than PAGEMAP_SCAN\n");
			bad = 1;
		}
	}
	return bad;
}
