// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a tracked process that sits in a system call and holds its mmap lock holds up
 * nobody else. Other trackers end rounds, new ones are opened, and a process that is killed
 * ends. A signal ends a collect that waits for the lock, and the collect has lost nothing.
 *
 * mmap(2) of a FUSE file that bypasses the page cache writes back what the cache has of it,
 * under the lock; the server does not answer.
 */
#include <ooh.h>

#include "fuse.h"
#include "processes.h"

#define NR	 64UL
#define LIMIT_MS 4000
#define ROUNDS	 10

static struct fuse_server *server;
static volatile int *rounds; /* of the bystander */
static volatile int *wrong;
static char *own, *cached;

static void target(char letter)
{
	int fd;

	if (!letter) {
		fd = open(server->file, O_RDWR | O_CLOEXEC);
		cached = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (cached == MAP_FAILED)
			_exit(1);
		return;
	}
	own[3 * PAGE]++;
	if (letter == 'w')
		return;
	server->direct = 1;
	/* this writes back, too: the page becomes dirty afterwards */
	fd = open(server->file, O_RDONLY | O_CLOEXEC);
	server->silent_on = FUSE_WRITE;
	cached[0]++;
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
}

/* Tracks itself, writes a page in each round, and looks whether it is reported. */
static void bystander(void)
{
	struct round r = { 0 };
	int t = tracker_of(getpid());

	for (unsigned long i = 0;; i++) {
		own[i % NR * PAGE]++;
		collect(t, &r);
		*wrong += !reported(&r, own + i % NR * PAGE);
		++*rounds;
		usleep(10000);
	}
}

static pid_t target_pid;

static void tracks_the_target(void)
{
	struct round r = { 0 };
	int t = tracker_of(target_pid);

	for (;; usleep(10000))
		try_collect(t, &r);
}

static volatile int *interrupted; /* 1: waits for the target; 2: a signal ended that */

static void on_alarm(int sig)
{
	(void)sig;
}

/* Has a signal handler, and tracks the target through the library. */
static void is_interrupted(void)
{
	const struct sigaction sa = { .sa_handler = on_alarm };
	const struct ooh_range *v;
	struct ooh_tracker *t;
	unsigned int flags;
	ssize_t n;

	sigaction(SIGALRM, &sa, NULL);
	if (ooh_open(target_pid, tested(), 0, &t, NULL, 0))
		_exit(2);
	*interrupted = 1;
	while (!server->silent)
		usleep(1000);
	ualarm(200000, 200000);
	n = ooh_collect(t, 0, &v, &flags);
	ualarm(0, 0);
	if (n != -EINTR)
		_exit(3);
	*interrupted = 2;
	while (server->silent_on)
		usleep(1000);
	do
		n = ooh_collect(t, 0, &v, &flags);
	while (n == -EINTR);
	_exit(n < 0 || flags							    ? 4
	      : !in_ranges(v, n, own + 3 * PAGE) || in_ranges(v, n, own + 5 * PAGE) ? 5
										    : 0);
}

static void comes_and_goes(void)
{
	struct round r = { 0 };
	int t = tracker_of(getpid());

	collect(t, &r);
	own[0]++;
	collect(t, &r);
	_exit(reported(&r, own) ? 0 : 1);
}

int main(void)
{
	pid_t busy, tracking, late, signalled;
	struct round r = { 0 };
	struct process p;
	int t, before, status = -1;

	server = fuse_mount();
	if (!server) {
		printf("skip: FUSE: %s\n", strerror(errno));
		return 77;
	}
	rounds = common(PAGE);
	wrong = rounds + 1;
	interrupted = rounds + 2;
	own = touched(NR);
	p = process_of(target);
	target_pid = p.pid;
	busy = started(bystander);
	tracking = started(tracks_the_target);
	t = tracker_of(p.pid);
	tell(&p, 'w');
	collect(t, &r);
	check(reported(&r, own + 3 * PAGE) && !reported(&r, own + 4 * PAGE), "the target writes");
	check(comes_true(rounds, ROUNDS, LIMIT_MS), "the bystander ends rounds");

	signalled = started(is_interrupted);
	check(comes_true(interrupted, 1, LIMIT_MS), "one with a handler tracks the target");
	send_letter(&p, 'h');
	check(comes_true(&server->silent, 1, LIMIT_MS), "the target hangs in mmap");
	/* its tracker is on its way into a collect by now */
	usleep(100000);
	before = *rounds;
	check(comes_true(rounds, before + ROUNDS, LIMIT_MS),
	      "the bystander ends rounds as before: %d", *rounds - before);
	check(comes_true(interrupted, 2, LIMIT_MS), "a signal ends a collect: EINTR");
	late = started(comes_and_goes);
	check(gone(late, LIMIT_MS), "another tracker comes and goes");
	check(killed(busy, LIMIT_MS), "the bystander, killed, is gone");
	check(killed(tracking, LIMIT_MS), "the target's tracker, killed, is gone");
	check(*wrong == 0, "all that the bystander wrote was reported");

	server->silent_on = 0;
	if (read(p.from, &(char){ 0 }, 1) != 1)
		error("the target");
	collect(t, &r);
	check(reported(&r, own + 3 * PAGE) && !reported(&r, own + 5 * PAGE),
	      "what the target wrote before it hung");
	for (int i = 0; i < LIMIT_MS / 10 && waitpid(signalled, &status, WNOHANG) == 0; i++)
		usleep(10000);
	check(status == 0, "nor is it lost for whom a signal came: status %#x", status);
	kill(p.pid, SIGKILL);
	fuse_unmount(server);
	return verdict();
}
