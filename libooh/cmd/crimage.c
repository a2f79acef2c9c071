// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "crimage.h"

#define PAGE	4096
#define LARGEST (UINT64_C(1) << 30) /* an image that is read as a whole; one of pages is not */

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

/* False: it is not whole. */
static bool varint(struct pb *m, uint64_t *v)
{
	int shift;

	*v = 0;
	for (shift = 0; shift < 64 && m->at < m->end; shift += 7) {
		*v |= (uint64_t)(*m->at & 0x7f) << shift;
		if (!(*m->at++ & 0x80))
			return true;
	}
	return false;
}

/* The next field: its number, and its value, or as sub what is in it. False: there is none. */
bool pb_next(struct pb *m, unsigned int *field, uint64_t *v, struct pb *sub)
{
	uint64_t key, size;

	*v = 0;
	*sub = (struct pb){ 0 };
	if (!varint(m, &key))
		return false;
	*field = key >> 3;
	switch (key & 7) {
	case VARINT:
		return varint(m, v);
	case LENGTH:
		if (!varint(m, &size))
			return false;
		break;
	case FIXED64:
		size = 8;
		break;
	case FIXED32:
		size = 4;
		break;
	default:
		return false;
	}
	if (size > (uint64_t)(m->end - m->at))
		return false;
	*sub = (struct pb){ m->at, m->at + size };
	m->at += size;
	return true;
}

static int read_all(int fd, unsigned char *to, size_t size)
{
	ssize_t n;

	for (; size; size -= n, to += n) {
		n = read(fd, to, size);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EBADMSG;
	}
	return 0;
}

/* 0 or -errno; EBADMSG: it is no such image. */
int image_load(struct image *img, int at, const char *name, uint32_t first, uint32_t second)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	uint32_t magic[2];
	struct stat st;

	*img = (struct image){ 0 };
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		rc = -errno;
	else if (st.st_size < (off_t)sizeof(magic) || (uint64_t)st.st_size > LARGEST)
		rc = -EBADMSG;
	if (!rc) {
		img->data = malloc(st.st_size);
		rc = img->data ? read_all(fd, img->data, st.st_size) : -ENOMEM;
	}
	close(fd);
	if (!rc) {
		memcpy(magic, img->data, sizeof(magic));
		if (magic[0] != first || magic[1] != second)
			rc = -EBADMSG;
	}
	if (rc) {
		image_free(img);
		return rc;
	}
	img->rest = (struct pb){ img->data + sizeof(magic), img->data + st.st_size };
	return 0;
}

/* False: there is no other, or it is not whole (then the image is not at its end). */
bool image_next(struct image *img, struct pb *record)
{
	uint32_t size;

	if (img->rest.end - img->rest.at < (ptrdiff_t)sizeof(size))
		return false;
	memcpy(&size, img->rest.at, sizeof(size));
	if (size > (size_t)(img->rest.end - img->rest.at) - sizeof(size))
		return false;
	record->at = img->rest.at + sizeof(size);
	record->end = img->rest.at = record->at + size;
	return true;
}

bool image_at_end(const struct image *img)
{
	return img->rest.at == img->rest.end;
}

void image_free(struct image *img)
{
	free(img->data);
	*img = (struct image){ 0 };
}

bool is_image(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcmp(name + n - 4, ".img");
}

bool is_pagemap(const char *name)
{
	return !strncmp(name, "pagemap-", 8) && is_image(name);
}

/* Of memory's pages, compressed or not */
bool is_pages(const char *name)
{
	return !strncmp(name, "pages-", 6);
}

