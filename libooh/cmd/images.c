// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file "checksums" has a line for each image as cksum(1) prints it: sum, bytes, name. So
 * a backup can be compared without ooh, by "cksum *.img".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "crimage.h"
#include "images.h"
#include "packed.h"

#define MARKS "ooh-marks"
#define END   "end\n"

/* Of CRIU's image of statistics (its images/stats.proto) */
#define STATS		     "stats-dump"
#define STATS_DUMP	     1
#define PAGES_SKIPPED_PARENT 6
#define PAGES_WRITTEN	     7

/* POSIX's cksum: CRC-32, most significant bit first, then the length. */
static uint32_t table[256];

static void make_table(void)
{
	uint32_t i, v;
	int bit;

	for (i = 0; i < 256; i++) {
		v = i << 24;
		for (bit = 0; bit < 8; bit++)
			v = v << 1 ^ (v & 1u << 31 ? 0x04c11db7 : 0);
		table[i] = v;
	}
}

/* Of what can be read from it. 0 or -EIO. */
int images_sum_fd(int fd, uint32_t *sum, unsigned long long *bytes)
{
	static unsigned char buf[1 << 16];
	uint32_t crc = 0;
	ssize_t n, i;
	uint64_t left;

	if (!table[1])
		make_table();
	*bytes = 0;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (i = 0; i < n; i++)
			crc = crc << 8 ^ table[crc >> 24 ^ buf[i]];
		*bytes += n;
	}
	if (n < 0)
		return -EIO;
	for (left = *bytes; left; left >>= 8)
		crc = crc << 8 ^ table[crc >> 24 ^ (left & 0xff)];
	*sum = ~crc;
	return 0;
}

int images_sum_file(int at, const char *name, uint32_t *sum, unsigned long long *bytes)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;

	if (fd < 0)
		return -errno;
	rc = images_sum_fd(fd, sum, bytes);
	close(fd);
	return rc;
}

static int sum_packed(int at, const char *name, uint32_t *sum, unsigned long long *bytes)
{
	pid_t child;
	int fd = packed_open(at, name, &child), rc;

	if (fd < 0)
		return fd;
	rc = images_sum_fd(fd, sum, bytes);
	return packed_close(fd, child) ? -EIO : rc;
}

/* The names in the folder, from the first one on, whatever was read by way of at. */
DIR *images_list(int at)
{
	int copy = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	if (!d && copy >= 0)
		close(copy);
	return d;
}

/* Writes the checksums of the images in the folder. */
int images_sum(int at)
{
	DIR *d = images_list(at);
	int fd = openat(at, CHECKSUMS, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	unsigned long long bytes;
	struct dirent *e;
	uint32_t sum;
	int rc = 0;

	if (!d || !f)
		rc = -errno;
	while (!rc && (e = readdir(d))) {
		if (!is_image(e->d_name))
			continue;
		rc = images_sum_file(at, e->d_name, &sum, &bytes);
		if (!rc)
			fprintf(f, "%u %llu %s\n", sum, bytes, e->d_name);
	}
	if (!rc && (fputs(END, f) < 0 || fflush(f) || fsync(fd)))
		rc = -errno;
	if (f && fclose(f) && !rc)
		rc = -errno;
	else if (!f && fd >= 0)
		close(fd);
	if (d)
		closedir(d);
	return rc;
}

/* Sizes first: they cost nothing. 0, or -errno with the reason in words. */
static int check_file(int at, const char *name, unsigned long long bytes, bool content,
		      uint32_t sum, char *why, size_t size)
{
	unsigned long long have;
	struct stat st;
	uint32_t is;
	int rc = 0;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (!packed_there(at, name))
			rc = snprintf(why, size, "%s is missing", name);
		else if (content &&
			 (sum_packed(at, name, &is, &have) || is != sum || have != bytes))
			rc = snprintf(why, size, "%s, which is compressed, is damaged", name);
	} else if (!S_ISREG(st.st_mode))
		rc = snprintf(why, size, "%s is no file", name);
	else if ((unsigned long long)st.st_size != bytes)
		rc = snprintf(why, size, "%s has %llu bytes instead of %llu", name,
			      (unsigned long long)st.st_size, bytes);
	else if (content && images_sum_file(at, name, &is, &have))
		rc = snprintf(why, size, "%s cannot be read", name);
	else if (content && is != sum)
		rc = snprintf(why, size, "%s is damaged: its checksum differs", name);
	return rc ? -EBADMSG : 0;
}

static int check_lines(int at, FILE *f, bool content, char *why, size_t size)
{
	unsigned long long bytes;
	char line[400], name[256];
	uint32_t sum;
	int rc;

	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strcmp(line, END))
			return 0;
		if (sscanf(line, "%u %llu %255[^\n]", &sum, &bytes, name) != 3)
			break;
		rc = check_file(at, name, bytes, content, sum, why, size);
		if (rc)
			return rc;
	}
	snprintf(why, size, CHECKSUMS " is not whole");
	return -EBADMSG;
}

/* 0, also for a folder of an ooh that made no checksums; or -errno with the reason in words. */
int images_check(int at, char *why, size_t size)
{
	int fd = openat(at, CHECKSUMS, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (!f) {
		snprintf(why, size, CHECKSUMS ": %s", strerror(errno));
		return -EBADMSG;
	}
	rc = check_lines(at, f, false, why, size);
	if (!rc)
		rc = check_lines(at, f, true, why, size);
	fclose(f);
	return rc;
}

/* Did this dump find nothing of its parent's worth keeping? CRIU counts what it skips. */
static bool nothing_skipped(int at)
{
	uint64_t v, skipped = 1, written = 0;
	struct pb record, dump, sub;
	struct image img;
	unsigned int field;

	if (image_load(&img, at, STATS, SERVICE_MAGIC, STATS_MAGIC))
		return false;
	if (image_next(&img, &record) && pb_next(&record, &field, &v, &dump) && field == STATS_DUMP)
		while (pb_next(&dump, &field, &v, &sub)) {
			if (field == PAGES_SKIPPED_PARENT)
				skipped = v;
			if (field == PAGES_WRITTEN)
				written = v;
		}
	image_free(&img);
	return !skipped && written;
}

/*
 * Whether all of some process was taken although there are parent images, and why: the plugin
 * says so; without it nobody does, but CRIU's statistics tell.
 */
bool images_all_dirty(int at, char *why, size_t size)
{
	int fd = openat(at, MARKS, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char line[256];
	bool all = false;
	int end;

	while (f && !all && fgets(line, sizeof(line), f)) {
		end = 0;
		if (sscanf(line, "all %*d %n", &end) < 0 || !end)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(why, size, "%s", line + end);
		all = true;
	}
	if (f)
		fclose(f);
	if (all || !nothing_skipped(at))
		return all;
	snprintf(why, size, "criu found no page that the one before has as it is");
	return true;
}
