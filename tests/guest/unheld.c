// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process maps and unmaps while a tracker looks at its mappings of files. It
 * waits for a part of that look, not for all of it. What it maps in the meantime is followed.
 * Frequent signals do not make the look begin anew each time.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "tracker.h"

#define NR    ((256UL << 20) / PAGE)
#define SMALL 16UL
#define TICK  5000 /* microseconds between two signals */

static atomic_bool ready, end;
static double longest;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void signals_each(int us)
{
	struct itimerval t = { .it_interval.tv_usec = us, .it_value.tv_usec = us };
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	if (sigaction(SIGALRM, &sa, NULL) || setitimer(ITIMER_REAL, &t, NULL))
		error("timer");
}

static void *map_and_unmap(void *file)
{
	ready = true;
	while (!end) {
		double began = now(), took;
		char *p = mmap(NULL, SMALL * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *(int *)file,
			       0);

		if (p == MAP_FAILED || munmap(p, SMALL * PAGE))
			error("mmap");
		took = now() - began;
		if (took > longest)
			longest = took;
	}
	return NULL;
}

/* By another process: this one has no entry for the pages. */
static void write_elsewhere(char *p, unsigned long nr, int c)
{
	pid_t pid = fork();

	if (pid == 0) {
		memset(p, c, nr * PAGE);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		error("fork");
}

int main(void)
{
	int file = memfd_create("unheld", MFD_CLOEXEC), tracker;
	char *p = mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct round r = { 0 };
	pthread_t thread;
	double began, all;
	char *q;

	if (p == MAP_FAILED || file < 0 || ftruncate(file, SMALL * PAGE))
		error("memory");
	write_elsewhere(p, NR, 1);
	if (pthread_create(&thread, NULL, map_and_unmap, &file))
		error("thread");
	while (!ready)
		usleep(1000);
	began = now();
	signals_each(TICK);
	tracker = tracker_of(getpid());
	signals_each(0);
	all = now() - began;
	end = true;
	pthread_join(thread, NULL);
	check(longest < all / 3, "a mapping waited %.0f ms of %.0f ms", longest * 1e3, all * 1e3);

	collect(tracker, &r);
	q = mmap(NULL, SMALL * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (q == MAP_FAILED)
		error("mmap");
	write_elsewhere(p + NR / 2 * PAGE, 1, 2);
	collect(tracker, &r);
	check(reported(&r, p + NR / 2 * PAGE) && !reported(&r, p + (NR / 2 + 1) * PAGE),
	      "written by another process");
	check(reported_in(&r, q, SMALL) == SMALL, "mapped since");
	write_elsewhere(q + PAGE, 1, 2);
	collect(tracker, &r);
	check(reported(&r, q + PAGE) && !reported(&r, q), "and written there");
	return verdict();
}
