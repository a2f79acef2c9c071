// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * userfaultfd write protection, synchronous: each first write to a page waits
 * until a thread of ours has lifted the protection of the page.
 *
 * The thread notes nothing: whether a page is protected is in its entry, and
 * "not protected" also covers pages that no fault told of (a page that was
 * dropped and filled anew). Of what cannot be watched this way (files, shared
 * memory) it cannot be told.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "backend.h"
#include "mem.h"
#include "pagemap.h"
#include "uffd.h"
#include "vmas.h"

struct wp {
	struct own_fd uffd, pagemap, stop;
	pthread_t thread;
	bool *running; /* false in a child by fork(2): the thread is not the child's */
	uint64_t faults;
	struct vmas vmas;
	struct ranges ours, next_ours;
	struct runs old, new;
};

static int wp_probe(char *why, size_t size)
{
	return uffd_probe(0, UFFD_FEATURE_PAGEFAULT_FLAG_WP, why, size);
}

static void resolve(struct wp *w)
{
	struct uffd_msg msgs[64];
	ssize_t i, n;

	while ((n = read(w->uffd.fd, msgs, sizeof(msgs))) > 0) {
		for (i = 0; i < n / (ssize_t)sizeof(msgs[0]); i++) {
			uint64_t at = msgs[i].arg.pagefault.address & ~(OOH_PAGE - 1);

			if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
				continue;
			__atomic_fetch_add(&w->faults, 1, __ATOMIC_RELAXED);
			/* ENOENT, ESRCH: unmapped meanwhile, and woken by that */
			uffd_protect(w->uffd.fd, at, at + OOH_PAGE, false);
		}
	}
}

static void *monitor(void *arg)
{
	struct wp *w = arg;
	struct pollfd fds[] = { { .fd = w->uffd.fd, .events = POLLIN },
				{ .fd = w->stop.fd, .events = POLLIN } };

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents || !own_there(&w->stop))
			return NULL;
		if (fds[0].revents && !own_there(&w->uffd))
			return NULL;
		if (fds[0].revents & POLLIN)
			resolve(w);
		else if (fds[0].revents)
			fds[0].fd = -1; /* the process is gone */
	}
}

