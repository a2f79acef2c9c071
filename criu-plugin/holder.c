// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh-holder SOCKET: keeps the trackers of processes that CRIU dumps again and
 * again, as each criu is a process that ends. The plugin starts it with a listening
 * socket; it ends when none of the processes is left. ooh-criu(7) tells the whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "proto.h"
#include "rounds.h"

#define LINGER_MS 5000 /* with nothing to hold: the next request is not far, maybe */
#define STALL_S	  10   /* a client that neither reads nor writes */
#define IDLE_S	  (24 * 3600)

struct held {
	struct held *next;
	pid_t pid;
	int pidfd;
	time_t used;
	char backend[32];
	uint8_t id[16];
	struct ooh_tracker *tracker;
	struct rounds rounds;
};

static struct held *first;
static unsigned int count;

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec;
}

static bool gone(const struct held *h)
{
	struct pollfd fd = { .fd = h->pidfd, .events = POLLIN };

	return poll(&fd, 1, 0) != 0;
}

static void release(struct held *h)
{
	if (h->tracker)
		ooh_close(h->tracker);
	if (h->pidfd >= 0)
		close(h->pidfd);
	rounds_free(&h->rounds);
	free(h);
}

/* Lets go of processes that ended, and of those that nobody seems to dump any more. */
static void sweep(void)
{
	struct held **at = &first, *h;

	while ((h = *at)) {
		if (!gone(h) && now() - h->used < IDLE_S) {
			at = &h->next;
			continue;
		}
		*at = h->next;
		count--;
		release(h);
	}
}

static struct held *find(pid_t pid, const char *backend)
{
	struct held *h;

	sweep();
	for (h = first; h; h = h->next)
		if (h->pid == pid && !strcmp(h->backend, backend))
			return h;
	return NULL;
}

static int take(pid_t pid, const char *backend, struct held **out, char *reason)
{
	struct held *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	h->pid = pid;
	h->used = now();
	snprintf(h->backend, sizeof(h->backend), "%s", backend);
	/* Before the tracker: if it is alive afterwards, no other process had the number meanwhile. */
	h->pidfd = syscall(SYS_pidfd_open, pid, 0);
	rc = h->pidfd < 0 ? -errno : 0;
	if (!rc && getrandom(h->id, sizeof(h->id), 0) != sizeof(h->id))
		rc = -EIO;
	if (!rc)
		rc = ooh_open(pid, backend, 0, &h->tracker, reason, OOH_REASON_LEN);
	if (!rc && gone(h))
		rc = -ESRCH;
	if (rc) {
		release(h);
		return rc;
	}
	h->next = first;
	first = h;
	count++;
	*out = h;
	return 0;
}

static void drop(struct held *gone)
{
	struct held **at = &first;

	while (*at != gone)
		at = &(*at)->next;
	*at = gone->next;
	count--;
	release(gone);
}

/* Ends a round of h. What it was is kept whatever becomes of the dump. */
static int collect(struct held *h, struct hold_reply *reply)
{
	const struct ooh_range *v;
	unsigned int result;
	ssize_t n = ooh_collect(h->tracker, 0, &v, &result);

	if (n < 0 || (result & OOH_ALL_DIRTY))
		snprintf(reply->reason, sizeof(reply->reason), "%s", ooh_reason(h->tracker));
	rounds_add(&h->rounds, n < 0 ? NULL : v, n < 0 ? 0 : n, n < 0 || (result & OOH_ALL_DIRTY));
	return n < 0 ? n : 0;
}

