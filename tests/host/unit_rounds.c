// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: criu-plugin/rounds.c against a table of which page was written in which round: the
 * answer has to hold every page that was, and as long as no rounds were joined no other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../criu-plugin/rounds.h"

#define PAGES  300
#define ROUNDS 60

static char written[ROUNDS + 1][PAGES], lost[ROUNDS + 1];
static int failures;

static void fail(const char *what, unsigned int round, unsigned int mark, int page)
{
	printf("round %u, mark %u, page %d: %s\n", round, mark, page, what);
	failures++;
}

static int covered(const struct ooh_range *v, size_t n, uint64_t at)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (at >= v[i].start && at < v[i].end)
			return 1;
	return 0;
}

static void judge(const struct rounds *r, unsigned int now, unsigned int mark)
{
	struct ooh_range *v;
	size_t n, i;
	int page, any_lost = 0;
	unsigned int k;
	bool known = rounds_since(r, mark, &v, &n);

	for (k = mark + 1; k <= now; k++)
		any_lost |= lost[k];
	if (known && (any_lost || mark > now))
		fail("known, but a round was lost", now, mark, -1);
	if (!known && !any_lost && mark <= now && now - mark < ROUNDS_KEPT - 1)
		fail("not known", now, mark, -1);
	for (i = 1; known && i < n; i++)
		if (v[i].start <= v[i - 1].end)
			fail("ranges overlap or touch", now, mark, (int)i);
	for (page = 0; known && page < PAGES; page++) {
		int dirty = 0;

		for (k = mark + 1; k <= now; k++)
			dirty |= written[k][page];
		if (dirty && !covered(v, n, page * 4096ul))
			fail("missed", now, mark, page);
		if (!dirty && now - mark < ROUNDS_KEPT - 1 && covered(v, n, page * 4096ul))
			fail("not written", now, mark, page);
	}
	free(v);
}

int main(void)
{
	static struct ooh_range big[ROUND_RANGES + 1];
	struct rounds r = { 0 };
	struct ooh_range v[PAGES], *out;
	unsigned int now, mark, page;
	size_t n, i;

	for (now = 1; now <= ROUNDS; now++) {
		n = 0;
		lost[now] = rand() % 23 == 0;
		for (page = 0; page < PAGES; page++) {
			written[now][page] = rand() % (now % 7 + 2) == 0;
			if (!written[now][page])
				continue;
			if (n && v[n - 1].end == page * 4096ul)
				v[n - 1].end += 4096;
			else
				v[n++] = (struct ooh_range){ page * 4096ul, page * 4096ul + 4096 };
		}
		rounds_add(&r, v, n, lost[now]);
		for (mark = 0; mark <= now + 1; mark++)
			judge(&r, now, mark);
	}
	rounds_free(&r);

	/* 0 pages, and more ranges than are kept */
	memset(&r, 0, sizeof(r));
	rounds_add(&r, NULL, 0, false);
	if (!rounds_since(&r, 0, &out, &n) || n)
		fail("an empty round", 1, 0, -1);
	free(out);
	for (i = 0; i <= ROUND_RANGES; i++)
		big[i] = (struct ooh_range){ i * 8192, i * 8192 + 4096 };
	rounds_add(&r, big, ROUND_RANGES, false);
	if (!rounds_since(&r, 1, &out, &n) || n != ROUND_RANGES)
		fail("many ranges", 2, 1, -1);
	free(out);
	rounds_add(&r, big, ROUND_RANGES + 1, false);
	if (rounds_since(&r, 2, &out, &n))
		fail("more ranges than are kept are told as known", 3, 2, -1);
	rounds_free(&r);
	printf(failures ? "%d failures\n" : "ok: %d failures\n", failures);
	return failures != 0;
}
