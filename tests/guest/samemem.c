// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: samemem PID PID MIB: in how many pages the memory of two guests differs, each of which
 * is a mapping of that size of a QEMU; and where in the first ones. For KVM's host, while neither
 * guest runs.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE	4096UL
#define PRESENT (3ULL << 62) /* or in swap */

struct guest {
	int mem, pagemap;
	uint64_t start, entries[512];
};

static int open_of(const char *pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	fd = open(path, O_RDONLY);
	if (fd < 0) {
		perror(path);
		exit(2);
	}
	return fd;
}

static struct guest guest_of(const char *pid, uint64_t size)
{
	struct guest g = { open_of(pid, "mem"), open_of(pid, "pagemap"), 0, { 0 } };
	FILE *maps = fdopen(open_of(pid, "maps"), "r");
	uint64_t start, end;
	char line[512];

	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && end - start == size)
			g.start = start;
	if (!g.start) {
		fprintf(stderr, "process %s has no mapping of %" PRIu64 " bytes\n", pid, size);
		exit(2);
	}
	fclose(maps);
	return g;
}

static void read_at(int fd, void *to, size_t size, uint64_t at)
{
	if (pread(fd, to, size, at) != (ssize_t)size) {
		perror("pread");
		exit(2);
	}
}

static void show(uint64_t at, const char *a, const char *b)
{
	unsigned long first = 0, end = PAGE;

	while (a[first] == b[first])
		first++;
	while (a[end - 1] == b[end - 1])
		end--;
	printf("offset %" PRIx64 ": bytes %lu to %lu\n", at, first, end - 1);
}

int main(int argc, char **argv)
{
	uint64_t size, at, different = 0, looked_at = 0;
	static char page[2][PAGE];
	struct guest g[2];
	int i, n;

	if (argc != 4)
		return 2;
	size = strtoull(argv[3], NULL, 10) << 20;
	g[0] = guest_of(argv[1], size);
	g[1] = guest_of(argv[2], size);
	for (at = 0; at < size; at += 512 * PAGE) {
		for (i = 0; i < 2; i++)
			read_at(g[i].pagemap, g[i].entries, sizeof(g[i].entries),
				(g[i].start + at) / PAGE * 8);
		/* what neither has is zeros */
		for (n = 0; n < 512; n++) {
			if (!((g[0].entries[n] | g[1].entries[n]) & PRESENT))
				continue;
			for (i = 0; i < 2; i++)
				read_at(g[i].mem, page[i], PAGE, g[i].start + at + n * PAGE);
			looked_at++;
			if (!memcmp(page[0], page[1], PAGE))
				continue;
			if (different++ < 8)
				show(at + n * PAGE, page[0], page[1]);
		}
	}
	printf("%" PRIu64 " of %" PRIu64 " differ\n", different, looked_at);
	return 0;
}
