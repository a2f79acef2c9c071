// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a caller whose memory makes it wait (a userfaultfd that nobody serves) waits
 * alone. Others can open, attach, collect, close and exit meanwhile, and a process that is
 * killed ends.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "processes.h"

#define NR	 64UL
#define LIMIT_MS 4000

static char *own;
static volatile int *waiting;
static bool in_vector;

/* Says that there is a fault, and never serves it. */
static void *see(void *arg)
{
	struct uffd_msg m;

	if (read(*(int *)arg, &m, sizeof(m)) == sizeof(m))
		*waiting = 1;
	return NULL;
}

static char *missing(void)
{
	static int u;
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *p = pages_of(1, MAP_PRIVATE);
	pthread_t thread;

	u = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range = (struct uffdio_range){ (unsigned long)p, PAGE };
	if (u < 0 || ioctl(u, UFFDIO_API, &api) || ioctl(u, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, NULL, see, &u))
		error("userfaultfd");
	return p;
}

static void holder(void)
{
	int t = tracker_of(getpid());
	struct ooh_collect c;

	own[0]++;
	c = collect_into((struct ooh_range *)missing(), 64);
	ioctl(t, OOH_IOC_COLLECT, in_vector ? &c : (void *)(unsigned long)c.vec);
}

static void closes(void)
{
	int t = tracker_of(getpid());

	for (; !*waiting; usleep(1000))
		;
	close(t);
}

static void exits(void)
{
	tracker_of(getpid());
	for (; !*waiting; usleep(1000))
		;
}

static void stays(void)
{
	tracker_of(getpid());
	pause();
}

static void comes(void)
{
	struct round r = { 0 };
	int t;

	for (; !*waiting; usleep(1000))
		;
	t = tracker_of(getpid());
	own[0]++;
	collect(t, &r);
	_exit(reported(&r, own) ? 0 : 1);
}

static void others_go_on(const char *what)
{
	pid_t closing, exiting, staying, coming, holding;

	*waiting = 0;
	closing = started(closes);
	exiting = started(exits);
	staying = started(stays);
	usleep(200000);
	holding = started(holder);
	check(comes_true(waiting, 1, LIMIT_MS), "%s is not there, and its caller waits", what);
	coming = started(comes);
	check(gone(coming, LIMIT_MS), "another opens, attaches and collects");
	check(gone(closing, LIMIT_MS), "another closes its tracker");
	check(gone(exiting, LIMIT_MS), "another exits with its tracker");
	check(killed(staying, LIMIT_MS), "another, killed, is gone");
	check(killed(holding, LIMIT_MS), "the caller, killed, is gone");
	/* end what waits for it: our children must not be left to the next test */
	kill(coming, SIGKILL);
	kill(closing, SIGKILL);
	kill(exiting, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

int main(void)
{
	waiting = common(PAGE);
	own = touched(NR);
	close(tracker_open());
	in_vector = true;
	others_go_on("the vector");
	in_vector = false;
	others_go_on("the struct");
	return verdict();
}
