/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file system with one file, whose content comes from a server, as on a network: a process
 * answers the kernel (FUSE, the protocol of linux/fuse.h, without a library) from memory that
 * it shares with the test.
 */
#ifndef FUSE_H
#define FUSE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/fuse.h>

#define FUSE_PAGE  4096UL
#define FUSE_PAGES 64UL

struct fuse_server {
	char data[FUSE_PAGES][FUSE_PAGE]; /* the file */
	volatile int direct;		  /* reads and writes bypass the page cache */
	volatile int delay_ms;		  /* before a read is answered */
	volatile int silent_on;		  /* gets no answer as long as it is this opcode */
	volatile int silent;		  /* how often that came up */
	volatile int drop;		  /* page + 1 that the kernel's cache is to drop */
	volatile int dropped;		  /* how often it was told to */
	int fd;
	pid_t pid;
	char dir[32], file[40];
};

static inline void fuse_answer(const struct fuse_server *s, uint64_t unique, int error,
			       const void *data, size_t len)
{
	struct fuse_out_header h = { .len = sizeof(h) + len, .error = error, .unique = unique };
	struct iovec v[2] = { { &h, sizeof(h) }, { (void *)data, len } };

	/* whoever asked may have been killed meanwhile */
	if (writev(s->fd, v, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static inline struct fuse_attr fuse_attr_of(uint64_t node)
{
	bool file = node != FUSE_ROOT_ID;

	return (struct fuse_attr){ .ino = node,
				   .mode = file ? S_IFREG | 0666 : S_IFDIR | 0777,
				   .nlink = 1,
				   .size = file ? FUSE_PAGES * FUSE_PAGE : 0,
				   .blksize = FUSE_PAGE };
}

static inline void fuse_serve_one(struct fuse_server *s, struct fuse_in_header *h)
{
	enum { FILE_NODE = 2, FOR_EVER = 100000 };
	void *arg = h + 1;

	if (s->silent_on == (int)h->opcode)
		s->silent++;
	while (s->silent_on == (int)h->opcode)
		usleep(1000);
	switch (h->opcode) {
	case FUSE_INIT: {
		struct fuse_init_out o = { .major = FUSE_KERNEL_VERSION,
					   .minor = 31,
					   .max_write = 32 * FUSE_PAGE,
					   .time_gran = 1 };

		fuse_answer(s, h->unique, 0, &o, sizeof(o));
		break;
	}
	case FUSE_LOOKUP: {
		struct fuse_entry_out o = { .nodeid = FILE_NODE,
					    .entry_valid = FOR_EVER,
					    .attr_valid = FOR_EVER,
					    .attr = fuse_attr_of(FILE_NODE) };

		if (strcmp(arg, "file"))
			fuse_answer(s, h->unique, -ENOENT, NULL, 0);
		else
			fuse_answer(s, h->unique, 0, &o, sizeof(o));
		break;
	}
	case FUSE_GETATTR:
	case FUSE_SETATTR: {
		struct fuse_attr_out o = { .attr_valid = FOR_EVER,
					   .attr = fuse_attr_of(h->nodeid) };

		fuse_answer(s, h->unique, 0, &o, sizeof(o));
		break;
	}
	case FUSE_OPEN: {
		struct fuse_open_out o = { .open_flags =
						   s->direct ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE };

		fuse_answer(s, h->unique, 0, &o, sizeof(o));
		break;
	}
	case FUSE_READ: {
		struct fuse_read_in *r = arg;
		size_t at = r->offset, end = FUSE_PAGES * FUSE_PAGE;
		size_t len = at >= end ? 0 : r->size < end - at ? r->size : end - at;

		usleep(s->delay_ms * 1000);
		fuse_answer(s, h->unique, 0, s->data[0] + at, len);
		break;
	}
	case FUSE_WRITE: {
		struct fuse_write_in *w = arg;
		struct fuse_write_out o = { .size = w->size };

		if (w->offset + w->size <= FUSE_PAGES * FUSE_PAGE)
			memcpy(s->data[0] + w->offset, w + 1, w->size);
		fuse_answer(s, h->unique, 0, &o, sizeof(o));
		break;
	}
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
		fuse_answer(s, h->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		fuse_answer(s, h->unique, -ENOSYS, NULL, 0);
	}
}

static inline void fuse_serve(struct fuse_server *s)
{
	static char request[64 * FUSE_PAGE] __attribute__((aligned(8)));

	for (;;) {
		struct pollfd p = { s->fd, POLLIN, 0 };

		if (s->drop) {
			struct fuse_notify_inval_inode_out o = { .ino = 2,
								 .off = (s->drop - 1) * FUSE_PAGE,
								 .len = FUSE_PAGE };

			s->drop = 0;
			fuse_answer(s, 0, FUSE_NOTIFY_INVAL_INODE, &o, sizeof(o));
			s->dropped++;
		}
		if (poll(&p, 1, 1) <= 0)
			continue;
		if (read(s->fd, request, sizeof(request)) > 0)
			fuse_serve_one(s, (struct fuse_in_header *)request);
		else if (errno != EAGAIN && errno != EINTR && errno != ENOENT)
			_exit(0); /* unmounted */
	}
}

/* NULL: not possible here, errno says why. Each page is full of ones. */
static inline struct fuse_server *fuse_mount(void)
{
	struct fuse_server *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char options[100];
	pid_t pid;

	if (s == MAP_FAILED)
		return NULL;
	memset(s->data, 1, sizeof(s->data));
	strcpy(s->dir, "/tmp/fuse.XXXXXX");
	if (!mkdtemp(s->dir))
		return NULL;
	snprintf(s->file, sizeof(s->file), "%s/file", s->dir);
	s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 s->fd);
	if (s->fd < 0 || chmod(s->dir, 0755) ||
	    mount("fuse", s->dir, "fuse", MS_NOSUID | MS_NODEV, options)) {
		int why = errno;

		rmdir(s->dir);
		errno = why;
		return NULL;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fuse_serve(s);
	}
	close(s->fd);
	/* by the parent alone, as both have this memory */
	s->pid = pid;
	return s;
}

/* Whoever still uses it gets errors from now on. */
static inline void fuse_unmount(struct fuse_server *s)
{
	s->silent_on = 0;
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	umount2(s->dir, MNT_DETACH);
	rmdir(s->dir);
}

/* As if another machine had written the page; the kernel is told to forget what it has. */
static inline bool fuse_change(struct fuse_server *s, unsigned long page, char value)
{
	int before = s->dropped;

	memset(s->data[page], value, FUSE_PAGE);
	s->drop = page + 1;
	for (int i = 0; i < 5000 && s->dropped == before; i++)
		usleep(1000);
	return s->dropped != before;
}

#endif /* FUSE_H */
