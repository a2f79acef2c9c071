// SPDX-License-Identifier: GPL-2.0-only
/*
 * mirror [-b BACKEND] [-t SECONDS] [-i MS] [-q] -- CMD...: an oracle that shares nothing with
 * ooh verify. While the process runs, it copies what libooh reports. At the end, when the
 * process is at rest, it compares its copy with the process once. What differs then was
 * written and never reported, whatever raced.
 *
 * Pages without a page-table entry are not compared. -q: the process comes to rest by itself;
 * otherwise it is stopped, with its process group. Exit status 0 nothing lost, 1 something
 * was, 3 no tracker, 2 an error.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <ooh.h>

#include "../hard/pagemap_scan.h"

#define PAGE	     4096UL
#define LISTED	     12

#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)

static pid_t pid;
static int mem = -1, pagemap = -1;

__attribute__((noreturn)) static void broken(const char *what)
{
	fprintf(stderr, "mirror: %s: %m\n", what);
	if (pid > 0)
		kill(-pid, SIGKILL);
	exit(2);
}

/* ---- the copy: a table by page; data NULL: there is nothing to be read */

struct copy {
	uint64_t page;
	char *data;
};

static struct copy *copies;
static size_t room, used;

static struct copy *place_of(uint64_t page)
{
	size_t i = (page / PAGE * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (room - 1);

	while (copies[i].page && copies[i].page != page)
		i = (i + 1) & (room - 1);
	return &copies[i];
}

static void grow(void)
{
	struct copy *old = copies;
	size_t i, n = room;

	room = n ? 2 * n : 4096;
	copies = calloc(room, sizeof(*copies));
	if (!copies)
		broken("memory");
	for (i = 0; i < n; i++)
		if (old[i].page)
			*place_of(old[i].page) = old[i];
	free(old);
}

static void forget(uint64_t page)
{
	struct copy *c = place_of(page);

	free(c->data);
	c->data = NULL;
}

static void keep(uint64_t page, const char *data)
{
	struct copy *c;

	if (2 * used >= room)
		grow();
	c = place_of(page);
	if (!c->page)
		used++;
	c->page = page;
	if (!c->data)
		c->data = malloc(PAGE);
	if (!c->data)
		broken("memory");
	memcpy(c->data, data, PAGE);
}

/* ---- the process's memory */

struct mapping {
	uint64_t start, end;
	char name[80];
};

static struct mapping *maps;
static size_t nr_maps;

static void open_memory(void)
{
	char path[40];

	if (mem >= 0) {
		close(mem);
		close(pagemap);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (mem < 0 || pagemap < 0)
		broken(path);
}

static void read_maps(void)
{
	static size_t space;
	char path[40], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	nr_maps = 0;
	while (f && fgets(line, sizeof(line), f)) {
		struct mapping *m;
		int name = 0;

		if (nr_maps == space) {
			space = space ? 2 * space : 256;
			maps = realloc(maps, space * sizeof(*maps));
			if (!maps)
				broken("memory");
		}
		m = &maps[nr_maps];
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %n", &m->start, &m->end,
			   &name) < 2)
			continue;
		snprintf(m->name, sizeof(m->name), "%s", line + name);
		/* memory of the kernel's, which it writes */
		if (strncmp(m->name, "[vvar", 5) && strcmp(m->name, "[vsyscall]"))
			nr_maps++;
	}
	if (f)
		fclose(f);
}

static const struct mapping *mapping_of(uint64_t page)
{
	size_t low = 0, high = nr_maps;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (page >= maps[mid].end)
			low = mid + 1;
		else
			high = mid;
	}
	return low < nr_maps && page >= maps[low].start ? &maps[low] : NULL;
}

static bool is_there(uint64_t page)
{
	uint64_t word = 0;

	if (pread(pagemap, &word, sizeof(word), page / PAGE * sizeof(word)) != sizeof(word))
		return false;
	return word >> 62;
}

static void take(uint64_t page)
{
	char data[PAGE];

	/* where there is no entry, reading would make one */
	if (is_there(page) && pread(mem, data, PAGE, page) == (ssize_t)PAGE)
		keep(page, data);
	else
		forget(page);
}

