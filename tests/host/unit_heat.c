// SPDX-License-Identifier: GPL-2.0-only
/* Description: the hot ranges of ooh top: where they lie, how hot, in what order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../libooh/cmd/heat.h"

#define P   4096UL
#define MIB (1UL << 20)

static int failures;

static void check(int good, const char *what)
{
	printf("%s: %s\n", good ? "ok" : "FAIL", what);
	failures += !good;
}

static int is(const struct hot *x, uint64_t start, uint64_t end, double written, const char *name)
{
	if (x->start == start && x->end == end && x->written > written - 0.01 &&
	    x->written < written + 0.01 && !strcmp(x->name, name))
		return 1;
	printf("%lx-%lx %g %s, not %lx-%lx %g %s\n", x->start, x->end, x->written, x->name, start,
	       end, written, name);
	return 0;
}

int main(void)
{
	struct vma v[] = {
		{ .start = MIB, .end = 9 * MIB, .name = "a" },
		{ .start = 9 * MIB, .end = 9 * MIB + 4 * P, .name = "b" },
		{ .start = 1UL << 40, .end = 1UL << 46, .name = "huge" },
	};
	struct vmas vmas = { .v = v, .n = 3 };
	const struct ooh_range one[] = {
		{ MIB, MIB + P },		      /* in a's first block, of 1 MiB */
		{ 4 * MIB, 8 * MIB },		      /* two whole blocks */
		{ 9 * MIB - P, 9 * MIB + 2 * P },     /* from a to b */
		{ 20 * MIB, 21 * MIB },		      /* nothing is mapped there */
		{ (1UL << 45) - P, (1UL << 45) + P }, /* far inside, across blocks */
	};
	struct heat h = { 0 };
	struct hot hot[16];
	size_t n;

	check(!heat_round(&h, &vmas, one, 5), "a round");
	n = heat_hottest(&h, &vmas, hot, 16);
	check(n == 5, "five ranges");
	check(is(&hot[0], 4 * MIB, 8 * MIB, 1024, "a"), "neighbours that are as hot are one");
	check(is(&hot[1], 9 * MIB, 9 * MIB + 4 * P, 2, "b"), "the part in b");
	check(is(&hot[2], (1UL << 45) - 2 * MIB, (1UL << 45) + 2 * MIB, 2, "huge"), "far inside");
	check(is(&hot[3], MIB, 2 * MIB, 1, "a") && is(&hot[4], 8 * MIB, 9 * MIB, 1, "a"),
	      "not neighbours: apart");
	check(heat_hottest(&h, &vmas, hot, 2) == 2 && hot[0].written > 1000,
	      "no more than asked for");

	/* a round in which nothing is written halves it; written again it is back */
	check(!heat_round(&h, &vmas, NULL, 0), "an empty round");
	n = heat_hottest(&h, &vmas, hot, 16);
	check(n == 5 && is(&hot[0], 4 * MIB, 8 * MIB, 512, "a") && hot[1].written == 1,
	      "half as hot");
	check(!heat_round(&h, &vmas, one, 5), "the first one again");
	heat_hottest(&h, &vmas, hot, 16);
	check(is(&hot[0], 4 * MIB, 8 * MIB, 768, "a"), "between the two");

	/* what is unmapped disappears, what has grown keeps its heat */
	v[0].end = 5 * MIB;
	v[1].end += 4 * P;
	check(!heat_round(&h, &vmas, NULL, 0), "other mappings");
	n = heat_hottest(&h, &vmas, hot, 16);
	check(is(&hot[0], 4 * MIB, 5 * MIB, 192, "a"), "cut short");
	check(is(&hot[1], 9 * MIB, 9 * MIB + 8 * P, 0.75, "b"), "grown");
	for (int i = 0; i < 12; i++)
		heat_round(&h, &vmas, NULL, 0);
	check(!heat_hottest(&h, &vmas, hot, 16) && !h.n, "all cold and forgotten");
	heat_free(&h);
	return failures ? 1 : 0;
}
