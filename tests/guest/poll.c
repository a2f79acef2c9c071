// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: /dev/ooh and ooh_fd() are readable when, and only when, the log
 * holds as many records as the low-water mark says; a collect ends that; the end
 * of the address space is a hang-up.
 *
 * The CPU's log is emptied 512 records at a time (EPML: 192). So of NR written pages
 * at least NR - 511 have arrived.
 */
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ooh.h>

#include "tracker.h"

#define NR   2000UL
#define MARK 1000UL

static int readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, ms);

	if (n < 0)
		error("poll");
	return n ? p.revents : 0;
}

static void set_mark(int fd, unsigned long records)
{
	struct ooh_lowat mark = { .size = sizeof(mark), .records = records };

	if (ioctl(fd, OOH_IOC_LOWAT, &mark))
		error("OOH_IOC_LOWAT");
}

/*
 * Obeys letters, and answers each with the same letter: w writes all pages, s a few, e
 * executes another program, W waits and then writes.
 */
static void child(char *p, int in, int out)
{
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(p, 2, NR * PAGE);
	while (read(in, &c, 1) == 1) {
		if (c == 'W')
			usleep(200000);
		for (unsigned long i = 0; i < (c == 's' ? 100 : c == 'e' ? 0 : NR); i++)
			p[i * PAGE]++;
		if (c != 'W' && write(out, &c, 1) != 1)
			break;
		if (c == 'e')
			execl("/bin/sleep", "sleep", "100", NULL);
	}
	_exit(0);
}

static void ask(int to, int from, char c)
{
	if (write(to, &c, 1) != 1 || (c != 'W' && read(from, &c, 1) != 1))
		error("the child");
}

/* The next collect finds the log lost. */
static void lose_the_log(void)
{
	int fd = open("/sys/module/ooh/parameters/inject", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "lost", 4) != 4)
		error("inject");
	close(fd);
}

static void device(pid_t pid, int to, int from)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct round r = { 0 };
	struct ooh_info info = { .size = sizeof(info) };
	struct ooh_lowat mark = { .size = sizeof(mark) };
	struct ooh_collect c = { .size = sizeof(c) };
	int fd = tracker_open(), other, ep;

	check(readable(fd, 0) == POLLERR, "not attached: POLLERR");
	if (ioctl(fd, OOH_IOC_INFO, &info))
		error("OOH_IOC_INFO");
	mark.records = info.max_records + 1;
	check(ioctl(fd, OOH_IOC_LOWAT, &mark) && errno == EINVAL, "a mark above the most: EINVAL");
	check(ioctl(fd, OOH_IOC_LOWAT, NULL) && errno == EFAULT, "a bad pointer: EFAULT");
	mark.records = info.max_records;
	check(!ioctl(fd, OOH_IOC_LOWAT, &mark), "the highest mark");
	set_mark(fd, MARK);
	errno = try_attach(fd, pid);
	if (errno)
		error("OOH_IOC_ATTACH");

	check(!readable(fd, 60), "nothing written: not readable");
	ask(to, from, 's');
	check(!readable(fd, 60), "less than the mark written: not readable");
	ask(to, from, 'w');
	check(readable(fd, 5000) == POLLIN, "more than the mark written: readable");
	check(readable(fd, 0) == POLLIN, "and still");
	collect(fd, &r);
	check(r.pages >= NR, "the collect brings %lu pages", r.pages);
	check(!readable(fd, 60), "after it not readable");
	ask(to, from, 'W');
	check(readable(fd, 10000) == POLLIN, "woken when it is written meanwhile");
	collect(fd, &r);

	set_mark(fd, 2 * NR);
	ask(to, from, 'w');
	check(!readable(fd, 60), "a higher mark: not readable");
	set_mark(fd, MARK);
	/* on some hypervisors what is known is a little old: ooh/uapi.h */
	check(readable(fd, 1000) == POLLIN, "lower again: readable");
	collect(fd, &r);

	/* records that another tracker's collect took out of the log still wait for this one */
	other = tracker_of(pid);
	ask(to, from, 'w');
	collect(other, &r);
	check(readable(fd, 0) == POLLIN, "drained by another tracker: readable");
	check(!readable(other, 60), "that one is not");
	collect(fd, &r);
	check(r.pages >= NR && !readable(fd, 60), "collected (%lu pages): not readable", r.pages);

	lose_the_log();
	collect(other, &r);
	check(r.flags & OOH_F_ALL_DIRTY && readable(fd, 0) == POLLIN, "the log was lost: readable");
	collect(fd, &r);
	check(r.flags & OOH_F_ALL_DIRTY && !readable(fd, 60), "and told: not readable");
	close(other);

	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event))
		error("epoll");
	for (int i = 0; i < 2; i++) {
		check(!epoll_wait(ep, &event, 1, 60), "epoll, edge %d: nothing yet", i);
		ask(to, from, 'W');
		check(epoll_wait(ep, &event, 1, 10000) == 1 && event.events == EPOLLIN,
		      "then an event");
		check(!epoll_wait(ep, &event, 1, 100), "and no second one");
		collect(fd, &r);
	}
	close(ep);
	/* whoever has waited since before the attach got an error, and now gets records */
	other = tracker_open();
	set_mark(other, MARK);
	event.events = EPOLLIN | EPOLLET;
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, other, &event))
		error("epoll");
	check(epoll_wait(ep, &event, 1, 1000) == 1 && event.events & EPOLLERR,
	      "epoll, not attached: an error");
	usleep(100000);
	errno = try_attach(other, pid);
	if (errno)
		error("OOH_IOC_ATTACH");
	check(!epoll_wait(ep, &event, 1, 60), "attached: nothing yet");
	ask(to, from, 'W');
	check(epoll_wait(ep, &event, 1, 10000) == 1 && event.events == EPOLLIN,
	      "then an event, in its first round");
	close(ep);
	close(other);

	ask(to, from, 's');
	check(!ioctl(fd, OOH_IOC_COLLECT, &c) && c.flags & OOH_F_MORE, "no room: more");
	ask(to, from, 'e');
	check(readable(fd, 5000) & POLLHUP, "another program: POLLHUP");
	c.flags = OOH_COLLECT_CONTINUE;
	check(ioctl(fd, OOH_IOC_COLLECT, &c) && errno == ESRCH, "which ends what went on");
	check(try_collect(fd, &r) == ESRCH && readable(fd, 0) & POLLHUP, "and so it stays");
	close(fd);
}

