// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel writes for the process: through its direct map or the process's addresses. */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hard.h"

#define SOURCE (16 * PAGE) /* random data in worker.source */

static off_t source_at(struct rng *r, size_t len)
{
	return below(r, SOURCE - len);
}

/* A short count is a result, too: part of the buffer was not there. */
static int result(ssize_t n)
{
	return n > 0 ? DONE : n ? -errno : VAIN;
}

static int op_read(struct worker *w, struct rng *r)
{
	size_t len = 1 + below(r, 2 * PAGE);

	return result(pread(w->source, room(w, r, len), len, source_at(r, len)));
}

static int op_readv(struct worker *w, struct rng *r)
{
	struct iovec v[4];
	size_t i;

	for (i = 0; i < 4; i++) {
		v[i].iov_len = 1 + below(r, PAGE);
		v[i].iov_base = room(w, r, v[i].iov_len);
	}
	return result(preadv(w->source, v, 4, source_at(r, 4 * PAGE)));
}

static int op_random(struct worker *w, struct rng *r)
{
	return result(getrandom(room(w, r, 64), 64, 0));
}

static int op_receive(struct worker *w, struct rng *r)
{
	char data[300];

	memset(data, draw(r), sizeof(data));
	if (send(w->socket[0], data, sizeof(data), 0) != sizeof(data))
		return -errno;
	return result(recv(w->socket[1], room(w, r, sizeof(data)), sizeof(data), MSG_WAITALL));
}

/* The kernel changes a word atomically, as user code would. */
static int op_futex(struct worker *w, struct rng *r)
{
	uint32_t unused = 0, *word = (uint32_t *)any_page(w, r) + below(r, PAGE / 4);

	if (syscall(SYS_futex, &unused, FUTEX_WAKE_OP_PRIVATE, 1, 1, word,
		    FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)) < 0)
		return -errno;
	return DONE;
}

/*
 * From the disk into the page without a copy in between. Blocks are of 512 bytes:
 * a buffer need not begin at a page.
 */
static int op_direct(struct worker *w, struct rng *r)
{
	/* not a mapping of the file that is read: the kernel would wait for itself */
	static const enum place to_places[] = {
		COMMON, ANON, MOVED, THP, MEMFD, SYSV, ALIKE, PINNED
	};
	const struct region *reg =
		&w->region[to_places[below(r, sizeof(to_places) / sizeof(*to_places))]];
	size_t pages = 1 + below(r, 4);
	char *to = reg->at + below(r, (reg->pages - pages) * PAGE / 512 + 1) * 512;
	off_t from = below(r, w->region[FILE_SHARED].pages - pages) * PAGE;
	uint64_t mark = draw(r);
	ssize_t n;

	if (w->direct < 0)
		return -EINVAL;
	if (pwrite(w->file, &mark, sizeof(mark), from) != sizeof(mark))
		return -errno;
	n = pread(w->direct, to, pages * PAGE, from);
	if (n < (ssize_t)sizeof(mark))
		return result(n);
	return memcmp(to, &mark, sizeof(mark)) ? VAIN : DONE;
}

/* Whatever is left in the pipe would be somebody else's data. */
static void drain(struct worker *w, size_t len)
{
	char junk[PAGE];
	ssize_t n;

	while (len) {
		n = read(w->pipe[0], junk, len < sizeof(junk) ? len : sizeof(junk));
		if (n <= 0)
			broken("pipe: %m");
		len -= n;
	}
}

/* A file's pages travel through the pipe by reference, and are copied out of it. */
static int op_splice(struct worker *w, struct rng *r)
{
	size_t len = 1 + below(r, 2 * PAGE);
	loff_t from = source_at(r, len);
	char *to = room(w, r, len);
	ssize_t n = splice(w->source, &from, w->pipe[1], NULL, len, 0), got;

	if (n <= 0)
		return result(n);
	got = read(w->pipe[0], to, n);
	if (got < n)
		drain(w, n - (got > 0 ? got : 0));
	return result(got);
}

/* From the pipe into a file that we map: the cache's page changes, or is replaced. */
static int op_splice_file(struct worker *w, struct rng *r)
{
	loff_t from = below(r, 15) * PAGE, to = below(r, w->region[MEMFD].pages) * PAGE;
	ssize_t n = splice(w->source, &from, w->pipe[1], NULL, PAGE, 0), got;

	if (n <= 0)
		return result(n);
	got = splice(w->pipe[0], NULL, w->memfd, &to, n, SPLICE_F_MOVE);
	if (got < n)
		drain(w, n - (got > 0 ? got : 0));
	return result(got);
}

