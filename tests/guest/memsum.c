// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: memsum PID: a line for each 64 KiB of a stopped process, with a sum of what is
 * mapped there: permissions and contents, as read through /proc/PID/mem. Two processes
 * with the same lines have the same memory.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE  4096UL
#define CHUNK (64UL << 10)

static uint64_t sum(uint64_t h, const unsigned char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i += 8) {
		uint64_t word;

		memcpy(&word, p + i, 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return h;
}

/* Mappings can be split or joined without a change of the memory, so lines go by address. */
static uint64_t chunk, total;
static size_t pages, unreadable;

static void flush_chunk(void)
{
	if (pages)
		printf("%012" PRIx64 " %016" PRIx64 " %zu %zu\n", chunk, total, pages, unreadable);
	total = pages = unreadable = 0;
}

static void add_page(int mem, const char *perms, uint64_t at)
{
	static unsigned char page[PAGE];
	uint64_t h = at;
	size_t i;

	if (at / CHUNK * CHUNK != chunk) {
		flush_chunk();
		chunk = at / CHUNK * CHUNK;
	}
	for (i = 0; perms[i]; i++)
		h = h * 31 + perms[i];
	pages++;
	if (pread(mem, page, PAGE, at) != (ssize_t)PAGE)
		unreadable++;
	else
		h = sum(h, page, PAGE);
	total += h;
}

int main(int argc, char **argv)
{
	char path[64], line[512];
	FILE *maps;
	int mem;

	if (argc != 2)
		return 2;
	snprintf(path, sizeof(path), "/proc/%s/maps", argv[1]);
	maps = fopen(path, "r");
	snprintf(path, sizeof(path), "/proc/%s/mem", argv[1]);
	mem = open(path, O_RDONLY);
	if (!maps || mem < 0) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof(line), maps)) {
		uint64_t start, end, at;
		char perms[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &start, &end, perms) != 3)
			continue;
		/* the kernel's own, which change by themselves */
		if (strstr(line, "[vvar") || strstr(line, "[vsyscall") || strstr(line, "[vdso"))
			continue;
		for (at = start; at < end; at += PAGE)
			add_page(mem, perms, at);
	}
	flush_chunk();
	return 0;
}
