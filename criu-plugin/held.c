// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "held.h"
#include "rounds.h"

#define IDLE_S (24 * 3600)

struct held {
	struct held *next;
	pid_t pid;
	int pidfd;
	time_t used;
	char backend[32];
	uint8_t id[TOKEN_LEN];
	struct ooh_tracker *tracker;
	struct rounds rounds;
};

static struct held *first;
static int watch = -1;

/* Where the end of a process is told: an event whose data is the struct held. */
void held_watch(int epoll)
{
	watch = epoll;
}

bool held_any(void)
{
	return first;
}

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

/* h: from an event, so it need not be there any more. */
void held_drop(struct held *h)
{
	struct held **at = &first;

	while (*at && *at != h)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = h->next;
	release(h);
}

/* Lets go of processes that ended, and of those that nobody seems to dump any more. */
void held_sweep(void)
{
	struct held **at = &first, *h;

	while ((h = *at)) {
		if (!gone(h) && now() - h->used < IDLE_S) {
			at = &h->next;
			continue;
		}
		*at = h->next;
		release(h);
	}
}

static struct held *find(pid_t pid, const char *backend)
{
	struct held *h;

	for (h = first; h && (h->pid != pid || strcmp(h->backend, backend)); h = h->next)
		;
	/* the number may be another process's by now */
	if (h && gone(h)) {
		held_drop(h);
		return find(pid, backend);
	}
	return h;
}

static int take(pid_t pid, const char *backend, struct held **out, char *reason)
{
	struct held *h = calloc(1, sizeof(*h));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = h };
	int rc;

	if (!h)
		return -ENOMEM;
	h->pid = pid;
	h->used = now();
	token_make(h->id);
	rounds_begin(&h->rounds);
	snprintf(h->backend, sizeof(h->backend), "%s", backend);
	/* Before the tracker: if it is alive afterwards, no other process had the number meanwhile. */
	h->pidfd = syscall(SYS_pidfd_open, pid, 0);
	rc = h->pidfd < 0 ? -errno : 0;
	if (!rc)
		rc = ooh_open(pid, backend, 0, &h->tracker, reason, OOH_REASON_LEN);
	if (!rc && gone(h))
		rc = -ESRCH;
	if (!rc && watch >= 0 && epoll_ctl(watch, EPOLL_CTL_ADD, h->pidfd, &event))
		rc = -errno;
	if (rc) {
		release(h);
		return rc;
	}
	h->next = first;
	first = h;
	*out = h;
	return 0;
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

static void answer_since(const struct held *h, const struct hold_mark *mark,
			 struct hold_reply *reply, struct ooh_range **ranges)
{
	const uint8_t *token = rounds_token(&h->rounds, mark->round);
	bool known;
	size_t n;

	if (memcmp(mark->tracker, h->id, sizeof(h->id))) {
		snprintf(reply->reason, sizeof(reply->reason),
			 "the mark is of a tracker that is not there any more");
		return;
	}
	known = rounds_since(&h->rounds, mark->round, mark->token, ranges, &n);
	reply->all = !known;
	reply->ranges = n;
	if (known)
		return;
	/* a lost log has its own reason, and may be what is left of a snapshot, too */
	if (mark->round >= h->rounds.now || (token && memcmp(token, mark->token, TOKEN_LEN)))
		snprintf(reply->reason, sizeof(reply->reason),
			 "the images are of a future that this machine did not have: "
			 "it was set back to a snapshot");
	else if (!reply->reason[0])
		snprintf(reply->reason, sizeof(reply->reason),
			 "it is not known what was written since round %llu of %llu",
			 (unsigned long long)mark->round, (unsigned long long)h->rounds.now);
}

/* HOLD_OPEN, HOLD_COLLECT */
void held_serve(const struct hold_request *q, struct hold_reply *reply, struct ooh_range **ranges)
{
	struct held *h = find(q->pid, q->backend);
	bool fresh = !h;

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
			held_drop(h);
			return;
		}
	}
	memcpy(reply->mark.tracker, h->id, sizeof(h->id));
	reply->mark.round = h->rounds.now;
	memcpy(reply->mark.token, rounds_token(&h->rounds, h->rounds.now), TOKEN_LEN);
	if (q->op != HOLD_COLLECT)
		return;
	if (q->has_mark)
		answer_since(h, &q->mark, reply, ranges);
	else
		snprintf(reply->reason, sizeof(reply->reason), "there is no mark to start from");
}

/* To be freed by the caller; NULL: no memory. */
struct hold_entry *held_list(size_t *n)
{
	struct hold_entry *v, *e;
	struct held *h;

	held_sweep();
	*n = 0;
	for (h = first; h; h = h->next)
		++*n;
	v = e = calloc(*n + 1, sizeof(*v));
	for (h = first; v && h; h = h->next, e++) {
		e->pid = h->pid;
		e->idle = now() - h->used;
		e->rounds = h->rounds.now;
		snprintf(e->backend, sizeof(e->backend), "%s", h->backend);
	}
	return v;
}

/* Lets go of a process, 0: of all. 0, or -ESRCH: it is not held. */
int held_release(pid_t pid)
{
	struct held **at = &first, *h;
	int rc = pid ? -ESRCH : 0;

	while ((h = *at)) {
		if (pid && h->pid != pid) {
			at = &h->next;
			continue;
		}
		*at = h->next;
		release(h);
		rc = 0;
	}
	return rc;
}