static void library(pid_t pid, int to, int from)
{
	const struct ooh_range *v;
	struct ooh_tracker *t;
	unsigned int flags;
	int fd;

	if (ooh_open(pid, tested(), 0, &t, NULL, 0))
		error("ooh_open");
	check(ooh_fd(t, 1UL << 40) == -EINVAL, "ooh_fd: a mark above the log: EINVAL");
	fd = ooh_fd(t, MARK);
	check(fd >= 0 && ooh_fd(t, MARK) == fd, "ooh_fd: always the same one");
	check(!readable(fd, 60), "ooh_fd: not readable");
	ask(to, from, 'w');
	check(readable(fd, 5000) == POLLIN, "ooh_fd: readable");
	check(ooh_collect(t, 0, &v, &flags) > 0 && !flags && !readable(fd, 60),
	      "ooh_fd: not after the collect");
	ask(to, from, 'e');
	check(readable(fd, 5000) == POLLIN, "ooh_fd: readable after an exec");
	check(ooh_collect(t, 0, &v, &flags) > 0 && flags == OOH_ALL_DIRTY, "%s", ooh_reason(t));
	check(!readable(fd, 60) && ooh_fd(t, MARK) == fd, "ooh_fd: the same, for the new program");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check(readable(fd, 5000) == POLLIN, "ooh_fd: readable at the end of the process");
	check(ooh_collect(t, 0, &v, &flags) == -ESRCH, "which the collect tells");
	ooh_close(t);
	if (ooh_open(0, "pagemap-scan", 0, &t, NULL, 0))
		error("ooh_open");
	check(ooh_fd(t, MARK) == -EOPNOTSUPP, "no log, no descriptor");
	ooh_close(t);
}

int main(void)
{
	void (*const parts[])(pid_t, int, int) = { device, library };

	for (int i = 0; i < 2; i++) {
		char *p = touched(NR);
		int to[2], from[2];
		pid_t pid;

		if (pipe(to) || pipe(from))
			error("pipe");
		pid = fork();
		if (pid == 0)
			child(p, to[0], from[1]);
		/* it has pages of its own before it is tracked */
		ask(to[1], from[0], 's');
		parts[i](pid, to[1], from[0]);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return verdict();
}
