// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files that show their changes in other ways: one that nobody has open for writing except for
 * the moment of each write, and one whose server changes it, as on a network.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "../guest/fuse.h"
#include "hard.h"

static struct fuse_server *server;
static int server_error;
/* it is told one thing at a time */
static pthread_mutex_t server_lock = PTHREAD_MUTEX_INITIALIZER;

/* In a mount namespace of our own: it goes with us. */
void server_start(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		server_error = errno;
		return;
	}
	server = fuse_mount();
	server_error = errno;
}

void server_stop(void)
{
	if (server)
		fuse_unmount(server);
}

/* It has a name only while it is made, as it has to be opened twice. */
void quiet_create(struct worker *w)
{
	char path[256], page[PAGE];
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/quiet-%u", opt.coarse ? opt.coarse : opt.dir, w->number);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (i = 0; i < w->region[QUIET].pages; i++) {
		memset(page, i + 1, sizeof(page));
		if (fd < 0 || write(fd, page, sizeof(page)) != sizeof(page))
			broken("%s: %m", path);
	}
	if (fsync(fd) || close(fd))
		broken("%s: %m", path);
	w->quiet = open(path, O_RDONLY | O_CLOEXEC);
	if (w->quiet < 0)
		broken("%s: %m", path);
	unlink(path);
}

void quiet_map(struct worker *w)
{
	struct region *quiet = &w->region[QUIET], *remote = &w->region[REMOTE];
	int fd;

	quiet->at = mmap(NULL, quiet->pages * PAGE, PROT_READ, MAP_SHARED, w->quiet, 0);
	if (quiet->at == MAP_FAILED)
		broken("the quiet file: %m");
	w->remote = -1;
	if (!server)
		return;
	fd = open(server->file, O_RDONLY | O_CLOEXEC);
	remote->at = mmap(NULL, remote->pages * PAGE, PROT_READ, MAP_SHARED, fd,
			  w->number * remote->pages * PAGE);
	if (fd < 0 || remote->at == MAP_FAILED)
		broken("%s: %m", server->file);
	close(fd);
	server->direct = 1;
	w->remote = open(server->file, O_RDONLY | O_CLOEXEC);
	server->direct = 0;
}

static int wrote_quietly(struct worker *w, struct rng *r, enum other how)
{
	struct region *reg = &w->region[QUIET];
	size_t page = below(r, reg->pages);
	volatile uint64_t *at = (uint64_t *)(reg->at + page * PAGE);
	uint64_t value;
	int rc;

	if (below(r, 2))
		madvise(reg->at, reg->pages * PAGE, MADV_DONTNEED);
	rc = others_write(w, r, how, page, &value);
	/* often nobody looks, and there is no entry */
	if (rc || below(r, 2))
		return rc;
	return *at == value ? DONE : VAIN;
}

static int op_quiet(struct worker *w, struct rng *r)
{
	return wrote_quietly(w, r, below(r, 2) ? OTHER_QUIET : OTHER_QUIET_COLD);
}

static int op_back_in_time(struct worker *w, struct rng *r)
{
	return opt.machine ? wrote_quietly(w, r, OTHER_QUIET_BACK_IN_TIME) : -EPERM;
}

/* Puts the quiet file's pages over memory that reads as zeros, by mmap or by moving a mapping. */
static int op_over_zeros(struct worker *w, struct rng *r)
{
	size_t first = below(r, w->region[QUIET].pages - 8), len, i;
	struct region p;
	char *from;
	int rc;

	part(w, ANON, r, 8, &p);
	len = p.pages * PAGE;
	if (madvise(p.at, len, MADV_DONTNEED))
		return -errno;
	if (below(r, 2)) {
		if (mmap(p.at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, w->quiet,
			 first * PAGE) == MAP_FAILED)
			return -errno;
	} else {
		pthread_mutex_lock(&address_space);
		from = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, w->quiet, first * PAGE);
		if (from != MAP_FAILED)
			from = mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, p.at);
		pthread_mutex_unlock(&address_space);
		if (from == MAP_FAILED)
			return -errno;
	}
	/* until they are touched, no log and no page table knows of them: ooh(7), LIMITS */
	rc = DONE;
	for (i = 0; i < p.pages; i++)
		if (!*(volatile char *)(p.at + i * PAGE))
			rc = VAIN;
	return rc;
}

struct change {
	size_t page;
	char value;
};

static int change_remotely(struct worker *w, void *arg)
{
	const struct change *c = arg;

	(void)w;
	return fuse_change(server, c->page, c->value) ? DONE : VAIN;
}

static int op_remote(struct worker *w, struct rng *r)
{
	struct region *reg = &w->region[REMOTE];
	size_t page = below(r, reg->pages);
	struct change c = { w->number * reg->pages + page, draw(r) };
	int rc;

	if (!server)
		return -server_error;
	if (below(r, 2))
		(void)*(volatile char *)(reg->at + page * PAGE);
	pthread_mutex_lock(&server_lock);
	rc = through_gate(w, change_remotely, &c);
	pthread_mutex_unlock(&server_lock);
	if (rc || below(r, 2))
		return rc;
	return *(volatile char *)(reg->at + page * PAGE) == c.value ? DONE : VAIN;
}

/* A read that bypasses the page cache: the server's answer goes to us, and may take its time. */
static int op_remote_read(struct worker *w, struct rng *r)
{
	size_t page = w->number * w->region[REMOTE].pages;
	char *to = page_in(w, ANON, r);

	if (w->remote < 0)
		return -server_error;
	pthread_mutex_lock(&server_lock);
	server->delay_ms = below(r, 4) ? 0 : below(r, 30);
	pthread_mutex_unlock(&server_lock);
	if (pread(w->remote, to, PAGE, page * PAGE) != (ssize_t)PAGE)
		return -errno;
	return DONE;
}

const struct kind file_kinds[] = {
	{ "quiet-file", 100, op_quiet },       { "back-in-time", 0, op_back_in_time },
	{ "over-zeros", 100, op_over_zeros },  { "remote", 40, op_remote },
	{ "remote-read", 40, op_remote_read }, { 0 },
};
