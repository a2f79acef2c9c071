// SPDX-License-Identifier: GPL-2.0-only
/* What the threads themselves write and read. */
#include <string.h>

#include "hard.h"

void store(struct worker *w, char *page, struct rng *r)
{
	uint64_t value = draw(r);

	(void)w;
	__atomic_store_n((uint64_t *)page + value % (PAGE / 8), value, __ATOMIC_RELAXED);
}

void sweep(const struct region *r, uint64_t value)
{
	size_t i;

	for (i = 0; i < r->pages; i++)
		__atomic_store_n((uint64_t *)(r->at + i * PAGE), value + i, __ATOMIC_RELAXED);
}

static int op_store(struct worker *w, struct rng *r)
{
	store(w, any_page(w, r), r);
	return DONE;
}

/* The same few pages over and over, some of them by all workers. */
static int op_hot(struct worker *w, struct rng *r)
{
	size_t i, n = 4 + below(r, 28);
	char *page = w->region[below(r, 2) ? COMMON : ANON].at + below(r, 4) * PAGE;

	for (i = 0; i < n; i++)
		__atomic_fetch_add((uint64_t *)page + i, 1, __ATOMIC_RELAXED);
	return DONE;
}

static int op_load(struct worker *w, struct rng *r)
{
	(void)*(volatile char *)any_page(w, r);
	return DONE;
}

/* Two pages by one instruction. */
static int op_straddle(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[below(r, BUSY)];
	uint64_t value = draw(r);

	memcpy(reg->at + (1 + below(r, reg->pages - 1)) * PAGE - 4, &value, sizeof(value));
	return DONE;
}

/* A locked instruction writes even if it changes nothing. */
static int op_locked(struct worker *w, struct rng *r)
{
	uint64_t *at = (uint64_t *)any_page(w, r) + below(r, PAGE / 8), old = *at;

	__atomic_compare_exchange_n(at, &old, below(r, 2) ? old : draw(r), false, __ATOMIC_SEQ_CST,
				    __ATOMIC_RELAXED);
	return DONE;
}

static int op_fill(struct worker *w, struct rng *r)
{
	memset(any_page(w, r), draw(r), PAGE);
	return DONE;
}

/* Zeros where there was something: not the same as a page that is gone. */
static int op_zero(struct worker *w, struct rng *r)
{
	memset(any_page(w, r), 0, PAGE);
	return DONE;
}

static int op_sweep(struct worker *w, struct rng *r)
{
	sweep(&w->region[below(r, BUSY)], draw(r));
	return DONE;
}

const struct kind store_kinds[] = {
	{ "store", 34000, op_store },
	{ "hot", 26000, op_hot },
	{ "load", 10000, op_load },
	{ "locked", 8000, op_locked },
	{ "straddle", 2000, op_straddle },
	{ "fill", 3000, op_fill },
	{ "zero", 500, op_zero },
	{ "sweep", 200, op_sweep },
	{ 0 },
};