/* Our own pages go into the pipe, and their content comes back elsewhere. */
static int op_vmsplice(struct worker *w, struct rng *r)
{
	size_t len = PAGE + below(r, PAGE);
	struct iovec v = { room(w, r, len), len };
	char *to = room(w, r, len);
	ssize_t n = vmsplice(w->pipe[1], &v, 1, 0), got;

	if (n <= 0)
		return result(n);
	/* while the pipe refers to the page */
	((char *)v.iov_base)[below(r, len)]++;
	got = read(w->pipe[0], to, n);
	if (got < n)
		drain(w, n - (got > 0 ? got : 0));
	return result(got);
}

/* The other end: out of the pipe into our pages. */
static int op_vmsplice_in(struct worker *w, struct rng *r)
{
	size_t len = 1 + below(r, PAGE);
	struct iovec v = { room(w, r, len), len };
	loff_t from = source_at(r, len);
	ssize_t n = splice(w->source, &from, w->pipe[1], NULL, len, 0), got;

	if (n <= 0)
		return result(n);
	got = vmsplice(w->pipe[0], &v, 1, 0);
	if (got < n)
		drain(w, n - (got > 0 ? got : 0));
	return result(got);
}

/*
 * A registered buffer: its pages are pinned once, and the kernel writes them later,
 * without a look at our page table.
 */
void uring_create(struct worker *w)
{
	struct uring *u = &w->uring;
	struct io_uring_params p = { 0 };
	struct iovec v = { w->region[PINNED].at, w->region[PINNED].pages * PAGE };
	size_t len;
	char *ring;

	u->fd = syscall(SYS_io_uring_setup, 4, &p);
	if (u->fd < 0)
		return;
	len = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQ_RING);
	u->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		       MAP_SHARED, u->fd, IORING_OFF_SQES);
	if (ring == MAP_FAILED || u->sqes == MAP_FAILED || !(p.features & IORING_FEAT_SINGLE_MMAP))
		broken("io_uring: %m");
	u->sq_tail = (unsigned int *)(ring + p.sq_off.tail);
	u->sq_mask = (unsigned int *)(ring + p.sq_off.ring_mask);
	u->sq_array = (unsigned int *)(ring + p.sq_off.array);
	u->cq_head = (unsigned int *)(ring + p.cq_off.head);
	u->cq_tail = (unsigned int *)(ring + p.cq_off.tail);
	u->cq_mask = (unsigned int *)(ring + p.cq_off.ring_mask);
	u->cqes = (struct io_uring_cqe *)(ring + p.cq_off.cqes);
	if (syscall(SYS_io_uring_register, u->fd, IORING_REGISTER_BUFFERS, &v, 1)) {
		close(u->fd);
		u->fd = -1;
	}
}

/*
 * What is read is in the socket already, and RWF_NOWAIT keeps the kernel from leaving it
 * to a thread of its own, which would go on while we are stopped.
 */
static int op_uring(struct worker *w, struct rng *r)
{
	struct uring *u = &w->uring;
	size_t len = 8 + below(r, PAGE - 8);
	char data[PAGE],
		*to = w->region[PINNED].at + below(r, w->region[PINNED].pages * PAGE - len);
	unsigned int tail;
	int res;

	if (u->fd < 0)
		return -ENOSYS;
	if (pread(w->source, data, len, source_at(r, len)) != (ssize_t)len ||
	    send(w->socket[0], data, len, 0) != (ssize_t)len)
		return -errno;
	tail = *u->sq_tail;
	u->sqes[tail & *u->sq_mask] = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
							     .fd = w->socket[1],
							     .addr = (uintptr_t)to,
							     .len = len,
							     .rw_flags = RWF_NOWAIT };
	u->sq_array[tail & *u->sq_mask] = tail & *u->sq_mask;
	__atomic_store_n(u->sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, u->fd, 1, 0, 0, NULL, 0) != 1 ||
	    __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE) == *u->cq_head)
		broken("io_uring: not done at once: %m");
	res = u->cqes[*u->cq_head & *u->cq_mask].res;
	__atomic_store_n(u->cq_head, *u->cq_head + 1, __ATOMIC_RELEASE);
	if (res < 0)
		recv(w->socket[1], data, len, MSG_WAITALL);
	return res < 0 ? res : res < (int)len || memcmp(to, data, len) ? VAIN : DONE;
}

const struct kind kernel_kinds[] = {
	{ "read", 4000, op_read },	     { "readv", 1500, op_readv },
	{ "random", 300, op_random },	     { "receive", 500, op_receive },
	{ "futex", 500, op_futex },	     { "o-direct", 400, op_direct },
	{ "splice", 500, op_splice },	     { "splice-file", 300, op_splice_file },
	{ "vmsplice", 500, op_vmsplice },    { "vmsplice-in", 300, op_vmsplice_in },
	{ "io-uring-fixed", 600, op_uring }, { 0 },
};
