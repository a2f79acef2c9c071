/* SPDX-License-Identifier: GPL-2.0-only */
/* The ioctl PAGEMAP_SCAN; the headers of older distributions lack it. */
#ifndef PAGEMAP_SCAN_H
#define PAGEMAP_SCAN_H

#include <stdint.h>
#include <sys/ioctl.h>

struct scan_region {
	uint64_t start, end, categories;
};
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask,
		anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct scan)

#endif /* PAGEMAP_SCAN_H */
