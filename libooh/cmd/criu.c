// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmd.h"
#include "criu.h"

/* What a dump has written of memory so far, in MB */
static double pages_in(const struct job *j, const char *folder)
{
	char path[2 * NAME_LEN];
	struct stat st;
	double bytes = 0;
	int i;

	for (i = 1; i < 1000; i++) {
		snprintf(path, sizeof(path), "%s/pages-%d.img", folder, i);
		if (fstatat(j->dir, path, &st, 0))
			break;
		bytes += 512.0 * st.st_blocks;
	}
	return bytes / 1e6;
}

/* Whether the child ends within the limit. */
static bool ends_in_time(const struct job *j, const char *folder, pid_t child)
{
	uint64_t until = now_ns() + j->limit * 1000000000ull, now;
	struct pollfd fd = { .fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN };
	bool ends = fd.fd < 0;

	while (!ends && (now = now_ns()) < until) {
		ends = poll(&fd, 1, 250) > 0;
		if (!ends && j->doing[0])
			progress("%s, %.0f MB", j->doing, pages_in(j, folder));
	}
	progress_end();
	if (fd.fd >= 0)
		close(fd.fd);
	return ends;
}

/* 0, a status, or -errno; ETIME: it took longer than the limit, and was ended. */
static int wait_for_child(const struct job *j, const char *folder, pid_t child)
{
	bool late = !ends_in_time(j, folder, child);
	int status;

	if (late) {
		kill(-child, SIGKILL);
		kill(child, SIGKILL);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (late)
		return -ETIME;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs criu with its output in the file log of the folder; its status, or -errno. */
int criu_run(const struct job *j, const char *folder, const char **argv)
{
	const char *criu = getenv("OOH_CRIU") ?: "criu";
	char path[PATH_MAX];
	pid_t child;
	int out;

	argv[0] = criu;
	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	out = j->log	  ? open(j->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
	      : folder[0] ? openat(j->dir, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
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
	return wait_for_child(j, folder, child);
}

/*
 * Runs the user's command for checkpoint n: what it prints goes to our standard error. Its status,
 * or -errno.
 */
int criu_hook(const struct job *j, const char *command, long n, const char *status)
{
	char name[NAME_LEN], text[32], path[PATH_MAX];
	pid_t child = fork();
	int null;

	if (child < 0)
		return -errno;
	if (child)
		return wait_for_child(j, "", child);
	setpgid(0, 0);
	null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	dup2(2, 1);
	if (!realpath(j->path, path))
		_exit(126);
	setenv("OOH_DIR", path, 1);
	chain_name(name, n);
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", name);
	setenv("OOH_FOLDER", path, 1);
	snprintf(text, sizeof(text), "%ld", n);
	setenv("OOH_NUMBER", text, 1);
	snprintf(text, sizeof(text), "%d", j->pid);
	setenv("OOH_PID", text, 1);
	setenv("OOH_STATUS", status, 1);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

/* What criu's words mean to somebody who does not run criu. */
static void hint(const char *error)
{
	char file[256], comm[32] = "?", path[40], option[64];
	unsigned long long is, was;
	const char *at;
	FILE *f;
	int pid;

	at = strstr(error, "Can't fork for ");
	if (at && strstr(at, "File exists") && sscanf(at, "Can't fork for %d", &pid) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		f = fopen(path, "re");
		if (f && fscanf(f, "%31[^\n]", comm) != 1)
			strcpy(comm, "?");
		if (f)
			fclose(f);
		say("process %d (%s) is alive, and the restored one needs its number", pid, comm);
	}
	at = strstr(error, "File ");
	if (at && sscanf(at, "File %255s has bad size %llu (expect %llu)", file, &is, &was) == 3)
		say("/%s has been written since the checkpoint; \"truncate -s %llu /%s\" gives it "
		    "the "
		    "size back that it had, and loses what came later",
		    file, was, file);
	at = strstr(error, "--");
	if (at && sscanf(at, "%63[a-z-]", option) == 1 && option[2])
		say("that is, for ooh: -c %s", option);
}

/* The error that criu told first; the others follow from it, most of the time. */
void criu_say_why(const struct job *j, const char *folder, const char *what, int status)
{
	char path[2 * NAME_LEN], line[512] = "", *error = NULL;
	int fd;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	fd = j->log ? open(j->log, O_RDONLY | O_CLOEXEC)
		    : openat(j->dir, path, O_RDONLY | O_CLOEXEC);
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
	line[strcspn(line, "\n")] = '\0';
	/* without such a line (an option that criu does not know) what it said last */
	error = error ?: line;
	say("%s: criu ended with %d%s%s", what, status, *error ? ": " : "", error);
	hint(error);
	if (geteuid())
		say("criu needs root or CAP_CHECKPOINT_RESTORE, and this is user %d", geteuid());
	if (j->log)
		say("%s: its log is %s", what, j->log);
	else
		say("%s: its log is %s/%s", what, j->path, path);
}

/* Appends options, the user's last. */
void criu_add_options(const struct job *j, const char **argv, int n)
{
	int i;

	for (i = 0; i < j->ncriu_options; i++)
		argv[n++] = j->criu_options[i];
	argv[n] = NULL;
}

/* The exit status; says what is missing. */
int criu_absent(void)
{
	const char *criu = getenv("OOH_CRIU");

	say("criu is needed, and %s%s%s", criu ? "OOH_CRIU=" : "there is none", criu ?: "",
	    criu ? " cannot be executed" : ": see criu(8), ooh-criu(7)");
	return ST_NO_CRIU;
}

/* Everything else that a chain has to have: it would break it, or be broken by it. */
const char *criu_refused(const char *option)
{
	static const char *const words[] = {
		"--leave-stopped", "-s", "--lazy-pages", "--auto-dedup",
		"--page-server",   "-o", "--log-file",	 "-D",
		"--images-dir",	   "-t", "--tree",	 "--prev-images-dir",
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i]);

		if (!strncmp(option, words[i], n) && (!option[n] || option[n] == '='))
			return words[i];
	}
	return NULL;
}

/* What was needed to dump and is to restore; one word each, with the same meaning for both. */
static bool is_remembered(const char *option)
{
	static const char *const words[] = {
		"--shell-job",	"-j", "--tcp-established", "--ext-unix-sk", "-x",
		"--file-locks", "-l", "--allow-uprobes",
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(option, words[i]))
			return true;
	return false;
}

/* Puts the options that a restore needs into the folder. 0 or -errno. */
int criu_remember(const struct job *j, const char *folder)
{
	char path[2 * NAME_LEN];
	int i, fd, rc;
	FILE *f;

	snprintf(path, sizeof(path), "%s/" OPTIONS, folder);
	fd = openat(j->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		return -errno;
	for (i = 0; i < j->ncriu_options; i++)
		if (is_remembered(j->criu_options[i]))
			fprintf(f, "%s\n", j->criu_options[i]);
	rc = ferror(f) ? -EIO : 0;
	return fclose(f) && !rc ? -errno : rc;
}

/* Adds them to those of the user. */
void criu_recall(struct job *j, const char *folder)
{
	char path[2 * NAME_LEN], line[64];
	int fd;
	FILE *f;

	snprintf(path, sizeof(path), "%s/" OPTIONS, folder);
	fd = openat(j->dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	while (f && fgets(line, sizeof(line), f) && j->ncriu_options < MAX_OPTIONS) {
		line[strcspn(line, "\n")] = '\0';
		if (!is_remembered(line) || criu_wants(j, line))
			continue;
		j->criu_options[j->ncriu_options] = strdup(line);
		if (j->criu_options[j->ncriu_options])
			j->ncriu_options++;
	}
	if (f)
		fclose(f);
}

bool criu_wants(const struct job *j, const char *option)
{
	int i;

	for (i = 0; i < j->ncriu_options; i++)
		if (!strcmp(j->criu_options[i], option))
			return true;
	return false;
}

/* A status; says why not. */
int folder_open(const char *path, enum use use, int *dir)
{
	*dir = chain_open(path, use);
	if (*dir == -EBUSY)
		say("%s is in use by another ooh", path);
	else if (*dir < 0)
		say("%s: %s", path, strerror(-*dir));
	return *dir < 0 ? ST_CANNOT : ST_OK;
}

/* What may follow the folder, once */
long checkpoint_number(struct argp_state *state, const char *arg)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (state->arg_num > 1 || end == arg || *end || n < 1)
		argp_error(state, "\"%s\" is no number of a checkpoint", arg);
	return n;
}

error_t job_parse(int key, char *arg, struct argp_state *state)
{
	struct job *j = state->input;
	char *end;

	switch (key) {
	case 'c':
		if (j->ncriu_options == MAX_OPTIONS)
			argp_error(state, "too many options for criu");
		if (criu_refused(arg))
			argp_error(state, "-c %s: ooh needs this to be its own choice", arg);
		j->criu_options[j->ncriu_options++] = arg;
		return 0;
	case OPT_LIMIT:
		j->limit = strtol(arg, &end, 10);
		if (end == arg || *end || j->limit < 1 || j->limit > 1000000)
			argp_error(state, "--limit: \"%s\" is no number of seconds", arg);
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
	return parse_help(key, state);
}
