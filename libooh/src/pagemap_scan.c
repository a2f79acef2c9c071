// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * PAGEMAP_SCAN reads and write-protects pages in one atomic step per page; the
 * kernel resolves the write faults alone (UFFD_FEATURE_WP_ASYNC). Needs Linux
 * 6.7 and the anonymous mappings of the process registered with a userfaultfd.
 *
 * A mapping that is not registered (new, moved, replaced at the same address)
 * makes the scan fail: then it is registered, and everything in it counts as
 * written. Of mappings that cannot be registered, or whose protection would not tell
 * all that changes (vma_protectable()), it cannot be told.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "backend.h"
#include "mem.h"
#include "pagemap.h"
#include "uffd.h"
#include "vmas.h"

#define FEATURES \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC)

struct scan {
	struct own_fd uffd, pagemap;
	struct vmas vmas;
	struct ranges ours, next_ours; /* what we registered, as of the last round */
	struct runs old, new;
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
	ranges_free(&s->ours);
	ranges_free(&s->next_ours);
	runs_free(&s->old);
	runs_free(&s->new);
	mem_free(s, sizeof(*s));
}

static int scan_vma(struct scan *s, const struct vma *vma)
{
	size_t from = s->new.n;
	int rc;

	runs_barrier(&s->new);
	if (!vma_protectable(vma))
		return pagemap_scan(s->pagemap.fd, vma->start, vma->end, false, RUN_DIRTY,
				    RUN_UNTOLD, &s->new);
	/*
	 * Only what we registered ourselves may be scanned with protection: a
	 * mapping that belongs to another tracker would lose its marks by it.
	 */
	if (ranges_cover(&s->ours, vma->start, vma->end)) {
		rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, true, 0, 0, &s->new);
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
		rc = pagemap_scan(s->pagemap.fd, vma->start, vma->end, true, 0, RUN_DIRTY, &s->new);
	if (!rc)
		return ranges_add(&s->next_ours, vma->start, vma->end);
	s->new.n = from;
	return pagemap_scan(s->pagemap.fd, vma->start, vma->end, false, RUN_DIRTY, RUN_UNTOLD,
			    &s->new);
}

static int scan_all(struct ooh_tracker *t)
{
	struct scan *s = t->priv;
	struct ranges used;
	size_t i;
	int rc;

	runs_clear(&s->new);
	ranges_clear(&s->next_ours);
	rc = pagemap_reopen(&s->pagemap, t->pid);
	if (rc)
		return rc;
	rc = vmas_read(t->pid, &s->vmas);
	for (i = 0; !rc && i < s->vmas.n; i++)
		rc = scan_vma(s, &s->vmas.v[i]);
	if (rc)
		return rc;
	used = s->ours;
	s->ours = s->next_ours;
	s->next_ours = used;
	return 0;
}

static int scan_attach(struct ooh_tracker *t)
{
	struct scan *s = mem_new(sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->uffd.fd = s->pagemap.fd = -1;
	rc = pagemap_reopen(&s->pagemap, t->pid);
	if (rc >= 0)
		rc = own_take(&s->uffd, uffd_open(t, UFFD_USER_MODE_ONLY, FEATURES));
	if (rc >= 0)
		rc = vmas_read(t->pid, &s->vmas);
	if (!rc)
		rc = uffd_free_for_us(t, s->uffd.fd, &s->vmas);
	t->priv = s;
	if (!rc)
		rc = scan_all(t);
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
	int rc = scan_all(t);

	if (!rc)
		rc = runs_diff(&s->old, &s->new, &t->written, &t->unknown);
	if (rc)
		return rc;
	runs_swap(&s->old, &s->new);
	return 0;
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
