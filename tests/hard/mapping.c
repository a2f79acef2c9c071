// SPDX-License-Identifier: GPL-2.0-only
/* Pages that appear, go, move, or change their protection. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hard.h"

#define MOVED_MIN 8
#define MOVED_MAX 64

static int advise(const struct region *r, int advice)
{
	return madvise(r->at, r->pages * PAGE, advice) ? -errno : DONE;
}

/* Private memory that has page-sized parts which can be dropped. */
static enum place private_place(struct rng *r)
{
	static const enum place places[] = { COMMON, ANON, MOVED, THP };

	return places[below(r, sizeof(places) / sizeof(*places))];
}

static int op_drop(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, private_place(r), r, 16, &p);
	if (below(r, 2))
		sweep(&p, draw(r));
	if (advise(&p, MADV_DONTNEED))
		return -errno;
	/* zeros again: from the zero page, from a new page, or from nothing yet */
	if (below(r, 3) == 0)
		(void)*(volatile char *)p.at;
	else if (below(r, 2))
		store(w, p.at, r);
	return DONE;
}

/* Of a file: what was copied is gone, and the file's content shows again. */
static int op_drop_file(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, below(r, 2) ? FILE_PRIVATE : MEMFD, r, 16, &p);
	if (advise(&p, MADV_DONTNEED))
		return -errno;
	if (below(r, 2))
		(void)*(volatile char *)p.at;
	return DONE;
}

/* The kernel may drop it, unless it is written again. */
static int op_free(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, private_place(r), r, 16, &p);
	sweep(&p, draw(r));
	if (advise(&p, MADV_FREE))
		return -errno;
	if (below(r, 2))
		store(w, p.at, r);
	return DONE;
}

static int op_remove(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, below(r, 2) ? MEMFD : SYSV, r, 4, &p);
	return advise(&p, MADV_REMOVE);
}

