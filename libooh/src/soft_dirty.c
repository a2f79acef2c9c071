// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Soft-dirty bits: write 4 to /proc/PID/clear_refs, later read bit 55 of
 * /proc/PID/pagemap. Reading and clearing are two steps, and what is written
 * between them is lost; so the process is stopped for both. The bits belong to
 * the process: two trackers of this kind spoil each other's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "backend.h"
#include "pagemap.h"
#include "proc.h"
#include "stop.h"
#include "vmas.h"

struct soft {
	struct vmas vmas;
	struct runs old, new;
};

/*
 * A page written for the first time is soft-dirty, unless the kernel has no such
 * bit. Nothing is cleared to find that out: somebody may be tracking us.
 */
static int soft_probe(char *why, size_t size)
{
	uint64_t word = 0;
	int fd = pagemap_open(getpid()), rc;
	char *page;

	if (fd < 0)
		return backend_why(why, size, fd, "/proc/self/pagemap: %s", strerror(-fd));
	page = mmap(NULL, OOH_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	*(volatile char *)page = 1;
	rc = pread(fd, &word, sizeof(word), (uintptr_t)page / OOH_PAGE * sizeof(word));
	munmap(page, OOH_PAGE);
	close(fd);
	if (rc != sizeof(word) || !(word & PM_SOFT_DIRTY))
		return backend_why(why, size, -EOPNOTSUPP,
				   "the kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)");
	return 0;
}

static int clear_bits(pid_t pid)
{
	int fd = proc_open(pid, "clear_refs", O_WRONLY), rc = 0;

	if (fd < 0)
		return fd;
	if (write(fd, "4", 1) != 1)
		rc = -errno;
	close(fd);
	return rc;
}

/* With the process stopped */
static int read_and_clear(void *arg)
{
	struct ooh_tracker *t = arg;
	struct soft *s = t->priv;
	int fd, rc;
	size_t i;

	runs_clear(&s->new);
	rc = vmas_read(t->pid, &s->vmas);
	if (rc)
		return rc;
	fd = pagemap_open(t->pid);
	if (fd < 0)
		return fd;
	for (i = 0; !rc && i < s->vmas.n; i++)
		rc = pagemap_read(fd, s->vmas.v[i].start, s->vmas.v[i].end, DIRTY_BY_SOFT_DIRTY, 0,
				  s->vmas.v[i].shared ? RUN_UNTOLD : 0, &s->new);
	close(fd);
	return rc ? rc : clear_bits(t->pid);
}

static int soft_round(struct ooh_tracker *t)
{
	bool stopped;
	int rc;

	if (t->flags & OOH_STOPPED)
		return read_and_clear(t);
	rc = stop_and_do(t->pid, read_and_clear, t, &stopped);
	if (rc && !stopped)
		return backend_why(t->reason, sizeof(t->reason), rc, "stopping process %d: %s",
				   t->pid, strerrordesc_np(-rc));
	return rc;
}

static void soft_detach(struct ooh_tracker *t)
{
	struct soft *s = t->priv;

	vmas_free(&s->vmas);
	runs_free(&s->old);
	runs_free(&s->new);
	free(s);
}

static int soft_attach(struct ooh_tracker *t)
{
	struct soft *s;
	int rc;

	if (t->pid == getpid())
		return backend_why(t->reason, sizeof(t->reason), -EDEADLK,
				   "a process cannot stop itself to read its bits");
	t->priv = s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	rc = soft_round(t);
	if (rc) {
		soft_detach(t);
		t->priv = NULL;
		return rc;
	}
	runs_swap(&s->old, &s->new);
	return 0;
}

static int soft_collect(struct ooh_tracker *t)
{
	struct soft *s = t->priv;
	int rc = soft_round(t);

	return rc ? rc : runs_end_round(&s->old, &s->new, &t->written, &t->unknown);
}

const struct backend backend_soft_dirty = {
	.name = "soft-dirty",
	.how = "the kernel's soft-dirty bits; stops the process for each collect",
	.probe = soft_probe,
	.attach = soft_attach,
	.collect = soft_collect,
	.detach = soft_detach,
};
