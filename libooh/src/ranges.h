/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A growing vector of address ranges, ascending and merged. */
#ifndef OOH_RANGES_H
#define OOH_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ooh.h>

#define OOH_PAGE UINT64_C(4096)

struct ranges {
	struct ooh_range *v;
	size_t n, cap;
};

int ranges_add(struct ranges *r, uint64_t start, uint64_t end);
void ranges_normalise(struct ranges *r);
int ranges_join(struct ranges *out, const struct ranges *a, const struct ranges *b);
int ranges_without(struct ranges *out, const struct ranges *a, const struct ranges *b);
bool ranges_cover(const struct ranges *r, uint64_t start, uint64_t end);
uint64_t ranges_pages(const struct ranges *r);
void ranges_clear(struct ranges *r);
void ranges_free(struct ranges *r);

#endif
