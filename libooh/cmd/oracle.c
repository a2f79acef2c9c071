// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracked process is stopped, but others can write its memory: who shares it, who maps the
 * same file, the kernel when it reclaims. So what changed is established before the collect,
 * and has to be in its report: late is missed. A page that is in the report is copied again
 * after it, as it may have changed between the two looks: what the copy does not have then is
 * for the next report.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include "oracle.h"

#define PAGE	    UINT64_C(4096)
#define CHUNK_PAGES 512
#define BATCH_PAGES 256
#define WORDS	    4096

/* Bits of a /proc/PID/pagemap word */
#define WORD_SWAPPED (UINT64_C(1) << 62)
#define WORD_PRESENT (UINT64_C(1) << 63)

/* PAGEMAP_SCAN, which the headers of Debian 12 do not have */
struct region {
	uint64_t start, end, categories;
};

struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof_mask, return_mask;
};

#define SCAN	     _IOWR('f', 16, struct scan)
#define SCAN_PRESENT (1 << 3)
#define SCAN_SWAPPED (1 << 4)
#define LARGE	     (UINT64_C(64) << 20)

struct mapping {
	uint64_t start, end;
	bool shared, file;
	char name[40];
};

/* Copies of the pages of 2 MiB; NULL: none, zeros: a page of zeros, or unknown */
struct chunk {
	uint64_t number;
	unsigned char *copy[CHUNK_PAGES];
	uint64_t seen[CHUNK_PAGES / 64];
	uint64_t late[CHUNK_PAGES / 64]; /* not seen, but there when the look was over */
};

/* A page that changed; or, with its pagemap word, one that was in swap */
struct note {
	uint64_t page, word;
	size_t map;
	bool fresh; /* of a file or of shared memory, and there was no copy of it */
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
	struct note *notes;
	size_t nnotes, notes_cap;
	unsigned char buf[BATCH_PAGES * 4096];

	/* of the round that ends */
	bool first; /* there is no copy yet */
	uint64_t mapped, unreadable;
	const struct ooh_range *ranges;
	size_t nranges;
};

static unsigned char zeros[4096];

/*
 * The copy of a page of a file or of shared memory that was there before the collect and had gone
 * when it was to be copied again: the kernel takes such pages out when it likes. What it had
 * then is still there for whoever reads it, but nobody here knows it: the next look makes it known.
 */
static unsigned char unknown[1];

static void close_files(struct oracle *o)
{
	if (o->mem >= 0)
		close(o->mem);
	if (o->pagemap >= 0)
		close(o->pagemap);
	o->mem = o->pagemap = -1;
}

