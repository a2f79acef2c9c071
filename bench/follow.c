// SPDX-License-Identifier: GPL-2.0-only
/*
 * A command runs to its end while rounds of a tracker end each so often.
 *
 *	follow [-p PID] [-i MILLISECONDS] [-r RUN] LABEL BACKEND -- CMD...
 *
 * Tracked is the command itself, or with -p the process PID (a server, of which the command
 * is a client). BACKEND "none" is without a tracker. Everything is on the first processor.
 * Milliseconds are of bench/events.h's second. RUN tells a repetition from others, in the line only.
 *
 * Prints one line: what it was, rounds, reported (pages), all_dirty (rounds of which the
 * tracker could say nothing else), collect (CPU time of the collects, in ticks) and the events.
 * Exit status: that of the command, 125 if something does not work here.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "events.h"

#define TROUBLE 125

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "follow: %s: %s\n", what, strerror(errno));
	exit(TROUBLE);
}

/* Returns when CMD runs, or did not and has told why. */
static pid_t start(char **argv)
{
	char byte, path[64];
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		/* the line of numbers is alone on the output */
		dup2(2, 1);
		execvp(argv[0], argv);
		fprintf(stderr, "follow: %s: %s\n", argv[0], strerror(errno));
		_exit(TROUBLE);
	}
	close(pipes[1]);
	while (read(pipes[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(pipes[0]);
	/* the pipe is closed amid the exec; at its end the process has arguments again */
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	for (int i = 0; i < 1000; i++) {
		FILE *f = fopen(path, "r");
		bool there = f && fgetc(f) != EOF;

		if (f)
			fclose(f);
		if (there || !f)
			break;
		usleep(100);
	}
	return pid;
}

static void attach(pid_t pid, const char *backend, struct ooh_tracker **t, pid_t started)
{
	char why[OOH_REASON_LEN];

	if (!strcmp(backend, "none") || !ooh_open(pid, backend, 0, t, why, sizeof(why)))
		return;
	fprintf(stderr, "follow: %s\n", why);
	if (started)
		kill(started, SIGKILL);
	exit(TROUBLE);
}

static bool ended(int pidfd, uint64_t ticks)
{
	for (;;) {
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		struct timespec t = until(ticks);
		int n = ppoll(&p, 1, &t, NULL);

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			die("ppoll");
		if (!t.tv_sec && !t.tv_nsec)
			return false;
	}
}

int main(int argc, char **argv)
{
	unsigned long milliseconds = 1000, run = 1, rounds = 0, reported = 0, all = 0;
	const char *label, *backend;
	struct ooh_tracker *t = NULL;
	uint64_t spent = 0, next;
	struct point a, b;
	pid_t pid = 0, command = 0;
	int opt, status, pidfd;

	while ((opt = getopt(argc, argv, "+p:i:r:")) != -1) {
		if (opt == 'p')
			pid = atoi(optarg);
		else if (opt == 'i')
			milliseconds = strtoul(optarg, NULL, 10);
		else if (opt == 'r')
			run = strtoul(optarg, NULL, 10);
		else
			optind = argc;
	}
	if (argc - optind < 4 || strcmp(argv[optind + 2], "--") || !milliseconds) {
		fprintf(stderr, "usage: follow [-p PID] [-i MILLISECONDS] [-r RUN] LABEL BACKEND "
				"-- CMD...\n");
		return TROUBLE;
	}
	label = argv[optind];
	backend = argv[optind + 1];
	if (pin(0))
		die("sched_setaffinity");
	events_init();

	/* attaching happens once, and is not what is measured */
	if (!pid)
		command = start(argv + optind + 3);
	attach(pid ?: command, backend, &t, command);
	take(&a, t);
	if (pid)
		command = start(argv + optind + 3);
	pidfd = syscall(SYS_pidfd_open, command, 0);
	if (pidfd < 0)
		die("pidfd_open");
	next = a.ticks;
	for (;;) {
		const struct ooh_range *v;
		unsigned int flags = 0;
		uint64_t began;
		ssize_t n;

		next += ticks_per_second / 1000 * milliseconds;
		if (ended(pidfd, next))
			break;
		if (!t)
			continue;
		began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		n = ooh_collect(t, 0, &v, &flags);
		if (n == -ESRCH)
			break;
		if (n < 0) {
			fprintf(stderr, "follow: %s\n", ooh_reason(t));
			kill(command, SIGKILL);
			return TROUBLE;
		}
		spent += to_ticks(clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
		rounds++;
		if (flags & OOH_ALL_DIRTY) {
			all++;
			fprintf(stderr, "follow: %s, %s: a round is all dirty: %s\n", label,
				backend, ooh_reason(t));
		}
		for (ssize_t i = 0; i < n; i++)
			reported += (v[i].end - v[i].start) / PAGE;
	}
	while (waitpid(command, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	take(&b, t);
	ooh_close(t);
	printf("bench %s backend %s run %lu milliseconds %lu cpus %ld rounds %lu ", label, backend,
	       run, milliseconds, sysconf(_SC_NPROCESSORS_ONLN), rounds);
	print_events(&a, &b);
	printf(" collect %llu reported %lu all_dirty %lu status %d\n", (unsigned long long)spent,
	       reported, all, status);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
