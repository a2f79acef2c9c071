// SPDX-License-Identifier: GPL-2.0-only
/*
 * A checkpoint that builds on others is made into one that holds everything: each page that its
 * pagemaps say is in the parent is taken from where it is. All other images are as they were, so
 * those that build on it can go on doing so.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "chain.h"
#include "cmd.h"
#include "crimage.h"
#include "images.h"
#include "merge.h"
#include "packed.h"

#define PAGE  4096
#define BATCH 256 /* pages */

/* A pagemap of one checkpoint, and the pages that it has; then that of the one before. */
struct level {
	struct pagemap_image map;
	int pages; /* descriptor */
	long n;
	bool read;
	bool packed; /* its checksum tells of its size */
};

struct merge {
	int dir, out;
	const char *name;     /* of the pagemap */
	struct level *levels; /* the first is that of the checkpoint itself */
	size_t nlevels;
	struct pagemap_image map; /* what comes out of it */
	int pages;		  /* descriptor; -1: only to see whether all is there */
	char *why;
	size_t size;
};

static int cannot(struct merge *m, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int cannot(struct merge *m, int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(m->why, m->size, format, ap);
	va_end(ap);
	return rc;
}

static int open_level(struct merge *m, struct level *l)
{
	char pages[40], folder[NAME_LEN];
	int at = chain_folder(m->dir, l->n), rc;

	chain_name(folder, l->n);
	rc = at < 0 ? -errno : pagemap_image_read(&l->map, at, m->name);
	if (rc) {
		if (at >= 0)
			close(at);
		return cannot(m, rc, "%s/%s: %s", folder, m->name,
			      rc == -EBADMSG ? "no image of that kind" : strerror(-rc));
	}
	l->read = true;
	snprintf(pages, sizeof(pages), "pages-%u.img", l->map.pages_id);
	l->pages = openat(at, pages, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	rc = l->pages < 0 ? -errno : 0;
	l->packed = rc && packed_there(at, pages);
	close(at);
	if (l->packed && m->out < 0)
		return 0;
	if (l->packed)
		return cannot(m, rc, "%s is compressed (ooh checkpoint compress --undo)", folder);
	return rc ? cannot(m, rc, "%s/%s: %s", folder, pages, strerror(-rc)) : 0;
}

static int put_pages(struct merge *m, const struct level *l, uint64_t offset, uint64_t pages)
{
	static unsigned char buf[BATCH * PAGE];
	uint64_t left = pages * PAGE;
	ssize_t n, done, put;
	struct stat st;

	if (m->pages < 0) {
		if (l->packed)
			return 0;
		if (fstat(l->pages, &st) || (uint64_t)st.st_size < offset + left)
			return cannot(m, -EBADMSG, "pages of checkpoint %ld: there are too few",
				      l->n);
		return 0;
	}
	progress("%s, %" PRIu64 " MB", m->name, m->map.present * PAGE / 1000000);
	for (; left; left -= n, offset += n) {
		n = pread(l->pages, buf, left < sizeof(buf) ? left : sizeof(buf), offset);
		if (n < 0 && errno == EINTR) {
			n = 0;
			continue;
		}
		if (n <= 0)
			return cannot(m, n ? -errno : -EBADMSG, "pages of checkpoint %ld: %s", l->n,
				      n ? strerror(errno) : "there are too few");
		for (done = 0; done < n; done += put) {
			put = write(m->pages, buf + done, n - done);
			if (put < 0 && errno == EINTR)
				put = 0;
			else if (put < 0)
				return cannot(m, -errno, "%s", strerror(errno));
		}
	}
	return 0;
}

/* Neighbours with the same flags are one entry. */
static int put_entry(struct merge *m, uint64_t start, uint64_t pages, uint32_t flags)
{
	struct pagemap_entry e = { .start = start, .pages = pages, .flags = flags };
	struct pagemap_entry *last = m->map.n ? &m->map.v[m->map.n - 1] : NULL;

	if (!last || last->flags != flags || last->start + last->pages * PAGE != start)
		return pagemap_image_add(&m->map, &e);
	last->pages += pages;
	if (flags & PE_PRESENT)
		m->map.present += pages;
	return 0;
}

static const struct pagemap_entry *find(const struct pagemap_image *map, uint64_t at)
{
	size_t lo = 0, hi = map->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (map->v[mid].start + map->v[mid].pages * PAGE <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < map->n && map->v[lo].start <= at ? &map->v[lo] : NULL;
}

/* Pages from start on, of which the checkpoint before the level's says that it has them */
static int take(struct merge *m, size_t level, uint64_t start, uint64_t pages, uint32_t flags)
{
	const struct pagemap_entry *e;
	struct level *l;
	uint64_t skip, n;
	int rc;

	if (level == m->nlevels)
		return cannot(m, -EBADMSG, "%s: page %llx is in no checkpoint", m->name,
			      (unsigned long long)start);
	l = &m->levels[level];
	if (!l->read) {
		rc = open_level(m, l);
		if (rc)
			return rc;
	}
	for (; pages; start += n * PAGE, pages -= n) {
		e = find(&l->map, start);
		if (!e || !(e->flags & (PE_PARENT | PE_PRESENT)))
			return cannot(m, -EBADMSG, "%s: page %llx is missing in checkpoint %ld",
				      m->name, (unsigned long long)start, l->n);
		skip = (start - e->start) / PAGE;
		n = e->pages - skip < pages ? e->pages - skip : pages;
		if (e->flags & PE_PARENT) {
			rc = take(m, level + 1, start, n, flags);
		} else {
			rc = put_entry(m, start, n, flags);
			if (!rc)
				rc = put_pages(m, l, e->offset + skip * PAGE, n);
		}
		if (rc)
			return rc;
	}
	return 0;
}

static int take_all(struct merge *m)
{
	const struct pagemap_image *map = &m->levels[0].map;
	char pages[40];
	size_t i;
	int rc = 0;

	m->map.pages_id = map->pages_id;
	m->map.long_counts = map->long_counts;
	if (m->out >= 0) {
		snprintf(pages, sizeof(pages), "pages-%u.img", map->pages_id);
		m->pages = openat(m->out, pages, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (m->pages < 0)
			return cannot(m, -errno, "%s: %s", pages, strerror(errno));
	}
	for (i = 0; i < map->n && !rc; i++) {
		const struct pagemap_entry *e = &map->v[i];

		if (e->flags & (PE_PARENT | PE_PRESENT))
			rc = take(m, 0, e->start, e->pages, (e->flags & PE_LAZY) | PE_PRESENT);
		else
			rc = put_entry(m, e->start, e->pages, e->flags);
	}
	if (!rc && m->out >= 0) {
		rc = pagemap_image_write(&m->map, m->out, m->name);
		if (rc)
			cannot(m, rc, "%s: %s", m->name, strerror(-rc));
	}
	if (m->pages >= 0 && close(m->pages) && !rc)
		rc = cannot(m, -errno, "%s", strerror(errno));
	return rc;
}

/* One pagemap, into the folder out; -1: nowhere */
static int one_map(int dir, long n, int out, const char *name, char *why, size_t size)
{
	struct merge m = {
		.dir = dir, .out = out, .name = name, .pages = -1, .why = why, .size = size
	};
	size_t i;
	int rc;

	m.levels = calloc(chain_length(dir, n), sizeof(*m.levels));
	if (!m.levels)
		return cannot(&m, -ENOMEM, "%s", strerror(ENOMEM));
	for (; n != NO_CHECKPOINT; n = chain_parent(dir, n))
		m.levels[m.nlevels++] = (struct level){ .n = n, .pages = -1 };
	rc = open_level(&m, &m.levels[0]);
	if (!rc)
		rc = take_all(&m);
	for (i = 0; i < m.nlevels; i++) {
		pagemap_image_free(&m.levels[i].map);
		if (m.levels[i].pages >= 0)
			close(m.levels[i].pages);
	}
	free(m.levels);
	pagemap_image_free(&m.map);
	return rc;
}

/* What is the same in the merged one; the others are made anew */
static bool goes_along(const char *name)
{
	return strcmp(name, "parent") && strcmp(name, CHECKSUMS) && !chain_is_mark(name) &&
	       !is_pages(name) && !is_pagemap(name);
}

static int one_file(int dir, long n, int from, int out, const char *name, char *why, size_t size)
{
	if (is_pagemap(name))
		return one_map(dir, n, out, name, why, size);
	if (out < 0)
		return 0;
	if (!chain_made(name)) {
		snprintf(why, size, "%s is in its folder, which is none of ours", name);
		return -EEXIST;
	}
	/* files that nobody changes any more */
	if (goes_along(name) && linkat(from, name, out, name, 0)) {
		snprintf(why, size, "%s: %s", name, strerror(errno));
		return -errno;
	}
	return 0;
}

static int all_files(int dir, long n, int out, char *why, size_t size)
{
	int from = chain_folder(dir, n), rc = 0;
	DIR *d = from < 0 ? NULL : fdopendir(from);
	struct dirent *e;

	if (!d) {
		snprintf(why, size, "%s", strerror(errno));
		return -errno;
	}
	while (!rc && (e = readdir(d)))
		if (e->d_name[0] != '.')
			rc = one_file(dir, n, from, out, e->d_name, why, size);
	closedir(d);
	return rc;
}

/* Whether each page of n is there. 0, or -errno with the reason in words. */
int merge_try(int dir, long n, char *why, size_t size)
{
	return all_files(dir, n, -1, why, size);
}

/* n is whole, and builds on others. 0, or -errno with the reason in words; then n is as it was. */
int merge(int dir, long n, char *why, size_t size)
{
	char work[2 * NAME_LEN];
	int out = chain_begin_merge(dir, n, work, sizeof(work)), rc;

	if (out < 0) {
		snprintf(why, size, "%s",
			 out == -EPERM ? "it is a copy that somebody made" : strerror(-out));
		return out;
	}
	rc = all_files(dir, n, out, why, size);
	if (!rc) {
		rc = chain_finish_folder(dir, out, NO_CHECKPOINT);
		if (!rc)
			rc = chain_replace(dir, n, work);
		if (rc < 0)
			snprintf(why, size, "%s%s", strerror(-rc),
				 rc == -EINVAL ? " (this file system cannot exchange two folders)"
					       : "");
	}
	close(out);
	progress_end();
	if (rc < 0)
		chain_clean_merges(dir);
	return rc < 0 ? rc : 0;
}
