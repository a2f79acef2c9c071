// SPDX-License-Identifier: GPL-2.0-only
/* Address space that is reserved and hardly used, and page tables that hold markers. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "hard.h"

#define GIB (UINT64_C(1) << 30)

/*
 * Gigabytes of which a few pages are written: anonymous memory or a sparse file; or huge pages,
 * none of which is touched, as there are none.
 */
static int op_reserve(struct worker *w, struct rng *r)
{
	struct region *old = &w->reserved;
	size_t len = GIB << below(r, 11), i, n = 1 + below(r, 4);
	int flags = MAP_NORESERVE, fd = -1, kind = below(r, 3);
	char *p;

	if (len > opt.reserve_gib * GIB)
		len = opt.reserve_gib * GIB;
	if (kind == 1)
		fd = memfd_create("sparse", MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, len)) {
		close(fd);
		return -errno;
	}
	flags |= fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	if (kind == 2)
		flags |= MAP_HUGETLB;
	pthread_mutex_lock(&address_space);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);
	pthread_mutex_unlock(&address_space);
	if (fd >= 0)
		close(fd);
	if (p == MAP_FAILED)
		return -errno;
	if (kind == 0)
		madvise(p, len, MADV_NOHUGEPAGE);
	for (i = 0; kind != 2 && i < n; i++)
		store(w, p + below(r, len / PAGE) * PAGE, r);
	if (old->at)
		munmap(old->at, old->pages * PAGE);
	*old = (struct region){ p, len / PAGE };
	return DONE;
}

static int mark_all(struct worker *w)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };

	reg.range.start = (uintptr_t)w->region[MARKED].at;
	reg.range.len = w->region[MARKED].pages * PAGE;
	w->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (w->uffd < 0)
		return -errno;
	if (!ioctl(w->uffd, UFFDIO_API, &api) && !ioctl(w->uffd, UFFDIO_REGISTER, &reg))
		return DONE;
	close(w->uffd);
	w->uffd = -1;
	return -errno;
}

/*
 * Shared memory that we write-protect, and that only another process writes. Where no page is
 * mapped, or where a page is dropped, there is an entry that names no frame.
 */
static int op_marker(struct worker *w, struct rng *r)
{
	struct uffdio_writeprotect wp = { .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct region *reg = &w->region[MARKED], p;
	uint64_t value;
	int rc = w->uffd < 0 ? mark_all(w) : DONE;
	size_t page;

	if (rc)
		return rc;
	part(w, MARKED, r, 8, &p);
	wp.range = (struct uffdio_range){ (uintptr_t)p.at, p.pages * PAGE };
	if (ioctl(w->uffd, UFFDIO_WRITEPROTECT, &wp))
		return -errno;
	if (below(r, 2) && madvise(p.at, p.pages * PAGE, MADV_DONTNEED))
		return -errno;
	page = (p.at - reg->at) / PAGE + below(r, p.pages);
	rc = others_write(w, r, OTHER_MARKED, page, &value);
	if (!rc && below(r, 2) && *(volatile uint64_t *)(reg->at + page * PAGE) != value)
		rc = VAIN;
	if (below(r, 2)) {
		wp.mode = 0;
		if (ioctl(w->uffd, UFFDIO_WRITEPROTECT, &wp))
			return -errno;
	}
	return rc;
}

const struct kind space_kinds[] = {
	{ "reserve", 30, op_reserve },
	{ "marker", 100, op_marker },
	{ 0 },
};
