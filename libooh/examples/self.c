// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * self: keeps a copy of its own data up to date by copying only what was written
 * since the last time, as a checkpointer or a garbage collector would.
 *
 *	cc -o self self.c $(pkg-config --cflags --libs libooh)
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ooh.h>

#define SIZE (4UL << 20)

static char data[SIZE] __attribute__((aligned(4096))), copy[SIZE];

/* Copies what of data lies in a range; how much that is */
static size_t update(const struct ooh_range *r)
{
	uintptr_t base = (uintptr_t)data, start = r->start, end = r->end;

	if (start < base)
		start = base;
	if (end > base + SIZE)
		end = base + SIZE;
	if (start >= end)
		return 0;
	memcpy(copy + (start - base), (char *)start, end - start);
	return end - start;
}

int main(void)
{
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t;
	int rc, round;

	memset(data, 1, SIZE);
	rc = ooh_open(0, NULL, 0, &t, why, sizeof(why));
	if (rc) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	printf("%s\n", why);
	memcpy(copy, data, SIZE); /* the round has begun: what is written from here on is told */
	for (round = 0; round < 10 && !rc; round++) {
		const struct ooh_range *r;
		size_t copied = 0;
		ssize_t i, n;

		for (i = 0; i < 20; i++)
			data[rand() % SIZE]++;
		n = ooh_collect(t, 0, &r, NULL);
		if (n < 0) {
			fprintf(stderr, "%s\n", ooh_reason(t));
			rc = 1;
			break;
		}
		for (i = 0; i < n; i++)
			copied += update(&r[i]);
		rc = memcmp(copy, data, SIZE) != 0;
		printf("round %d: %zu of %lu KiB copied, the copy %s\n", round, copied / 1024,
		       SIZE / 1024, rc ? "DIFFERS" : "is complete");
	}
	ooh_close(t);
	return rc;
}