static int start_monitor(struct wp *w)
{
	sigset_t all, old;
	int rc;

	/* Not by comparing pids, which can be the same in another namespace. */
	w->running = mem_new(OOH_PAGE);
	if (!w->running || madvise(w->running, OOH_PAGE, MADV_WIPEONFORK))
		return -ENOMEM;
	rc = eventfd(0, EFD_CLOEXEC);
	rc = own_take(&w->stop, rc < 0 ? -errno : rc);
	if (rc < 0)
		return rc;
	/* The signals of the program are none of this thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, NULL, monitor, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*w->running = !rc;
	return -rc;
}

static void wp_free(struct wp *w)
{
	uint64_t one = 1;

	if (w->running && *w->running && !own_there(&w->stop)) {
		/* It cannot be told to end, so it keeps what it looks at. */
		own_close(&w->uffd);
		return;
	}
	if (w->running && *w->running) {
		while (write(w->stop.fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(w->thread, NULL);
	}
	/* This lifts all protection and wakes whoever waits for us. */
	own_close(&w->uffd);
	own_close(&w->stop);
	own_close(&w->pagemap);
	mem_free(w->running, OOH_PAGE);
	vmas_free(&w->vmas);
	ranges_free(&w->ours);
	ranges_free(&w->next_ours);
	runs_free(&w->old);
	runs_free(&w->new);
	free(w);
}

static int read_pages(struct wp *w, const struct vma *vma, unsigned int ignore, unsigned int always)
{
	return pagemap_read(w->pagemap.fd, vma->start, vma->end, DIRTY_BY_NO_UFFD_WP, ignore,
			    always, &w->new);
}

/* A mapping not seen before, or replaced: protect first, then say what is there. */
static int new_vma(struct wp *w, const struct vma *vma)
{
	int rc = uffd_register(w->uffd.fd, vma->start, vma->end);

	if (!rc)
		rc = uffd_protect(w->uffd.fd, vma->start, vma->end, true);
	if (rc == -ESRCH || rc == -ENOMEM)
		return rc;
	if (rc)
		return read_pages(w, vma, RUN_DIRTY, RUN_UNTOLD);
	rc = ranges_add(&w->next_ours, vma->start, vma->end);
	return rc ? rc : read_pages(w, vma, 0, RUN_DIRTY);
}

/*
 * What is read as written here is protected again; a page that is written
 * or appears between these two steps is either among them, or not protected
 * and so found in the next round.
 */
static int wp_vma(struct wp *w, const struct vma *vma)
{
	size_t i, from = w->new.n;
	int rc;

	runs_barrier(&w->new);
	if (!vma_protectable(vma))
		return read_pages(w, vma, RUN_DIRTY, RUN_UNTOLD);
	if (!ranges_cover(&w->ours, vma->start, vma->end))
		return new_vma(w, vma);
	rc = read_pages(w, vma, 0, 0);
	for (i = from; !rc && i < w->new.n; i++)
		if (w->new.v[i].state & RUN_DIRTY)
			rc = uffd_protect(w->uffd.fd, w->new.v[i].start, w->new.v[i].end, true);
	if (!rc)
		return ranges_add(&w->next_ours, vma->start, vma->end);
	if (rc != -ENOENT)
		return rc;
	w->new.n = from;
	return new_vma(w, vma);
}

static int wp_all(struct ooh_tracker *t)
{
	struct wp *w = t->priv;
	struct ranges used;
	size_t i;
	int rc;

	runs_clear(&w->new);
	ranges_clear(&w->next_ours);
	rc = pagemap_reopen(&w->pagemap, t->pid);
	if (rc)
		return rc;
	rc = vmas_read(t->pid, &w->vmas);
	for (i = 0; !rc && i < w->vmas.n; i++)
		rc = wp_vma(w, &w->vmas.v[i]);
	if (rc)
		return rc;
	used = w->ours;
	w->ours = w->next_ours;
	w->next_ours = used;
	return 0;
}

static int wp_attach(struct ooh_tracker *t)
{
	struct wp *w;
	int rc;

	if (t->pid == getpid())
		return backend_why(t->reason, sizeof(t->reason), -EDEADLK,
				   "a process cannot resolve its own write faults");
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->uffd.fd = w->pagemap.fd = w->stop.fd = -1;
	rc = pagemap_reopen(&w->pagemap, t->pid);
	if (rc >= 0)
		rc = own_take(&w->uffd, uffd_open(t, 0, UFFD_FEATURE_PAGEFAULT_FLAG_WP));
	if (rc >= 0)
		rc = vmas_read(t->pid, &w->vmas);
	if (!rc)
		rc = uffd_free_for_us(t, w->uffd.fd, &w->vmas);
	t->priv = w;
	if (!rc)
		rc = start_monitor(w);
	if (!rc)
		rc = wp_all(t);
	if (rc) {
		t->priv = NULL;
		wp_free(w);
		return rc;
	}
	runs_swap(&w->old, &w->new);
	return 0;
}

static int wp_collect(struct ooh_tracker *t)
{
	struct wp *w = t->priv;
	int rc = wp_all(t);

	return rc ? rc : runs_end_round(&w->old, &w->new, &t->written, &t->unknown);
}

static void wp_detach(struct ooh_tracker *t)
{
	wp_free(t->priv);
}

static bool wp_intact(const struct ooh_tracker *t)
{
	const struct wp *w = t->priv;

	return own_there(&w->uffd) && own_there(&w->pagemap) && own_there(&w->stop);
}

static int wp_stats(struct ooh_tracker *t, struct ooh_tracker_stats *stats)
{
	struct wp *w = t->priv;

	stats->records = __atomic_load_n(&w->faults, __ATOMIC_RELAXED);
	return 0;
}

const struct backend backend_uffd_wp = {
	.name = "uffd-wp",
	.how = "userfaultfd write protection: a thread of the tracker resolves each first write",
	.probe = wp_probe,
	.attach = wp_attach,
	.collect = wp_collect,
	.detach = wp_detach,
	.intact = wp_intact,
	.stats = wp_stats,
};
