// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * PAGEMAP_SCAN reads and write-protects pages in one atomic step per page; the
 * kernel resolves the write faults alone (UFFD_FEATURE_WP_ASYNC). Needs Linux
 * 6.7 and the mappings of the process registered with a userfaultfd.
 *
 * A mapping that is not registered (new, moved, replaced at the same address)
 * makes the scan fail: then it is registered, and everything in it counts as
 * written. Of mappings that cannot be registered it cannot be told.
 *
 * For a file's mapping protection is not enough (vma_protectable()). It is told
 * what was written there as far as the file is known to be as it was (files.h).
 * Then a protected page of the page cache was not written, and neither was a
 * private copy that bears the mark, unless it is a new one: that has the content
 * of the file. So the copies are compared with the file.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/uio.h>
#include "backend.h"
#include "files.h"
#include "mem.h"
#include "pagemap.h"
#include "uffd.h"
#include "vmas.h"

#define FEATURES \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC)

#define COMPARE	     16	  /* pages at a time */
#define COMPARE_MOST 4096 /* in a round; of the others it cannot be told */

/* The runs of a mapping of a file that may be known */
struct part {
	size_t vma, from, to;
	int file;
};

struct scan {
	struct own_fd uffd, pagemap;
	struct vmas vmas, old_vmas;
	struct ranges ours, next_ours; /* what we registered, as of the last round */
	struct runs old, new, again;
	struct files files;
	bool with_files;
	struct part *parts;
	size_t nparts, parts_cap;
	size_t compared;
	char *memory, *content; /* COMPARE pages each */
};

static int scan_probe(char *why, size_t size)
{
	int rc = pagemap_has_scan();

	if (rc < 0)
		return backend_why(why, size, rc, "/proc/self/pagemap: %s", strerrordesc_np(-rc));
	if (!rc)
		return backend_why(why, size, -ENOTTY,
				   "the kernel has no PAGEMAP_SCAN (Linux 6.7 or newer)");
	return uffd_probe(UFFD_USER_MODE_ONLY, FEATURES, why, size);
}

static void scan_free(struct scan *s)
{
	own_close(&s->uffd);
	own_close(&s->pagemap);
	vmas_free(&s->vmas);
	vmas_free(&s->old_vmas);
	ranges_free(&s->ours);
	ranges_free(&s->next_ours);
	runs_free(&s->old);
	runs_free(&s->new);
	runs_free(&s->again);
	if (s->with_files)
		files_free(&s->files);
	mem_free(s->parts, s->parts_cap * sizeof(*s->parts));
	mem_free(s->memory, COMPARE * OOH_PAGE);
	mem_free(s->content, COMPARE * OOH_PAGE);
	mem_free(s, sizeof(*s));
}

/* Told by protection: with RUN_* to ignore in each page's state. */
static int scan_protected(struct scan *s, const struct vma *vma, unsigned int ignore)
{
	size_t from = s->new.n;
	int rc;

	/*
	 * Only what we registered ourselves may be scanned with protection: a
	 * mapping that belongs to another tracker would lose its marks by it.
	 */
	if (ranges_cover(&s->ours, vma->start, vma->end)) {
		rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, true, ignore, 0, &s->new);
		if (!rc)
			return ranges_add(&s->next_ours, vma->start, vma->end);
		if (rc != -EPERM)
			return rc;
		s->new.n = from;
	}
	rc = uffd_register(s->uffd.fd, vma->start, vma->end);
	if (rc == -ESRCH || rc == -ENOMEM)
		return rc;
	if (!rc)
		rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, true, ignore, RUN_DIRTY,
				  &s->new);
	if (!rc)
		return ranges_add(&s->next_ours, vma->start, vma->end);
	s->new.n = from;
	return pagemap_scan(s->pagemap.fd, vma->start, vma->end, false, RUN_DIRTY, RUN_UNTOLD,
			    &s->new);
}