struct oracle *oracle_new(pid_t pid)
{
	struct oracle *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->pid = pid;
	o->mem = o->pagemap = -1;
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
	close_files(o);
	for (i = 0; i < o->size; i++)
		free(o->table[i]);
	for (i = 0; i < o->nslabs; i++)
		free(o->slabs[i]);
	free(o->slabs);
	free(o->table);
	free(o->maps);
	free(o->notes);
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
	if (!copy || copy == zeros || copy == unknown)
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

static bool seen(const struct chunk *c, unsigned int i)
{
	return c->seen[i / 64] >> (i % 64) & 1;
}

static bool late(const struct chunk *c, unsigned int i)
{
	return c->late[i / 64] >> (i % 64) & 1;
}

/* The kernel takes such pages out and brings them back as it likes. */
static bool of_file_or_shared(const struct mapping *map)
{
	return map->file || map->shared;
}

static void forget(struct oracle *o, uint64_t page, const struct mapping *map)
{
	struct chunk *c = o->table[slot(o, page / (CHUNK_PAGES * PAGE))];
	unsigned int i = page / PAGE % CHUNK_PAGES;

	if (!c)
		return;
	drop_copy(o, c->copy[i]);
	c->copy[i] = (seen(c, i) || late(c, i)) && of_file_or_shared(map) ? unknown : NULL;
}

static int note(struct oracle *o, uint64_t page, uint64_t word, const struct mapping *map,
		bool fresh)
{
	if (o->nnotes == o->notes_cap) {
		size_t cap = o->notes_cap ? 2 * o->notes_cap : 256;
		struct note *v = realloc(o->notes, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		o->notes = v;
		o->notes_cap = cap;
	}
	o->notes[o->nnotes++] = (struct note){ page, word, map - o->maps, fresh };
	return 0;
}

/* 2: it is new; 1: it differed; 0: it did not, or nobody knows. The copy is as the page now */
static int update(struct oracle *o, uint64_t page, const unsigned char *now)
{
	struct chunk *c = chunk_of(o, page);
	unsigned int i = page / PAGE % CHUNK_PAGES;
	unsigned char *old;

	if (!c)
		return -ENOMEM;
	old = c->copy[i];
	if (old && old != unknown && !memcmp(old, now, PAGE))
		return 0;
	if (!memcmp(now, zeros, PAGE)) {
		drop_copy(o, old);
		c->copy[i] = zeros;
	} else {
		if (!old || old == zeros || old == unknown)
			c->copy[i] = new_copy(o);
		if (!c->copy[i])
			return -ENOMEM;
		memcpy(c->copy[i], now, PAGE);
	}
	return old == unknown ? 0 : old ? 1 : 2;
}

static int mark_seen(struct oracle *o, uint64_t page)
{
	struct chunk *c = chunk_of(o, page);
	unsigned int i = page / PAGE % CHUNK_PAGES;

	if (!c)
		return -ENOMEM;
	c->seen[i / 64] |= UINT64_C(1) << (i % 64);
	return 0;
}

/* Pages that cannot be read (memory of a device) are counted, not compared. */
static int look_batch(struct oracle *o, uint64_t start, size_t pages, const struct mapping *map)
{
	ssize_t got = pread(o->mem, o->buf, pages * PAGE, start);
	size_t i;
	int rc = 0;

	for (i = 0; i < pages && rc >= 0; i++) {
		uint64_t page = start + i * PAGE;

		if (got < (ssize_t)((i + 1) * PAGE) &&
		    pread(o->mem, o->buf + i * PAGE, PAGE, page) != (ssize_t)PAGE) {
			o->unreadable++;
			continue;
		}
		rc = mark_seen(o, page);
		if (!rc)
			rc = update(o, page, o->buf + i * PAGE);
		if (rc > 0 && !o->first)
			rc = note(o, page, 0, map, rc == 2 && of_file_or_shared(map));
	}
	return rc < 0 ? rc : 0;
}

/*
 * Only what is there is read: reading the rest would make it appear. To read a page that is
 * in swap would bring it back under the tracker's eyes, so that has to wait for the collect.
 */
static int look_words(struct oracle *o, const uint64_t *words, size_t n, uint64_t start,
		      const struct mapping *map)
{
	size_t i, first;
	int rc = 0;

	for (i = 0; i < n && !rc;) {
		uint64_t page = start + i * PAGE;

		if (!(words[i] & WORD_PRESENT) && (words[i] & WORD_SWAPPED) && !o->first) {
			o->mapped++;
			rc = mark_seen(o, page);
			if (!rc)
				rc = note(o, page, words[i], map, false);
			i++;
			continue;
		}
		for (first = i; i < n && i - first < BATCH_PAGES &&
				(words[i] & (WORD_PRESENT | (o->first ? WORD_SWAPPED : 0)));
		     i++)
			;
		o->mapped += i - first;
		if (i > first)
			rc = look_batch(o, page, i - first, map);
		else
			i++;
	}
	return rc;
}

/* Takes in again what of these pages is there, whatever it is now. */
static int reread_words(struct oracle *o, const uint64_t *words, size_t n, uint64_t start,
			const struct mapping *map)
{
	size_t i, j, first;
	ssize_t got;
	int rc = 0;

	for (i = 0; i < n && rc >= 0;) {
		for (first = i;
		     i < n && i - first < BATCH_PAGES && (words[i] & (WORD_PRESENT | WORD_SWAPPED));
		     i++)
			;
		if (i == first) {
			forget(o, start + i++ * PAGE, map);
			continue;
		}
		got = pread(o->mem, o->buf, (i - first) * PAGE, start + first * PAGE);
		for (j = first; j < i && rc >= 0; j++) {
			const unsigned char *now = o->buf + (j - first) * PAGE;

			if (got >= (ssize_t)((j - first + 1) * PAGE))
				rc = update(o, start + j * PAGE, now);
			else
				forget(o, start + j * PAGE, map);
		}
	}
	return rc < 0 ? rc : 0;
}

/*
 * To read a page that was taken out a moment ago is a fault, for which the kernel maps what it has
 * of the file around that page, too.
 */
static int find_late(struct oracle *o, const uint64_t *words, size_t n, uint64_t start,
		     const struct mapping *map)
{
	size_t i;

	(void)map;
	for (i = 0; i < n; i++) {
		uint64_t page = start + i * PAGE;
		unsigned int at = page / PAGE % CHUNK_PAGES;
		struct chunk *c;

		if (!(words[i] & WORD_PRESENT))
			continue;
		c = chunk_of(o, page);
		if (!c)
			return -ENOMEM;
		if (!seen(c, at))
			c->late[at / 64] |= UINT64_C(1) << (at % 64);
	}
	return 0;
}

typedef int words_fn(struct oracle *o, const uint64_t *words, size_t n, uint64_t start,
		     const struct mapping *map);

static int each_word(struct oracle *o, uint64_t start, uint64_t end, words_fn *f,
		     const struct mapping *map)
{
	uint64_t words[WORDS], at;
	ssize_t got;
	size_t n;
	int rc = 0;

	for (at = start; at < end && !rc; at += n * PAGE) {
		n = (end - at) / PAGE < WORDS ? (end - at) / PAGE : WORDS;
		got = pread(o->pagemap, words, n * sizeof(words[0]), at / PAGE * sizeof(words[0]));
		if (got <= 0)
			return got ? -errno : -ESRCH;
		n = got / sizeof(words[0]);
		rc = f(o, words, n, at, map);
	}
	return rc;
}

/*
 * The same for a large range, of which little may be there: address space is reserved by the
 * terabyte. Where the kernel has PAGEMAP_SCAN (Linux 6.7) that finds what is.
 */
static int each_word_there(struct oracle *o, uint64_t start, uint64_t end, words_fn *f,
			   const struct mapping *map)
{
	struct region v[512];
	struct scan scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = sizeof(v) / sizeof(v[0]),
		.anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_PRESENT | SCAN_SWAPPED,
	};
	int i, n, rc = 0;

	if (end - start <= LARGE)
		return each_word(o, start, end, f, map);
	while (scan.start < end && !rc) {
		n = ioctl(o->pagemap, SCAN, &scan);
		if (n < 0 && (errno == ENOTTY || errno == EINVAL))
			return each_word(o, scan.start, end, f, map);
		if (n < 0)
			return -errno;
		for (i = 0; i < n && !rc; i++)
			rc = each_word(o, v[i].start, v[i].end, f, map);
		if (scan.walk_end <= scan.start)
			break;
		scan.start = scan.walk_end;
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

/*
 * A private anonymous page that went reads as zeros, if it is still mapped. Pages of files and of
 * shared memory come and go as the kernel likes. One that came while the oracle looked was there
 * in the round before, too, for a tracker that has not seen it go: what it had then holds on.
 */
static int vanished(struct oracle *o)
{
	const struct mapping *map;
	struct chunk *c;
	size_t i, j;
	int rc = 0;

	for (i = 0; i < o->size; i++) {
		c = o->table[i];
		for (j = 0; c && j < CHUNK_PAGES && !rc; j++) {
			uint64_t page = (c->number * CHUNK_PAGES + j) * PAGE;
			bool kept;

			if (seen(c, j) || (late(c, j) ? !o->first : !c->copy[j]))
				continue;
			map = mapping_of(o, page);
			kept = map && of_file_or_shared(map);
			if (map && !kept && c->copy[j] != zeros && c->copy[j] != unknown)
				rc = note(o, page, 0, map, false);
			drop_copy(o, c->copy[j]);
			c->copy[j] = o->first && kept ? unknown : NULL;
		}
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

/*
 * A file about the memory of the process, opened anew each time: after an exec it would be of
 * the old memory. By a thread that lives, as the main one may have ended.
 */
static int open_task(const struct oracle *o, const char *name)
{
	char path[64], state[256], *p;
	int fd = -ESRCH, stat;
	struct dirent *e;
	ssize_t n;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", o->pid);
	d = opendir(path);
	while (d && fd == -ESRCH && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", o->pid, e->d_name);
		stat = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		n = stat < 0 ? 0 : read(stat, state, sizeof(state) - 1);
		if (stat >= 0)
			close(stat);
		state[n > 0 ? n : 0] = '\0';
		p = strrchr(state, ')');
		if (!p || strchr("ZX", p[2]))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/%s", o->pid, e->d_name, name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fd = errno == ENOENT ? -ESRCH : -errno;
	}
	if (d)
		closedir(d);
	return fd;
}

static int read_maps(struct oracle *o)
{
	int fd = open_task(o, "maps"), rc = 0;
	char *line = NULL;
	size_t size = 0;
	FILE *f;

	o->nmaps = 0;
	if (fd < 0)
		return fd;
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	while (!rc && getline(&line, &size, f) > 0)
		rc = add_mapping(o, line);
	free(line);
	fclose(f);
	return rc ? rc : o->nmaps ? 0 : -ESRCH;
}

static int look(struct oracle *o)
{
	size_t i;
	int rc;

	close_files(o);
	o->mapped = o->unreadable = o->nnotes = 0;
	for (i = 0; i < o->size; i++)
		if (o->table[i]) {
			memset(o->table[i]->seen, 0, sizeof(o->table[i]->seen));
			memset(o->table[i]->late, 0, sizeof(o->table[i]->late));
		}
	rc = read_maps(o);
	if (rc)
		return rc;
	o->mem = open_task(o, "mem");
	if (o->mem < 0)
		return o->mem;
	o->pagemap = open_task(o, "pagemap");
	if (o->pagemap < 0)
		return o->pagemap;
	for (i = 0; i < o->nmaps && !rc; i++)
		rc = each_word_there(o, o->maps[i].start, o->maps[i].end, look_words, &o->maps[i]);
	for (i = 0; i < o->nmaps && !rc; i++)
		if (of_file_or_shared(&o->maps[i]))
			rc = each_word_there(o, o->maps[i].start, o->maps[i].end, find_late,
					     &o->maps[i]);
	return rc ? rc : vanished(o);
}

/*
 * The first round begins: makes the copy. What was there when an earlier call made one, and is
 * not now, is unknown.
 */
int oracle_copy(struct oracle *o)
{
	int rc;

	o->first = true;
	rc = look(o);
	o->first = false;
	close_files(o);
	return rc;
}

/* With the process stopped, before the collect: what changed? */
int oracle_look(struct oracle *o)
{
	return look(o);
}

/* A page that was in swap at the look: 1 if it changed, 0 if not or if it is not known. */
static int look_late(struct oracle *o, const struct note *n)
{
	uint64_t word = 0;
	int rc;

	if (pread(o->pagemap, &word, sizeof(word), n->page / PAGE * sizeof(word)) != sizeof(word))
		return -ESRCH;
	/* Somebody else was there meanwhile: the next round will see. */
	if (word != n->word)
		return 0;
	if (pread(o->mem, o->buf, PAGE, n->page) != (ssize_t)PAGE) {
		o->unreadable++;
		return 0;
	}
	/*
	 * Shared memory in swap has no entry: this one is a marker (of a userfaultfd, say), which
	 * tells nothing about the time before it, unless there is a copy of then.
	 */
	rc = update(o, n->page, o->buf);
	return rc == 2 && o->maps[n->map].shared ? 0 : rc;
}

/* How many of the pages that were there at the look are in the ranges? */
uint64_t oracle_there(const struct oracle *o, const struct ooh_range *ranges, size_t n)
{
	uint64_t count = 0;
	size_t i, j;

	for (i = 0; i < o->size; i++)
		for (j = 0; o->table[i] && j < CHUNK_PAGES; j++)
			if (seen(o->table[i], j))
				count += reported(ranges, n,
						  (o->table[i]->number * CHUNK_PAGES + j) * PAGE);
	return count;
}

static bool was_there(const struct oracle *o, uint64_t page)
{
	const struct chunk *c = o->table[slot(o, page / (CHUNK_PAGES * PAGE))];

	return c && seen(c, page / PAGE % CHUNK_PAGES);
}

/* From here on, what changes in the reported pages belongs to the next round. */
static int reread(struct oracle *o)
{
	size_t i, j;
	int rc = 0;

	for (i = j = 0; i < o->nmaps && j < o->nranges && !rc;) {
		uint64_t start = o->maps[i].start, end = o->maps[i].end;

		if (o->ranges[j].start > start)
			start = o->ranges[j].start;
		if (o->ranges[j].end < end)
			end = o->ranges[j].end;
		if (start < end)
			rc = each_word_there(o, start, end, reread_words, &o->maps[i]);
		if (o->maps[i].end < o->ranges[j].end)
			i++;
		else
			j++;
	}
	return rc;
}

/*
 * The kernel may take a fresh page out again before the tracker looks, which then sees what it saw
 * in the round before: such a page is not new to it. Nothing has been read since, so none is back.
 */
static int drop_taken_out(struct oracle *o)
{
	uint64_t word;
	size_t i, n = 0;

	for (i = 0; i < o->nnotes; i++) {
		const struct note *note = &o->notes[i];

		if (note->fresh) {
			if (pread(o->pagemap, &word, sizeof(word),
				  note->page / PAGE * sizeof(word)) != sizeof(word))
				return -ESRCH;
			if (!(word & WORD_PRESENT))
				continue;
		}
		o->notes[n++] = *note;
	}
	o->nnotes = n;
	return 0;
}

/* With the process still stopped, after the collect that gave the ranges. */
int oracle_judge(struct oracle *o, const struct ooh_range *ranges, size_t n,
		 struct oracle_round *out, oracle_missed_fn *missed, void *arg)
{
	uint64_t there = 0;
	size_t i;
	int rc = drop_taken_out(o);

	*out = (struct oracle_round){ 0 };
	o->ranges = ranges;
	o->nranges = n;
	for (i = 0; i < o->nnotes && rc >= 0; i++) {
		const struct note *note = &o->notes[i];
		bool told = reported(ranges, n, note->page);

		rc = note->word ? look_late(o, note) : 1;
		if (rc < 0)
			break;
		if (!rc)
			continue;
		out->changed++;
		there += told && was_there(o, note->page);
		out->reported += told && !was_there(o, note->page);
		out->missed += !told;
		if (!told && missed)
			missed(arg, note->page, o->maps[note->map].name);
	}
	if (rc >= 0)
		rc = reread(o);
	out->mapped = o->mapped;
	out->unreadable = o->unreadable;
	out->extra = oracle_there(o, ranges, n);
	out->reported += out->extra;
	out->extra -= there;
	o->nnotes = 0;
	close_files(o);
	return rc < 0 ? rc : 0;
}
