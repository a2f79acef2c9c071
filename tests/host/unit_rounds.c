// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: criu-plugin/rounds.c against a table of which page was written in which round. The
 * answer has to hold every written page and, as long as no rounds were merged, no other page.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
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
	static const uint8_t none[TOKEN_LEN];
	const uint8_t *token = rounds_token(r, mark);
	bool known = rounds_since(r, mark, token ? token : none, &v, &n);

	for (k = mark + 1; k <= now; k++)
		any_lost |= lost[k];
	if (known && (any_lost || mark >= now))
		fail("known, but a round was lost", now, mark, -1);
	if (!known && !any_lost && mark < now && now - mark < ROUNDS_KEPT - 1)
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

/* Asks with the token that the mark has. */
static bool since(const struct rounds *r, uint64_t mark, struct ooh_range **out, size_t *n)
{
	return rounds_since(r, mark, rounds_token(r, mark), out, n);
}

/*
 * The machine is set back to a snapshot, and so are the kernel's random numbers
 * (getrandom_repeats). Images from after the snapshot have marks of rounds that are still to
 * come, and later of rounds that have come again.
 */
bool getrandom_repeats;

static void set_back(void)
{
	struct ooh_range page = { 0, 4096 }, *out;
	struct rounds before, after;
	uint8_t future[TOKEN_LEN];
	size_t n;

	getrandom_repeats = true;
	rounds_begin(&before);
	/* no ranges, so that the copy owns nothing of the other's */
	after = before;
	rounds_add(&before, &page, 1, false);
	memcpy(future, rounds_token(&before, 1), TOKEN_LEN);
	if (rounds_since(&after, 1, future, &out, &n))
		fail("a mark of a round that did not come", 0, 1, -1);
	rounds_add(&after, &page, 1, false);
	if (rounds_since(&after, 1, future, &out, &n))
		fail("a mark of the round that ends now", 1, 1, -1);
	rounds_add(&after, NULL, 0, false);
	if (rounds_since(&after, 1, future, &out, &n))
		fail("a mark of a round that came again", 2, 1, -1);
	if (!since(&after, 1, &out, &n) || n)
		fail("its own mark", 2, 1, -1);
	free(out);
	if (!since(&after, 0, &out, &n) || n != 1)
		fail("the mark at the snapshot", 2, 0, -1);
	free(out);
	rounds_free(&before);
	rounds_free(&after);
	getrandom_repeats = false;
}

/* In place of libc's */
ssize_t getrandom(void *buf, size_t size, unsigned int flags)
{
	(void)flags;
	memset(buf, getrandom_repeats ? 4 : rand(), size);
	return size;
}

int main(void)
{
	static struct ooh_range big[ROUND_RANGES + 1];
	struct rounds r;
	struct ooh_range v[PAGES], *out;
	unsigned int now, mark, page;
	size_t n, i;

	rounds_begin(&r);
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
	rounds_begin(&r);
	rounds_add(&r, NULL, 0, false);
	if (!since(&r, 0, &out, &n) || n)
		fail("an empty round", 1, 0, -1);
	free(out);
	for (i = 0; i <= ROUND_RANGES; i++)
		big[i] = (struct ooh_range){ i * 8192, i * 8192 + 4096 };
	rounds_add(&r, big, ROUND_RANGES, false);
	if (!since(&r, 1, &out, &n) || n != ROUND_RANGES)
		fail("many ranges", 2, 1, -1);
	free(out);
	rounds_add(&r, big, ROUND_RANGES + 1, false);
	if (since(&r, 2, &out, &n))
		fail("more ranges than are kept are told as known", 3, 2, -1);
	rounds_free(&r);
	set_back();
	printf(failures ? "%d failures\n" : "ok: %d failures\n", failures);
	return failures != 0;
}
