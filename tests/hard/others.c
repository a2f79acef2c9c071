// SPDX-License-Identifier: GPL-2.0-only
/*
 * Other processes that write to our memory. Each worker has a helper, which has mappings of
 * its own of the same files and shared memory, and acts on orders.
 *
 * ooh verify stops this process, collects, and then reads the memory. If a helper wrote
 * private memory in between, the oracle would find a change that nobody could report yet. So
 * orders go through a gate: a child that shares our memory, made as vfork(2) does, waits for
 * the helper, and our thread waits for that child where no stop reaches it. So the process
 * cannot be stopped while a helper works; a stop that is asked for meanwhile comes when the
 * helper is done. (The oracle knows that others write to shared memory, and judges it in the
 * next round. There, helpers also work without a gate.)
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hard.h"

#define STACK		 (64 * 1024)
#define PLACES_PER_ORDER 8

struct order {
	int (*fn)(const struct order *o);
	pid_t pid, gate; /* whose memory it is: the process, the child in the gate */
	uint64_t value;
	size_t n, len;
	char *at[PLACES_PER_ORDER];    /* in that process */
	size_t page[PLACES_PER_ORDER]; /* of shared memory or a file */
};

/* The helper's own mappings. */
static struct {
	struct region memfd, sysv, file;
	int fd, file_fd, direct_fd, quiet_fd, marked_fd;
} mine;

/* ---- in the helper */

static int do_vm_write(const struct order *o)
{
	uint64_t data[PAGE / 8];
	struct iovec from[PLACES_PER_ORDER], to[PLACES_PER_ORDER];
	size_t i;

	for (i = 0; i < PAGE / 8; i++)
		data[i] = o->value + i;
	for (i = 0; i < o->n; i++) {
		from[i] = (struct iovec){ data, o->len };
		to[i] = (struct iovec){ o->at[i], o->len };
	}
	if (process_vm_writev(o->pid, from, o->n, to, o->n, 0) < (ssize_t)o->len)
		return -errno;
	return DONE;
}

static int do_proc_mem(const struct order *o)
{
	char path[40];
	int fd, rc = DONE;
	size_t i;

	snprintf(path, sizeof(path), "/proc/%d/mem", o->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (i = 0; i < o->n && !rc; i++)
		if (pwrite(fd, &o->value, sizeof(o->value), (off_t)o->at[i]) != sizeof(o->value))
			rc = -errno;
	close(fd);
	return rc;
}

/* The child in the gate has the memory, and nobody traces it. */
static int do_poke(const struct order *o)
{
	int rc = DONE;
	size_t i;

	if (ptrace(PTRACE_SEIZE, o->gate, 0, 0))
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, o->gate, 0, 0) || waitpid(o->gate, NULL, __WALL) != o->gate)
		rc = -errno;
	for (i = 0; i < o->n && !rc; i++)
		if (ptrace(PTRACE_POKEDATA, o->gate, o->at[i], o->value))
			rc = -errno;
	ptrace(PTRACE_DETACH, o->gate, 0, 0);
	return rc;
}

static int store_in(const struct region *r, const struct order *o)
{
	size_t i;

	for (i = 0; i < o->n; i++)
		__atomic_store_n((uint64_t *)(r->at + o->page[i] % r->pages * PAGE), o->value,
				 __ATOMIC_RELAXED);
	return DONE;
}

static int do_memfd(const struct order *o)
{
	return store_in(&mine.memfd, o);
}

static int do_sysv(const struct order *o)
{
	return store_in(&mine.sysv, o);
}

static int do_file(const struct order *o)
{
	return store_in(&mine.file, o);
}

static int write_fd(int fd, size_t pages, const struct order *o)
{
	size_t i;

	for (i = 0; i < o->n; i++)
		if (pwrite(fd, &o->value, sizeof(o->value), o->page[i] % pages * PAGE) !=
		    sizeof(o->value))
			return -errno;
	return DONE;
}

static int do_write_memfd(const struct order *o)
{
	return write_fd(mine.fd, mine.memfd.pages, o);
}

