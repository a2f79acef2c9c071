/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Holds all threads of a process in a ptrace stop, for as short as possible. */
#ifndef OOH_STOP_H
#define OOH_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define STOP_LIMIT_MS 10000

struct stop {
	pid_t pid;
	pid_t *tids;
	size_t n, cap;
	long limit; /* by the clock: all threads are to have stopped */
	bool held;  /* every thread has stopped: one that does not let go was killed */
	bool ended; /* the process ended meanwhile; its status is still its parent's to take */
};

int stop_process(struct stop *s, pid_t pid);
int stop_adopt(struct stop *s, pid_t pid);
int stop_wait(struct stop *s, pid_t tid);
int stop_next(pid_t pid, pid_t tid, int *status);
int stop_and_do(pid_t pid, int (*work)(void *arg), void *arg, bool *stopped);
void stop_resume(struct stop *s);

#endif