static int scan_file(struct scan *s, size_t i, int file)
{
	const struct vma *vma = &s->vmas.v[i];
	const size_t from = s->new.n;
	size_t k;
	int rc;

	if (vma->shared)
		/* told by the file alone: the process has no copies there */
		rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, false,
				  RUN_DIRTY | RUN_UNTOLD, 0, &s->new);
	else
		rc = scan_protected(s, vma, RUN_UNTOLD);
	if (rc)
		return rc;
	for (k = from; k < s->new.n; k++) {
		struct run *run = &s->new.v[k];

		/* A copy in swap looks like the mark of a page that is not there. A copy of
		 * code can be written by the kernel under the same entry (uprobes). */
		if (run->state & RUN_SWAPPED || (vma->exec && !(run->state & RUN_FILE)))
			run->state |= RUN_UNTOLD;
	}
	if (s->nparts == s->parts_cap) {
		rc = mem_grow((void **)&s->parts, &s->parts_cap, sizeof(*s->parts));
		if (rc)
			return rc;
	}
	s->parts[s->nparts++] = (struct part){ i, from, s->new.n, file };
	return 0;
}

static int scan_vma(struct scan *s, size_t i)
{
	const struct vma *vma = &s->vmas.v[i];
	int file = NO_FILE;

	runs_barrier(&s->new);
	if (s->with_files && vma->file)
		file = files_of(&s->files, vma);
	if (file != NO_FILE)
		return scan_file(s, i, file);
	if (vma_protectable(vma))
		return scan_protected(s, vma, 0);
	return pagemap_scan(s->pagemap.fd, vma->start, vma->end, false, RUN_DIRTY, RUN_UNTOLD,
			    &s->new);
}

/* Adds to what is not known: the pages that are as in the file, and those that cannot be read. */
static int compare(struct ooh_tracker *t, const struct vma *vma, int fd, uint64_t at, size_t pages)
{
	struct scan *s = t->priv;
	struct iovec to = { s->memory, pages * OOH_PAGE };
	struct iovec from = { (void *)at, pages * OOH_PAGE };
	const uint64_t offset = vma->offset + (at - vma->start);
	ssize_t there, n;
	size_t i;
	int rc = 0;

	there = process_vm_readv(t->pid, &to, 1, &from, 1, 0);
	n = pread(fd, s->content, pages * OOH_PAGE, offset);
	if (n < 0)
		there = 0;
	/* a file's last page goes on with zeros */
	else if (n < (ssize_t)(pages * OOH_PAGE))
		memset(s->content + n, 0, pages * OOH_PAGE - n);
	for (i = 0; !rc && i < pages; i++)
		if (there < (ssize_t)((i + 1) * OOH_PAGE) ||
		    !memcmp(s->memory + i * OOH_PAGE, s->content + i * OOH_PAGE, OOH_PAGE))
			rc = ranges_add(&t->unknown, at + i * OOH_PAGE, at + (i + 1) * OOH_PAGE);
	return rc;
}

/* The private copies in a mapping that bear the mark: is one a new one? */
static int compare_copies(struct ooh_tracker *t, const struct part *part)
{
	struct scan *s = t->priv;
	const struct vma *vma = &s->vmas.v[part->vma];
	const size_t before = s->compared;
	size_t k, pages;
	uint64_t at;
	int rc = 0;

	for (k = part->from; !rc && k < part->to; k++) {
		const struct run *run = &s->new.v[k];

		if (run->state & (RUN_FILE | RUN_DIRTY | RUN_UNTOLD))
			continue;
		for (at = run->start; !rc && at < run->end; at += pages * OOH_PAGE) {
			pages = (run->end - at) / OOH_PAGE;
			if (s->compared >= COMPARE_MOST) {
				rc = ranges_add(&t->unknown, at, run->end);
				break;
			}
			if (pages > COMPARE)
				pages = COMPARE;
			s->compared += pages;
			rc = compare(t, vma, files_fd(&s->files, part->file), at, pages);
		}
	}
	if (rc || s->compared == before)
		return rc;
	/* What was read is of the time of the scan only if the mark is still there. */
	runs_clear(&s->again);
	rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, false, 0, 0, &s->again);
	for (k = 0; !rc && k < s->again.n; k++)
		if (s->again.v[k].state & RUN_DIRTY)
			rc = ranges_add(&t->unknown, s->again.v[k].start, s->again.v[k].end);
	return rc;
}

