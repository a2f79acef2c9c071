// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same content in another frame, or in a frame of another size, without anything that
 * the process did: huge pages, compaction, migration, merging.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hard.h"
#include "pagemap_scan.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define SCAN_HUGE (UINT64_C(1) << 6)

static bool is_huge(struct worker *w, const char *at)
{
	struct scan_region found;
	struct scan s = { .size = sizeof(s),
			  .start = (uintptr_t)at,
			  .end = (uintptr_t)at + HUGE_PAGE,
			  .vec = (uintptr_t)&found,
			  .vec_len = 1,
			  .mask = SCAN_HUGE,
			  .return_mask = SCAN_HUGE };

	return ioctl(w->pagemap, SCAN, &s) == 1;
}

static char *huge_place(struct worker *w, struct rng *r)
{
	return w->region[below(r, 2) ? THP : COMMON].at;
}

/* 512 pages are copied into one of 2 MiB. */
static int op_collapse(struct worker *w, struct rng *r)
{
	char *at = huge_place(w, r);

	store(w, at + below(r, HUGE_PAGE / PAGE) * PAGE, r);
	if (madvise(at, HUGE_PAGE, MADV_COLLAPSE))
		return -errno;
	return is_huge(w, at) ? DONE : VAIN;
}

/* Of shared memory: the pages in the page cache are replaced under their mappings. */
static int op_collapse_shared(struct worker *w, struct rng *r)
{
	char *at = map_aligned(HUGE_PAGE);
	int fd = memfd_create("huge", MFD_CLOEXEC), rc = DONE;
	struct region p = { at, 16 };

	(void)w;
	if (fd < 0 || ftruncate(fd, HUGE_PAGE) ||
	    mmap(at, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED)
		broken("memfd: %m");
	sweep(&p, draw(r));
	if (madvise(at, HUGE_PAGE, MADV_COLLAPSE))
		rc = -errno;
	sweep(&p, draw(r));
	munmap(at, HUGE_PAGE);
	close(fd);
	return rc;
}

/* A fault that maps 512 pages at once: by a write, or by a read, which maps the huge zero page. */
static int op_huge_fault(struct worker *w, struct rng *r)
{
	char *at = w->region[THP].at;
	bool was;

	/* mapped anew, as the page table has to go, too */
	if (mmap(at, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED ||
	    madvise(at, HUGE_PAGE, MADV_HUGEPAGE))
		return -errno;
	if (below(r, 2))
		(void)*(volatile char *)(at + below(r, HUGE_PAGE));
	else
		store(w, page_in(w, THP, r), r);
	was = is_huge(w, at);
	/* to the huge zero page: it is split */
	store(w, page_in(w, THP, r), r);
	return was ? DONE : VAIN;
}

/* The entry is split for a page with another protection, a hole, or one that goes out. */
static int op_split(struct worker *w, struct rng *r)
{
	char *at = w->region[THP].at, *page = at + below(r, HUGE_PAGE / PAGE) * PAGE;
	bool was = is_huge(w, at) || (!madvise(at, HUGE_PAGE, MADV_COLLAPSE) && is_huge(w, at));
	int rc;

	switch (below(r, 3)) {
	case 0:
		rc = mprotect(page, PAGE, PROT_READ) ||
		     mprotect(page, PAGE, PROT_READ | PROT_WRITE);
		break;
	case 1:
		rc = madvise(page, PAGE, MADV_DONTNEED);
		break;
	default:
		rc = madvise(page, PAGE, MADV_PAGEOUT);
	}
	store(w, page_in(w, THP, r), r);
	if (rc)
		return -errno;
	return was && !is_huge(w, at) ? DONE : VAIN;
}

static int op_compact(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[ANON];
	uint64_t before[64];
	size_t i, moved = 0;
	int fd, rc;

	if (!opt.machine)
		return -EPERM;
	sweep(reg, draw(r));
	for (i = 0; i < 64; i++)
		before[i] = frame_of(w, reg->at + i * PAGE);
	fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
	rc = fd < 0 || write(fd, "1", 1) != 1 ? -errno : DONE;
	if (fd >= 0)
		close(fd);
	for (i = 0; i < 64; i++)
		moved += frame_of(w, reg->at + i * PAGE) != before[i];
	return rc ? rc : moved ? DONE : VAIN;
}

/*
 * There is one node only, so nothing can be sent to another. A page taken out of
 * use is migrated likewise, content and all. Its old frame is lost to the machine.
 */
static int op_migrate(struct worker *w, struct rng *r)
{
	char *page = page_in(w, below(r, 2) ? ANON : MEMFD, r);
	uint64_t before;

	if (!opt.machine)
		return -EPERM;
	store(w, page, r);
	before = frame_of(w, page);
	if (madvise(page, PAGE, MADV_SOFT_OFFLINE))
		return -errno;
	/* may be without an entry now; the touch finds the new frame */
	if (below(r, 2))
		store(w, page, r);
	else
		(void)*(volatile char *)page;
	return frame_of(w, page) != before ? DONE : VAIN;
}

/* What was merged is taken apart: written, dropped, or sent to swap. */
static void take_apart(struct worker *w, const struct region *p, struct rng *r)
{
	size_t i;

	switch (below(r, 3)) {
	case 0:
		madvise(p->at, p->pages / 2 * PAGE, MADV_DONTNEED);
		break;
	case 1:
		madvise(p->at, p->pages / 2 * PAGE, MADV_PAGEOUT);
		break;
	default:
		for (i = 0; i < p->pages; i += 2)
			store(w, p->at + i * PAGE, r);
	}
}

/* Pages of equal content, for ksmd to merge some time. The next operation sees if it did. */
static int op_merge(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[ALIKE], *equal = &w->equal;
	size_t i, shared = 0;
	uint64_t value;

	if (madvise(reg->at, reg->pages * PAGE, MADV_MERGEABLE))
		return -errno;
	for (i = 1; i < equal->pages; i++)
		shared += is_present(w, equal->at) &&
			  frame_of(w, equal->at + i * PAGE) == frame_of(w, equal->at);
	take_apart(w, equal, r);
	part(w, ALIKE, r, 16, equal);
	value = draw(r);
	for (i = 0; i < equal->pages; i++)
		memset(equal->at + i * PAGE, value, PAGE);
	return shared ? DONE : VAIN;
}

const struct kind moving_kinds[] = {
	{ "collapse", 40, op_collapse },     { "collapse-shared", 10, op_collapse_shared },
	{ "huge-fault", 30, op_huge_fault }, { "split", 60, op_split },
	{ "compact", 10, op_compact },	     { "migrate", 20, op_migrate },
	{ "merge", 60, op_merge },	     { 0 },
};
