// SPDX-License-Identifier: GPL-2.0-only
/* ooh restore: brings a process back, from images that are checked first. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmd.h"
#include "criu.h"
#include "packed.h"

/* What a criu that was ended left half way is ours by then. */
static void end_children(void)
{
	char path[64];
	int pid, tries;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	for (tries = 0; tries < 1000; tries++) {
		f = fopen(path, "re");
		while (f && fscanf(f, "%d", &pid) == 1)
			kill(pid, SIGKILL);
		if (f)
			fclose(f);
		/* their own come to us when they are gone */
		if (waitpid(-1, NULL, WNOHANG) < 0)
			return;
		poll(NULL, 0, 5);
	}
}

/* The newest one that is whole. Says what is wrong with those that are newer. */
static long choose(const struct job *j)
{
	long n, last = chain_marked(j->dir), newest = chain_newest(j->dir);
	char why[512];

	if (j->number != NO_CHECKPOINT) {
		if (chain_check(j->dir, j->number, why, sizeof(why)))
			return j->number;
		say("checkpoint %ld cannot be used: %s", j->number, why);
		return NO_CHECKPOINT;
	}

	for (n = last; n != NO_CHECKPOINT; n--) {
		if (chain_check(j->dir, n, why, sizeof(why)))
			return n;
		if (n <= newest || n == last)
			say("checkpoint %ld cannot be used: %s", n, why);
	}
	return NO_CHECKPOINT;
}

