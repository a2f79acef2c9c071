// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a program executes itself, at the same addresses (no randomization), while a
 * process that shares the old memory lives on. The new program has another address space. What
 * it writes is reported, and everything is dirty in the round of the exec.
 */
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ooh.h>

#include "tracker.h"

static const char *const backends[] = { "epml", "spml", "pagemap-scan", "uffd-wp", "soft-dirty" };

#define NR   64UL
#define AREA ((char *)0x100000000000UL)

static int keeps_the_memory(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pause();
	_exit(0);
}

/*
 * The target: does a letter's order and answers with it. 3 and 4 are the pipes. Arguments and
 * environment are the same in both lives, so that the stack is, too.
 */
static void target(char **argv)
{
	static char stack[65536];
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mmap(AREA, NR * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != AREA)
		_exit(1);
	madvise(AREA, NR * PAGE, MADV_NOHUGEPAGE);
	memset(AREA, 1, NR * PAGE);
	c = '.';
	while (write(4, &c, 1) == 1 && read(3, &c, 1) == 1) {
		if (c == 'x') {
			if (clone(keeps_the_memory, stack + sizeof(stack), CLONE_VM | SIGCHLD,
				  NULL) < 0)
				_exit(1);
			execv("/proc/self/exe", argv);
			_exit(1);
		}
		AREA[c * PAGE]++;
	}
	_exit(0);
}

static int to, from;

static void tell(char c)
{
	if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
		error("the target");
}

static pid_t start(void)
{
	int there[2], back[2];
	pid_t pid;
	char c;

	if (pipe(there) || pipe(back))
		error("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		personality(ADDR_NO_RANDOMIZE);
		/* first to numbers above 4: 3 or 4 may be in use */
		if (dup2(there[0], 10) < 0 || dup2(back[1], 11) < 0 || dup2(10, 3) < 0 ||
		    dup2(11, 4) < 0)
			_exit(1);
		execl("/proc/self/exe", "target", "target", (char *)NULL);
		_exit(1);
	}
	close(there[0]);
	close(back[1]);
	to = there[1];
	from = back[0];
	if (read(from, &c, 1) != 1)
		error("the target");
	return pid;
}

static void tried_with(const char *backend)
{
	char why[OOH_REASON_LEN];
	const struct ooh_range *v;
	struct ooh_tracker *t;
	unsigned int flags;
	pid_t pid = start();
	ssize_t n;
	int rc = ooh_open(pid, backend, 0, &t, why, sizeof(why));

	/* not on every machine */
	if (rc == -ENOENT || rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENOTTY)
		printf("skip: %s: %s\n", backend, why);
	else
		check(rc == 0, "%s: %s", backend, rc ? why : "opened");
	if (rc)
		goto out;
	ooh_collect(t, 0, &v, NULL);
	tell(2);
	n = ooh_collect(t, 0, &v, &flags);
	check(in_ranges(v, n, AREA + 2 * PAGE) && !in_ranges(v, n, AREA + 3 * PAGE) && !flags,
	      "%s: written before the exec", backend);
	tell('x');
	n = ooh_collect(t, 0, &v, &flags);
	check(n > 0 && flags & OOH_ALL_DIRTY, "%s: the exec's round is all dirty: %s", backend,
	      n < 0 ? strerror(-n) : ooh_reason(t));
	for (int k = 5; k < 8; k++) {
		tell(k);
		n = ooh_collect(t, 0, &v, &flags);
		check(in_ranges(v, n, AREA + k * PAGE), "%s: written by the new program", backend);
		check(!in_ranges(v, n, AREA + 9 * PAGE) && !flags, "%s: and nothing else", backend);
	}
	ooh_close(t);
out:
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(to);
	close(from);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "target"))
		target(argv);
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		tried_with(backends[i]);
	return verdict();
}
