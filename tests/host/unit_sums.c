// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: ranges are cut where the name of their mapping changes, or where nothing is
 * mapped, and nowhere else; and what is summed up by name is each page once.
 */
#include <stdbool.h>
#include <string.h>
#include "../../libooh/cmd/cmd.h"
#include "../../libooh/cmd/sums.h"
#include "check.h"

#define PAGE UINT64_C(4096)

void printable(char *out, size_t size, const char *in)
{
	snprintf(out, size, "%s", in);
}

static struct vma maps[] = {
	{ .start = 10 * PAGE, .end = 20 * PAGE, .name = "/a" },
	{ .start = 20 * PAGE, .end = 25 * PAGE, .name = "/a" },
	{ .start = 25 * PAGE, .end = 30 * PAGE, .name = "" },
	{ .start = 40 * PAGE, .end = 50 * PAGE, .name = "/b" },
	{ .start = 51 * PAGE, .end = 52 * PAGE, .name = "/b" },
};
static const struct vmas vmas = { .v = maps, .n = 5 };

static const struct ooh_range ranges[] = {
	{ 2 * PAGE, 4 * PAGE },	  { 8 * PAGE, 32 * PAGE },  { 38 * PAGE, 41 * PAGE },
	{ 42 * PAGE, 43 * PAGE }, { 45 * PAGE, 52 * PAGE }, { 60 * PAGE, 61 * PAGE },
};

static const struct part expected[] = {
	{ 2 * PAGE, 4 * PAGE, NULL },	{ 8 * PAGE, 10 * PAGE, NULL },
	{ 10 * PAGE, 25 * PAGE, "/a" }, { 25 * PAGE, 30 * PAGE, "" },
	{ 30 * PAGE, 32 * PAGE, NULL }, { 38 * PAGE, 40 * PAGE, NULL },
	{ 40 * PAGE, 41 * PAGE, "/b" }, { 42 * PAGE, 43 * PAGE, "/b" },
	{ 45 * PAGE, 50 * PAGE, "/b" }, { 50 * PAGE, 51 * PAGE, NULL },
	{ 51 * PAGE, 52 * PAGE, "/b" }, { 60 * PAGE, 61 * PAGE, NULL },
};

static bool same_name(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void cut(void)
{
	struct part part;
	struct parts p;
	size_t i = 0;

	for (parts_begin(&p, ranges, 6); parts_next(&p, &vmas, &part); i++)
		CHECK(part.start == expected[i].start && part.end == expected[i].end &&
		      same_name(part.name, expected[i].name));
	CHECK(i == sizeof(expected) / sizeof(expected[0]));
	parts_begin(&p, NULL, 0);
	CHECK(!parts_next(&p, &vmas, &part));
	/* a process that has ended */
	parts_begin(&p, ranges, 1);
	CHECK(parts_next(&p, &(struct vmas){ 0 }, &part) && !part.name && part.end == 4 * PAGE);
	CHECK(!parts_next(&p, &(struct vmas){ 0 }, &part));
}

static void sum_up(void)
{
	struct sums s = { 0 };

	CHECK(!sums_add(&s, &vmas, ranges, 6, WRITTEN) && !sums_add(&s, &vmas, ranges, 6, WRITTEN));
	CHECK(!sums_add(&s, &vmas, ranges + 2, 1, UNKNOWN));
	sums_sort(&s);
	CHECK(s.n == 4 && !strcmp(s.v[0].name, "/a") && s.v[0].written == 30);
	CHECK(!strcmp(s.v[1].name, "(not mapped)") && s.v[1].written == 20 && s.v[1].unknown == 2);
	CHECK(!strcmp(s.v[2].name, "/b") && s.v[2].written == 16 && s.v[2].unknown == 1);
	CHECK(!strcmp(s.v[3].name, "(anonymous)") && s.v[3].written == 10 && !s.v[3].unknown);
	sums_free(&s);
}

int main(void)
{
	cut();
	sum_up();
	return 0;
}
