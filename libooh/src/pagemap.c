// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/fs.h>
#include "pagemap.h"
#include "proc.h"

/* Since Linux 6.7; older headers do not have it. */
#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN	      _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN	      (1 << 1)
#define PAGE_IS_FILE	      (1 << 2)
#define PAGE_IS_PRESENT	      (1 << 3)
#define PAGE_IS_SWAPPED	      (1 << 4)
#define PM_SCAN_WP_MATCHING   (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)

struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};

struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};
#endif

#define REGIONS 1024

int pagemap_open(pid_t pid)
{
	return proc_open(pid, "pagemap", O_RDONLY);
}

/*
 * For each round anew: the file stays with the address space of its open. After an exec that
 * nobody noticed (the old one can live on in a CLONE_VM sibling) it would show memory that is
 * not the process's; in the new one nothing bears our protection, so everything is written.
 */
int pagemap_reopen(struct own_fd *o, pid_t pid)
{
	uint64_t word;
	int rc;

	own_close(o);
	rc = own_take(o, pagemap_open(pid));
	if (rc < 0)
		return rc;
	return pread(o->fd, &word, sizeof(word), 0) == sizeof(word) ? 0 : -ESRCH;
}

/* 1, 0 or -errno */
int pagemap_has_scan(void)
{
	struct pm_scan_arg arg = { .size = sizeof(arg), .start = 0x10000, .end = 0x10000 };
	int fd = pagemap_open(getpid()), rc;

	if (fd < 0)
		return fd;
	rc = ioctl(fd, PAGEMAP_SCAN, &arg) < 0 ? errno != ENOTTY && errno != EINVAL : 1;
	close(fd);
	return rc;
}

static unsigned int state_of(uint64_t categories)
{
	unsigned int state = 0;

	if (categories & PAGE_IS_PRESENT)
		state |= RUN_PRESENT;
	if (categories & PAGE_IS_SWAPPED)
		state |= RUN_SWAPPED;
	if (categories & PAGE_IS_FILE)
		state |= RUN_FILE | RUN_UNTOLD;
	if (categories & PAGE_IS_WRITTEN)
		state |= RUN_DIRTY;
	return state;
}

/*
 * Adds what is present or swapped out in start ... end - 1; ignore, always: RUN_* to
 * take from each, and to add. With protect, written pages are write-protected in the same
 * step; EPERM if a mapping in the range is not registered for that. After an
 * error some pages may have been protected without having been given out.
 */
int pagemap_scan(int fd, uint64_t start, uint64_t end, bool protect, unsigned int ignore,
		 unsigned int always, struct runs *out)
{
	struct page_region v[REGIONS];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = protect ? PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC : 0,
		.start = start,
		.end = end,
		.vec = (uintptr_t)v,
		.vec_len = REGIONS,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_FILE | PAGE_IS_WRITTEN,
	};
	int i, n, rc;

	while (arg.start < end) {
		n = ioctl(fd, PAGEMAP_SCAN, &arg);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (i = 0; i < n; i++) {
			rc = runs_add(out, v[i].start, v[i].end,
				      (state_of(v[i].categories) & ~ignore) | always);
			if (rc)
				return rc;
		}
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}

static unsigned int state_of_word(uint64_t word, enum dirty_by by)
{
	unsigned int state = 0;

	if (!(word & (PM_PRESENT | PM_SWAP)))
		return 0;
	state |= word & PM_PRESENT ? RUN_PRESENT : RUN_SWAPPED;
	if (word & PM_FILE)
		state |= RUN_FILE | RUN_UNTOLD;
	/* The zero page (small or huge) is mapped by nobody, as far as the kernel
	 * counts. So are pages shared with a forked child. A soft-dirty bit does not
	 * tell whether the one took the place of the other (dropped, and read again). */
	else if ((word & PM_PRESENT) && !(word & PM_EXCLUSIVE))
		state |= by == DIRTY_BY_SOFT_DIRTY ? RUN_ZERO | RUN_UNTOLD : RUN_ZERO;
	if (by == DIRTY_BY_SOFT_DIRTY ? !!(word & PM_SOFT_DIRTY) : !(word & PM_UFFD_WP))
		state |= RUN_DIRTY;
	return state;
}

static int read_words(int fd, uint64_t start, uint64_t end, enum dirty_by by, unsigned int ignore,
		      unsigned int always, struct runs *out)
{
	uint64_t words[2048];
	ssize_t i, n;

	while (start < end) {
		size_t want = (end - start) / OOH_PAGE;

		if (want > sizeof(words) / sizeof(words[0]))
			want = sizeof(words) / sizeof(words[0]);
		n = pread(fd, words, want * sizeof(words[0]), start / OOH_PAGE * sizeof(words[0]));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ESRCH; /* the address space is gone */
		n /= sizeof(words[0]);
		for (i = 0; i < n; i++, start += OOH_PAGE) {
			unsigned int state = state_of_word(words[i], by);
			int rc = 0;

			if (state)
				rc = runs_add(out, start, start + OOH_PAGE,
					      (state & ~ignore) | always);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/*
 * As pagemap_scan(), from the words of /proc/PID/pagemap. Where the kernel has
 * PAGEMAP_SCAN, that finds what to read: an address space can be reserved by
 * the terabyte.
 */
int pagemap_read(int fd, uint64_t start, uint64_t end, enum dirty_by by, unsigned int ignore,
		 unsigned int always, struct runs *out)
{
	struct runs there = { 0 };
	size_t i;
	int rc;

	if (end - start <= UINT64_C(64) << 20)
		return read_words(fd, start, end, by, ignore, always, out);
	rc = pagemap_scan(fd, start, end, false, 0, 0, &there);
	if (rc == -ENOTTY) {
		runs_free(&there);
		return read_words(fd, start, end, by, ignore, always, out);
	}
	for (i = 0; !rc && i < there.n; i++)
		rc = read_words(fd, there.v[i].start, there.v[i].end, by, ignore, always, out);
	runs_free(&there);
	return rc;
}
