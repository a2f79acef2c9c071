// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "oracle.h"

#define PAGE	    UINT64_C(4096)
#define CHUNK_PAGES 512
#define BATCH_PAGES 256
#define WORDS	    4096

/* Bits of a /proc/PID/pagemap word */
#define WORD_SHARED  (UINT64_C(1) << 61) /* of a file, or shared memory */
#define WORD_SWAPPED (UINT64_C(1) << 62)
#define WORD_PRESENT (UINT64_C(1) << 63)

struct mapping {
	uint64_t start, end;
	bool shared, file;
	char name[40];
};

/* Copies of the pages of 2 MiB; NULL: none, zeros: a page of zeros */
struct chunk {
	uint64_t number;
	unsigned char *copy[CHUNK_PAGES];
	uint64_t seen[CHUNK_PAGES / 64];
};

struct suspect {
	uint64_t page;
	char mapping[40];
};

struct oracle {
	pid_t pid;
	int mem, pagemap;
	struct mapping *maps;
	size_t nmaps, maps_cap;
	struct chunk **table; /* open addressing; its size is a power of two */
	size_t size, used;
	void *free_copies;
	void **slabs;
	size_t nslabs;
	struct suspect *suspects;
	size_t nsuspects, suspects_cap;
	unsigned char buf[BATCH_PAGES * 4096];

	/* of the round that runs */
	const struct ooh_range *ranges;
	size_t nranges;
	struct oracle_round *out;
	oracle_missed_fn *missed;
	void *arg;
};

static unsigned char zeros[4096];

struct oracle *oracle_new(pid_t pid)
{
	struct oracle *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->pid = pid;
	o->size = 256;
	o->table = calloc(o->size, sizeof(*o->table));
	if (!o->table) {
		free(o);
		return NULL;
	}
	return o;
}

void oracle_free(struct oracle *o)
{
	size_t i;

	if (!o)
		return;
	for (i = 0; i < o->size; i++)
		free(o->table[i]);
	for (i = 0; i < o->nslabs; i++)
		free(o->slabs[i]);
	free(o->slabs);
	free(o->table);
	free(o->maps);
	free(o->suspects);
	free(o);
}

/* Copies come in slabs of 1 MiB, without a byte between them. */
static unsigned char *new_copy(struct oracle *o)
{
	unsigned char *page;
	void **slabs;
	int i;

	if (!o->free_copies) {
		page = malloc(256 * PAGE);
		slabs = realloc(o->slabs, (o->nslabs + 1) * sizeof(*slabs));
		if (slabs)
			o->slabs = slabs;
		if (!page || !slabs) {
			free(page);
			return NULL;
		}
		o->slabs[o->nslabs++] = page;
		for (i = 0; i < 256; i++, page += PAGE) {
			*(void **)page = o->free_copies;
			o->free_copies = page;
		}
	}
	page = o->free_copies;
	o->free_copies = *(void **)page;
	return page;
}

static void drop_copy(struct oracle *o, unsigned char *copy)
{
	if (!copy || copy == zeros)
		return;
	*(void **)copy = o->free_copies;
	o->free_copies = copy;
}

static size_t slot(const struct oracle *o, uint64_t number)
{
	size_t i = (number * UINT64_C(0x9e3779b97f4a7c15)) >> 20;

	for (i &= o->size - 1; o->table[i] && o->table[i]->number != number;)
		i = (i + 1) & (o->size - 1);
	return i;
}

static int grow(struct oracle *o)
{
	struct chunk **old = o->table;
	size_t i, n = o->size;

	o->table = calloc(2 * n, sizeof(*o->table));
	if (!o->table) {
		o->table = old;
		return -ENOMEM;
	}
	o->size = 2 * n;
	for (i = 0; i < n; i++)
		if (old[i])
			o->table[slot(o, old[i]->number)] = old[i];
	free(old);
	return 0;
}

static struct chunk *chunk_of(struct oracle *o, uint64_t page)
{
	uint64_t number = page / (CHUNK_PAGES * PAGE);
	size_t i;

	if (2 * o->used >= o->size && grow(o))
		return NULL;
	i = slot(o, number);
	if (!o->table[i]) {
		o->table[i] = calloc(1, sizeof(struct chunk));
		if (o->table[i]) {
			o->table[i]->number = number;
			o->used++;
		}
	}
	return o->table[i];
}

