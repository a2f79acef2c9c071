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
#include "criu.h"
#include "images.h"
#include "packed.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define LONGEST_CHAIN 4000
#define HOPELESS      3

static volatile sig_atomic_t stop_now, asked;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		asked = 1;
	else
		stop_now = sig;
}

/* ---- criu */

/* criu's status: 127: there is none */
static int check_tracking(const struct job *j)
{
	const char *argv[] = { NULL, "check", "--feature", "mem_dirty_track", NULL };

	return criu_run(j, "", argv);
}

static int dump(const struct job *j, long n, long parent)
{
	const char *argv[16 + MAX_OPTIONS] = {
		NULL, "dump", "--leave-running", "--images-dir", ".", "--verbosity=2", "-t"
	};
	char name[NAME_LEN], pid[16], prev[NAME_LEN + 4], up[NAME_LEN];
	int argc = 7;

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
	if (!criu_wants(j, "--tcp-established"))
		argv[argc++] = "--tcp-close";
	criu_add_options(j, argv, argc);
	return criu_run(j, name, argv);
}

/* ---- checkpoint */

static bool ended(const struct job *j, int ms)
{
	struct pollfd fd = { .fd = j->pidfd, .events = POLLIN };

	return poll(&fd, 1, ms) > 0;
}

/* Boot, number and start: no other process ever has all three. */
static int set_owner(struct job *j)
{
	char path[40], line[1024], boot[64] = "", *at;
	unsigned long long start;
	FILE *f;

	f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!f || fscanf(f, "%63s", boot) != 1)
		boot[0] = '\0';
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/stat", j->pid);
	f = fopen(path, "re");
	at = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (f)
		fclose(f);
	if (!boot[0] || !at ||
	    sscanf(at + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%llu",
		   &start) != 1)
		return -ESRCH;
	snprintf(j->owner, sizeof(j->owner), "%s %d %llu", boot, j->pid, start);
	return 0;
}

struct done {
	long n;
	double bytes, seconds;
	bool incremental;
	char why[256]; /* not, although there is one before it */
};

static struct done look_at(const struct job *j, long n, uint64_t began)
{
	struct done d = { .n = n, .seconds = (now_ns() - began) / 1e9 };
	struct checkpoint c = chain_look(j->dir, n);
	int at = chain_folder(j->dir, n);

	d.bytes = c.bytes;
	d.incremental = c.length > 1 && !(at >= 0 && images_all_dirty(at, d.why, sizeof(d.why)));
	if (at >= 0)
		close(at);
	return d;
}

static void put_done(const struct job *j, const struct done *d)
{
	char clock[16];

	if (j->json)
		put_json_line(json_pack("{s:I, s:o, s:b, s:I, s:f, s:b, s:o}", "number",
					(json_int_t)d->n, "time", json_time(), "complete", true,
					"bytes", (json_int_t)d->bytes, "seconds", d->seconds,
					"incremental", d->incremental, "everything_because",
					d->why[0] ? json_string(d->why) : json_null()));
	else
		printf("checkpoint %ld: %s, %.1f MB in %.1f s, %s%s%s\n", d->n, clock_time(clock),
		       d->bytes / 1e6, d->seconds, d->incremental ? "incremental" : "everything",
		       d->why[0] ? ": " : "", d->why);
	fflush(stdout);
}

static void put_failed(const struct job *j, long n)
{
	if (j->json)
		put_json_line(json_pack("{s:I, s:o, s:b}", "number", (json_int_t)n, "time",
					json_time(), "complete", false));
	fflush(stdout);
}

/* 0, or what is wrong has been said. */
static int hook(const struct job *j, const char *option, const char *command, long n,
		const char *status)
{
	int rc = command ? criu_hook(j, command, n, status) : 0;

	if (rc > 0)
		say("checkpoint %ld: %s ended with %d", n, option, rc);
	else if (rc)
		say("checkpoint %ld: %s: %s", n, option,
		    rc == -ETIME ? "it took too long (--limit) and was ended" : strerror(-rc));
	return rc;
}

static int make(struct job *j, long n, long parent)
{
	char name[NAME_LEN];
	int rc;

	chain_name(name, n);
	snprintf(j->doing, sizeof(j->doing), "checkpoint %ld", n);
	rc = dump(j, n, parent);
	if (rc > 0)
		criu_say_why(j, name, j->doing, rc);
	if (!rc)
		rc = criu_remember(j, name);
	if (!rc)
		rc = chain_finish(j->dir, n, parent);
	if (rc < 0)
		say("checkpoint %ld: %s", n,
		    rc == -ETIME ? "criu took too long (--limit) and was ended" : strerror(-rc));
	j->doing[0] = '\0';
	return rc;
}

