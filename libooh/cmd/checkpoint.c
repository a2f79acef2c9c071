// SPDX-License-Identifier: GPL-2.0-only
/* ooh checkpoint, ooh restore: a chain of incremental images by CRIU. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "chain.h"
#include "cmd.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define MAX_OPTIONS 32
#define OUTPUT	    "criu.log"

struct job {
	const char *path, *backend;
	double every;
	long length, rounds;
	pid_t pid;
	char **cmd;
	const char *criu_options[MAX_OPTIONS];
	int ncriu_options;
	int dir, pidfd;
	bool tracked; /* somebody can tell what was written */
};

static volatile sig_atomic_t stop_now;

static void on_signal(int sig)
{
	stop_now = sig;
}

/* ---- CRIU */

/* Runs criu with its output in the file log of the folder; its status, or -errno. */
static int run_criu(const struct job *j, const char *folder, const char **argv)
{
	const char *criu = getenv("OOH_CRIU") ?: "criu";
	char path[PATH_MAX];
	int status, out;
	pid_t child;

	argv[0] = criu;
	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	out = folder[0] ? openat(j->dir, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
			: open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0)
		return -errno;
	child = fork();
	if (child < 0) {
		close(out);
		return -errno;
	}
	if (!child) {
		/* a Ctrl-C for us is not for a dump half way */
		setpgid(0, 0);
		dup2(out, 1);
		dup2(out, 2);
		if (j->backend)
			setenv("OOH_BACKEND", j->backend, 1);
		if (!folder[0] || (!fchdir(j->dir) && !chdir(folder)))
			execvp(criu, (char **)argv);
		fprintf(stderr, "Error %s: %s\n", criu, strerror(errno));
		_exit(127);
	}
	close(out);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The error that criu told first; the others follow from it, most of the time. */
static void say_why(const struct job *j, const char *folder, const char *what, int status)
{
	char path[2 * NAME_LEN], line[512], *error = NULL;
	int fd;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	fd = openat(j->dir, path, O_RDONLY | O_CLOEXEC);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && !error && fgets(line, sizeof(line), f)) {
		error = strstr(line, "Error");
		/* nothing that it could not do without */
		if (error && (strstr(error, "rlimit") || strstr(error, "No parent image found")))
			error = NULL;
	}
	if (f)
		fclose(f);
	if (error)
		error[strcspn(error, "\n")] = '\0';
	say("%s: criu ended with %d%s%s", what, status, error ? ": " : "", error ?: "");
}

/* Appends options, the user's last. */
static void add_options(const struct job *j, const char **argv, int n)
{
	int i;

	for (i = 0; i < j->ncriu_options; i++)
		argv[n++] = j->criu_options[i];
	argv[n] = NULL;
}

static bool can_track(const struct job *j)
{
	const char *argv[] = { NULL, "check", "--feature", "mem_dirty_track", NULL };

	return run_criu(j, "", argv) == 0;
}

static int dump(const struct job *j, long n, long parent)
{
	const char *argv[16 + MAX_OPTIONS] = {
		NULL, "dump",	     "--leave-running", "--images-dir",
		".",  "--tcp-close", "--verbosity=2",	"-t"
	};
	char name[NAME_LEN], pid[16], prev[NAME_LEN + 4], up[NAME_LEN];
	int argc = 8;

	chain_name(name, n);
	snprintf(pid, sizeof(pid), "%d", j->pid);
	argv[argc++] = pid;
	if (j->tracked)
		argv[argc++] = "--track-mem";
	if (parent != NO_CHECKPOINT) {
		chain_name(up, parent);
		snprintf(prev, sizeof(prev), "../%s", up);
		argv[argc++] = "--prev-images-dir";
		argv[argc++] = prev;
	}
	add_options(j, argv, argc);
	return run_criu(j, name, argv);
}

/* ---- checkpoint */

static bool ended(const struct job *j, int ms)
{
	struct pollfd fd = { .fd = j->pidfd, .events = POLLIN };

	return poll(&fd, 1, ms) > 0;
}

static double size_of(int dir, long n)
{
	char name[NAME_LEN], path[2 * NAME_LEN];
	struct stat st;
	double bytes = 0;
	int i;

	chain_name(name, n);
	for (i = 1; i < 1000; i++) {
		snprintf(path, sizeof(path), "%s/pages-%d.img", name, i);
		if (fstatat(dir, path, &st, 0))
			break;
		bytes += 512.0 * st.st_blocks;
	}
	return bytes / 1e6;
}

