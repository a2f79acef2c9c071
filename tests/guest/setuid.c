// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: nobody can follow a program of greater rights through an exec. During the exec
 * the credentials are still the old ones; the FLUSH of a FUSE file that is closed on exec
 * prolongs that moment. Whoever may not trace the program afterwards gets at most a tracker of
 * the old memory, as with the kernel's own /proc/PID/mem, and that memory is gone after the
 * exec.
 */
#include <grp.h>

#include "fuse.h"
#include "processes.h"

#define USER	 1000
#define LIMIT_MS 4000

static int become_user(void)
{
	return setgroups(0, NULL) || setgid(USER) || setuid(USER) || prctl(PR_SET_DUMPABLE, 1) ||
	       prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* A program of root's that anybody may start. */
static void privileged_copy(char *path, size_t len)
{
	char buf[65536];
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), out;
	ssize_t n;

	snprintf(path, len, "/tmp/setuid.XXXXXX");
	out = mkstemp(path);
	while (out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			error(path);
	if (out < 0 || fchown(out, 0, 0) || fchmod(out, 04755))
		error(path);
	close(in);
	close(out);
}

int main(int argc, char **argv)
{
	static volatile int *result; /* of the attempt: errno + 1 */
	struct fuse_server *s;
	pid_t victim, attempt;
	struct round r = { 0 };
	char program[32], ready;
	int fd, says[2];

	if (argc > 1 && !strcmp(argv[1], "victim")) {
		if (geteuid() || write(STDOUT_FILENO, "!", 1) != 1)
			return 1;
		for (;;)
			pause();
	}
	s = fuse_mount();
	if (!s) {
		printf("skip: FUSE: %s\n", strerror(errno));
		return 77;
	}
	result = common(PAGE);
	fd = tracker_open();
	privileged_copy(program, sizeof(program));
	if (pipe2(says, O_CLOEXEC))
		error("pipe");
	fflush(stdout);

	victim = fork();
	if (!victim) {
		int f;

		if (dup2(says[1], STDOUT_FILENO) < 0 || become_user())
			_exit(1);
		f = open(s->file, O_RDWR | O_CLOEXEC);
		s->silent_on = FUSE_FLUSH;
		execl(program, program, "victim", (char *)NULL);
		_exit(f < 0 ? 2 : 3);
	}
	check(comes_true(&s->silent, 1, LIMIT_MS), "the program is in the midst of its exec");
	attempt = fork();
	if (!attempt) {
		if (become_user())
			_exit(1);
		*result = 1 + try_attach(fd, victim);
		_exit(0);
	}
	comes_true(result, 1, 500);
	s->silent_on = 0;
	check(gone(attempt, LIMIT_MS), "the attempt ends");
	close(says[1]);
	check(read(says[0], &ready, 1) == 1, "the program runs, as root");
	if (*result == 1)
		check(try_collect(fd, &r) == ESRCH, "the tracker is of memory that is gone");
	else
		check(*result == EACCES + 1, "there is no tracker: %s", strerror(*result - 1));

	/* the other direction: root may */
	close(fd);
	fd = tracker_of(victim);
	collect(fd, &r);
	check(!r.reason, "root may attach to it");
	close(fd);
	killed(victim, LIMIT_MS);
	unlink(program);
	fuse_unmount(s);
	return verdict();
}
