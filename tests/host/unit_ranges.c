// SPDX-License-Identifier: GPL-2.0-only
/* Description: ranges and runs, against arrays that hold one entry for each page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runs.h"
#include "check.h"

#define N 64

static unsigned int seed = 42;

static void ranges(void)
{
	struct ranges r = { 0 };
	char want[N + 1];
	size_t i, j;

	memset(want, 0, sizeof(want));
	for (i = 0; i < 10; i++) {
		uint64_t a = rand_r(&seed) % N, b = a + rand_r(&seed) % (N - a);

		CHECK(!ranges_add(&r, a * OOH_PAGE, b * OOH_PAGE));
		memset(want + a, 1, b - a);
	}
	ranges_normalise(&r);
	for (i = 0; i < N; i++)
		CHECK(ranges_cover(&r, i * OOH_PAGE, (i + 1) * OOH_PAGE) == want[i]);
	for (i = 1; i < r.n; i++)
		CHECK(r.v[i].start > r.v[i - 1].end);
	for (i = j = 0; i < N; i++)
		j += want[i];
	CHECK(ranges_pages(&r) == j);
	CHECK(!ranges_cover(&r, 0, 2 * N * OOH_PAGE));
	ranges_clear(&r);
	CHECK(!ranges_pages(&r));
	ranges_free(&r);
}

static void random_set(struct ranges *r, char *want)
{
	size_t i;

	memset(want, 0, N);
	for (i = 0; i < 6; i++) {
		uint64_t a = rand_r(&seed) % N, b = a + rand_r(&seed) % 12;

		if (b > N)
			b = N;
		CHECK(!ranges_add(r, a * OOH_PAGE, b * OOH_PAGE));
		memset(want + a, 1, b - a);
	}
	ranges_normalise(r);
}

static void two_sets(void)
{
	struct ranges a = { 0 }, b = { 0 }, both = { 0 }, rest = { 0 };
	char in_a[N], in_b[N];
	size_t i;

	random_set(&a, in_a);
	random_set(&b, in_b);
	CHECK(!ranges_join(&both, &a, &b) && !ranges_without(&rest, &a, &b));
	for (i = 0; i < N; i++) {
		uint64_t at = i * OOH_PAGE;

		CHECK(ranges_cover(&both, at, at + OOH_PAGE) == (in_a[i] || in_b[i]));
		CHECK(ranges_cover(&rest, at, at + OOH_PAGE) == (in_a[i] && !in_b[i]));
	}
	for (i = 1; i < both.n; i++)
		CHECK(both.v[i].start > both.v[i - 1].end);
	for (i = 1; i < rest.n; i++)
		CHECK(rest.v[i].start > rest.v[i - 1].end);
	ranges_free(&a);
	ranges_free(&b);
	ranges_free(&both);
	ranges_free(&rest);
}

static void fill(struct runs *r, unsigned int *page)
{
	static const unsigned int states[] = {
		0,
		0,
		RUN_PRESENT,
		RUN_PRESENT | RUN_DIRTY,
		RUN_PRESENT | RUN_FILE,
		RUN_PRESENT | RUN_FILE | RUN_UNTOLD,
		RUN_PRESENT | RUN_UNTOLD,
		RUN_SWAPPED,
		RUN_PRESENT | RUN_ZERO,
	};
	size_t i, n;

	for (i = 0; i < N; i += n) {
		unsigned int state = states[rand_r(&seed) % 9];
		size_t j;

		n = 1 + rand_r(&seed) % 5;
		if (i + n > N)
			n = N - i;
		for (j = 0; j < n; j++)
			page[i + j] = state;
		if (state)
			CHECK(!runs_add(r, i * OOH_PAGE, (i + n) * OOH_PAGE, state));
		if (rand_r(&seed) % 4 == 0)
			runs_barrier(r);
	}
}

static void diff(void)
{
	struct runs old = { 0 }, new = { 0 };
	unsigned int a[N], b[N];
	struct ranges dirty = { 0 }, unknown = { 0 };
	size_t i;

	fill(&old, a);
	fill(&new, b);
	CHECK(!runs_diff(&old, &new, &dirty, &unknown));
	for (i = 0; i < N; i++) {
		int copied = (a[i] & b[i] & RUN_PRESENT) && (a[i] & RUN_FILE) != (b[i] & RUN_FILE);
		int want = !a[i] != !b[i] || (b[i] & RUN_DIRTY) || copied;
		int may =
			!want && a[i] &&
			(((a[i] | b[i]) & RUN_UNTOLD) || ((b[i] & RUN_ZERO) && !(a[i] & RUN_ZERO)));

		CHECK(ranges_cover(&dirty, i * OOH_PAGE, (i + 1) * OOH_PAGE) == want);
		CHECK(ranges_cover(&unknown, i * OOH_PAGE, (i + 1) * OOH_PAGE) == may);
	}
	for (i = 1; i < dirty.n; i++)
		CHECK(dirty.v[i].start > dirty.v[i - 1].end);
	runs_free(&old);
	runs_free(&new);
	ranges_free(&dirty);
	ranges_free(&unknown);
}

static void overlap(void)
{
	struct runs r = { 0 };

	CHECK(!runs_add(&r, 0, 4 * OOH_PAGE, RUN_PRESENT));
	CHECK(!runs_add(&r, 2 * OOH_PAGE, 6 * OOH_PAGE, RUN_SWAPPED));
	CHECK(!runs_add(&r, 3 * OOH_PAGE, 5 * OOH_PAGE, RUN_SWAPPED));
	CHECK(r.n == 2 && r.v[1].start == 4 * OOH_PAGE && r.v[1].end == 6 * OOH_PAGE);
	runs_free(&r);
}

int main(void)
{
	int i;

	for (i = 0; i < 2000; i++) {
		ranges();
		two_sets();
		diff();
	}
	overlap();
	return 0;
}