/* fn for each page that is to be compared. */
static void each_page(void (*fn)(uint64_t page))
{
	struct scan_region found[512];
	size_t i;

	for (i = 0; i < nr_maps; i++) {
		const struct mapping m = maps[i];
		struct scan s = { .size = sizeof(s),
				  .start = m.start,
				  .end = m.end,
				  .vec = (uintptr_t)found,
				  .vec_len = sizeof(found) / sizeof(found[0]),
				  .anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
				  .return_mask = SCAN_PRESENT | SCAN_SWAPPED };
		uint64_t page;

		while (s.start < s.end) {
			int k, n = ioctl(pagemap, SCAN, &s);

			if (n < 0)
				broken("PAGEMAP_SCAN");
			for (k = 0; k < n; k++)
				for (page = found[k].start; page < found[k].end; page += PAGE)
					fn(page);
			s.start = s.walk_end;
		}
	}
}

/* ---- the end */

static unsigned long compared, lost;
static bool restless;

static void compare(uint64_t page)
{
	static const char zeros[PAGE];
	const struct copy *c = place_of(page);
	const char *mine = c->page && c->data ? c->data : zeros;
	const struct mapping *m = mapping_of(page);
	bool there = is_there(page);
	char data[PAGE], again[PAGE];

	/* this makes an entry: nobody tracks any more */
	if (pread(mem, data, PAGE, page) != (ssize_t)PAGE)
		return;
	compared++;
	if (!memcmp(data, mine, PAGE))
		return;
	usleep(1000);
	if (pread(mem, again, PAGE, page) == (ssize_t)PAGE && memcmp(data, again, PAGE))
		restless = true;
	if (lost++ < LISTED)
		printf("lost: %" PRIx64 " %s%s\n", page, there ? "" : "(no entry) ",
		       m ? m->name : "");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void start(char **argv)
{
	pid = fork();
	if (pid < 0)
		broken("fork");
	if (!pid) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	usleep(300000);
}

static unsigned long pages_reported, rounds, all_dirty;

static void one_round(struct ooh_tracker *t)
{
	const struct ooh_range *v;
	unsigned int flags;
	ssize_t i, n = ooh_collect(t, 0, &v, &flags);
	uint64_t page;

	if (n < 0) {
		int status = 0;

		fprintf(stderr, "mirror: collect: %s: %s\n", strerror(-n), ooh_reason(t));
		if (waitpid(pid, &status, WNOHANG) == pid)
			fprintf(stderr, "mirror: wait status %#x\n", status);
		kill(-pid, SIGKILL);
		exit(2);
	}
	rounds++;
	if (flags & OOH_ALL_DIRTY) {
		size_t k;

		printf("all dirty: %s\n", ooh_reason(t));
		all_dirty++;
		for (k = 0; k < room; k++)
			if (copies[k].page)
				forget(copies[k].page);
		open_memory(); /* after an exec it is another one */
		read_maps();
		each_page(take);
		return;
	}
	read_maps();
	for (i = 0; i < n; i++)
		for (page = v[i].start; page < v[i].end; page += PAGE, pages_reported++)
			take(page);
}

int main(int argc, char **argv)
{
	char why[OOH_REASON_LEN] = "";
	const char *backend = NULL;
	struct ooh_tracker *t;
	bool quiet = false;
	double seconds = 2, end;
	int ms = 20, c;

	while ((c = getopt(argc, argv, "+b:t:i:q")) > 0)
		switch (c) {
		case 'b':
			backend = optarg;
			break;
		case 't':
			seconds = atof(optarg);
			break;
		case 'i':
			ms = atoi(optarg);
			break;
		case 'q':
			quiet = true;
			break;
		default:
			return 2;
		}
	if (optind == argc)
		return 2;
	start(argv + optind);
	grow();
	open_memory();
	c = ooh_open(pid, backend, 0, &t, why, sizeof(why));
	if (c < 0) {
		printf("%s\n", why);
		kill(-pid, SIGKILL);
		return 3;
	}
	read_maps();
	each_page(take);
	for (end = now() + seconds; now() < end; usleep(ms * 1000))
		one_round(t);
	if (!quiet)
		kill(-pid, SIGSTOP);
	usleep(300000);
	/* twice: a backend may report shared memory a round late */
	one_round(t);
	one_round(t);
	printf("%s:", ooh_backend_name(t));
	ooh_close(t);
	each_page(compare);
	printf(" %lu rounds, %lu all dirty, %lu pages reported, %lu compared, %lu lost\n", rounds,
	       all_dirty, pages_reported, compared, lost);
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (restless) {
		fprintf(stderr, "mirror: the process was not at rest\n");
		return 2;
	}
	return lost ? 1 : 0;
}
