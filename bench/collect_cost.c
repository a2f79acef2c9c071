// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the end of a round costs, by mapped size and by the share of pages
 * written: a log's collect (log drained, frames turned into pages, armed again)
 * beside PAGEMAP_SCAN that reports and write-protects, and beside reading
 * /proc/PID/pagemap and clearing soft-dirty bits. One process, which tracks
 * itself, one mechanism after the other.
 *
 *	collect_cost spml|epml MIB...
 *
 * One line for each size and share: MIB PERMILLE WRITTEN, then for each
 * mechanism the pages reported, the instructions of the writes and those of the
 * collect (the TSC: on the emulated machine one tick is one instruction), at last
 * the module's phases of the log's collect in ns: drain, map, arm.
 * Exit status: 0, 1 a page was missed, 2 something does not work here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <ooh/uapi.h>

#define PAGE	   4096UL
#define VEC	   8192
#define SOFT_DIRTY (1ULL << 55)

/* pages written of 1000; spread over the whole array, so that every page table is in use */
static const unsigned int shares[] = { 0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000 };
#define NR_SHARES (sizeof(shares) / sizeof(shares[0]))

struct cost {
	unsigned long reported, write, collect;
	struct ooh_dev_stats before, after; /* of the log alone */
};

struct mechanism {
	const char *name;
	void (*begin)(char *mem, unsigned long size);
	unsigned long (*collect)(char *mem, unsigned long size); /* returns pages reported */
	void (*end)(void);
};

static uint32_t log_mechanism; /* OOH_MECH_* */
static int dev = -1, uffd = -1, pagemap = -1, refs = -1;

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "collect_cost: %s: %s\n", what, strerror(errno));
	exit(2);
}

static unsigned long log_collect(char *mem, unsigned long size)
{
	static struct ooh_range vec[VEC];
	struct ooh_collect c = { .size = sizeof(c), .vec = (uintptr_t)vec };
	unsigned long pages = 0;

	do {
		/* ranges of the array alone: the collector's own memory stays pending */
		c.start = (uintptr_t)mem;
		c.end = c.start + size;
		c.vec_len = VEC;
		c.flags = c.flags & OOH_F_MORE ? OOH_COLLECT_CONTINUE : 0;
		c.reason = 0;
		if (ioctl(dev, OOH_IOC_COLLECT, &c))
			die("OOH_IOC_COLLECT");
		pages += c.pages;
	} while (c.flags & OOH_F_MORE);
	return pages;
}

static void log_stats(struct ooh_dev_stats *s)
{
	s->size = sizeof(*s);
	if (ioctl(dev, OOH_IOC_STATS, s))
		die("OOH_IOC_STATS");
}

static void log_begin(char *mem, unsigned long size)
{
	struct ooh_attach a = {
		.size = sizeof(a),
		.pid = getpid(),
		.mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
		.mechanism = log_mechanism,
	};

	dev = open("/dev/ooh", O_RDWR | O_CLOEXEC);
	if (dev < 0 || ioctl(dev, OOH_IOC_ATTACH, &a))
		die("/dev/ooh");
	log_collect(mem, size);
}

static void log_end(void)
{
	close(dev);
}

static unsigned long scan_collect(char *mem, unsigned long size)
{
	static struct page_region vec[VEC];
	uintptr_t start = (uintptr_t)mem, end = start + size;
	unsigned long pages = 0;

	while (start < end) {
		struct pm_scan_arg arg = {
			.size = sizeof(arg),
			.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
			.start = start,
			.end = end,
			.vec = (uintptr_t)vec,
			.vec_len = VEC,
			.category_mask = PAGE_IS_WRITTEN,
			.return_mask = PAGE_IS_WRITTEN,
		};
		int n = ioctl(pagemap, PAGEMAP_SCAN, &arg);

		if (n < 0)
			die("PAGEMAP_SCAN");
		for (int i = 0; i < n; i++)
			pages += (vec[i].end - vec[i].start) / PAGE;
		start = arg.walk_end;
	}
	return pages;
}

static void scan_begin(char *mem, unsigned long size)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	scan_collect(mem, size);
}

static void scan_end(void)
{
	close(uffd);
}

