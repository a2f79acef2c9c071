// SPDX-License-Identifier: GPL-2.0-only
/*
 * GCBench, from its published description (J. Ellis and P. Kovac, later H.
 * Boehm): binary trees of many depths, made from the root down and from the
 * leaves up, are dropped again while a large tree and an array of numbers live
 * on. Most trees are short-lived and small, as objects of most programs are.
 *
 *	gcbench [DEPTH [THREADS]]	depth of the large tree (16); threads (1)
 *
 * What lives on is looked through at the end: exit status 1 if it is damaged.
 */
#ifdef THREADED
#define GC_THREADS
#include <pthread.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <gc.h>

struct node {
	struct node *left, *right;
	long depth, check;
};

static int max_depth = 16;

static long tree_size(int depth)
{
	return (2L << depth) - 1;
}

static struct node *new_node(struct node *left, struct node *right, int depth)
{
	struct node *n = GC_MALLOC(sizeof(*n));

	if (!n) {
		fprintf(stderr, "gcbench: out of memory\n");
		exit(2);
	}
	n->left = left;
	n->right = right;
	n->depth = depth;
	n->check = ~(long)depth;
	return n;
}

/* From the root down: old objects come to refer to new ones. */
static void populate(struct node *n, int depth)
{
	if (!depth)
		return;
	n->left = new_node(NULL, NULL, depth - 1);
	n->right = new_node(NULL, NULL, depth - 1);
	populate(n->left, depth - 1);
	populate(n->right, depth - 1);
}

/* From the leaves up. */
static struct node *make_tree(int depth)
{
	struct node *left;

	if (!depth)
		return new_node(NULL, NULL, 0);
	left = make_tree(depth - 1);
	return new_node(left, make_tree(depth - 1), depth);
}

/* The number of nodes, or -1 if one is not what it was made. */
static long intact(const struct node *n, int depth)
{
	long left, right;

	if (!n || n->depth != depth || n->check != ~(long)depth)
		return -1;
	if (!depth)
		return n->left || n->right ? -1 : 1;
	left = intact(n->left, depth - 1);
	right = intact(n->right, depth - 1);
	return left < 0 || right < 0 ? -1 : left + right + 1;
}

static int damaged(const struct node *n, int depth, const char *which)
{
	if (intact(n, depth) == tree_size(depth))
		return 0;
	fprintf(stderr, "gcbench: the %s tree of depth %d is damaged\n", which, depth);
	return 1;
}

static int short_lived(int depth)
{
	long i, n = 2 * tree_size(max_depth + 2) / tree_size(depth);
	int bad = 0;

	for (i = 0; i < n; i++) {
		struct node *down = new_node(NULL, NULL, depth);

		populate(down, depth);
		bad |= damaged(down, depth, "top-down");
	}
	for (i = 0; i < n; i++)
		bad |= damaged(make_tree(depth), depth, "bottom-up");
	return bad;
}

static void *bench(void *arg)
{
	const long array_size = 8L << max_depth;
	struct node *long_lived;
	double *array;
	long bad = 0, i;
	int depth;

	(void)arg;
	/* stretch the heap */
	bad |= damaged(make_tree(max_depth + 2), max_depth + 2, "stretching");
	long_lived = new_node(NULL, NULL, max_depth);
	populate(long_lived, max_depth);
	array = GC_MALLOC_ATOMIC(array_size * sizeof(*array));
	for (i = 0; i < array_size; i++)
		array[i] = 1.0 / (i + 1);
	for (depth = 4; depth <= max_depth; depth += 2)
		bad |= short_lived(depth);
	bad |= damaged(long_lived, max_depth, "long-lived");
	for (i = 0; i < array_size; i++)
		bad |= array[i] != 1.0 / (i + 1);
	return (void *)bad;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1, bad = 0;

	if (argc > 1)
		max_depth = atoi(argv[1]);
	if (max_depth < 4 || max_depth > 24 || threads < 1 || threads > 64) {
		fprintf(stderr, "usage: gcbench [DEPTH [THREADS]]\n");
		return 2;
	}
	GC_INIT();
#ifdef THREADED
	pthread_t ids[64];
	void *result;
	int i;

	for (i = 1; i < threads; i++)
		if (pthread_create(&ids[i], NULL, bench, NULL))
			return 2;
	bad = bench(NULL) != NULL;
	for (i = 1; i < threads; i++) {
		pthread_join(ids[i], &result);
		bad |= result != NULL;
	}
#else
	bad = bench(NULL) != NULL;
#endif
	printf("gcbench: %s, %lu collections, heap %lu MiB, dirty bits by %#x\n",
	       bad ? "DAMAGED" : "intact", (unsigned long)GC_get_gc_no(),
	       (unsigned long)GC_get_heap_size() >> 20, GC_get_actual_vdb());
	return bad;
}
