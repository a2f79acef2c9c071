// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: reserved address space without pages (huge pages, shared memory, a sparse
 * file) costs a tracker no memory, and is not reported. A page of it that another process
 * writes is reported.
 */
#include "processes.h"

#define GIB	 (1UL << 30)
#define HUGE	 (2UL << 20)
#define LIMIT_KB 4096L /* of kernel memory; one bitmap of the pages would be more */

static char *place;
static unsigned long size;

/* Kernel memory of all kinds, in KiB. */
static long kernel_memory(void)
{
	static const char *const kinds[] = { "Slab:", "VmallocUsed:", "Percpu:" };
	char line[128];
	long sum = 0, kb;
	FILE *f = fopen("/proc/meminfo", "r");

	if (!f)
		error("/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
			if (!strncmp(line, kinds[i], strlen(kinds[i])) &&
			    sscanf(line + strlen(kinds[i]), "%ld", &kb) == 1)
				sum += kb;
	fclose(f);
	return sum;
}

static void other(char letter)
{
	if (letter)
		place[size / 2 + 5 * PAGE]++;
}

/* Beside it nothing of that size is mapped. */
static unsigned long pages_in_it(const struct round *r)
{
	unsigned long n = 0, start, end;

	for (size_t i = 0; i < r->nr; i++) {
		start = r->v[i].start > (unsigned long)place ? r->v[i].start : (unsigned long)place;
		end = r->v[i].end < (unsigned long)place + size ? r->v[i].end
								: (unsigned long)place + size;
		if (start < end)
			n += (end - start) / PAGE;
	}
	return n;
}

/* unit: pages that are there as soon as one of them is; 0: none can be had here. */
static void nothing_there(const char *what, unsigned long unit)
{
	struct ooh_dev_stats s;
	struct process p = process_of(other);
	long before = kernel_memory(), now;
	struct round r = { 0 };
	int t = tracker_of(getpid());

	collect(t, &r);
	collect(t, &r);
	now = kernel_memory();
	s = stats_of(t);
	check(!pages_in_it(&r), "%s, %lu GiB: %lu pages reported", what, size / GIB,
	      pages_in_it(&r));
	check(now - before < LIMIT_KB && s.mapped < LIMIT_KB,
	      "%s: %ld KiB of kernel memory, %llu pages tracked", what, now - before,
	      (unsigned long long)s.mapped);
	if (unit) {
		tell(&p, 'w');
		collect(t, &r);
		check(pages_in_it(&r) == unit && reported(&r, place + size / 2 + 5 * PAGE),
		      "%s: the other writes a page, %lu are reported", what, pages_in_it(&r));
		collect(t, &r);
		tell(&p, 'w');
		collect(t, &r);
		check(reported(&r, place + size / 2 + 5 * PAGE), "%s: written again", what);
		collect(t, &r);
		check(!pages_in_it(&r), "%s: and no more: %lu", what, pages_in_it(&r));
	}
	close(t);
	kill(p.pid, SIGKILL);
	waitpid(p.pid, NULL, 0);
}

static void map(unsigned long gib, int flags, int fd)
{
	size = gib * GIB;
	place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_NORESERVE | MAP_SHARED | flags, fd, 0);
	if (place == MAP_FAILED)
		error("mmap");
}

static long huge_pages(const char *set)
{
	long n = 0;
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "r+");

	if (!f)
		return 0;
	if (set)
		fputs(set, f);
	rewind(f);
	if (fscanf(f, "%ld", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

int main(void)
{
	long had = huge_pages(NULL), got = huge_pages("4");
	char back[16];
	int fd;

	close(tracker_open());
	map(16, MAP_HUGETLB | MAP_ANONYMOUS, -1);
	nothing_there("huge pages", got ? HUGE / PAGE : 0);
	munmap(place, size);
	snprintf(back, sizeof(back), "%ld", had);
	huge_pages(back);

	fd = memfd_create("reserved", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 1024 * GIB))
		error("memfd");
	map(1024, 0, fd);
	nothing_there("shared memory", 1);
	munmap(place, size);
	close(fd);
	return verdict();
}
