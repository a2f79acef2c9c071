// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process whose first thread has ended (pthread_exit) lives on in its others:
 * a tracker goes on, and a new one can be opened.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <ooh.h>

#include "processes.h"

static const char *const backends[] = { "epml", "spml", "pagemap-scan", "uffd-wp", "soft-dirty" };

#define NR 64UL

static char *area;
static int to, from;

static void *second(void *arg)
{
	int *pipes = arg;
	char c;

	while (read(pipes[0], &c, 1) == 1) {
		area[c * PAGE]++;
		if (write(pipes[1], &c, 1) != 1)
			break;
	}
	_exit(0);
}

/* Its first thread ends when it is asked to by a signal. */
static pid_t start(void)
{
	int there[2], back[2], pipes[2], sig;
	pthread_t thread;
	sigset_t set;
	pid_t pid;

	if (pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC))
		error("pipe");
	to = there[1];
	from = back[0];
	fflush(stdout);
	pid = fork();
	if (pid) {
		close(there[0]);
		close(back[1]);
		return pid;
	}
	/* no PR_SET_PDEATHSIG: it sees the pipe end when we end */
	close(there[1]);
	pipes[0] = there[0];
	pipes[1] = back[1];
	/* pages of its own: soft-dirty cannot tell a page shared after a fork from another */
	memset(area, 2, NR * PAGE);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (pthread_create(&thread, NULL, second, pipes))
		_exit(1);
	sigwait(&set, &sig);
	/* as pthread_exit(3) does in the end */
	syscall(SYS_exit, 0);
	_exit(1);
}

static void tell_it(char c)
{
	if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
		error("the target");
}

static bool is_zombie(pid_t pid)
{
	char path[32], line[256] = "", *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		error(path);
	fclose(f);
	end = strrchr(line, ')');
	return end && end[2] == 'Z';
}

static void follows(struct ooh_tracker *t, const char *backend, const char *when)
{
	const struct ooh_range *v;
	unsigned int flags;
	ssize_t n;

	for (int k = 4; k < 6; k++) {
		tell_it(k);
		n = ooh_collect(t, 0, &v, &flags);
		check(n >= 0 && in_ranges(v, n, area + k * PAGE), "%s, %s: written, reported (%s)",
		      backend, when, n < 0 ? strerror(-n) : "ok");
		check(n < 0 || (!in_ranges(v, n, area + 20 * PAGE) && !flags),
		      "%s, %s: not written", backend, when);
	}
}

static void tried_with(const char *backend)
{
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t, *fresh;
	pid_t pid = start();
	int rc;

	tell_it(1);
	rc = ooh_open(pid, backend, 0, &t, why, sizeof(why));
	/* not on every machine */
	if (rc == -ENOENT || rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENOTTY)
		printf("skip: %s: %s\n", backend, why);
	else
		check(rc == 0, "%s: %s", backend, rc ? why : "opened");
	if (!rc) {
		follows(t, backend, "with its first thread");
		kill(pid, SIGUSR1);
		for (int i = 0; i < 500 && !is_zombie(pid); i++)
			usleep(10000);
		check(is_zombie(pid), "%s: the first thread has ended", backend);
		follows(t, backend, "without it");
		ooh_close(t);
		rc = ooh_open(pid, backend, 0, &fresh, why, sizeof(why));
		check(rc == 0, "%s, a new tracker: %s", backend, rc ? why : "opened");
		if (!rc) {
			follows(fresh, backend, "from then on");
			ooh_close(fresh);
		}
	}
	close(to);
	close(from);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	/* apart from others: where mappings were merged, soft-dirty marks the whole mapping */
	area = mmap((void *)0x220000000000UL, NR * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		error("mmap");
	memset(area, 1, NR * PAGE);
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		tried_with(backends[i]);
	return verdict();
}
