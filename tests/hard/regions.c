// SPDX-License-Identifier: GPL-2.0-only
/* The memory that is written, and what the kernel says of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hard.h"

static const size_t sizes[PLACES] = {
	[COMMON] = 512, [ANON] = 96,	    [MOVED] = 32,	 [THP] = 512,  [MEMFD] = 64,
	[SYSV] = 24,	[FILE_SHARED] = 48, [FILE_PRIVATE] = 48, [ALIKE] = 32, [PINNED] = 16,
	[QUIET] = 32,	[REMOTE] = 4,	    [MARKED] = 16,
};

const char *const place_names[PLACES] = {
	[COMMON] = "common",
	[ANON] = "anon",
	[MOVED] = "moved",
	[THP] = "thp",
	[MEMFD] = "memfd",
	[SYSV] = "sysv",
	[FILE_SHARED] = "file-shared",
	[FILE_PRIVATE] = "file-private",
	[ALIKE] = "alike",
	[PINNED] = "pinned",
	[QUIET] = "quiet",
	[REMOTE] = "remote",
	[MARKED] = "marked",
};

static struct region common;

pthread_mutex_t address_space = PTHREAD_MUTEX_INITIALIZER;

void *map(size_t len, int flags, int fd)
{
	void *p;

	pthread_mutex_lock(&address_space);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	pthread_mutex_unlock(&address_space);
	if (p == MAP_FAILED)
		broken("mmap: %m");
	return p;
}

/* Private memory that huge pages can hold. */
char *map_aligned(size_t len)
{
	char *p = map(len + HUGE_PAGE, MAP_PRIVATE, -1);
	char *at = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));

	munmap(p, at - p);
	munmap(at + len, p + HUGE_PAGE - at);
	return at;
}

void common_create(void)
{
	common = (struct region){ map_aligned(sizes[COMMON] * PAGE), sizes[COMMON] };
}

static int memory_file(const char *name, size_t pages)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, pages * PAGE))
		broken("memfd: %m");
	return fd;
}

/* Every block is there from the start, as a store that finds no room is a SIGBUS. */
static int disk_file(const struct worker *w, size_t pages)
{
	char path[256], page[PAGE];
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/hard-%u", opt.dir, w->number);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	memset(page, 0x55, sizeof(page));
	for (i = 0; i < pages; i++)
		if (fd < 0 || write(fd, page, sizeof(page)) != sizeof(page))
			broken("%s: %m", path);
	return fd;
}

void files_create(struct worker *w)
{
	char path[256], junk[256];
	size_t i;

	for (i = 0; i < PLACES; i++)
		w->region[i].pages = sizes[i];
	w->memfd = memory_file("shared", sizes[MEMFD]);
	w->sysv = shmget(IPC_PRIVATE, sizes[SYSV] * PAGE, IPC_CREAT | 0600);
	if (w->sysv < 0)
		broken("shmget: %m");
	w->file = disk_file(w, sizes[FILE_SHARED]);
	snprintf(path, sizeof(path), "%s/hard-%u", opt.dir, w->number);
	/* not on every file system; what needs it says so */
	w->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(path);
	quiet_create(w);
	w->marked = memory_file("marked", sizes[MARKED]);
	w->uffd = -1;
	w->source = memory_file("source", 16);
	for (i = 0; i < 16 * PAGE; i += sizeof(junk))
		if (getrandom(junk, sizeof(junk), 0) != sizeof(junk) ||
		    pwrite(w->source, junk, sizeof(junk), i) != sizeof(junk))
			broken("random data: %m");
	w->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (w->pagemap < 0 || pipe2(w->pipe, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->socket))
		broken("files: %m");
}

void regions_create(struct worker *w)
{
	size_t i;

	w->region[COMMON] = common;
	for (i = ANON; i < QUIET; i++) {
		char **at = &w->region[i].at;
		size_t len = sizes[i] * PAGE;

		if (i == THP)
			*at = map_aligned(len);
		else if (i == MEMFD)
			*at = map(len, MAP_SHARED, w->memfd);
		else if (i == SYSV)
			*at = shmat(w->sysv, NULL, 0);
		else if (i == FILE_SHARED || i == FILE_PRIVATE)
			*at = map(len, i == FILE_SHARED ? MAP_SHARED : MAP_PRIVATE, w->file);
		else
			*at = map(len, MAP_PRIVATE, -1);
		if (*at == (char *)-1)
			broken("region %zu: %m", i);
	}
	/* it goes with its last user */
	shmctl(w->sysv, IPC_RMID, NULL);
	madvise(w->region[THP].at, HUGE_PAGE, MADV_HUGEPAGE);
	for (i = ANON; i < QUIET; i++)
		sweep(&w->region[i], opt.seed + i);
	quiet_map(w);
	w->region[MARKED].at = map(sizes[MARKED] * PAGE, MAP_SHARED, w->marked);
}

char *page_in(struct worker *w, enum place place, struct rng *r)
{
	return w->region[place].at + below(r, w->region[place].pages) * PAGE;
}

/* The common region comes up often: there the workers meet. */
char *any_page(struct worker *w, struct rng *r)
{
	size_t place = below(r, BUSY + 4);

	return page_in(w, place < BUSY ? place : COMMON, r);
}

char *room(struct worker *w, struct rng *r, size_t len)
{
	struct region *reg = &w->region[below(r, BUSY)];

	return reg->at + below(r, reg->pages * PAGE - len + 1);
}

struct region *part(struct worker *w, enum place place, struct rng *r, size_t max,
		    struct region *out)
{
	const struct region *reg = &w->region[place];

	out->pages = 1 + below(r, max < reg->pages ? max : reg->pages);
	out->at = reg->at + below(r, reg->pages - out->pages + 1) * PAGE;
	return out;
}

/* Bits of a /proc/PID/pagemap word */
#define WORD_FRAME   ((UINT64_C(1) << 55) - 1)
#define WORD_PRESENT (UINT64_C(1) << 63)

uint64_t page_word(struct worker *w, const void *page)
{
	uint64_t word = 0;

	if (pread(w->pagemap, &word, sizeof(word), (uintptr_t)page / PAGE * sizeof(word)) < 0)
		return 0;
	return word;
}

bool is_present(struct worker *w, const void *page)
{
	return page_word(w, page) & WORD_PRESENT;
}

uint64_t frame_of(struct worker *w, const void *page)
{
	uint64_t word = page_word(w, page);

	return word & WORD_PRESENT ? word & WORD_FRAME : 0;
}

size_t present_in(struct worker *w, const struct region *r)
{
	size_t i, n = 0;

	for (i = 0; i < r->pages; i++)
		n += is_present(w, r->at + i * PAGE);
	return n;
}
