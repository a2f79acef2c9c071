// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program feels of the collector, in ticks of the time stamp counter:
 *
 *	pauses HEAP-MIB SHARE ROUNDS	SHARE: of the heap's pages, in 1/1000
 *
 * A live heap of HEAP MiB: nodes of 128 bytes, each with 896 bytes without
 * pointers. In each round SHARE of its pages are written and garbage is made until
 * a collection is complete. A round goes before, which does not count: in it the
 * heap grows to what the rounds need. Which implementation of dirty bits it is, is up to the
 * environment; "none" stands for no incremental mode. One line:
 *
 *	vdb MiB share rounds | total write gc | pauses mean p99 max |
 *	reads mean max | world stopped: times, mean, max
 *
 * total: of all rounds; write: in writing the pages (with the faults that causes);
 * gc: in allocations that waited for the collector; a pause is one such wait.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>
#include <gc.h>

#define PAYLOAD	  896
#define PAGE	  4096
#define THRESHOLD 20000 /* ticks; an allocation without the collector takes less */
#define MANY	  (1 << 20)

struct node {
	struct node *next;
	char *payload;
	struct node *other[8];
	long pad[6];
};

struct sum {
	uint64_t n, ticks, max;
};

static struct sum stopped, reads;
static uint64_t stop_at, read_at, *waits, n_waits, waited;

static void add(struct sum *s, uint64_t ticks)
{
	s->n++;
	s->ticks += ticks;
	if (ticks > s->max)
		s->max = ticks;
}

/* Without threads there are no events for stopping the world: marking stands for it. */
static void GC_CALLBACK event(GC_EventType type)
{
	switch (type) {
	case GC_EVENT_PRE_STOP_WORLD:
		stop_at = __rdtsc();
		break;
	case GC_EVENT_POST_START_WORLD:
		add(&stopped, __rdtsc() - stop_at);
		break;
	case GC_EVENT_DIRTY_READ_START:
		read_at = __rdtsc();
		break;
	case GC_EVENT_DIRTY_READ_END:
		add(&reads, __rdtsc() - read_at);
		break;
	default:
		break;
	}
}

static void *allocate(size_t size)
{
	uint64_t at = __rdtsc(), ticks;
	void *p = GC_MALLOC(size);

	ticks = __rdtsc() - at;
	if (ticks >= THRESHOLD && n_waits < MANY) {
		waits[n_waits++] = ticks;
		waited += ticks;
	}
	return p;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t mean(const struct sum *s)
{
	return s->n ? s->ticks / s->n : 0;
}

int main(int argc, char **argv)
{
	long mib = argc > 1 ? atol(argv[1]) : 64, share = argc > 2 ? atol(argv[2]) : 10;
	long rounds = argc > 3 ? atol(argv[3]) : 5, n = mib * 1024, i, r;
	uint64_t total, writing = 0, at, seed = 1;
	struct node **nodes;

	if (getenv("GC_SMALL_STEPS"))
		GC_set_time_limit(atoi(getenv("GC_SMALL_STEPS")));
	GC_INIT();
	waits = calloc(MANY, sizeof(*waits));
	/* the table lives on the C heap, to which the collector does not look */
	nodes = malloc(n * sizeof(*nodes));
	struct node **first = GC_MALLOC_UNCOLLECTABLE(sizeof(*first));

	for (i = 0; i < n; i++) {
		nodes[i] = GC_MALLOC(sizeof(struct node));
		nodes[i]->payload = GC_MALLOC_ATOMIC(PAYLOAD);
		memset(nodes[i]->payload, 1, PAYLOAD);
		nodes[i]->next = *first;
		*first = nodes[i];
	}
	GC_gcollect();
	total = 0;
	for (r = -1; r < rounds; r++) {
		/* every write goes to a page of its own, or nearly so */
		long writes = mib * 256 * share / 1000;
		GC_word no = GC_get_gc_no();

		if (!r) {
			GC_set_on_collection_event(event);
			n_waits = waited = writing = 0;
			total = __rdtsc();
		}
		at = __rdtsc();
		for (i = 0; i < writes; i++) {
			struct node *a;

			seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
			a = nodes[(seed >> 33) % n];
			/* an eighth of the memory are nodes */
			if (i % 8)
				a->payload[0]++;
			else
				a->other[i / 8 % 8] = nodes[(seed >> 20) % n];
		}
		writing += __rdtsc() - at;
		while (GC_get_gc_no() == no)
			for (i = 0; i < 64; i++)
				allocate(240);
	}
	total = __rdtsc() - total;
	GC_set_on_collection_event(NULL);

	/* is all of it there? */
	struct node *p = *first;

	for (i = 0; p; p = p->next, i++)
		if (!p->payload || !p->payload[1])
			break;
	if (p || i != n) {
		printf("DAMAGED: %ld of %ld nodes\n", i, n);
		return 1;
	}
	qsort(waits, n_waits, sizeof(*waits), by_size);
	printf("%#x %ld %ld %ld | %lu %lu %lu | %lu %lu %lu %lu | %lu %lu %lu | %lu %lu %lu\n",
	       GC_get_actual_vdb(), mib, share, rounds, total, writing, waited, n_waits,
	       n_waits ? waited / n_waits : 0, n_waits ? waits[n_waits * 99 / 100] : 0,
	       n_waits ? waits[n_waits - 1] : 0, reads.n, mean(&reads), reads.max, stopped.n,
	       mean(&stopped), stopped.max);
	return 0;
}