static int do_write_file(const struct order *o)
{
	return write_fd(mine.file_fd, mine.file.pages, o);
}

/* Bypasses the page cache, whose pages are thrown away. */
static int do_direct(const struct order *o)
{
	static uint64_t data[PAGE / 8] __attribute__((aligned(4096)));
	size_t i;

	for (i = 0; i < PAGE / 8; i++)
		data[i] = o->value;
	if (pwrite(mine.direct_fd, data, sizeof(data), o->page[0] % mine.file.pages * PAGE) < 0)
		return -errno;
	return DONE;
}

static int do_punch_memfd(const struct order *o)
{
	return fallocate(mine.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 o->page[0] % mine.memfd.pages * PAGE, 2 * PAGE)
		       ? -errno
		       : DONE;
}

/* And given back at once: a store that finds no room on the disk is a SIGBUS. */
static int do_punch_file(const struct order *o)
{
	off_t at = o->page[0] % mine.file.pages * PAGE;

	if (fallocate(mine.file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, PAGE))
		return -errno;
	return pwrite(mine.file_fd, &o->value, sizeof(o->value), at) == sizeof(o->value) ? DONE
											 : -errno;
}

/* Copies on write go, too. */
static int do_truncate(const struct order *o)
{
	size_t pages = mine.memfd.pages;

	if (ftruncate(mine.fd, o->page[0] % pages * PAGE) || ftruncate(mine.fd, pages * PAGE))
		return -errno;
	return write_fd(mine.fd, pages, o);
}

/* Somebody else makes our pages go to swap. */
static int do_pageout(const struct order *o)
{
	struct iovec v[PLACES_PER_ORDER];
	int pidfd = syscall(SYS_pidfd_open, o->pid, 0), rc = DONE;
	size_t i;

	if (pidfd < 0)
		return -errno;
	for (i = 0; i < o->n; i++)
		v[i] = (struct iovec){ o->at[i], PAGE };
	if (syscall(SYS_process_madvise, pidfd, v, o->n, MADV_PAGEOUT, 0) < 0)
		rc = -errno;
	close(pidfd);
	return rc;
}

/* Opened for writing and closed again, all in one round. */
static int write_quietly(const struct order *o, bool cold)
{
	char path[40];
	int fd, rc = DONE;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", mine.quiet_fd);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, &o->value, sizeof(o->value), o->page[0] * PAGE) != sizeof(o->value))
		rc = -errno;
	/* out of the page cache again */
	if (cold && !rc && (fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)))
		rc = -errno;
	close(fd);
	return rc;
}

static int do_quiet(const struct order *o)
{
	return write_quietly(o, false);
}

static int do_quiet_cold(const struct order *o)
{
	return write_quietly(o, true);
}

static int step_clock(int seconds)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += seconds;
	return clock_settime(CLOCK_REALTIME, &t) ? -errno : DONE;
}

/* The file's time stamps are older than the round. */
static int do_back_in_time(const struct order *o)
{
	int rc = step_clock(-1000);

	if (rc)
		return rc;
	rc = write_quietly(o, false);
	step_clock(1000);
	return rc;
}

static int do_marked(const struct order *o)
{
	return pwrite(mine.marked_fd, &o->value, sizeof(o->value), o->page[0] * PAGE) ==
			       sizeof(o->value)
		       ? DONE
		       : -errno;
}

static void serve(struct worker *w, int orders, int answers)
{
	struct order o;
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		_exit(1);
	mine.memfd = (struct region){ map(w->region[MEMFD].pages * PAGE, MAP_SHARED, w->memfd),
				      w->region[MEMFD].pages };
	mine.file = (struct region){ map(w->region[FILE_SHARED].pages * PAGE, MAP_SHARED, w->file),
				     w->region[FILE_SHARED].pages };
	mine.sysv = (struct region){ shmat(w->sysv, NULL, 0), w->region[SYSV].pages };
	mine.fd = w->memfd;
	mine.file_fd = w->file;
	mine.direct_fd = w->direct;
	mine.quiet_fd = w->quiet;
	mine.marked_fd = w->marked;
	while (read(orders, &o, sizeof(o)) == sizeof(o)) {
		rc = o.fn(&o);
		if (write(answers, &rc, sizeof(rc)) != sizeof(rc))
			break;
	}
	_exit(0);
}