static void remove_folder(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(fd, e->d_name, 0);
	if (d)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* In view, checkpoint n as criu wants it: what is compressed is plain, all else is a link. */
static int show_one(const struct job *j, int view, long n)
{
	char name[NAME_LEN], folder[PATH_MAX], path[2 * PATH_MAX], why[512] = "";
	int at = chain_folder(j->dir, n), out, rc = 0;
	struct dirent *e;
	DIR *d;

	chain_name(name, n);
	if (!realpath(j->path, folder) || mkdirat(view, name, 0700) || at < 0)
		return -errno;
	out = openat(view, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fdopendir(at);
	while (d && !rc && (e = readdir(d))) {
		if (e->d_name[0] == '.' || packed_name(e->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", folder, name, e->d_name);
		if (!strcmp(e->d_name, "parent")) {
			ssize_t len = readlinkat(at, "parent", path, sizeof(path) - 1);

			path[len > 0 ? len : 0] = '\0';
		}
		if (symlinkat(path, out, e->d_name))
			rc = -errno;
	}
	progress("checkpoint %ld is compressed", n);
	if (!rc)
		rc = unpack_folder(at, out, why, sizeof(why));
	if (d)
		closedir(d);
	close(out);
	if (*why)
		say("%s", why);
	return rc;
}

static bool any_packed(const struct job *j, long n)
{
	bool any = false;
	int at;

	for (; !any && n != NO_CHECKPOINT; n = chain_parent(j->dir, n)) {
		at = chain_folder(j->dir, n);
		any = at >= 0 && packed_any(at);
		if (at >= 0)
			close(at);
	}
	return any;
}

/* A folder with the plain chain of n; its descriptor, or -errno. */
static int show_chain(const struct job *j, long n, char *path, size_t size)
{
	int view, rc = 0;

	snprintf(path, size, "%s/ooh-restore.XXXXXX", getenv("TMPDIR") ?: "/var/tmp");
	if (!mkdtemp(path))
		return -errno;
	view = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (; view >= 0 && !rc && n != NO_CHECKPOINT; n = chain_parent(j->dir, n))
		rc = show_one(j, view, n);
	progress_end();
	return view < 0 ? -errno : rc ? rc : view;
}

static void hide_chain(const struct job *j, long n, const char *path)
{
	int view = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_LEN];

	for (; view >= 0 && n != NO_CHECKPOINT; n = chain_parent(j->dir, n)) {
		chain_name(name, n);
		remove_folder(view, name);
	}
	if (view >= 0)
		close(view);
	rmdir(path);
}

/* criu's status, or -errno */
static int restore_plain(struct job *j, long n, const char **argv)
{
	char name[NAME_LEN], path[PATH_MAX];
	const int dir = j->dir;
	int rc;

	chain_name(name, n);
	if (!any_packed(j, n))
		return criu_run(j, name, argv);
	rc = show_chain(j, n, path, sizeof(path));
	if (rc >= 0) {
		j->dir = rc;
		rc = criu_run(j, name, argv);
		close(j->dir);
		j->dir = dir;
	}
	hide_chain(j, n, path);
	return rc;
}

static int restore_in(struct job *j, const char *work)
{
	char name[NAME_LEN], pidfile[PATH_MAX], log[PATH_MAX], pid[16] = "?";
	const char *argv[16 + MAX_OPTIONS] = { NULL,   "restore", "--restore-detached",
					       "-D",   ".",	  "-v2",
					       "-W",   work,	  "--pidfile",
					       pidfile };
	int rc, argc = 10;
	long n = choose(j);
	FILE *f;

	if (n == NO_CHECKPOINT) {
		if (j->number == NO_CHECKPOINT)
			say("%s holds no complete checkpoint", j->path);
		return ST_CANNOT;
	}
	chain_name(name, n);
	criu_recall(j, name);
	snprintf(pidfile, sizeof(pidfile), "%s/restored.pid", work);
	snprintf(log, sizeof(log), "%s/" OUTPUT, work);
	j->log = log;
	if (!criu_wants(j, "--tcp-established"))
		argv[argc++] = "--tcp-close";
	criu_add_options(j, argv, argc);
	snprintf(j->doing, sizeof(j->doing), "restore of checkpoint %ld", n);
	rc = restore_plain(j, n, argv);
	if (rc == 127) {
		unlink(log);
		j->log = NULL;
		return criu_absent();
	}
	if (rc > 0)
		criu_say_why(j, name, "restore", rc);
	else if (rc)
		say("restore: %s",
		    rc == -ETIME ? "criu took too long (--limit) and was ended" : strerror(-rc));
	if (rc == -ETIME)
		end_children();
	j->log = NULL;
	if (rc)
		return ST_CANNOT;
	f = fopen(pidfile, "re");
	if (f && fscanf(f, "%15s", pid) != 1)
		strcpy(pid, "?");
	if (f)
		fclose(f);
	printf("checkpoint %ld: process %s\n", n, pid);
	unlink(pidfile);
	unlink(log);
	snprintf(log, sizeof(log), "%s/stats-restore", work);
	unlink(log);
	return ST_OK;
}

/* criu writes into a folder of its own: the images stay as they are, and may be read-only. */
static int restore(struct job *j)
{
	char work[] = "/tmp/ooh-restore.XXXXXX";
	int rc = folder_open(j->path, CHANGE, &j->dir);

	/* for end_children() */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (rc)
		return rc;
	if (!mkdtemp(work)) {
		say("%s: %s", work, strerror(errno));
		return ST_CANNOT;
	}
	rc = restore_in(j, work);
	/* with a log in it, it stays */
	rmdir(work);
	return rc;
}

static const struct argp_option restore_options[] = {
	COMMON_OPTIONS,
};

static error_t parse_restore(int key, char *arg, struct argp_state *state)
{
	struct job *j = state->input;

	if (key == ARGP_KEY_ARG && j->path) {
		j->number = checkpoint_number(state, arg);
		return 0;
	}
	return job_parse(key, arg, state);
}

static const struct argp restore_argp = {
	.options = restore_options,
	.parser = parse_restore,
	.args_doc = "DIR [NUMBER]",
	.doc = "Brings back a checkpoint in DIR: the newest that is whole, or this one.",
};

int cmd_restore(int argc, char **argv)
{
	struct job j = { .pidfd = -1, .limit = LIMIT_S };

	argp_parse(&restore_argp, argc, argv, ARGP_IN_ORDER, NULL, &j);
	return restore(&j);
}