int pagemap_image_add(struct pagemap_image *pm, const struct pagemap_entry *e)
{
	struct pagemap_entry *v;

	if (pm->n == pm->cap) {
		size_t cap = pm->cap ? 2 * pm->cap : 256;

		v = realloc(pm->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		pm->v = v;
		pm->cap = cap;
	}
	pm->v[pm->n++] = *e;
	if (e->flags & PE_PARENT)
		pm->in_parent += e->pages;
	else if (e->flags & PE_PRESENT)
		pm->present += e->pages;
	return 0;
}

/* As CRIU reads one: older ones have "in parent" in a field of its own, or no flags at all. */
static int read_entry(struct pagemap_image *pm, struct pb record)
{
	bool in_parent = false, has_flags = false, has_start = false;
	uint64_t v, start = 0, count = 0, long_count = 0, flags = 0;
	struct pagemap_entry e;
	unsigned int field;
	struct pb sub;

	while (record.at < record.end) {
		if (!pb_next(&record, &field, &v, &sub))
			return -EBADMSG;
		switch (field) {
		case 1:
			start = v;
			has_start = true;
			break;
		case 2:
			count = v;
			break;
		case 3:
			in_parent = v;
			break;
		case 4:
			flags = v;
			has_flags = true;
			break;
		case 5:
			long_count = v;
			pm->long_counts = true;
			break;
		}
	}
	if (in_parent)
		flags |= PE_PARENT;
	else if (!has_flags)
		flags = PE_PRESENT;
	e = (struct pagemap_entry){ .start = start,
				    .pages = long_count ? long_count : count,
				    .flags = flags,
				    .offset = pm->present * PAGE };
	if (!has_start || start % PAGE || !e.pages || e.pages > (UINT64_MAX - start) / PAGE)
		return -EBADMSG;
	if (pm->n && start < pm->v[pm->n - 1].start + pm->v[pm->n - 1].pages * PAGE)
		return -EBADMSG;
	return pagemap_image_add(pm, &e);
}

/* 0 or -errno; EBADMSG: it is none. */
int pagemap_image_read(struct pagemap_image *pm, int at, const char *name)
{
	struct image img;
	struct pb record, sub;
	unsigned int field;
	uint64_t v;
	int rc;

	*pm = (struct pagemap_image){ 0 };
	rc = image_load(&img, at, name, COMMON_MAGIC, PAGEMAP_MAGIC);
	if (rc)
		return rc;
	if (!image_next(&img, &record) || !pb_next(&record, &field, &v, &sub) || field != 1)
		rc = -EBADMSG;
	pm->pages_id = v;
	while (!rc && image_next(&img, &record))
		rc = read_entry(pm, record);
	if (!rc && !image_at_end(&img))
		rc = -EBADMSG;
	image_free(&img);
	if (rc)
		pagemap_image_free(pm);
	return rc;
}

static size_t put_field(unsigned char *to, unsigned int field, uint64_t v)
{
	size_t n = 0;

	to[n++] = field << 3 | VARINT;
	for (; v > 0x7f; v >>= 7)
		to[n++] = v | 0x80;
	to[n++] = v;
	return n;
}

static void put_record(FILE *f, const unsigned char *record, uint32_t size)
{
	fwrite(&size, sizeof(size), 1, f);
	fwrite(record, size, 1, f);
}

/* A new file; 0 or -errno. */
int pagemap_image_write(const struct pagemap_image *pm, int at, const char *name)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;
	const uint32_t magic[2] = { COMMON_MAGIC, PAGEMAP_MAGIC };
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	unsigned char record[64];
	size_t i, n;

	if (!f) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	fwrite(magic, sizeof(magic), 1, f);
	put_record(f, record, put_field(record, 1, pm->pages_id));
	for (i = 0; i < pm->n; i++) {
		const struct pagemap_entry *e = &pm->v[i];

		n = put_field(record, 1, e->start);
		n += put_field(record + n, 2, (uint32_t)e->pages);
		n += put_field(record + n, 4, e->flags);
		if (pm->long_counts || e->pages > UINT32_MAX)
			n += put_field(record + n, 5, e->pages);
		put_record(f, record, n);
	}
	errno = EIO;
	rc = ferror(f) ? -EIO : 0;
	if (fclose(f) && !rc)
		rc = -errno;
	return rc;
}

void pagemap_image_free(struct pagemap_image *pm)
{
	free(pm->v);
	*pm = (struct pagemap_image){ 0 };
}
