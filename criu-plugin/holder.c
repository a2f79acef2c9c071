// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh-holder SOCKET: keeps the trackers of processes that CRIU dumps again and
 * again, as each criu is a process that ends. The plugin starts it with a listening
 * socket; it ends when none of the processes is left. With an option it asks the holder
 * that runs. ooh-criu(7) tells the whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include "client.h"
#include "held.h"

#define LINGER_MS 5000 /* with nothing to hold: the next request is not far, maybe */
#define SWEEP_MS  (60 * 60 * 1000)
#define STALL_S	  10 /* a client that neither reads nor writes */
#define CLIENTS	  64

static int clients[CLIENTS], nclients;

/* One request of a client. false: the end of it. */
static bool answer(int fd)
{
	struct hold_reply reply = { .magic = HOLD_MAGIC };
	struct hold_entry *list = NULL;
	struct ooh_range *ranges = NULL;
	struct hold_request q;
	size_t n = 0;
	bool good;

	if (!hold_transfer(fd, &q, sizeof(q), false) || q.magic != HOLD_MAGIC)
		return false;
	q.backend[sizeof(q.backend) - 1] = '\0';
	if (q.pid_ns != hold_pid_ns()) {
		reply.error = -EXDEV;
		reply.all = 1;
		snprintf(reply.reason, sizeof(reply.reason),
			 "the holder runs in another pid namespace");
	} else if (q.op == HOLD_LIST) {
		list = held_list(&n);
		if (!list)
			reply.error = -ENOMEM;
		else
			reply.ranges = n;
	} else if (q.op == HOLD_RELEASE) {
		reply.error = held_release(q.pid);
	} else {
		held_serve(&q, &reply, &ranges);
	}
	good = hold_transfer(fd, &reply, sizeof(reply), true) &&
	       (list ? hold_transfer(fd, list, n * sizeof(*list), true)
		     : hold_transfer(fd, ranges, reply.ranges * sizeof(*ranges), true));
	free(ranges);
	free(list);
	return good;
}

static bool ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.uid == geteuid();
}

static void welcome(int listening, int epoll)
{
	struct timeval limit = { .tv_sec = STALL_S };
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };

	if (fd < 0)
		return;
	event.data.ptr = &clients[nclients];
	if (nclients == CLIENTS || !ours(fd) || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) {
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	clients[nclients++] = fd;
}

/* The last one takes the place of the one that leaves. */
static void farewell(int *client, int epoll)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

	close(*client);
	*client = clients[--nclients];
	if (client != &clients[nclients])
		epoll_ctl(epoll, EPOLL_CTL_MOD, *client, &event);
}

/*
 * Nothing of the first criu is kept in use longer than it: neither its mount namespace, with
 * all that is mounted there, nor its others. pid_ns is where the pids are of, and stays.
 * Without the rights to do so the holder stays where it is.
 */
static void leave_namespaces(void)
{
	int init = syscall(SYS_pidfd_open, 1, 0);

	if (init < 0)
		return;
	if (setns(init,
		  CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) ||
	    chdir("/"))
		fputs("ooh-holder stays in the namespaces of criu\n", stderr);
	close(init);
}

static bool same_file(const char *path, const struct stat *is)
{
	struct stat st;

	return !stat(path, &st) && st.st_dev == is->st_dev && st.st_ino == is->st_ino;
}

/*
 * The socket's name goes first, under the lock under which the plugin looks for
 * it: from then on there can be another holder. Who connected before is served.
 * A socket that has no name here (it was made in another mount namespace, or somebody
 * removed it) stays behind, and the plugin finds that nobody listens.
 */
static bool may_leave(int listening, const char *path, const struct stat *is)
{
	struct pollfd fd = { .fd = listening, .events = POLLIN };
	char lock[128];
	int lfd;

	if (!same_file(path, is))
		return !poll(&fd, 1, 0);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	lfd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lfd < 0 || flock(lfd, LOCK_EX | LOCK_NB)) {
		if (lfd >= 0)
			close(lfd);
		return false;
	}
	if (poll(&fd, 1, 0)) {
		close(lfd);
		return false;
	}
	unlink(path);
	close(lfd);
	return true;
}

static int hold(const char *path)
{
	struct epoll_event event = { .events = EPOLLIN }, v[CLIENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC), i, n;
	struct stat socket;

	if (epoll < 0 || stat(path, &socket) || epoll_ctl(epoll, EPOLL_CTL_ADD, HOLD_FD, &event))
		return 1;
	leave_namespaces();
	held_watch(epoll);
	for (;;) {
		bool idle = !held_any() && !nclients;

		/*
		 * One at a time: what is done for one can be the end of another. Who was just
		 * served is the last in the kernel's list, so nobody has to wait for ever.
		 */
		n = epoll_wait(epoll, v, 1, idle ? LINGER_MS : SWEEP_MS);
		if (n == 0) {
			held_sweep();
			if (idle && may_leave(HOLD_FD, path, &socket))
				return 0;
		}
		for (i = 0; i < n; i++) {
			int *client = v[i].data.ptr;

			if (!client)
				welcome(HOLD_FD, epoll);
			else if (client < clients || client >= clients + CLIENTS)
				held_drop(v[i].data.ptr);
			else if (!answer(*client))
				farewell(client, epoll);
		}
	}
}

/* ---- asking the one that runs */

static int list(struct hold_client *c)
{
	struct hold_entry *v;
	struct hold_reply reply;
	size_t n, i;

	v = hold_list(c, &n, &reply);
	if (!v) {
		fprintf(stderr, "ooh-holder: %s\n", reply.reason);
		return 3;
	}
	for (i = 0; i < n; i++)
		printf("%d\t%s\t%llu rounds\tasked for %u s ago\n", v[i].pid, v[i].backend,
		       (unsigned long long)v[i].rounds, v[i].idle);
	free(v);
	return 0;
}

static int let_go(struct hold_client *c, const char *whom)
{
	struct hold_reply reply;
	char *end;
	long pid = strcmp(whom, "all") ? strtol(whom, &end, 10) : 0;

	if (strcmp(whom, "all") && (end == whom || *end || pid < 1 || pid > 0x7fffffff)) {
		fprintf(stderr, "ooh-holder: \"%s\" is neither the number of a process nor all\n",
			whom);
		return 2;
	}
	if (!hold_call(c, HOLD_RELEASE, pid, "", NULL, &reply, NULL))
		return 0;
	if (reply.error == -ESRCH)
		fprintf(stderr, "ooh-holder: process %ld is not held\n", pid);
	else
		fprintf(stderr, "ooh-holder: %s\n", reply.reason);
	return 3;
}

int main(int argc, char **argv)
{
	bool lists = argc == 2 && !strcmp(argv[1], "--list");
	bool lets_go = argc == 3 && !strcmp(argv[1], "--release");
	struct hold_client c = { .fd = -1 };
	char why[OOH_REASON_LEN];
	int rc;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && argv[1][0] != '-')
		return hold(argv[1]);
	if (!lists && !lets_go) {
		fputs("usage: ooh-holder --list\n"
		      "       ooh-holder --release PID | all\n"
		      "       ooh-holder SOCKET (the CRIU plugin starts it; see ooh-criu(7))\n",
		      stderr);
		return 2;
	}
	if (hold_find(&c, why, sizeof(why))) {
		fprintf(stderr, "ooh-holder: %s\n", why);
		return 3;
	}
	rc = lists ? list(&c) : let_go(&c, argv[2]);
	hold_close(&c);
	return rc;
}
