/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CRIU's images: two magic numbers, then records, each a length and a protocol buffer. Numbers and
 * fields are those of its criu/include/magic.h and images/.
 */
#ifndef OOH_CRIMAGE_H
#define OOH_CRIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMON_MAGIC  0x54564319u
#define SERVICE_MAGIC 0x55105940u
#define PAGEMAP_MAGIC 0x56084025u
#define PSTREE_MAGIC  0x50273030u
#define CORE_MAGIC    0x55053847u
#define STATS_MAGIC   0x57093306u

/* A protocol buffer, or what is left of it */
struct pb {
	const unsigned char *at, *end;
};

struct image {
	unsigned char *data;
	struct pb rest;
};

bool pb_next(struct pb *m, unsigned int *field, uint64_t *v, struct pb *sub);

int image_load(struct image *img, int at, const char *name, uint32_t first, uint32_t second);
bool image_next(struct image *img, struct pb *record);
bool image_at_end(const struct image *img);
void image_free(struct image *img);

/* Flags of an entry of a pagemap */
#define PE_PARENT  1u
#define PE_LAZY	   2u
#define PE_PRESENT 4u

struct pagemap_entry {
	uint64_t start, pages;
	uint32_t flags;
	uint64_t offset; /* of a present one, in the file of pages */
};

struct pagemap_image {
	uint32_t pages_id;
	bool long_counts; /* this CRIU writes 64-bit numbers of pages */
	struct pagemap_entry *v;
	size_t n, cap;
	uint64_t present, in_parent; /* pages */
};

bool is_image(const char *name);
bool is_pagemap(const char *name);
bool is_pages(const char *name);
int pagemap_image_read(struct pagemap_image *pm, int at, const char *name);
int pagemap_image_write(const struct pagemap_image *pm, int at, const char *name);
int pagemap_image_add(struct pagemap_image *pm, const struct pagemap_entry *e);
void pagemap_image_free(struct pagemap_image *pm);

#endif