/* Was all of it the same part of the same file in the round before? */
static bool was_mapped(const struct scan *s, const struct vma *vma)
{
	size_t lo = 0, hi = s->old_vmas.n;
	const struct vma *old;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->old_vmas.v[mid].end <= vma->start)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == s->old_vmas.n)
		return false;
	old = &s->old_vmas.v[lo];
	return old->start <= vma->start && old->end >= vma->end && old->file &&
	       old->shared == vma->shared && old->dev == vma->dev && old->ino == vma->ino &&
	       old->offset - old->start == vma->offset - vma->start;
}

/* After everything was read; first: there is no round before. */
static int judge_files(struct ooh_tracker *t, bool first)
{
	struct scan *s = t->priv;
	size_t i, k;
	int rc = 0;

	for (i = 0; !first && !rc && i < s->nparts; i++)
		if (!s->vmas.v[s->parts[i].vma].shared)
			rc = compare_copies(t, &s->parts[i]);
	if (rc)
		return rc;
	files_look(&s->files);
	for (i = 0; i < s->nparts; i++) {
		const struct part *part = &s->parts[i];

		if (first ? files_quiet(&s->files, part->file)
			  : files_same(&s->files, part->file) &&
				    was_mapped(s, &s->vmas.v[part->vma]))
			continue;
		for (k = part->from; k < part->to; k++)
			s->new.v[k].state |= RUN_UNTOLD;
	}
	return 0;
}

static int scan_all(struct ooh_tracker *t, bool first)
{
	struct scan *s = t->priv;
	struct ranges used;
	struct vmas vmas;
	size_t i;
	int rc;

	vmas = s->old_vmas;
	s->old_vmas = s->vmas;
	s->vmas = vmas;
	runs_clear(&s->new);
	ranges_clear(&s->next_ours);
	s->nparts = s->compared = 0;
	if (s->with_files)
		files_begin(&s->files);
	rc = pagemap_reopen(&s->pagemap, t->pid);
	if (rc)
		return rc;
	rc = vmas_read(t->pid, &s->vmas);
	for (i = 0; !rc && i < s->vmas.n; i++)
		rc = scan_vma(s, i);
	if (!rc && s->with_files)
		rc = judge_files(t, first);
	if (rc)
		return rc;
	used = s->ours;
	s->ours = s->next_ours;
	s->next_ours = used;
	return 0;
}

/* Another process's files only: its own descriptors are a program's own business. */
static int scan_prepare(struct ooh_tracker *t, struct scan *s)
{
	if (t->pid == getpid())
		return 0;
	s->memory = mem_new(COMPARE * OOH_PAGE);
	s->content = mem_new(COMPARE * OOH_PAGE);
	if (!s->memory || !s->content)
		return -ENOMEM;
	/* without it nothing can be told of files */
	s->with_files = !files_init(&s->files, t->pid);
	return 0;
}

static int scan_attach(struct ooh_tracker *t)
{
	struct scan *s = mem_new(sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->uffd.fd = s->pagemap.fd = -1;
	rc = scan_prepare(t, s);
	if (!rc)
		rc = pagemap_reopen(&s->pagemap, t->pid);
	if (rc >= 0)
		rc = own_take(&s->uffd, uffd_open(t, UFFD_USER_MODE_ONLY, FEATURES));
	if (rc >= 0)
		rc = vmas_read(t->pid, &s->vmas);
	if (!rc)
		rc = uffd_free_for_us(t, s->uffd.fd, &s->vmas);
	t->priv = s;
	if (!rc)
		rc = scan_all(t, true);
	if (rc) {
		t->priv = NULL;
		scan_free(s);
		return rc;
	}
	runs_swap(&s->old, &s->new);
	return 0;
}

static int scan_collect(struct ooh_tracker *t)
{
	struct scan *s = t->priv;
	int rc = scan_all(t, false);

	return rc ? rc : runs_end_round(&s->old, &s->new, &t->written, &t->unknown);
}

static void scan_detach(struct ooh_tracker *t)
{
	scan_free(t->priv);
}

static bool scan_intact(const struct ooh_tracker *t)
{
	const struct scan *s = t->priv;

	return own_there(&s->uffd) && own_there(&s->pagemap);
}

const struct backend backend_pagemap_scan = {
	.name = "pagemap-scan",
	.how = "the kernel's PAGEMAP_SCAN: write faults that the kernel resolves alone",
	.probe = scan_probe,
	.attach = scan_attach,
	.collect = scan_collect,
	.detach = scan_detach,
	.intact = scan_intact,
};
