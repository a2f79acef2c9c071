/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes beside the test's own: one that obeys letters, and one that has to end within a
 * time. None outlives the test.
 */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tracker.h"

struct process {
	pid_t pid;
	int to, from;
};

/* fn is called in it for each letter, with 0 before the first. */
static inline struct process process_of(void (*fn)(char letter))
{
	struct process p;
	int to[2], from[2];
	char c = 0;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		error("pipe");
	fflush(stdout);
	p.pid = fork();
	if (p.pid < 0)
		error("fork");
	if (!p.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		do {
			fn(c);
			if (write(from[1], &c, 1) != 1)
				break;
		} while (read(to[0], &c, 1) == 1);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	p.to = to[1];
	p.from = from[0];
	if (read(p.from, &c, 1) != 1)
		error("the other process");
	return p;
}

/* One that does fn alone. */
static inline pid_t started(void (*fn)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fn();
	_exit(0);
}

/* Not waited for: it may never come back. */
static inline void send_letter(const struct process *p, char letter)
{
	if (write(p->to, &letter, 1) != 1)
		error("the other process");
}

static inline void tell(const struct process *p, char letter)
{
	send_letter(p, letter);
	if (read(p->from, &letter, 1) != 1)
		error("the other process");
}

/* Does this child end within a time? */
static inline bool gone(pid_t pid, int ms)
{
	for (int i = 0; i < ms / 10; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return true;
		usleep(10000);
	}
	return false;
}

static inline bool killed(pid_t pid, int ms)
{
	kill(pid, SIGKILL);
	return gone(pid, ms);
}

/* Does it become true before the time is over? */
static inline bool comes_true(volatile int *n, int wanted, int ms)
{
	for (int i = 0; i < ms / 10 && *n < wanted; i++)
		usleep(10000);
	return *n >= wanted;
}

/* Memory that all of them see. */
static inline void *common(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		error("mmap");
	return p;
}

#endif /* PROCESSES_H */