/* ---- in the process */

void helper_start(struct worker *w)
{
	int to[2], from[2];

	w->gate_stack = map(STACK, MAP_PRIVATE, -1);
	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		broken("pipe: %m");
	w->helper.pid = fork();
	if (w->helper.pid < 0)
		broken("fork: %m");
	if (!w->helper.pid)
		serve(w, to[0], from[1]);
	close(to[0]);
	close(from[1]);
	w->helper.to = to[1];
	w->helper.from = from[0];
}

void helper_stop(struct worker *w)
{
	if (w->sibling > 0) {
		kill(w->sibling, SIGKILL);
		waitpid(w->sibling, NULL, 0);
	}
	kill(w->helper.pid, SIGKILL);
	waitpid(w->helper.pid, NULL, 0);
}

struct passage {
	struct worker *w;
	int (*fn)(struct worker *w, void *arg);
	void *arg;
	int rc;
};

static int in_gate(void *arg)
{
	struct passage *p = arg;

	p->rc = p->fn(p->w, p->arg);
	/* not exit(3): it is not our memory */
	syscall(SYS_exit, 0);
	return 0;
}

int through_gate(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg)
{
	struct passage p = { w, fn, arg, VAIN };
	pid_t pid = clone(in_gate, w->gate_stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &p);

	if (pid < 0)
		return -errno;
	if (waitpid(pid, NULL, __WALL) != pid)
		return -errno;
	return p.rc;
}

static void collect_answer(struct worker *w, int *rc)
{
	ssize_t n;

	do
		n = read(w->helper.from, rc, sizeof(*rc));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(*rc))
		broken("a helper is gone");
	w->helper.busy = false;
}

static void give_order(struct worker *w, const struct order *o)
{
	int late;

	if (w->helper.busy)
		collect_answer(w, &late);
	if (write(w->helper.to, o, sizeof(*o)) != sizeof(*o))
		broken("a helper is gone: %m");
	w->helper.busy = true;
}

static int order_in_gate(struct worker *w, void *arg)
{
	struct order *o = arg;
	int rc;

	o->gate = syscall(SYS_getpid);
	give_order(w, o);
	collect_answer(w, &rc);
	return rc;
}

static void new_order(struct order *o, struct worker *w, struct rng *r)
{
	size_t i;

	*o = (struct order){ .pid = getpid(),
			     .value = draw(r) | 1,
			     .n = 1 + below(r, PLACES_PER_ORDER),
			     .len = 8 + below(r, PAGE - 8) };
	for (i = 0; i < o->n; i++) {
		o->at[i] = any_page(w, r);
		o->page[i] = draw(r);
	}
}

static int ordered(struct worker *w, struct rng *r, int (*fn)(const struct order *o))
{
	struct order o;

	new_order(&o, w, r);
	o.fn = fn;
	return through_gate(w, order_in_gate, &o);
}

/* Is the value there that the helper wrote? In shared memory of these two only. */
static int seen(struct worker *w, enum place place, struct rng *r, int (*fn)(const struct order *o))
{
	const struct region *reg = &w->region[place];
	struct order o;
	int rc;

	new_order(&o, w, r);
	o.fn = fn;
	rc = through_gate(w, order_in_gate, &o);
	if (rc)
		return rc;
	return *(volatile uint64_t *)(reg->at + o.page[0] % reg->pages * PAGE) == o.value ? DONE
											  : VAIN;
}