/* Makes one more; returns it, or NO_CHECKPOINT. */
static long one_more(const struct job *j, long parent)
{
	long n = chain_highest(j->dir) + 1;
	int rc = chain_begin(j->dir, n), length;
	char name[NAME_LEN], what[64];

	chain_name(name, n);
	snprintf(what, sizeof(what), "checkpoint %ld", n);
	if (!rc) {
		rc = dump(j, n, parent);
		if (rc > 0)
			say_why(j, name, what, rc);
	}
	if (!rc)
		rc = chain_finish(j->dir, n, parent);
	if (rc) {
		if (rc < 0)
			say("%s: %s", what, strerror(-rc));
		chain_remove(j->dir, n);
		return NO_CHECKPOINT;
	}
	length = chain_length(j->dir, n);
	printf("%s: %.1f MB, %s\n", what, size_of(j->dir, n),
	       length > 1 ? "incremental" : "everything");
	fflush(stdout);
	return n;
}

static int start_command(struct job *j)
{
	int fds[2], err = 0;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	j->pid = fork();
	if (j->pid < 0)
		return -errno;
	if (!j->pid) {
		int null = open("/dev/null", O_RDWR);

		/* What criu can bring back: no terminal, no pipe of somebody else's. */
		setsid();
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		if (null > 2)
			close(null);
		execvp(j->cmd[0], j->cmd);
		err = errno;
		if (write(fds[1], &err, sizeof(err)) < 0)
			_exit(126);
		_exit(127);
	}
	close(fds[1]);
	while (read(fds[0], &err, sizeof(err)) < 0 && errno == EINTR)
		;
	close(fds[0]);
	return -err;
}

/* Until it is time for the next one; false: the end. */
static bool wait_for(const struct job *j, double seconds)
{
	uint64_t until = now_ns() + (uint64_t)(seconds * 1e9), now;

	while (!stop_now && (now = now_ns()) < until) {
		uint64_t ms = (until - now) / 1000000 + 1;

		if (ended(j, ms > 1000 ? 1000 : ms))
			return false;
	}
	return !stop_now;
}

static int keep_going(struct job *j)
{
	long last = NO_CHECKPOINT, done = 0, n;
	int length = 0;

	j->tracked = can_track(j);
	if (!j->tracked)
		say("nobody can tell what the process writes (criu check --feature "
		    "mem_dirty_track): each checkpoint holds everything");
	while (wait_for(j, j->every)) {
		bool first = last == NO_CHECKPOINT || length >= j->length || !j->tracked;

		n = one_more(j, first ? NO_CHECKPOINT : last);
		if (ended(j, 0))
			break;
		if (n == NO_CHECKPOINT)
			continue;
		last = n;
		length = first ? 1 : length + 1;
		/* of the chains before, only when another one is there */
		if (first)
			chain_tidy(j->dir, last);
		if (++done == j->rounds)
			return ST_OK;
	}
	if (ended(j, 0))
		say("process %d ended; the last complete checkpoint is %ld", j->pid,
		    chain_newest(j->dir));
	else
		say("process %d runs on without checkpoints; the last complete one is %ld", j->pid,
		    chain_newest(j->dir));
	return ended(j, 0) ? ST_ENDED : ST_OK;
}

static int open_folder(struct job *j, int create)
{
	j->dir = chain_open(j->path, create);
	if (j->dir == -EBUSY)
		say("%s is in use by another ooh", j->path);
	else if (j->dir < 0)
		say("%s: %s", j->path, strerror(-j->dir));
	return j->dir < 0 ? ST_CANNOT : ST_OK;
}

static int checkpoint(struct job *j)
{
	struct sigaction sa = { .sa_handler = on_signal };
	int rc = open_folder(j, 1);

	if (rc)
		return rc;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	/* what a crash left half way; the last complete one stays until there is another */
	chain_tidy(j->dir, chain_newest(j->dir));
	if (j->cmd) {
		rc = start_command(j);
		if (rc) {
			say("%s: %s", j->cmd[0], strerror(-rc));
			return ST_NO_EXEC;
		}
	}
	j->pidfd = syscall(SYS_pidfd_open, j->pid, 0);
	if (j->pidfd < 0) {
		say("process %d: %s", j->pid, strerror(errno));
		return ST_CANNOT;
	}
	fcntl(j->pidfd, F_SETFD, FD_CLOEXEC);
	if (j->cmd)
		printf("process %d\n", j->pid);
	fflush(stdout);
	return keep_going(j);
}

/* ---- restore */

