// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: several trackers, on one process and on several, keep rounds of
 * their own.
 *
 * Xen has one log and one round for the domain: a collect for one tracker ends the round
 * of all. What it drains for others must wait for them. Frames that a closed tracker left
 * armed make records before the next tracker comes. These may be in the log of any CPU
 * then, and do not concern the next tracker.
 */
#include <sched.h>
#include <sys/wait.h>

#include "tracker.h"

#define NR 32UL

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		error("sched_setaffinity");
}

/* With one CPU the records go by themselves; and EPML's start empties Xen's log. */
static void written_before(char *p, const char *what)
{
	long last = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	unsigned long extra = 0, missed = 0;
	struct round r = { 0 };
	cpu_set_t all;

	if (sched_getaffinity(0, sizeof(all), &all))
		error("sched_getaffinity");
	for (int i = 0; i < 8; i++) {
		int fd = tracker_of(getpid());

		collect(fd, &r);
		close(fd);
		run_on(i % 2 ? last : 0);
		memset(p, i, NR * PAGE);
		run_on(i % 2 ? 0 : last);
		fd = tracker_of(getpid());
		p[PAGE]++;
		collect(fd, &r);
		missed += !reported(&r, p + PAGE);
		extra += reported_in(&r, p, NR) - reported(&r, p + PAGE);
		close(fd);
	}
	if (sched_setaffinity(0, sizeof(all), &all))
		error("sched_setaffinity");
	check(!missed && !extra, "written before, %s: %lu missed, %lu extra", what, missed, extra);
}

int main(void)
{
	char *p = touched(NR), *shared = pages_of(NR, MAP_SHARED);
	struct round a = { 0 }, b = { 0 }, c = { 0 };
	struct ooh_info info = { .size = sizeof(info) };
	int one, two, child, go[2], done[2];
	pid_t pid;
	char x;

	memset(shared, 1, NR * PAGE);
	if (pipe(go) || pipe(done))
		error("pipe");
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 2; i++) {
			if (read(go[0], &x, 1) != 1)
				_exit(1);
			p[(10 + i) * PAGE]++;
			shared[(20 + i) * PAGE]++;
			if (write(done[1], "d", 1) != 1)
				_exit(1);
		}
		if (read(go[0], &x, 1) != 1)
			_exit(1);
		_exit(0);
	}
	/* copy what fork shared now, not in a round */
	memset(p, 2, NR * PAGE);

	written_before(p, "no other tracker");
	one = tracker_of(getpid());
	two = tracker_of(getpid());
	child = tracker_of(pid);
	written_before(p, "beside other trackers");
	collect(one, &a);
	collect(two, &c);
	if (ioctl(one, OOH_IOC_INFO, &info))
		error("OOH_IOC_INFO");
	check(info.trackers == 3, "three trackers (%u)", info.trackers);

	p[PAGE]++;
	collect(one, &a);
	p[2 * PAGE]++;
	collect(one, &b);
	collect(two, &c);
	check(reported(&a, p + PAGE) && !reported(&a, p + 2 * PAGE),
	      "the first tracker's first round");
	check(!reported(&b, p + PAGE) && reported(&b, p + 2 * PAGE), "its second");
	check(reported(&c, p + PAGE) && reported(&c, p + 2 * PAGE), "both in the other's first");
	check(!reported(&c, p + 3 * PAGE), "and not more");

	for (int i = 0; i < 2; i++) {
		if (write(go[1], "g", 1) != 1 || read(done[0], &x, 1) != 1)
			error("the child");
		collect(child, &a);
		collect(one, &b);
		check(reported(&a, p + (10 + i) * PAGE) && !reported(&b, p + (10 + i) * PAGE),
		      "the child's page is the child's");
		check(reported(&a, shared + (20 + i) * PAGE), "the shared page is the child's");
		/* mapped here, too: it is in our table only if it was touched here */
		check(reported(&b, shared + (20 + i) * PAGE), "and ours");
	}

	/* one tracker goes, the other goes on */
	close(one);
	p[4 * PAGE]++;
	collect(two, &c);
	check(reported(&c, p + 4 * PAGE) && !reported(&c, p + 5 * PAGE),
	      "the first tracker closed");

	if (write(go[1], "g", 1) != 1)
		error("the child");
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 50 && stats_of(child).mapped; i++) {
		close(tracker_of(getpid()));
		usleep(100000);
	}
	check(!stats_of(child).mapped, "what has ended is let go while others come and go");
	check(try_collect(child, &a) == ESRCH, "a process that has ended: ESRCH (%s)",
	      strerror(errno));
	collect(two, &c);
	p[6 * PAGE]++;
	collect(two, &c);
	check(reported(&c, p + 6 * PAGE) && !reported(&c, p + 7 * PAGE), "the rest goes on");
	return verdict();
}
