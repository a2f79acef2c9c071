// SPDX-License-Identifier: GPL-2.0-only
/* Pages that go out to swap or to their file, and come back. */
#include <sys/mman.h>

#include "hard.h"

static int page_out(struct worker *w, const struct region *p)
{
	if (madvise(p->at, p->pages * PAGE, MADV_PAGEOUT))
		return -errno;
	/* pages that are shared with a child or pinned stay */
	return present_in(w, p) < p->pages ? DONE : VAIN;
}

static int op_pageout(struct worker *w, struct rng *r)
{
	static const enum place places[] = { COMMON, ANON, MOVED };
	struct region p;

	part(w, places[below(r, 3)], r, 16, &p);
	sweep(&p, draw(r));
	return page_out(w, &p);
}

/* Out, in, written, and out again within one round, perhaps to the same swap slot. */
static int op_there_and_back(struct worker *w, struct rng *r)
{
	struct region p;
	int rc;

	part(w, ANON, r, 4, &p);
	sweep(&p, draw(r));
	rc = page_out(w, &p);
	if (rc)
		return rc;
	/* a read finds it in the swap cache, and it keeps its slot */
	if (below(r, 2))
		(void)*(volatile char *)p.at;
	sweep(&p, draw(r));
	return page_out(w, &p);
}

static int op_pageout_shared(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, below(r, 2) ? MEMFD : SYSV, r, 8, &p);
	sweep(&p, draw(r));
	return page_out(w, &p);
}

static int op_pageout_file(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, below(r, 2) ? FILE_SHARED : FILE_PRIVATE, r, 8, &p);
	if (below(r, 2))
		sweep(&p, draw(r));
	return page_out(w, &p);
}

/* What MADV_FREE let the kernel drop is dropped now, but for the page written since. */
static int op_free_reclaim(struct worker *w, struct rng *r)
{
	struct region p;
	size_t kept;

	part(w, ANON, r, 8, &p);
	sweep(&p, draw(r) | 1);
	if (madvise(p.at, p.pages * PAGE, MADV_FREE))
		return -errno;
	kept = below(r, p.pages);
	store(w, p.at + kept * PAGE, r);
	if (madvise(p.at, p.pages * PAGE, MADV_PAGEOUT))
		return -errno;
	if (p.pages == 1)
		return DONE;
	return *(volatile uint64_t *)(p.at + (kept ? 0 : 1) * PAGE) ? VAIN : DONE;
}

/* The hint alone clears accessed bits and moves pages between the kernel's lists. */
static int op_cold(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, COMMON + below(r, 2), r, 32, &p);
	return madvise(p.at, p.pages * PAGE, MADV_COLD) ? -errno : DONE;
}

const struct kind reclaim_kinds[] = {
	{ "pageout", 60, op_pageout },
	{ "out-in-out", 60, op_there_and_back },
	{ "pageout-shared", 60, op_pageout_shared },
	{ "pageout-file", 60, op_pageout_file },
	{ "free-reclaim", 60, op_free_reclaim },
	{ "cold", 40, op_cold },
	{ 0 },
};
