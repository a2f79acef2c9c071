// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: each backend of libooh reports, round after round, exactly the pages
 * that a process wrote, and not their neighbours. A backend that this machine does
 * not have (OOH_WITHOUT) is refused.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ooh.h>
#include "tracker.h"

#define NR 64

/* Gets a byte for each page to write; answers 0xff with the same. */
static void writes_what_it_is_told(char *p, int in, int out)
{
	unsigned char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(in, &c, 1) == 1) {
		if (c < NR)
			p[c * PAGE + c]++;
		else if (write(out, &c, 1) != 1)
			break;
	}
	_exit(0);
}

static void rounds(const char *backend, char *p, pid_t pid, int to, int from)
{
	static const char *const wanted[] = {
		"\x03\x04\x32", "", "\x3f", "\x03", "\x01\x02\x3e\x3d", "", "\x00",
	};
	struct ooh_tracker *t;
	char why[OOH_REASON_LEN];
	int rc = ooh_open(pid, backend, 0, &t, why, sizeof(why));

	check(rc == 0, "%s: %s", backend, rc ? why : "opened");
	if (rc)
		return;
	for (size_t k = 0; k < sizeof(wanted) / sizeof(wanted[0]); k++) {
		/* the last one is page 0, whose byte ends the string */
		size_t len = k == 6 ? 1 : strlen(wanted[k]);
		const struct ooh_range *v;
		int missed = 0, extra = 0;
		unsigned int flags;
		char c = -1;
		ssize_t n;

		if (write(to, wanted[k], len) != (ssize_t)len || write(to, &c, 1) != 1 ||
		    read(from, &c, 1) != 1)
			error("the child");
		n = ooh_collect(t, 0, &v, &flags);
		for (unsigned long i = 0; i < NR; i++) {
			bool is = false, should = memchr(wanted[k], i, len);

			for (ssize_t j = 0; j < n; j++)
				is |= v[j].start <= (unsigned long)(p + i * PAGE) &&
				      (unsigned long)(p + i * PAGE) < v[j].end;
			missed += should && !is;
			extra += is && !should;
		}
		check(n >= 0 && !flags && !missed && !extra,
		      "%s, round %zu: %zu written, %d missed, %d extra", backend, k, len, missed,
		      extra);
	}
	ooh_close(t);
}

static void refused(const char *backend)
{
	struct ooh_tracker *t;
	char why[OOH_REASON_LEN];
	int rc = ooh_open(getpid(), backend, 0, &t, why, sizeof(why));

	check(rc == -EOPNOTSUPP, "%s: refused: %s", backend, rc ? why : "opened");
	if (!rc)
		ooh_close(t);
}

int main(void)
{
	static const char *const backends[] = { "epml", "spml", "pagemap-scan", "uffd-wp",
						"soft-dirty" };
	const char *without = getenv("OOH_WITHOUT");

	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		int to[2], from[2], status;
		char *p = touched(NR);
		pid_t pid;

		if (without && !strcmp(without, backends[i])) {
			refused(backends[i]);
			continue;
		}
		if (pipe(to) || pipe(from))
			error("pipe");
		pid = fork();
		if (pid < 0)
			error("fork");
		if (pid == 0) {
			/* copy on write is not tested here: have the pages first */
			memset(p, 2, NR * PAGE);
			close(to[1]);
			writes_what_it_is_told(p, to[0], from[1]);
		}
		/* let it have done that */
		if (write(to[1], "\xff", 1) != 1 || read(from[0], &status, 1) != 1)
			error("the child");
		rounds(backends[i], p, pid, to[1], from[0]);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		close(to[0]);
		close(to[1]);
		close(from[0]);
		close(from[1]);
	}
	return verdict();
}