/* Is the value there, in private memory? Other workers write COMMON meanwhile. */
static int written(struct worker *w, struct rng *r, int (*fn)(const struct order *o))
{
	struct order o;
	int rc;

	new_order(&o, w, r);
	o.fn = fn;
	o.at[0] = page_in(w, ANON + below(r, THP - ANON + 1), r);
	rc = through_gate(w, order_in_gate, &o);
	if (rc)
		return rc;
	return *(volatile uint64_t *)o.at[0] == o.value ? DONE : VAIN;
}

int others_write(struct worker *w, struct rng *r, enum other what, size_t page, uint64_t *value)
{
	static int (*const fns[])(const struct order *o) = {
		[OTHER_QUIET] = do_quiet,
		[OTHER_QUIET_COLD] = do_quiet_cold,
		[OTHER_QUIET_BACK_IN_TIME] = do_back_in_time,
		[OTHER_MARKED] = do_marked,
	};
	struct order o;

	new_order(&o, w, r);
	o.fn = fns[what];
	o.page[0] = page;
	*value = o.value;
	return through_gate(w, order_in_gate, &o);
}

static int op_vm_write(struct worker *w, struct rng *r)
{
	return written(w, r, do_vm_write);
}

static int op_proc_mem(struct worker *w, struct rng *r)
{
	return written(w, r, do_proc_mem);
}

static int op_poke(struct worker *w, struct rng *r)
{
	return written(w, r, do_poke);
}

static int op_memfd(struct worker *w, struct rng *r)
{
	return seen(w, MEMFD, r, do_memfd);
}

static int op_sysv(struct worker *w, struct rng *r)
{
	return seen(w, SYSV, r, do_sysv);
}

static int op_file(struct worker *w, struct rng *r)
{
	return seen(w, FILE_SHARED, r, do_file);
}

static int op_write_memfd(struct worker *w, struct rng *r)
{
	return seen(w, MEMFD, r, do_write_memfd);
}

static int op_write_file(struct worker *w, struct rng *r)
{
	return seen(w, FILE_SHARED, r, do_write_file);
}

static int op_direct_file(struct worker *w, struct rng *r)
{
	return w->direct < 0 ? -EINVAL : seen(w, FILE_SHARED, r, do_direct);
}

static int op_punch_file(struct worker *w, struct rng *r)
{
	return seen(w, FILE_SHARED, r, do_punch_file);
}

static int op_punch_memfd(struct worker *w, struct rng *r)
{
	return ordered(w, r, do_punch_memfd);
}

static int op_truncate(struct worker *w, struct rng *r)
{
	return seen(w, MEMFD, r, do_truncate);
}

static int op_pageout(struct worker *w, struct rng *r)
{
	struct order o;
	int rc;

	new_order(&o, w, r);
	o.fn = do_pageout;
	o.at[0] = page_in(w, ANON, r);
	store(w, o.at[0], r);
	rc = through_gate(w, order_in_gate, &o);
	if (rc)
		return rc;
	return is_present(w, o.at[0]) ? VAIN : DONE;
}

/* At any time: in a round, between two, or while we are stopped. */
static int op_late(struct worker *w, struct rng *r)
{
	static int (*const fns[])(const struct order *o) = { do_memfd, do_sysv, do_file,
							     do_write_memfd, do_write_file };
	struct order o;

	new_order(&o, w, r);
	o.fn = fns[below(r, sizeof(fns) / sizeof(*fns))];
	give_order(w, &o);
	return DONE;
}

const struct kind other_kinds[] = {
	{ "vm-writev", 150, op_vm_write },
	{ "proc-mem", 100, op_proc_mem },
	{ "ptrace-poke", 100, op_poke },
	{ "others-memfd", 150, op_memfd },
	{ "others-sysv", 150, op_sysv },
	{ "others-file", 100, op_file },
	{ "others-write-memfd", 100, op_write_memfd },
	{ "others-write-file", 100, op_write_file },
	{ "others-o-direct", 80, op_direct_file },
	{ "punch-memfd", 60, op_punch_memfd },
	{ "punch-file", 40, op_punch_file },
	{ "truncate", 40, op_truncate },
	{ "others-pageout", 60, op_pageout },
	{ "others-late", 600, op_late },
	{ 0 },
};
