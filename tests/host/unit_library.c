// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: unit_library CASE BACKEND: what the library does to processes that do not
 * concern it, or that are in an unusual state. Each case is one claim.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>
#include <ooh.h>

#define PAGE  4096UL
#define PAGES 64
#define AREA  ((volatile char *)0x200000000000)

#define CHECK(x)                                                                 \
	do {                                                                     \
		if (!(x)) {                                                      \
			printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #x, why); \
			exit(1);                                                 \
		}                                                                \
	} while (0)

static char why[OOH_REASON_LEN];
static const char *backend;
static volatile unsigned long *shared; /* with the tracked process: what it has done so far */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void map_area(void)
{
	void *p = mmap((void *)AREA, PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	CHECK(p == (void *)AREA);
	memset(p, 1, PAGES * PAGE);
}

static void write_on(void)
{
	for (unsigned long i = 0;; i++) {
		AREA[i % PAGES * PAGE]++;
		shared[0]++;
		usleep(1000);
	}
}

static pid_t start(void (*f)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	f();
	_exit(42);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static bool told(struct ooh_tracker *t, const volatile char *p)
{
	const struct ooh_range *v;
	ssize_t i, n = ooh_collect(t, 0, &v, NULL);

	snprintf(why, sizeof(why), "%s", ooh_reason(t));
	CHECK(n >= 0);
	for (i = 0; i < n; i++)
		if (v[i].start <= (unsigned long)p && (unsigned long)p < v[i].end)
			return true;
	return false;
}

/* A writer goes through all pages again and again; on a busy machine that takes its time. */
static bool told_in_time(struct ooh_tracker *t, const volatile char *p)
{
	double limit = now() + 20;

	while (!told(t, p)) {
		if (now() > limit)
			return false;
		usleep(100000);
	}
	return true;
}

/* Calls without a tracker give an error. */
static void null(void)
{
	const struct ooh_range *v;

	CHECK(ooh_open(0, NULL, 0, NULL, NULL, 0) == -EINVAL);
	CHECK(ooh_collect(NULL, 0, &v, NULL) == -EINVAL);
	CHECK(ooh_fd(NULL, 0) == -EINVAL);
	CHECK(!strcmp(ooh_backend_name(NULL), "") && !strcmp(ooh_reason(NULL), ""));
	ooh_close(NULL);
}

/* A caller of another version has another struct: the fields that both know are filled. */
static void sizes(void)
{
	struct {
		struct ooh_tracker_stats stats;
		uint64_t newer, behind;
	} s;
	struct {
		struct ooh_backend backend;
		uint64_t newer;
	} v[2];
	pid_t pid = start(write_on);
	struct ooh_tracker *t;
	int n = ooh_backends(NULL, 0, 0);

	CHECK(n > 2 && ooh_backends(&v[0].backend, 2, sizeof(v[0].backend) - 1) == -EINVAL);
	memset(v, 0xaa, sizeof(v));
	CHECK(ooh_backends(&v[0].backend, 2, sizeof(v[0])) == n);
	CHECK(!v[0].newer && !v[1].newer && strcmp(v[0].backend.name, v[1].backend.name));
	CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
	CHECK(told_in_time(t, AREA));
	CHECK(ooh_stats(t, NULL, sizeof(s.stats)) == -EINVAL);
	CHECK(ooh_stats(NULL, &s.stats, sizeof(s.stats)) == -EINVAL);
	CHECK(ooh_stats(t, &s.stats, 8) == -EINVAL);
	memset(&s, 0xaa, sizeof(s));
	CHECK(!ooh_stats(t, &s.stats, sizeof(s.stats) + sizeof(s.newer)));
	CHECK(s.stats.rounds && s.stats.reported && !s.newer && s.behind == 0xaaaaaaaaaaaaaaaa);
	CHECK(strlen(ooh_version()) >= 5);
	ooh_close(t);
	end(pid);
}

/* ooh_close() in a child by fork(2) leaves the parent's tracker alone. */
static void forked(void)
{
	pid_t pid = start(write_on), child;
	struct ooh_tracker *t;
	unsigned long before;
	int status;

	CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
	child = fork();
	if (!child) {
		ooh_close(t);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	told(t, AREA);
	usleep(100000); /* time for a monitor to end, if it was told to */
	told(t, AREA);
	before = shared[0];
	usleep(300000);
	CHECK(shared[0] > before);
	CHECK(told_in_time(t, AREA));
	ooh_close(t);
	end(pid);
}

static void end_soon(void)
{
	usleep(100 + getpid() * 37 % 1500);
}

/* A child that ends while it is stopped keeps its exit status; the error is "no such process". */
static void status(void)
{
	struct ooh_tracker *t;
	int i, rc, st;
	pid_t pid;

	for (i = 0; i < 400; i++) {
		pid = start(end_soon);
		rc = ooh_open(pid, backend, 0, &t, why, sizeof(why));
		CHECK(!rc || rc == -ESRCH);
		if (!rc)
			ooh_close(t);
		CHECK(waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 42);
	}
}

static void *thread_that_writes(void *arg)
{
	(void)arg;
	write_on();
	return NULL;
}

static void main_thread_ends(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, thread_that_writes, NULL);
	while (!shared[1])
		usleep(1000);
	pthread_exit(NULL);
}

/* A process lives on without its main thread: a tracker goes on, a new one can be opened. */
static void leader(void)
{
	pid_t pid = start(main_thread_ends);
	struct ooh_tracker *t;
	char path[40];
	int i;

	CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
	shared[1] = 1;
	usleep(200000);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	for (i = 0; i < 2; i++) {
		FILE *f = fopen(path, "r");

		CHECK(!f || fgetc(f) == EOF); /* it has ended, indeed */
		if (f)
			fclose(f);
		CHECK(told_in_time(t, AREA));
		CHECK(told_in_time(t, AREA + PAGE));
		ooh_close(t);
		if (!i)
			CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
		usleep(200000);
	}
	end(pid);
}

static void *in_vfork(void *arg)
{
	pid_t child;

	(void)arg;
	shared[1] = 1;
	child = vfork();
	if (!child) {
		struct timespec t = { 13, 0 };

		nanosleep(&t, NULL);
		_exit(0);
	}
	for (;;) {
		shared[2]++;
		usleep(1000);
	}
	return NULL;
}

static void threads_that_do_not_stop(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 2; i++)
		pthread_create(&thread, NULL, in_vfork, NULL);
	write_on();
}

/* Threads that no stop reaches: one limit holds for all together, and none stays stopped. */
static void stuck(void)
{
	pid_t pid = start(threads_that_do_not_stop);
	double began;
	struct ooh_tracker *t;
	unsigned long before;
	int i;

	while (!shared[1])
		usleep(1000);
	usleep(200000);
	began = now();
	CHECK(ooh_open(pid, backend, 0, &t, why, sizeof(why)) == -ETIMEDOUT);
	CHECK(now() - began < 12);
	before = shared[0];
	usleep(300000);
	CHECK(shared[0] > before);
	/* the children end, and the threads that were to stop run on */
	for (i = 0; i < 100 && !shared[2]; i++)
		usleep(100000);
	before = shared[2];
	usleep(500000);
	CHECK(before && shared[2] > before);
	end(pid);
}

static int stay(void *arg)
{
	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

static char *self[] = { "unit_library", "execs", NULL, "again", NULL };

/* Executes the same program at the same addresses, while the old memory lives on. */
static void exec_in_place(void)
{
	personality(ADDR_NO_RANDOMIZE);
	self[2] = (char *)backend;
	execv("/proc/self/exe", self);
}

static void execs_again(void)
{
	char *const *argv = self;
	static char stack[65536] __attribute__((aligned(16)));
	int again = shared[1];

	map_area();
	shared[3]++;
	if (!again) {
		clone(stay, stack + sizeof(stack), CLONE_VM, NULL);
		while (!shared[1])
			usleep(1000);
		self[2] = (char *)backend;
		execv("/proc/self/exe", argv);
	}
	write_on();
}

/* An exec at the same addresses, while the old memory lives on in another process. */
static void execs(void)
{
	pid_t pid = start(exec_in_place);
	struct ooh_tracker *t;
	unsigned int result;
	const struct ooh_range *v;

	while (shared[3] < 1)
		usleep(1000);
	usleep(100000);
	CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
	told(t, AREA);
	shared[1] = 1;
	while (shared[3] < 2)
		usleep(1000);
	usleep(300000);
	CHECK(ooh_collect(t, 0, &v, &result) > 0);
	snprintf(why, sizeof(why), "%s", ooh_reason(t));
	CHECK(result == OOH_ALL_DIRTY && strstr(why, "new program"));
	usleep(300000);
	CHECK(told(t, AREA) && !*ooh_reason(t));
	ooh_close(t);
	end(pid);
}

static void register_own(void)
{
	struct uffdio_register arg = {
		.range = { .start = (unsigned long)AREA, .len = PAGES * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		_exit(1);
	for (;;) {
		while (!shared[1])
			usleep(1000);
		shared[2] = ioctl(fd, UFFDIO_REGISTER, &arg) ? errno : 1000;
		shared[1] = 0;
	}
}

static unsigned long let_it_register(void)
{
	shared[1] = 1;
	while (shared[1])
		usleep(1000);
	return shared[2];
}

/* A process cannot have a userfaultfd of its own for memory that is tracked by one. */
static void own(void)
{
	pid_t pid = start(register_own);
	struct ooh_tracker *t;

	CHECK(!ooh_open(pid, backend, 0, &t, why, sizeof(why)));
	CHECK(let_it_register() == EBUSY);
	ooh_close(t);
	CHECK(let_it_register() == 1000);
	CHECK(ooh_open(pid, backend, 0, &t, why, sizeof(why)) == -EBUSY);
	CHECK(strstr(why, "another userfaultfd watches memory"));
	end(pid);
}

static const struct {
	const char *name;
	void (*f)(void);
} cases[] = { { "null", null },	    { "own", own },	  { "sizes", sizes }, { "forked", forked },
	      { "status", status }, { "leader", leader }, { "stuck", stuck }, { "execs", execs } };

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 3)
		return 2;
	backend = argv[2];
	/* the same memory after an exec: by the descriptor that it inherits */
	if (argc > 3) {
		shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 77, 0);
		if (shared == MAP_FAILED)
			return 2;
		execs_again();
	}
	if (dup2(memfd_create("shared", 0), 77) != 77 || ftruncate(77, PAGE))
		return 2;
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 77, 0);
	map_area();
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!strcmp(cases[i].name, argv[1])) {
			cases[i].f();
			return 0;
		}
	}
	return 2;
}