static int op_populate(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, private_place(r), r, 32, &p);
	return advise(&p, below(r, 2) ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

/* Another mapping at the same address. */
static int op_map_over(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, ANON, r, 24, &p);
	if (mmap(p.at, p.pages * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	store(w, p.at + below(r, p.pages) * PAGE, r);
	return DONE;
}

/* The whole region goes, and comes somewhere else. */
static int op_unmap(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[ANON];
	char *fresh = map(reg->pages * PAGE, MAP_PRIVATE, -1);

	sweep(&(struct region){ fresh, 1 + below(r, reg->pages) }, draw(r));
	if (munmap(reg->at, reg->pages * PAGE))
		return -errno;
	reg->at = fresh;
	return DONE;
}

static int op_hole(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, ANON, r, 8, &p);
	pthread_mutex_lock(&address_space);
	if (munmap(p.at, p.pages * PAGE) ||
	    mmap(p.at, p.pages * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != p.at)
		broken("filling a hole: %m");
	pthread_mutex_unlock(&address_space);
	return DONE;
}

/* A file's pages, at any page of the file, over a part of the region and away again. */
static int op_map_file(struct worker *w, struct rng *r)
{
	struct region p, *file = &w->region[MEMFD];
	bool private = below(r, 2);

	part(w, ANON, r, 8, &p);
	if (mmap(p.at, p.pages * PAGE, PROT_READ | PROT_WRITE,
		 (private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED, w->memfd,
		 below(r, file->pages - p.pages) * PAGE) == MAP_FAILED)
		return -errno;
	store(w, p.at, r);
	/* may be here for some rounds; other operations map over it */
	return DONE;
}

static int remap(struct region *reg, size_t pages, int flags, void *to)
{
	int rc = DONE;
	char *p;

	pthread_mutex_lock(&address_space);
	p = mremap(reg->at, reg->pages * PAGE, pages * PAGE, flags, to);
	if (p == MAP_FAILED)
		rc = -errno;
	else
		*reg = (struct region){ p, pages };
	/*
	 * Of several mappings in a row some may have been moved: since Linux 6.17 the kernel
	 * does move them, but none that userfaultfd has, as the kernel's trackers use it.
	 */
	if (rc && to) {
		munmap(to, pages * PAGE);
		if (mmap(reg->at, reg->pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			broken("mapping again what was moved in part: %m");
	}
	pthread_mutex_unlock(&address_space);
	return rc;
}

static int op_move(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[MOVED];
	/* a place that is free for certain, as this mapping is replaced */
	char *to = map(reg->pages * PAGE, MAP_PRIVATE, -1);

	store(w, page_in(w, MOVED, r), r);
	return remap(reg, reg->pages, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

/* Whole page tables move with what is in them. */
static int op_move_table(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[THP];
	char *to = map_aligned(HUGE_PAGE);

	store(w, page_in(w, THP, r), r);
	return remap(reg, reg->pages, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

static int op_resize(struct worker *w, struct rng *r)
{
	size_t pages = MOVED_MIN + below(r, MOVED_MAX - MOVED_MIN + 1);
	int rc = remap(&w->region[MOVED], pages, MREMAP_MAYMOVE, NULL);

	if (!rc)
		store(w, page_in(w, MOVED, r), r);
	return rc;
}

/* The pages go, the mapping they came from stays, empty. */
static int op_dontunmap(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[MOVED], old = *reg;
	int rc = remap(reg, reg->pages, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

	if (rc)
		return rc;
	rc = *(volatile char *)old.at ? VAIN : DONE;
	store(w, old.at + PAGE, r);
	munmap(old.at, old.pages * PAGE);
	return rc;
}

static int op_protect(struct worker *w, struct rng *r)
{
	struct region p;

	part(w, ANON + below(r, THP - ANON + 1), r, 8, &p);
	if (mprotect(p.at, p.pages * PAGE, below(r, 2) ? PROT_READ : PROT_NONE) ||
	    mprotect(p.at, p.pages * PAGE, PROT_READ | PROT_WRITE))
		return -errno;
	store(w, p.at, r);
	return DONE;
}

/* The break belongs to the process. */
static int op_brk(struct worker *w, struct rng *r)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static size_t grown;
	size_t pages = 1 + below(r, 8);
	int rc = DONE;
	char *p;

	pthread_mutex_lock(&lock);
	p = grown > 64 ? sbrk(-(intptr_t)(grown * PAGE)) : sbrk(pages * PAGE);
	if (p == (char *)-1) {
		rc = -errno;
	} else if (grown > 64) {
		grown = 0;
	} else {
		grown += pages;
		store(w, (char *)(((uintptr_t)p + 7) & ~7UL), r);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

static __attribute__((noinline)) int deeper(size_t n, char value)
{
	volatile char frame[PAGE];

	frame[PAGE / 2] = value;
	return n ? deeper(n - 1, value) + frame[PAGE / 2] : 0;
}

/*
 * The stack of the first thread grows by faults. What it grew is given back first,
 * well below all that is in use. The other threads' are ordinary mappings.
 */
static int op_stack(struct worker *w, struct rng *r)
{
	static char *lowest;
	char *here = (char *)((uintptr_t)__builtin_frame_address(0) & ~(PAGE - 1));
	char *keep = here - 16 * PAGE;
	size_t depth = 24 + below(r, 40);

	if (w->number == 0 && lowest && lowest < keep && munmap(lowest, keep - lowest))
		return -errno;
	deeper(depth, draw(r));
	if (w->number)
		return DONE;
	lowest = here - depth * (PAGE + 64);
	lowest = (char *)((uintptr_t)lowest & ~(PAGE - 1));
	return is_present(w, lowest + 2 * PAGE) ? DONE : VAIN;
}

const struct kind mapping_kinds[] = {
	{ "drop", 500, op_drop },
	{ "drop-file", 200, op_drop_file },
	{ "free", 200, op_free },
	{ "remove", 100, op_remove },
	{ "populate", 100, op_populate },
	{ "map-over", 200, op_map_over },
	{ "unmap", 60, op_unmap },
	{ "hole", 100, op_hole },
	{ "map-file", 150, op_map_file },
	{ "move", 200, op_move },
	{ "move-table", 40, op_move_table },
	{ "resize", 150, op_resize },
	{ "dontunmap", 100, op_dontunmap },
	{ "protect", 300, op_protect },
	{ "brk", 150, op_brk },
	{ "stack", 100, op_stack },
	{ 0 },
};
