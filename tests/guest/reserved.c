// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: address space costs nothing. Tracking a process takes memory and time by what
 * is present, not by what it has reserved: huge pages that nobody touched, a sparse file, and
 * anonymous memory, of up to 1 TiB; what is written in them is reported.
 */
#include <sys/wait.h>

#include "tracker.h"

#define GIB	  (1UL << 30)
#define LIMIT_KIB 4096L /* of kernel memory, for each */

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 0x0004U
#endif

static long available(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %ld", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib;
}

static char *reserve(int fd, unsigned long len, int flags)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_NORESERVE | flags, fd, 0);

	if (p == MAP_FAILED)
		error("mmap");
	return p;
}

static unsigned long reported_between(const struct round *r, const char *p, unsigned long len)
{
	unsigned long n = 0, from = (unsigned long)p, to = from + len;

	for (size_t i = 0; i < r->nr; i++) {
		unsigned long a = r->v[i].start > from ? r->v[i].start : from;
		unsigned long b = r->v[i].end < to ? r->v[i].end : to;

		n += a < b ? (b - a) / PAGE : 0;
	}
	return n;
}

/* Another process writes a page of the file that is at offset. */
static void other_writes(int fd, unsigned long offset)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		volatile char *p =
			mmap(NULL, 2UL << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

		if (p == MAP_FAILED)
			_exit(1);
		p[0]++;
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		error("the other process");
}

/* unit: what one write may report */
static void tracked(const char *what, char *p, unsigned long len, int fd, bool store,
		    unsigned long unit)
{
	unsigned long at = len / 2;
	struct round r = { 0 };
	long before = available(), taken;
	int t = tracker_of(getpid());

	collect(t, &r);
	taken = before - available();
	check(taken < LIMIT_KIB, "%s, %lu GiB: %ld KiB of memory", what, len / GIB, taken);
	check(reported_between(&r, p, len) == 0, "nothing was written: %lu pages",
	      reported_between(&r, p, len));
	if (store) {
		p[at]++;
		collect(t, &r);
		check(reported(&r, p + at) && reported_between(&r, p, len) <= unit,
		      "one page in the middle: %lu", reported_between(&r, p, len));
	}
	if (fd >= 0 && store) {
		at += GIB;
		for (int i = 0; i < 2; i++) {
			other_writes(fd, at);
			collect(t, &r);
			check(reported(&r, p + at) && reported_between(&r, p, len) <= unit,
			      "one that another process writes: %lu", reported_between(&r, p, len));
		}
	}
	collect(t, &r);
	check(reported_between(&r, p, len) == 0, "quiet again: %lu", reported_between(&r, p, len));
	close(t);
}

static void each(unsigned long len, FILE *huge_pages)
{
	int fd = memfd_create("sparse", 0), huge = memfd_create("huge", MFD_HUGETLB);
	char *p;

	if (fd < 0 || huge < 0 || ftruncate(fd, len) || ftruncate(huge, len))
		error("memfd");
	p = reserve(-1, len, MAP_PRIVATE | MAP_ANONYMOUS);
	madvise(p, len, MADV_NOHUGEPAGE);
	tracked("anonymous memory", p, len, -1, true, 1);
	munmap(p, len);
	p = reserve(fd, len, MAP_SHARED);
	tracked("a sparse file", p, len, fd, true, 1);
	munmap(p, len);
	p = reserve(huge, len, MAP_SHARED);
	tracked("huge pages", p, len, huge, huge_pages != NULL, 512);
	munmap(p, len);
	close(fd);
	close(huge);
}

int main(void)
{
	FILE *huge_pages = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (huge_pages && (fputs("8\n", huge_pages) < 0 || fflush(huge_pages)))
		error("nr_hugepages");
	/* the larger size only if the smaller one went well: it would take minutes */
	each(4 * GIB, huge_pages);
	if (!failures)
		each(1024 * GIB, huge_pages);
	if (huge_pages) {
		fputs("0\n", huge_pages);
		fclose(huge_pages);
	}
	return verdict();
}
