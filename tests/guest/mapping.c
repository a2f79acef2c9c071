// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: pages that appear, move, go or are copied are reported.
 *
 * A change of a mapping writes no data page, but a page-table page. That is guest
 * memory like any other, and is armed, too.
 */
#include <sys/wait.h>

#include "tracker.h"

#define NR 16UL

static struct round r;
static int fd;

/* new tables on every level, far from everything */
static void a_first_touch(void)
{
	char *q = mmap((void *)0x200000000000UL, NR * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (q == MAP_FAILED)
		error("mmap");
	q[0] = 1;
	q[5 * PAGE] = 1;
	collect(fd, &r);
	check(reported(&r, q) && reported(&r, q + 5 * PAGE), "first touch");
	check(!reported(&r, q + PAGE), "its untouched neighbour is not there");
	q[0] = 2;
	collect(fd, &r);
	check(reported(&r, q) && !reported(&r, q + 5 * PAGE),
	      "a store to the new page, one round later");
	munmap(q, NR * PAGE);
}

static void the_zero_page_is_replaced(void)
{
	char *q = touched(NR);

	if (madvise(q + 2 * PAGE, PAGE, MADV_DONTNEED))
		error("madvise");
	collect(fd, &r);
	(void)((volatile char *)q)[2 * PAGE];
	collect(fd, &r);
	check(reported(&r, q + 2 * PAGE), "the zero page appears on a read");
	q[0] = 3;
	collect(fd, &r);
	check(reported(&r, q) && !reported(&r, q + 2 * PAGE), "once, though its table is used");
	q[2 * PAGE] = 1;
	collect(fd, &r);
	check(reported(&r, q + 2 * PAGE), "and is replaced on a write");
}

static void gone_and_back(void)
{
	char *p = touched(NR);

	collect(fd, &r);
	if (madvise(p + 3 * PAGE, PAGE, MADV_DONTNEED))
		error("madvise");
	collect(fd, &r);
	check(reported(&r, p + 3 * PAGE) && !reported(&r, p + 4 * PAGE), "MADV_DONTNEED");
	p[3 * PAGE] = 5;
	collect(fd, &r);
	check(reported(&r, p + 3 * PAGE) && !reported(&r, p + 4 * PAGE), "touched again");
}

/* content appears under another address, without a write to it */
static void moved(char *p)
{
	char *q = mremap(p, NR * PAGE, NR * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 (void *)0x210000000000UL);

	if (q == MAP_FAILED)
		error("mremap");
	collect(fd, &r);
	check(reported_in(&r, q, NR) == NR, "mremap: %lu of %lu at the new address",
	      reported_in(&r, q, NR), NR);
	q[PAGE]++;
	collect(fd, &r);
	check(reported_in(&r, q, NR) == 1 && reported(&r, q + PAGE), "and followed there");
}

static void another_mapping_in_its_place(void)
{
	char *q = touched(NR);

	collect(fd, &r);
	if (mmap(q, NR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != q)
		error("mmap");
	q[9 * PAGE] = 1;
	collect(fd, &r);
	check(reported_in(&r, q, NR) == NR, "replaced by mmap: %lu of %lu", reported_in(&r, q, NR),
	      NR);
}

/* the child's write is not reported, ours is */
static void copy_on_write(char *still)
{
	int status;
	pid_t pid;

	collect(fd, &r);
	pid = fork();
	if (pid == 0) {
		still[2 * PAGE]++;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	still[PAGE]++;
	collect(fd, &r);
	check(reported(&r, still + PAGE), "copy on write");
	check(!reported(&r, still + 2 * PAGE), "what the child wrote is the child's");
}

static void heap(void)
{
	char *p = sbrk(0);

	if (sbrk(64 * PAGE) == (void *)-1)
		error("sbrk");
	collect(fd, &r);
	p[10 * PAGE] = 1;
	collect(fd, &r);
	check(reported(&r, p + 10 * PAGE), "brk");
}

static void stack(void)
{
	volatile char deep[40 * PAGE];

	deep[0] = 1;
	collect(fd, &r);
	check(reported(&r, deep), "stack growth");
}

int main(void)
{
	/* there before the tracker is */
	char *still = touched(NR), *p = touched(NR);

	fd = tracker_of(getpid());
	a_first_touch();
	the_zero_page_is_replaced();
	gone_and_back();
	moved(p);
	another_mapping_in_its_place();
	copy_on_write(still);
	heap();
	stack();
	collect(fd, &r);
	check(reported_in(&r, still, NR) == 0, "the rest stays quiet");
	return verdict();
}
