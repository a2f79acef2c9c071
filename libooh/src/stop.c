// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Every stop seizes the threads and every resume lets go of them, so that
 * between two stops the process runs untraced: its signals, its job control and
 * its debugger are its own, and if we die the kernel lets it run.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "stop.h"

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Waits until tid, seized and interrupted, is in the stop that this causes.
 * ESRCH: the thread ended. ETIMEDOUT: it sleeps where no stop reaches it.
 */
int stop_wait(struct stop *s, pid_t tid)
{
	const long limit = now_ms() + STOP_LIMIT_MS;
	struct timespec pause = { .tv_nsec = 20000 };
	int status;
	pid_t rc;

	for (;;) {
		rc = waitpid(tid, &status, __WALL | WNOHANG);
		if (rc < 0 && errno != EINTR)
			return errno == ECHILD ? -ESRCH : -errno;
		if (rc == tid && WIFSTOPPED(status)) {
			int sig = WSTOPSIG(status);

			if (status >> 16 == PTRACE_EVENT_STOP)
				return 0;
			/* A signal came first: it is the thread's own. Any stop
			 * clears the request, so it is made again. */
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
			ptrace(PTRACE_CONT, tid, 0, status >> 16 ? 0 : sig);
			continue;
		}
		if (rc == tid) {
			if (tid == s->pid) {
				s->ended = true;
				s->status = status;
			}
			return -ESRCH;
		}
		if (now_ms() > limit)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
}

static int add(struct stop *s, pid_t tid)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 16;
		pid_t *v = realloc(s->tids, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->tids = v;
		s->cap = cap;
	}
	s->tids[s->n++] = tid;
	return 0;
}

static bool held(const struct stop *s, pid_t tid)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (s->tids[i] == tid)
			return true;
	return false;
}

/* What cannot be seized and need not be: ended threads, workers of io_uring. */
static bool no_matter(pid_t pid, pid_t tid)
{
	char path[64], line[256] = "", *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);
	p = strrchr(line, ')');
	if (!p || strchr("ZX", p[2]))
		return true;
	p = strchr(line, '(');
	return tid != pid && p && !strncmp(p, "(iou-", 5);
}

/* Seizes the threads that are not held yet. Their number or -errno. */
static int seize_new(struct stop *s)
{
	char path[40];
	struct dirent *e;
	int rc = 0, fresh = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", s->pid);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!rc && (e = readdir(d))) {
		pid_t tid = atoi(e->d_name);

		if (tid <= 0 || held(s, tid))
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, 0)) {
			if (errno != ESRCH && !no_matter(s->pid, tid))
				rc = -errno;
			continue;
		}
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
		rc = add(s, tid);
		if (rc)
			ptrace(PTRACE_DETACH, tid, 0, 0);
		fresh++;
	}
	closedir(d);
	return rc ? rc : fresh;
}

/*
 * EPERM: not permitted, or traced by somebody else. ESRCH: no such process, or
 * it ended. ETIMEDOUT: a thread did not stop within STOP_LIMIT_MS.
 */
int stop_process(struct stop *s, pid_t pid)
{
	int fresh, rc = 0;
	size_t i, from = 0, kept;

	*s = (struct stop){ .pid = pid };
	/* Until a look finds nobody new: a thread that runs can make another. */
	while ((fresh = seize_new(s)) > 0 && !rc) {
		for (i = kept = from; i < s->n && !rc; i++) {
			rc = stop_wait(s, s->tids[i]);
			if (rc == -ESRCH && !s->ended) {
				rc = 0;
				continue;
			}
			s->tids[kept++] = s->tids[i];
		}
		if (rc)
			break;
		from = s->n = kept;
	}
	if (!rc && fresh < 0)
		rc = fresh;
	if (!rc && !s->n)
		rc = -ESRCH;
	if (rc)
		stop_resume(s);
	return rc;
}

/* pid has one thread, which the caller holds in a ptrace stop already. */
int stop_adopt(struct stop *s, pid_t pid)
{
	*s = (struct stop){ .pid = pid };
	return add(s, pid);
}

/* A thread that has not stopped cannot be let go of before it does. */
static void let_go(pid_t tid)
{
	struct stop s = { 0 };

	if (!ptrace(PTRACE_DETACH, tid, 0, 0) || errno != ESRCH)
		return;
	if (!stop_wait(&s, tid))
		ptrace(PTRACE_DETACH, tid, 0, 0);
}

void stop_resume(struct stop *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		let_go(s->tids[i]);
	free(s->tids);
	s->tids = NULL;
	s->n = s->cap = 0;
}