static void serve(const struct hold_request *q, struct hold_reply *reply, struct ooh_range **ranges)
{
	struct held *h = find(q->pid, q->backend);
	bool fresh = !h, known;
	size_t n;

	reply->all = 1;
	if (fresh)
		reply->error = take(q->pid, q->backend, &h, reply->reason);
	if (reply->error)
		return;
	h->used = now();
	if (q->op == HOLD_COLLECT && !fresh) {
		reply->error = collect(h, reply);
		/* The next one, of a process that CRIU does not trace yet, may get on with it. */
		if (reply->error) {
			drop(h);
			return;
		}
	}
	memcpy(reply->mark.tracker, h->id, sizeof(h->id));
	reply->mark.round = h->rounds.now;
	if (q->op != HOLD_COLLECT)
		return;
	if (!q->has_mark) {
		snprintf(reply->reason, sizeof(reply->reason), "there is no mark to start from");
		return;
	}
	if (memcmp(q->mark.tracker, h->id, sizeof(h->id))) {
		snprintf(reply->reason, sizeof(reply->reason),
			 "the mark is of a tracker that is not there any more");
		return;
	}
	known = rounds_since(&h->rounds, q->mark.round, ranges, &n);
	reply->all = !known;
	reply->ranges = n;
	if (!known && !reply->reason[0])
		snprintf(reply->reason, sizeof(reply->reason),
			 "it is not known what was written since round %llu of %llu",
			 (unsigned long long)q->mark.round, (unsigned long long)h->rounds.now);
}

/* One request of a client. false: the end of it. */
static bool answer(int fd)
{
	struct hold_reply reply = { .magic = HOLD_MAGIC };
	struct ooh_range *ranges = NULL;
	struct hold_request q;
	bool good;

	if (!hold_transfer(fd, &q, sizeof(q), false) || q.magic != HOLD_MAGIC)
		return false;
	q.backend[sizeof(q.backend) - 1] = '\0';
	if (q.pid_ns != hold_pid_ns()) {
		reply.error = -EXDEV;
		reply.all = 1;
		snprintf(reply.reason, sizeof(reply.reason),
			 "the holder runs in another pid namespace");
	} else {
		serve(&q, &reply, &ranges);
	}
	good = hold_transfer(fd, &reply, sizeof(reply), true) &&
	       hold_transfer(fd, ranges, reply.ranges * sizeof(*ranges), true);
	free(ranges);
	return good;
}

static bool ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.uid == geteuid();
}

static int welcome(int listening)
{
	struct timeval limit = { .tv_sec = STALL_S };
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!ours(fd)) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

/*
 * The socket's name goes first, under the lock under which the plugin looks for
 * it: from then on there can be another holder. Who connected before is served.
 */
static bool may_leave(int listening, const char *path)
{
	struct pollfd fd = { .fd = listening, .events = POLLIN };
	char lock[128];
	int lfd;

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

int main(int argc, char **argv)
{
	struct pollfd *fds;
	int clients[32], nclients = 0, i;

	if (argc != 2) {
		fputs("usage: ooh-holder SOCKET (the CRIU plugin starts it; see ooh-criu(7))\n",
		      stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		struct held *h;
		nfds_t n = 0;
		int rc;

		sweep();
		fds = calloc(1 + nclients + count, sizeof(*fds));
		if (!fds)
			return 1;
		fds[n++] = (struct pollfd){ .fd = HOLD_FD, .events = nclients < 32 ? POLLIN : 0 };
		for (i = 0; i < nclients; i++)
			fds[n++] = (struct pollfd){ .fd = clients[i], .events = POLLIN };
		for (h = first; h; h = h->next)
			fds[n++] = (struct pollfd){ .fd = h->pidfd, .events = POLLIN };
		rc = poll(fds, n, count || nclients ? 60 * 60 * 1000 : LINGER_MS);
		if (rc == 0 && !count && !nclients && may_leave(HOLD_FD, argv[1]))
			return 0;
		for (i = nclients - 1; rc > 0 && i >= 0; i--) {
			if (!fds[1 + i].revents || answer(clients[i]))
				continue;
			close(clients[i]);
			clients[i] = clients[--nclients];
		}
		if (rc > 0 && fds[0].revents & POLLIN) {
			int fd = welcome(HOLD_FD);

			if (fd >= 0)
				clients[nclients++] = fd;
		}
		free(fds);
	}
}