static int restore(struct job *j)
{
	const char *argv[16 + MAX_OPTIONS] = { NULL,  "restore",   "--restore-detached",
					       "-D",  ".",	   "--tcp-close",
					       "-v2", "--pidfile", "restored.pid" };
	char name[NAME_LEN], path[2 * NAME_LEN], pid[16] = "";
	int rc = open_folder(j, 0), fd;
	long n;

	if (rc)
		return rc;
	n = chain_newest(j->dir);
	if (n == NO_CHECKPOINT) {
		say("%s holds no complete checkpoint", j->path);
		return ST_CANNOT;
	}
	chain_name(name, n);
	/* of a restore before this one */
	snprintf(path, sizeof(path), "%s/restored.pid", name);
	unlinkat(j->dir, path, 0);
	snprintf(path, sizeof(path), "%s/%s", name, OUTPUT);
	unlinkat(j->dir, path, 0);
	add_options(j, argv, 9);
	rc = run_criu(j, name, argv);
	if (rc) {
		say_why(j, name, "restore", rc);
		return ST_CANNOT;
	}
	snprintf(path, sizeof(path), "%s/restored.pid", name);
	fd = openat(j->dir, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, pid, sizeof(pid) - 1) < 0)
			pid[0] = '\0';
		close(fd);
	}
	printf("checkpoint %ld: process %s\n", n, pid);
	return ST_OK;
}

/* ---- arguments */

static const struct argp_option checkpoint_options[] = {
	{ "every", 'e', "SECONDS", 0, "between two checkpoints (60)", 0 },
	{ "length", 'l', "N", 0, "checkpoints in a chain, then one holds everything (16)", 0 },
	{ "rounds", 'n', "N", 0, "end after so many checkpoints; the process runs on", 0 },
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best for this", 0 },
	{ "pid", 'p', "PID", 0, "a process that runs already", 0 },
	{ "criu", 'c', "OPTION", 0, "one more option for criu dump; may be repeated", 0 },
	{ 0 },
};

static const struct argp_option restore_options[] = {
	{ "criu", 'c', "OPTION", 0, "one more option for criu restore; may be repeated", 0 },
	{ 0 },
};

static double real(struct argp_state *state, const char *text)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end || !(d > 0) || d > 1e9)
		argp_error(state, "--every: \"%s\" is no number of seconds", text);
	return d;
}

static long natural(struct argp_state *state, const char *what, const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > max)
		argp_error(state, "%s: \"%s\" is not a number from 1 to %ld", what, text, max);
	return n;
}

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	struct job *j = state->input;

	switch (key) {
	case 'c':
		if (j->ncriu_options == MAX_OPTIONS)
			argp_error(state, "too many options for criu");
		j->criu_options[j->ncriu_options++] = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (j->path)
			return ARGP_ERR_UNKNOWN;
		j->path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!j->path)
			argp_error(state, "in which folder are the checkpoints?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse_checkpoint(int key, char *arg, struct argp_state *state)
{
	struct job *j = state->input;

	switch (key) {
	case 'e':
		j->every = real(state, arg);
		return 0;
	case 'l':
		j->length = natural(state, "-l", arg, 1000);
		return 0;
	case 'n':
		j->rounds = natural(state, "-n", arg, LONG_MAX);
		return 0;
	case 'b':
		j->backend = arg;
		return 0;
	case 'p':
		j->pid = natural(state, "-p", arg, INT_MAX);
		return 0;
	case ARGP_KEY_ARGS:
		j->cmd = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!j->cmd == !j->pid)
			argp_error(state, "either -p PID or a command is needed");
		break;
	}
	return parse_common(key, arg, state);
}

static error_t parse_restore(int key, char *arg, struct argp_state *state)
{
	if (key == ARGP_KEY_ARGS)
		argp_error(state, "too many arguments: %s", state->argv[state->next]);
	return parse_common(key, arg, state);
}

static const struct argp checkpoint_argp = {
	.options = checkpoint_options,
	.parser = parse_checkpoint,
	.args_doc = "DIR -p PID\nDIR -- COMMAND [ARG...]",
	.doc = "Keeps incremental checkpoints of a process, made by criu, in DIR.",
};

static const struct argp restore_argp = {
	.options = restore_options,
	.parser = parse_restore,
	.args_doc = "DIR",
	.doc = "Brings back the last complete checkpoint in DIR.",
};

int cmd_checkpoint(int argc, char **argv)
{
	struct job j = { .every = 60, .length = 16, .pidfd = -1 };

	argp_parse(&checkpoint_argp, argc, argv, ARGP_IN_ORDER, NULL, &j);
	return checkpoint(&j);
}

int cmd_restore(int argc, char **argv)
{
	struct job j = { .pidfd = -1 };

	argp_parse(&restore_argp, argc, argv, ARGP_IN_ORDER, NULL, &j);
	return restore(&j);
}
