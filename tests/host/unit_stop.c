// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process with threads that is killed while it is held has ended, for its parent
 * and for whoever waits with a pidfd, as soon as it has been let go of.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "../../libooh/src/stop.h"
#include "check.h"

#define THREADS 5

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* A child with threads, which has told that it has all of them. */
static pid_t start(void)
{
	pthread_t thread;
	int tell[2], i;
	pid_t pid;
	char c;

	CHECK(!pipe(tell));
	pid = fork();
	if (!pid) {
		alarm(60);
		for (i = 0; i < THREADS; i++)
			CHECK(!pthread_create(&thread, NULL, wait_for_ever, NULL));
		CHECK(write(tell[1], "x", 1) == 1);
		wait_for_ever(NULL);
	}
	CHECK(pid > 0 && read(tell[0], &c, 1) == 1);
	return pid;
}

/* The tracer is this process, which lives on. */
static void kill_held(pid_t pid)
{
	struct pollfd fd = { .fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	struct stop s;

	CHECK(!stop_process(&s, pid) && s.n == THREADS + 1);
	CHECK(!kill(pid, SIGKILL));
	stop_resume(&s);
	CHECK(poll(&fd, 1, 20000) == 1);
	close(fd.fd);
}

static bool was_killed(pid_t pid)
{
	int status;

	alarm(20);
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

static void child_of_the_tracer(void)
{
	pid_t pid = start();

	kill_held(pid);
	CHECK(was_killed(pid));
}

static void child_of_another(void)
{
	int tell[2], status;
	pid_t parent, pid;

	CHECK(!pipe(tell));
	parent = fork();
	if (!parent) {
		pid = start();
		CHECK(write(tell[1], &pid, sizeof(pid)) == sizeof(pid));
		_exit(was_killed(pid) ? 0 : 1);
	}
	CHECK(read(tell[0], &pid, sizeof(pid)) == sizeof(pid));
	kill_held(pid);
	CHECK(waitpid(parent, &status, 0) == parent && status == 0);
}

int main(void)
{
	child_of_the_tracer();
	child_of_another();
	return 0;
}
