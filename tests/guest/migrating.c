// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a round ends while the kernel moves pages (compaction), so that some have
 * a migration entry at that moment. What is written afterwards is reported.
 *
 *	migrating BACKEND [ROUNDS]
 *
 * Prints how many rounds ended during a compaction, and what was missed. The kernel's
 * soft-dirty bits do miss some: docs/soundness.md.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ooh.h>

#include "tracker.h"

#define NR 60000UL

/* f: fills the memory and drops every second page, so that there is something to move; w: writes the rest */
static void child(char *p, int in, int out)
{
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(in, &c, 1) == 1) {
		if (c == 'f')
			memset(p, 1, NR * PAGE);
		for (unsigned long i = c == 'f'; i < NR; i += 2) {
			if (c == 'w')
				p[i * PAGE]++;
			else
				madvise(p + i * PAGE, PAGE, MADV_DONTNEED);
		}
		if (write(out, &c, 1) != 1)
			break;
	}
	_exit(0);
}

static void tell(const int *pipe_in, const int *pipe_out, char c)
{
	if (write(pipe_in[1], &c, 1) != 1 || read(pipe_out[0], &c, 1) != 1)
		error("the child");
}

static unsigned long missed_in(const struct ooh_range *v, ssize_t n, const char *p)
{
	unsigned long missed = 0;
	ssize_t at = 0;

	for (unsigned long i = 0; i < NR; i += 2) {
		uint64_t page = (uintptr_t)p + i * PAGE;

		while (at < n && v[at].end <= page)
			at++;
		missed += at == n || v[at].start > page;
	}
	return missed;
}

int main(int argc, char **argv)
{
	char *p = pages_of(NR, MAP_PRIVATE), reason[200] = "";
	unsigned int during = 0, rounds = argc > 2 ? atoi(argv[2]) : 15, flags;
	unsigned long missed = 0;
	const struct ooh_range *v;
	struct ooh_tracker *t;
	int in[2], out[2], rc;
	pid_t pid, mover;
	bool ended;
	ssize_t n;

	madvise(p, NR * PAGE, MADV_NOHUGEPAGE);
	if (argc < 2 || pipe(in) || pipe(out))
		error("usage: migrating BACKEND [ROUNDS]");
	pid = fork();
	if (!pid)
		child(p, in[0], out[1]);
	rc = ooh_open(pid, argv[1], 0, &t, reason, sizeof(reason));
	if (rc) {
		fprintf(stderr, "migrating: %s: %s\n", argv[1], reason);
		return 2;
	}
	srand(1);
	for (unsigned int r = 0; r < rounds; r++) {
		tell(in, out, 'f');
		mover = fork();
		if (!mover) {
			int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);

			_exit(write(fd, "1", 1) != 1);
		}
		usleep(rand() % 40000);
		if (ooh_collect(t, 0, &v, &flags) < 0)
			error("ooh_collect");
		ended = waitpid(mover, &rc, WNOHANG) == mover;
		during += !ended;
		if (!ended && waitpid(mover, &rc, 0) != mover)
			error("waitpid");
		if (!WIFEXITED(rc) || WEXITSTATUS(rc))
			error("compaction");
		tell(in, out, 'w');
		n = ooh_collect(t, 0, &v, &flags);
		if (n < 0 || flags & OOH_ALL_DIRTY)
			error("ooh_collect");
		missed += missed_in(v, n, p);
	}
	kill(pid, SIGKILL);
	ooh_close(t);
	check(!missed, "%lu of %lu pages missed, %u rounds ended during a compaction", missed,
	      rounds * NR / 2, during);
	printf("%s: %u of %u rounds ended during a compaction\n", argv[1], during, rounds);
	return verdict();
}
