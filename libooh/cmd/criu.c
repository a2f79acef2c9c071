// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmd.h"
#include "criu.h"

/* Runs criu with its output in the file log of the folder; its status, or -errno. */
int criu_run(const struct job *j, const char *folder, const char **argv)
{
	const char *criu = getenv("OOH_CRIU") ?: "criu";
	char path[PATH_MAX];
	int status, out;
	pid_t child;

	argv[0] = criu;
	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	out = j->log	? open(j->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) :
	      folder[0] ? openat(j->dir, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) :
			  open("/dev/null", O_WRONLY | O_CLOEXEC);
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
void criu_say_why(const struct job *j, const char *folder, const char *what, int status)
{
	char path[2 * NAME_LEN], line[512] = "", *error = NULL;
	int fd;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, OUTPUT);
	fd = j->log ? open(j->log, O_RDONLY | O_CLOEXEC) :
		      openat(j->dir, path, O_RDONLY | O_CLOEXEC);
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

/* Everything else that a chain has to have: it would break it, or be broken by it. */
const char *criu_refused(const char *option)
{
	static const char *const words[] = {
		"--leave-stopped", "-s", "--lazy-pages", "--auto-dedup", "--page-server",
		"-o", "--log-file", "-D", "--images-dir", "-t", "--tree", "--prev-images-dir",
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i]);

		if (!strncmp(option, words[i], n) && (!option[n] || option[n] == '='))
			return words[i];
	}
	return NULL;
}

bool criu_wants(const struct job *j, const char *option)
{
	int i;

	for (i = 0; i < j->ncriu_options; i++)
		if (!strcmp(j->criu_options[i], option))
			return true;
	return false;
}