static bool reported(const struct ooh_range *r, size_t n, uint64_t page)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r[mid].end <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && r[lo].start <= page;
}

/*
 * Only the tracked process is stopped. What somebody else can write may have
 * changed since the collect; then it has to be in the next one's report.
 */
static int suspect(struct oracle *o, uint64_t page, const struct mapping *map)
{
	if (o->nsuspects == o->suspects_cap) {
		size_t cap = o->suspects_cap ? 2 * o->suspects_cap : 64;
		struct suspect *v = realloc(o->suspects, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		o->suspects = v;
		o->suspects_cap = cap;
	}
	o->suspects[o->nsuspects].page = page;
	memcpy(o->suspects[o->nsuspects++].mapping, map->name, sizeof(map->name));
	o->out->pending++;
	return 0;
}

static int judge(struct oracle *o, uint64_t page, bool changed, bool others_write,
		 const struct mapping *map)
{
	bool told = reported(o->ranges, o->nranges, page);

	o->out->reported += told;
	o->out->changed += changed;
	o->out->extra += told && !changed;
	if (!changed || told)
		return 0;
	if (others_write)
		return suspect(o, page, map);
	o->out->missed++;
	if (o->missed)
		o->missed(o->arg, page, map->name);
	return 0;
}

uint64_t oracle_settle(struct oracle *o, const struct ooh_range *ranges, size_t n,
		       oracle_missed_fn *missed, void *arg)
{
	uint64_t count = 0;
	size_t i;

	for (i = 0; i < o->nsuspects; i++) {
		if (reported(ranges, n, o->suspects[i].page))
			continue;
		count++;
		if (missed)
			missed(arg, o->suspects[i].page, o->suspects[i].mapping);
	}
	o->nsuspects = 0;
	return count;
}

static int compare(struct oracle *o, uint64_t page, const unsigned char *now, bool others_write,
		   const struct mapping *map)
{
	struct chunk *c = chunk_of(o, page);
	unsigned int i = page / PAGE % CHUNK_PAGES;
	unsigned char *old;
	bool changed;

	if (!c)
		return -ENOMEM;
	old = c->copy[i];
	c->seen[i / 64] |= UINT64_C(1) << (i % 64);
	changed = !old || memcmp(old, now, PAGE);
	if (changed && !memcmp(now, zeros, PAGE)) {
		drop_copy(o, old);
		c->copy[i] = zeros;
	} else if (changed) {
		if (!old || old == zeros)
			c->copy[i] = new_copy(o);
		if (!c->copy[i])
			return -ENOMEM;
		memcpy(c->copy[i], now, PAGE);
	}
	return judge(o, page, changed, others_write, map);
}

/* Pages that cannot be read (memory of a device) are counted, not compared. */
static int read_batch(struct oracle *o, uint64_t start, size_t pages, const uint64_t *words,
		      const struct mapping *map)
{
	ssize_t got = pread(o->mem, o->buf, pages * PAGE, start);
	size_t i;
	int rc = 0;

	for (i = 0; i < pages && !rc; i++) {
		uint64_t page = start + i * PAGE;

		o->out->mapped++;
		if (got < (ssize_t)((i + 1) * PAGE) &&
		    pread(o->mem, o->buf + i * PAGE, PAGE, page) != (ssize_t)PAGE) {
			o->out->unreadable++;
			continue;
		}
		rc = compare(o, page, o->buf + i * PAGE, map->shared || (words[i] & WORD_SHARED),
			     map);
	}
	return rc;
}

/* Only what is there is read: reading the rest would make it appear. */
static int look_at(struct oracle *o, const struct mapping *map)
{
	uint64_t words[WORDS], at;
	size_t i, first, n;
	ssize_t got;
	int rc = 0;

	for (at = map->start; at < map->end && !rc; at += n * PAGE) {
		n = (map->end - at) / PAGE < WORDS ? (map->end - at) / PAGE : WORDS;
		got = pread(o->pagemap, words, n * sizeof(words[0]), at / PAGE * sizeof(words[0]));
		if (got <= 0)
			return got ? -errno : -ESRCH;
		n = got / sizeof(words[0]);
		for (i = 0; i < n && !rc; i++) {
			for (first = i; i < n && i - first < BATCH_PAGES &&
					(words[i] & (WORD_PRESENT | WORD_SWAPPED));
			     i++)
				;
			if (i > first)
				rc = read_batch(o, at + first * PAGE, i-- - first, words + first,
						map);
		}
	}
	return rc;
}

static const struct mapping *mapping_of(const struct oracle *o, uint64_t page)
{
	size_t lo = 0, hi = o->nmaps;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (o->maps[mid].end <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < o->nmaps && o->maps[lo].start <= page ? &o->maps[lo] : NULL;
}

/* A private anonymous page that went reads as zeros, if it is still mapped. */
static int vanished(struct oracle *o)
{
	const struct mapping *map;
	struct chunk *c;
	size_t i, j;
	int rc = 0;

	for (i = 0; i < o->size; i++) {
		c = o->table[i];
		for (j = 0; c && j < CHUNK_PAGES; j++) {
			uint64_t page = (c->number * CHUNK_PAGES + j) * PAGE;
			bool seen = c->seen[j / 64] >> (j % 64) & 1;

			if (seen || !c->copy[j])
				continue;
			map = mapping_of(o, page);
			if (map && !map->file && !map->shared && c->copy[j] != zeros && !rc)
				rc = judge(o, page, true, false, map);
			drop_copy(o, c->copy[j]);
			c->copy[j] = NULL;
		}
		if (c)
			memset(c->seen, 0, sizeof(c->seen));
	}
	return rc;
}

static int add_mapping(struct oracle *o, char *line)
{
	char perms[8] = "";
	uint64_t inode = 0;
	struct mapping m = { 0 }, *v;
	int pos = 0;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %*s %" SCNu64 " %n", &m.start, &m.end,
		   perms, &inode, &pos) < 4)
		return -EPROTO;
	m.shared = perms[3] == 's';
	m.file = inode != 0;
	snprintf(m.name, sizeof(m.name), "%.4s %.34s", perms, line[pos] ? line + pos : "anonymous");
	if (!strncmp(line + pos, "[vvar", 5) || !strcmp(line + pos, "[vsyscall]"))
		return 0;
	if (o->nmaps == o->maps_cap) {
		size_t cap = o->maps_cap ? 2 * o->maps_cap : 128;

		v = realloc(o->maps, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		o->maps = v;
		o->maps_cap = cap;
	}
	o->maps[o->nmaps++] = m;
	return 0;
}

static int read_maps(struct oracle *o)
{
	char path[40], *line = NULL;
	size_t size = 0;
	int rc = 0;
	FILE *f;

	o->nmaps = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", o->pid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!rc && getline(&line, &size, f) > 0)
		rc = add_mapping(o, line);
	free(line);
	fclose(f);
	return rc ? rc : o->nmaps ? 0 : -ESRCH;
}

static int open_proc(const struct oracle *o, const char *name)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", o->pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * With the process stopped, after the collect that gave the ranges. The first
 * round only makes the copy. The files are opened anew each time: after an
 * exec they would be those of the old memory.
 */
int oracle_round(struct oracle *o, const struct ooh_range *ranges, size_t n,
		 struct oracle_round *out, oracle_missed_fn *missed, void *arg)
{
	size_t i;
	int rc;

	*out = (struct oracle_round){ 0 };
	out->missed = oracle_settle(o, ranges, n, missed, arg);
	o->ranges = ranges;
	o->nranges = n;
	o->out = out;
	o->missed = missed;
	o->arg = arg;
	rc = read_maps(o);
	if (rc)
		return rc;
	o->mem = open_proc(o, "mem");
	if (o->mem < 0)
		return o->mem;
	o->pagemap = open_proc(o, "pagemap");
	rc = o->pagemap < 0 ? o->pagemap : 0;
	for (i = 0; i < o->nmaps && !rc; i++)
		rc = look_at(o, &o->maps[i]);
	if (!rc)
		rc = vanished(o);
	close(o->mem);
	if (o->pagemap >= 0)
		close(o->pagemap);
	return rc;
}
