// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Every stop seizes the threads and every resume lets go of them, so that
 * between two stops the process runs untraced: its signals, its job control and
 * its debugger are its own, and if we die the kernel lets it run.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include "stop.h"

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_our_child(pid_t pid)
{
	char path[40], line[512] = "", *p;
	int parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return p && sscanf(p + 1, " %*c %d", &parent) == 1 && parent == getpid();
}

/*
 * The next stop of a thread that the calling thread traces, as siginfo_t's si_status has it.
 * 0: none came yet. ESRCH: it ended. The status of a process that ended is its parent's: it
 * stays, unless the parent is another process, which the kernel then tells in its turn.
 */
int stop_next(pid_t pid, pid_t tid, int *status)
{
	const int options = WNOHANG | __WALL | __WNOTHREAD;
	siginfo_t info = { 0 };

	if (waitid(P_PID, tid, &info, WSTOPPED | WEXITED | WNOWAIT | options))
		return errno == ECHILD ? -ESRCH : errno == EINTR ? 0 : -errno;
	if (!info.si_pid)
		return 0;
	if (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED) {
		info.si_pid = 0;
		if (waitid(P_PID, tid, &info, WSTOPPED | options) || !info.si_pid)
			return 0; /* killed between the two */
		*status = info.si_status;
		return 1;
	}
	if (tid != pid || !is_our_child(pid))
		waitid(P_PID, tid, &info, WEXITED | options);
	return -ESRCH;
}

/*
 * Waits until tid, seized and interrupted, is in the stop that this causes.
 * ESRCH: the thread ended. ETIMEDOUT: it sleeps where no stop reaches it.
 */
int stop_wait(struct stop *s, pid_t tid)
{
	struct timespec pause = { .tv_nsec = 20000 };
	int status, rc;

	for (;;) {
		rc = stop_next(s->pid, tid, &status);
		if (rc == -ESRCH && tid == s->pid)
			s->ended = true;
		if (rc < 0)
			return rc;
		if (rc) {
			if (status >> 8 == PTRACE_EVENT_STOP)
				return 0;
			/* A signal came first: it is the thread's own. Any stop
			 * clears the request, so it is made again. */
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
			ptrace(PTRACE_CONT, tid, 0, status >> 8 ? 0 : status);
			continue;
		}
		if (now_ms() > s->limit)
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
 * it ended. ETIMEDOUT: not all threads stopped within STOP_LIMIT_MS; those that did not are
 * let go of when the calling thread ends.
 */
int stop_process(struct stop *s, pid_t pid)
{
	int fresh, rc = 0;
	size_t i, from = 0, kept;

	*s = (struct stop){ .pid = pid, .limit = now_ms() + STOP_LIMIT_MS };
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
	s->held = !rc;
	if (rc)
		stop_resume(s);
	return rc;
}

/* pid has one thread, which the caller holds in a ptrace stop already. */
int stop_adopt(struct stop *s, pid_t pid)
{
	*s = (struct stop){ .pid = pid, .limit = now_ms() + STOP_LIMIT_MS, .held = true };
	return add(s, pid);
}

/*
 * Takes the end of threads that were killed while they were held: of a process whose threads
 * somebody traces, the kernel tells its parent and pidfds the end only when the tracer knows. The
 * last ones first, as the end of the main thread comes after that of all others.
 */
static void take_ends(struct stop *s)
{
	const long limit = now_ms() + STOP_LIMIT_MS;
	struct timespec pause = { .tv_nsec = 20000 };
	int status;
	size_t i;

	for (;;) {
		for (i = s->n; i > 0; i--)
			if (stop_next(s->pid, s->tids[i - 1], &status) == -ESRCH)
				s->tids[i - 1] = s->tids[--s->n];
		if (!s->n || now_ms() > limit)
			return;
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
}

/*
 * A thread that has not stopped yet cannot be let go of: it would stop later, for as long as
 * its tracer lives. The tracer is a thread, not a process: see stop_and_do().
 */
void stop_resume(struct stop *s)
{
	size_t i, left = 0;

	for (i = 0; i < s->n; i++)
		if (ptrace(PTRACE_DETACH, s->tids[i], 0, 0) && errno == ESRCH)
			s->tids[left++] = s->tids[i];
	s->n = left;
	if (s->held || s->ended)
		take_ends(s);
	free(s->tids);
	s->tids = NULL;
	s->n = s->cap = 0;
	s->held = false;
}

struct job {
	pid_t pid;
	int (*work)(void *arg);
	void *arg;
	int rc;
	bool stopped;
};

static void *do_job(void *arg)
{
	struct job *j = arg;
	struct stop s;

	j->rc = stop_process(&s, j->pid);
	j->stopped = !j->rc;
	if (j->rc)
		return NULL;
	j->rc = j->work(j->arg);
	stop_resume(&s);
	return NULL;
}

/*
 * Does the work while the process is stopped, in a thread of its own, which is the tracer:
 * with its end the kernel lets go of every thread, also of those that never stopped; and it
 * has no children whose status it could take from the caller.
 */
int stop_and_do(pid_t pid, int (*work)(void *arg), void *arg, bool *stopped)
{
	struct job j = { .pid = pid, .work = work, .arg = arg };
	sigset_t all, old;
	pthread_t thread;
	int rc;

	*stopped = false;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, NULL, do_job, &j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	pthread_join(thread, NULL);
	*stopped = j.stopped;
	return j.rc;
}