static void soft_clear(void)
{
	if (pwrite(refs, "4", 1, 0) != 1)
		die("/proc/self/clear_refs");
}

static unsigned long soft_collect(char *mem, unsigned long size)
{
	static uint64_t words[1 << 16];
	unsigned long pages = 0, nr = size / PAGE, n;

	for (unsigned long at = 0; at < nr; at += n) {
		n = nr - at < 1 << 16 ? nr - at : 1 << 16;
		if (pread(pagemap, words, n * 8, ((uintptr_t)mem / PAGE + at) * 8) !=
		    (ssize_t)(n * 8))
			die("/proc/self/pagemap");
		for (unsigned long i = 0; i < n; i++)
			pages += !!(words[i] & SOFT_DIRTY);
	}
	soft_clear();
	return pages;
}

static void soft_begin(char *mem, unsigned long size)
{
	(void)mem;
	(void)size;
	soft_clear();
}

static void soft_end(void)
{
}

static const struct mechanism mechanisms[] = {
	{ "log", log_begin, log_collect, log_end },
	{ "pagemap-scan", scan_begin, scan_collect, scan_end },
	{ "soft-dirty", soft_begin, soft_collect, soft_end },
};
#define NR_MECHANISMS (sizeof(mechanisms) / sizeof(mechanisms[0]))

/* Writes nr of the array's pages, evenly spread. */
static void write_pages(char *mem, unsigned long pages, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++)
		mem[i * pages / nr * PAGE]++;
}

static int measure(unsigned long mib)
{
	static struct cost costs[NR_MECHANISMS][NR_SHARES];
	unsigned long size = mib << 20, pages = size / PAGE;
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int missed = 0;

	if (mem == MAP_FAILED)
		die("mmap");
	madvise(mem, size, MADV_NOHUGEPAGE);
	memset(mem, 1, size);
	for (unsigned int m = 0; m < NR_MECHANISMS; m++) {
		mechanisms[m].begin(mem, size);
		for (unsigned int s = 0; s < NR_SHARES; s++) {
			unsigned long nr = pages * shares[s] / 1000;
			struct cost *c = &costs[m][s];
			uint64_t t0, t1;

			if (!m)
				log_stats(&c->before);
			t0 = __rdtsc();
			write_pages(mem, pages, nr);
			t1 = __rdtsc();
			c->reported = mechanisms[m].collect(mem, size);
			c->collect = __rdtsc() - t1;
			c->write = t1 - t0;
			if (!m)
				log_stats(&c->after);
			missed |= c->reported < nr;
		}
		mechanisms[m].end();
	}
	munmap(mem, size);
	for (unsigned int s = 0; s < NR_SHARES; s++) {
		printf("%lu %u %lu", mib, shares[s], pages * shares[s] / 1000);
		for (unsigned int m = 0; m < NR_MECHANISMS; m++)
			printf("  %lu %lu %lu", costs[m][s].reported, costs[m][s].write,
			       costs[m][s].collect);
		printf("  %llu %llu %llu\n",
		       costs[0][s].after.drain_ns - costs[0][s].before.drain_ns,
		       costs[0][s].after.map_ns - costs[0][s].before.map_ns,
		       costs[0][s].after.arm_ns - costs[0][s].before.arm_ns);
	}
	fflush(stdout);
	return missed;
}

int main(int argc, char **argv)
{
	int missed = 0;

	if (argc > 2 && !strcmp(argv[1], "spml"))
		log_mechanism = OOH_MECH_SPML;
	if (argc > 2 && !strcmp(argv[1], "epml"))
		log_mechanism = OOH_MECH_EPML;
	if (!log_mechanism) {
		fprintf(stderr, "usage: collect_cost spml|epml MIB...\n");
		return 2;
	}
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (pagemap < 0 || refs < 0)
		die("/proc/self");
	printf("# MIB PERMILLE WRITTEN");
	for (unsigned int m = 0; m < NR_MECHANISMS; m++)
		printf("  %s: REPORTED WRITE COLLECT", mechanisms[m].name);
	printf("  DRAIN MAP ARM\n");
	for (int i = 2; i < argc; i++)
		missed |= measure(strtoul(argv[i], NULL, 10));
	if (missed)
		fprintf(stderr, "collect_cost: fewer pages were reported than written\n");
	return missed;
}