/* Makes one more; returns it, or NO_CHECKPOINT. */
static long one_more(struct job *j, long parent)
{
	long n = chain_highest(j->dir) + 1;
	int rc = chain_begin(j->dir, &n, j->owner);
	uint64_t began = now_ns();
	struct done d;

	if (rc) {
		say("checkpoint %ld: %s", n, strerror(-rc));
		return NO_CHECKPOINT;
	}
	rc = hook(j, "--before", j->before, n, "begins");
	if (!rc)
		rc = make(j, n, parent);
	if (!rc) {
		d = look_at(j, n, began);
		put_done(j, &d);
	} else {
		chain_keep_log(j->dir, n, j->owner);
		put_failed(j, n);
	}
	/* whatever became of it, who was asked to wait is told to go on */
	hook(j, "--after", j->after, n, rc ? "failed" : "complete");
	if (!rc)
		return n;
	/* one log is enough */
	if (j->failed != NO_CHECKPOINT)
		chain_remove(j->dir, j->failed, j->owner);
	j->failed = n;
	return NO_CHECKPOINT;
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
	/* as long as it is there it has the folder, too */
	if (err)
		waitpid(j->pid, NULL, 0);
	return -err;
}

/* Until it is time for the next one; false: the end. */
static bool wait_for(const struct job *j, double seconds)
{
	uint64_t until = now_ns() + (uint64_t)(seconds * 1e9), now;

	while (!stop_now && !asked && (now = now_ns()) < until) {
		uint64_t ms = (until - now) / 1000000 + 1;

		if (ended(j, ms > 1000 ? 1000 : ms))
			return false;
	}
	asked = 0;
	return !stop_now;
}

/* A whole one, or one on top of last; if there is no room for a whole one, that, too. */
static long next_one(struct job *j, long last, bool whole)
{
	long n = one_more(j, whole ? NO_CHECKPOINT : last);

	if (n != NO_CHECKPOINT || !whole || last == NO_CHECKPOINT || ended(j, 0) ||
	    chain_length(j->dir, last) >= LONGEST_CHAIN)
		return n;
	say("the chain goes on instead of a new one that holds everything");
	return one_more(j, last);
}

/* COMMAND's own status, as a shell has it; of a process that is not ours: ST_ENDED. */
static int status_of(const struct job *j)
{
	int status;

	if (!j->cmd || waitpid(j->pid, &status, 0) != j->pid)
		return ST_ENDED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void say_end(const struct job *j)
{
	const char *what = ended(j, 0) ? "ended" : "runs on without checkpoints";
	long last = chain_newest(j->dir);

	if (last == NO_CHECKPOINT)
		say("process %d %s; no checkpoint is complete", j->pid, what);
	else
		say("process %d %s; the last complete checkpoint is %ld", j->pid, what, last);
}

/* A chain that has ended, and stays (--keep): nobody builds on it any more. */
static void compress_others(const struct job *j, long current)
{
	struct checkpoint *v;
	char why[512];
	size_t i, n;
	int at;

	if (chain_list(j->dir, &v, &n))
		n = 0;
	for (i = 0; i < n; i++) {
		if (v[i].n >= current || !v[i].length || strcmp(v[i].owner, j->owner))
			continue;
		at = chain_folder(j->dir, v[i].n);
		if (at < 0)
			continue;
		if (pack_folder(at, j->packer, why, sizeof(why)))
			say("checkpoint %ld: %s", v[i].n, why);
		close(at);
	}
	free(v);
}

static int keep_going(struct job *j)
{
	long last = NO_CHECKPOINT, done = 0, n;
	int length = 0, failures = 0;

	while (wait_for(j, done ? j->every : 0)) {
		bool first;

		/* somebody took it away, or the machine was set back to when it was there */
		if (last != NO_CHECKPOINT && !chain_length(j->dir, last))
			last = NO_CHECKPOINT;
		first = last == NO_CHECKPOINT || length >= j->length || !j->tracked;

		n = next_one(j, last, first);
		if (ended(j, 0))
			break;
		done++;
		if (n == NO_CHECKPOINT) {
			failures++;
		} else {
			failures = 0;
			/* of those before, only when another one is there */
			chain_tidy(j->dir, j->owner, j->keep, j->failed);
			if (j->packer && chain_length(j->dir, n) == 1)
				compress_others(j, n);
			last = n;
			length = first ? 1 : length + 1;
		}
		if (done == j->rounds)
			return failures ? ST_CANNOT : ST_OK;
		if (last == NO_CHECKPOINT && failures == HOPELESS) {
			say("%d failed in a row and none succeeded; process %d runs on without",
			    HOPELESS, j->pid);
			return ST_CANNOT;
		}
	}
	if (j->last && !ended(j, 0))
		next_one(j, last, last == NO_CHECKPOINT || !j->tracked);
	say_end(j);
	return ended(j, 0) ? status_of(j) : ST_OK;
}

static int checkpoint(struct job *j)
{
	struct sigaction sa = { .sa_handler = on_signal };
	int rc = folder_open(j->path, CREATE, &j->dir);

	if (rc)
		return rc;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	rc = check_tracking(j);
	if (rc == 127)
		return criu_absent();
	j->tracked = rc == 0;
	if (!j->tracked)
		say("each checkpoint holds everything: criu has no tracker of memory here "
		    "(criu check --feature mem_dirty_track), see ooh-criu(7)");
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
	rc = set_owner(j);
	if (rc) {
		say("process %d: %s", j->pid, strerror(-rc));
		return ST_CANNOT;
	}
	fcntl(j->pidfd, F_SETFD, FD_CLOEXEC);
	if (j->cmd && j->json)
		put_json_line(json_pack("{s:i}", "pid", j->pid));
	else if (j->cmd)
		printf("process %d\n", j->pid);
	fflush(stdout);
	return keep_going(j);
}

/* ---- arguments */

enum { OPT_LAST = 1000, OPT_BEFORE, OPT_AFTER, OPT_COMPRESS };

static const struct argp_option checkpoint_options[] = {
	{ "every", 'e', "SECONDS", 0, "between two checkpoints (60)", 0 },
	{ "length", 'l', "N", 0, "checkpoints in a chain, then one holds everything (16)", 0 },
	{ "rounds", 'n', "N", 0, "end after so many, failed ones included; the process runs on",
	  0 },
	{ "keep", 'k', "N", 0, "the last N stay, with what they build on (1)", 0 },
	{ "last", OPT_LAST, NULL, 0, "one more at SIGINT, SIGTERM or SIGHUP, before it ends", 0 },
	{ "compress", OPT_COMPRESS, "PROGRAM", OPTION_ARG_OPTIONAL,
	  "older chains that stay: by zstd, gzip, xz or lz4", 0 },
	{ "before", OPT_BEFORE, "COMMAND", 0, "for sh, before each; if it fails none is made", 0 },
	{ "after", OPT_AFTER, "COMMAND", 0, "for sh, after each, complete or not", 0 },
	{ "json", 'j', NULL, 0, "a line of JSON for each", 0 },
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best for this", 0 },
	{ "pid", 'p', "PID", 0, "a process that runs already", 0 },
	COMMON_OPTIONS,
};

static double real(struct argp_state *state, const char *text)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end || !(d > 0) || d > 1e9)
		argp_error(state, "--every: \"%s\" is no number of seconds", text);
	return d;
}

