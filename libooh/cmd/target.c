// SPDX-License-Identifier: GPL-2.0-only
/* The tracked process: found or started, held, waited for, let go. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "cmd.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define END_LIMIT_MS 5000

static volatile sig_atomic_t interrupted;
static sigset_t usual_mask;

static void on_signal(int sig)
{
	interrupted = sig;
}

/* They are let through only while we sleep: a round is never cut. */
static void hold_back_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	static bool done;
	sigset_t mask;

	if (done)
		return;
	done = true;
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, &usual_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

static void run_child(const struct options *o, const int go[2], int tell)
{
	int err, nowhere;
	char c;

	/* until our parent has seized us and closed the other end */
	close(go[1]);
	while (read(go[0], &c, 1) < 0 && errno == EINTR)
		;
	/* What it prints would spoil the JSON document. */
	if (o->json)
		dup2(STDERR_FILENO, STDOUT_FILENO);
	nowhere = o->quiet ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (nowhere >= 0) {
		dup2(nowhere, STDIN_FILENO);
		dup2(nowhere, STDOUT_FILENO);
		dup2(nowhere, STDERR_FILENO);
	}
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	sigprocmask(SIG_SETMASK, &usual_mask, NULL);
	execvp(o->cmd[0], o->cmd);
	err = errno;
	if (write(tell, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(ST_NO_EXEC);
}

/*
 * From the stop that PTRACE_O_TRACEEXEC makes, in the middle of execve(2), to
 * one at its end: only there the registers are the program's.
 */
static int hold_after_exec(struct target *t)
{
	int status, rc;

	for (;;) {
		if (waitpid(t->pid, &status, __WALL) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!WIFSTOPPED(status)) {
			t->ended = t->status_known = true;
			t->status = status;
			return -ESRCH;
		}
		if (status >> 16 == PTRACE_EVENT_EXEC)
			break;
		ptrace(PTRACE_CONT, t->pid, 0, status >> 16 ? 0 : WSTOPSIG(status));
	}
	if (ptrace(PTRACE_SETOPTIONS, t->pid, 0, 0) || ptrace(PTRACE_INTERRUPT, t->pid, 0, 0) ||
	    ptrace(PTRACE_CONT, t->pid, 0, 0))
		return -errno;
	rc = stop_adopt(&t->stop, t->pid);
	if (!rc)
		rc = stop_wait(&t->stop, t->pid);
	if (!rc)
		t->held = true;
	return rc;
}

/* Starts the command; it is held, before its first instruction. */
static int start(struct target *t, const struct options *o)
{
	int go[2], tell[2], err = 0, rc;

	if (pipe2(go, O_CLOEXEC) || pipe2(tell, O_CLOEXEC)) {
		say("pipe: %s", strerror(errno));
		return ST_CANNOT;
	}
	t->pid = fork();
	if (t->pid < 0) {
		say("fork: %s", strerror(errno));
		return ST_CANNOT;
	}
	if (!t->pid)
		run_child(o, go, tell[1]);
	t->child = true;
	close(tell[1]);
	close(go[0]);
	rc = ptrace(PTRACE_SEIZE, t->pid, 0, PTRACE_O_TRACEEXEC) ? -errno : 0;
	close(go[1]);
	if (!rc)
		rc = hold_after_exec(t);
	if (rc == -ESRCH && read(tell[0], &err, sizeof(err)) == sizeof(err)) {
		close(tell[0]);
		say("%s cannot be executed: %s", o->cmd[0], strerror(err));
		t->status_known = false; /* it is ours, not the command's */
		return ST_NO_EXEC;
	}
	close(tell[0]);
	if (!rc)
		return ST_OK;
	say("%s cannot be traced: %s", o->cmd[0], strerror(-rc));
	if (!t->ended)
		kill(t->pid, SIGKILL);
	return ST_CANNOT;
}

/* The exit status; a command that was started is held, a process is not. */
int target_open(struct target *t, const struct options *o)
{
	int rc;

	*t = (struct target){ .pid = o->pid, .pidfd = -1 };
	hold_back_signals();
	if (!o->pid) {
		rc = start(t, o);
		if (rc)
			return rc;
	}
	t->pidfd = syscall(SYS_pidfd_open, t->pid, 0);
	if (t->pidfd >= 0)
		return ST_OK;
	if (errno == ESRCH)
		say("there is no process %d", t->pid);
	else if (errno == EINVAL || errno == ENOENT) /* which one depends on the kernel */
		say("%d is a thread, not a process", t->pid);
	else
		say("process %d: %s", t->pid, strerror(errno));
	return ST_CANNOT;
}

static void note_end(struct target *t)
{
	int status;

	t->ended = true;
	if (t->child && !t->status_known && waitpid(t->pid, &status, WNOHANG) == t->pid) {
		t->status_known = true;
		t->status = status;
	}
}

/* 0 or -errno; ESRCH: it ended. */
int target_hold(struct target *t)
{
	int rc;

	if (t->held)
		return 0;
	rc = stop_process(&t->stop, t->pid);
	if (!rc)
		t->held = true;
	if (rc == -ESRCH)
		note_end(t);
	return rc;
}

void target_release(struct target *t)
{
	if (t->held)
		stop_resume(&t->stop);
	t->held = false;
}

/*
 * Until one of the descriptors is ready, the time has come, or any signal came:
 * WAKE_SIGNAL if it is one that ends us.
 */
enum wake wait_until(struct pollfd *fds, nfds_t n, uint64_t ns)
{
	uint64_t now = now_ns();
	struct timespec left = { 0 };
	int rc;

	if (now < ns) {
		left.tv_sec = (ns - now) / 1000000000;
		left.tv_nsec = (ns - now) % 1000000000;
	}
	rc = ppoll(fds, n, &left, &usual_mask);
	if (interrupted)
		return WAKE_SIGNAL;
	return rc > 0 ? WAKE_ENDED : WAKE_INTERVAL;
}

enum wake target_sleep(struct target *t, long ms)
{
	const uint64_t until = now_ns() + ms * UINT64_C(1000000);
	struct pollfd fd = { .fd = t->pidfd, .events = POLLIN };
	enum wake wake;

	do
		wake = wait_until(&fd, 1, until);
	while (wake == WAKE_INTERVAL && now_ns() < until);
	if (wake == WAKE_ENDED)
		note_end(t);
	return wake;
}

static void say_status(const struct target *t)
{
	if (!t->status_known)
		return;
	if (WIFSIGNALED(t->status))
		say("the command was ended by signal %d (%s)", WTERMSIG(t->status),
		    strsignal(WTERMSIG(t->status)));
	else if (WEXITSTATUS(t->status))
		say("the command ended with status %d", WEXITSTATUS(t->status));
}

/* A command of ours does not outlive the tracking. Kill is for the deaf ones. */
static void end_child(struct target *t)
{
	struct pollfd fd = { .fd = t->pidfd, .events = POLLIN };

	uint64_t until;
	pid_t pid;

	kill(t->pid, SIGTERM);
	kill(t->pid, SIGCONT);
	if (t->pidfd >= 0 && poll(&fd, 1, END_LIMIT_MS) != 1)
		kill(t->pid, SIGKILL);
	/* __WALL: threads that we could not stop are ours to wait for before their process */
	for (until = now_ns() + END_LIMIT_MS * UINT64_C(1000000); now_ns() < until;) {
		pid = waitpid(-1, NULL, WNOHANG | __WALL);
		if (pid == t->pid || (pid < 0 && errno != EINTR))
			return;
		if (!pid)
			poll(NULL, 0, 1);
	}
	say("process %d does not end", t->pid);
}

/*
 * Lets go. finished: the wanted rounds are done, or the user wants no more.
 * A process that was there before goes on; a command that we started ends.
 */
int target_close(struct target *t, bool finished)
{
	target_release(t);
	if (t->child && !t->ended && t->pid > 0)
		end_child(t);
	else if (t->child)
		say_status(t);
	if (t->pidfd >= 0)
		close(t->pidfd);
	if (!t->ended || t->child || finished)
		return ST_OK;
	say("process %d ended", t->pid);
	return ST_ENDED;
}