static void check_backend(struct argp_state *state, const char *name)
{
	struct ooh_backend v[16];
	int i, n = ooh_backends(v, 16, sizeof(v[0]));

	for (i = 0; i < n; i++)
		if (!strcmp(v[i].name, name))
			return;
	argp_error(state, "there is no backend \"%s\"; see ooh backends", name);
}

static error_t parse_checkpoint(int key, char *arg, struct argp_state *state)
{
	struct job *j = state->input;

	switch (key) {
	case 'e':
		j->every = real(state, arg);
		return 0;
	case 'l':
		j->length = parse_number(state, "-l", arg, 1, 1000);
		return 0;
	case 'n':
		j->rounds = parse_number(state, "-n", arg, 1, LONG_MAX);
		return 0;
	case 'k':
		j->keep = parse_number(state, "-k", arg, 1, 1000000);
		return 0;
	case 'b':
		check_backend(state, arg);
		j->backend = arg;
		return 0;
	case OPT_COMPRESS:
		j->packer = packer_choose(arg);
		if (!j->packer)
			argp_error(state,
				   "--compress: there is zstd, gzip, xz and lz4, and no \"%s\"",
				   arg ?: "program of these here");
		return 0;
	case OPT_BEFORE:
		j->before = arg;
		return 0;
	case OPT_AFTER:
		j->after = arg;
		return 0;
	case 'j':
		j->json = true;
		return 0;
	case OPT_LAST:
		j->last = true;
		return 0;
	case 'p':
		j->pid = parse_number(state, "-p", arg, 1, INT_MAX);
		return 0;
	case ARGP_KEY_ARGS:
		j->cmd = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!j->cmd == !j->pid)
			argp_error(state, "either -p PID or a command is needed");
		break;
	}
	return job_parse(key, arg, state);
}

static const struct argp checkpoint_argp = {
	.options = checkpoint_options,
	.parser = parse_checkpoint,
	.args_doc = "DIR -p PID\nDIR -- COMMAND [ARG...]",
	.doc = "Keeps incremental checkpoints of a process, made by criu, in DIR.\v"
	       "What is in DIR, and how to have less there:\n"
	       "  ooh checkpoint list|inspect|verify DIR\n"
	       "  ooh checkpoint prune -k N DIR\n"
	       "  ooh checkpoint merge|compress DIR\n"
	       "\"ooh help checkpoint prune\" and so on explain each.",
};

int cmd_checkpoint(int argc, char **argv)
{
	struct job j = { .every = 60, .limit = LIMIT_S, .length = 16, .keep = 1, .pidfd = -1 };
	int status = cmd_manage(argc, argv);

	if (status >= 0)
		return status;
	argp_parse(&checkpoint_argp, argc, argv, ARGP_IN_ORDER, NULL, &j);
	return checkpoint(&j);
}
