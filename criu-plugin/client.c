// SPDX-License-Identifier: GPL-2.0-only
/* Finds ooh-holder, or starts it, and asks it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "client.h"

#ifndef HOLDER
#define HOLDER "/usr/libexec/ooh-holder"
#endif

#define ANSWER_S   30 /* a holder that is silent for so long is taken for dead */
#define MAX_RANGES (1u << 24)

/* The trackers that take the place of soft-dirty without being asked for, best first. */
static const char *const hardware[] = { "epml", "spml" };

static int why_not(char *why, size_t size, const struct ooh_backend *b)
{
	return snprintf(why, size, "%s: %s", b->name, b->reason);
}

/* Chooses the backend: 0, or -errno with the reason in words. */
int hold_backend(const char *wanted, char *name, size_t size, char *why, size_t why_size)
{
	struct ooh_backend v[16];
	int i, n = ooh_backends(v, 16, sizeof(v[0]));
	unsigned int k;
	size_t at = 0;

	why[0] = '\0';
	if (wanted && !strcmp(wanted, "soft-dirty")) {
		snprintf(why, why_size, "CRIU uses soft-dirty by itself");
		return -EOPNOTSUPP;
	}
	for (k = 0; k < (wanted ? 1 : sizeof(hardware) / sizeof(hardware[0])); k++) {
		const char *candidate = wanted ? wanted : hardware[k];

		for (i = 0; i < n && strcmp(v[i].name, candidate); i++)
			;
		if (i == n)
			continue;
		if (v[i].usable) {
			snprintf(name, size, "%s", candidate);
			return 0;
		}
		if (at < why_size)
			at += why_not(why + at, why_size - at, &v[i]);
	}
	if (!why[0])
		snprintf(why, why_size, "libooh has no backend %s", wanted ? wanted : "for this");
	return -EOPNOTSUPP;
}

/* Where the holder of this user listens. */
static int socket_path(char *path, size_t size)
{
	const char *given = getenv("OOH_HOLDER_SOCKET"), *dir = getenv("XDG_RUNTIME_DIR");

	if (given)
		return snprintf(path, size, "%s", given);
	if (geteuid() == 0)
		return snprintf(path, size, "/run/ooh-holder.sock");
	return dir ? snprintf(path, size, "%s/ooh-holder.sock", dir) : -1;
}

static int listen_there(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t old = umask(0177);
	struct stat st;
	int rc;

	/* of a holder that is gone; what is no socket is not ours, and bind() says so */
	if (!lstat(addr->sun_path, &st) && S_ISSOCK(st.st_mode))
		unlink(addr->sun_path);
	rc = fd < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) || listen(fd, 64);
	umask(old);
	if (!rc)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/*
 * Nothing of criu goes with the holder: no descriptor, no session, no signal mask, and
 * criu does not become its parent.
 */
static void become_holder(int listening, const char *path)
{
	const char *program = getenv("OOH_HOLDER") ?: HOLDER;
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	setsid();
	if (fork())
		_exit(0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/") || dup2(null, 0) || dup2(null, 1) != 1 || dup2(null, 2) != 2 ||
	    dup2(listening, HOLD_FD) != HOLD_FD)
		_exit(1);
	/* dup2() on itself keeps close-on-exec */
	fcntl(HOLD_FD, F_SETFD, 0);
	syscall(SYS_close_range, HOLD_FD + 1, ~0U, 0);
	execl(program, program, path, NULL);
	_exit(127);
}

static int start_holder(const struct sockaddr_un *addr, char *why, size_t size)
{
	int listening = listen_there(addr), status;
	pid_t child;

	if (listening < 0) {
		snprintf(why, size, "%s: %s", addr->sun_path, strerror(errno));
		return -1;
	}
	child = fork();
	if (!child)
		become_holder(listening, addr->sun_path);
	close(listening);
	if (child < 0) {
		snprintf(why, size, "fork: %s", strerror(errno));
		return -1;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

static int try_connect(const struct sockaddr_un *addr)
{
	struct timeval limit = { .tv_sec = ANSWER_S };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.uid != geteuid()) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static int address(struct sockaddr_un *addr, char *why, size_t size)
{
	int n = socket_path(addr->sun_path, sizeof(addr->sun_path));

	why[0] = '\0';
	addr->sun_family = AF_UNIX;
	if (n >= 0 && (size_t)n < sizeof(addr->sun_path))
		return 0;
	snprintf(why, size, "no place for the holder's socket (XDG_RUNTIME_DIR)");
	return -1;
}

/* Connects to the holder that runs. 0, or -1 with the reason in words. */
int hold_find(struct hold_client *c, char *why, size_t size)
{
	struct sockaddr_un addr;

	c->fd = -1;
	if (address(&addr, why, size))
		return -1;
	c->fd = try_connect(&addr);
	if (c->fd < 0)
		snprintf(why, size, "no holder runs: nobody listens at %s", addr.sun_path);
	return c->fd < 0 ? -1 : 0;
}

/* Connects to the holder and starts it if there is none. 0, or -1 with the reason in words. */
int hold_connect(struct hold_client *c, char *why, size_t size)
{
	struct sockaddr_un addr;
	char lock[sizeof(addr.sun_path) + 8];
	int lfd, rc;

	if (address(&addr, why, size))
		return -1;
	snprintf(lock, sizeof(lock), "%s.lock", addr.sun_path);
	lfd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lfd < 0 || flock(lfd, LOCK_EX)) {
		snprintf(why, size, "%s: %s", lock, strerror(errno));
		if (lfd >= 0)
			close(lfd);
		return -1;
	}
	c->fd = try_connect(&addr);
	rc = c->fd < 0 ? start_holder(&addr, why, size) : 0;
	if (!rc && c->fd < 0) {
		c->fd = try_connect(&addr);
		if (c->fd < 0)
			snprintf(why, size, "%s: %s", addr.sun_path, strerror(errno));
	}
	close(lfd);
	return c->fd < 0 ? -1 : 0;
}

static bool take_ranges(int fd, const struct hold_reply *reply, struct ooh_range **ranges)
{
	if (!reply->ranges)
		return true;
	if (!ranges || reply->ranges > MAX_RANGES)
		return false;
	*ranges = malloc(reply->ranges * sizeof(**ranges));
	return *ranges && hold_transfer(fd, *ranges, reply->ranges * sizeof(**ranges), false);
}

/*
 * 0, or -errno with the reason in reply. After half an answer nothing more can be asked,
 * and each further call fails.
 */
int hold_call(struct hold_client *c, enum hold_op op, int pid, const char *backend,
	      const struct hold_mark *mark, struct hold_reply *reply, struct ooh_range **ranges)
{
	struct hold_request q = {
		.magic = HOLD_MAGIC, .op = op, .pid = pid, .pid_ns = hold_pid_ns()
	};

	memset(reply, 0, sizeof(*reply));
	if (ranges)
		*ranges = NULL;
	if (mark) {
		q.has_mark = 1;
		q.mark = *mark;
	}
	snprintf(q.backend, sizeof(q.backend), "%s", backend);
	if (c->fd >= 0 && hold_transfer(c->fd, &q, sizeof(q), true) &&
	    hold_transfer(c->fd, reply, sizeof(*reply), false) && reply->magic == HOLD_MAGIC &&
	    take_ranges(c->fd, reply, ranges)) {
		reply->reason[sizeof(reply->reason) - 1] = '\0';
		if (reply->error && !reply->reason[0])
			snprintf(reply->reason, sizeof(reply->reason), "%s",
				 strerror(-reply->error));
		return reply->error;
	}
	if (ranges) {
		free(*ranges);
		*ranges = NULL;
	}
	hold_close(c);
	memset(reply, 0, sizeof(*reply));
	snprintf(reply->reason, sizeof(reply->reason), "the holder does not answer");
	return -EIO;
}

/* Whom the holder holds, to be freed by the caller. NULL: reply has the reason. */
struct hold_entry *hold_list(struct hold_client *c, size_t *n, struct hold_reply *reply)
{
	struct hold_request q = { .magic = HOLD_MAGIC, .op = HOLD_LIST, .pid_ns = hold_pid_ns() };
	struct hold_entry *v = NULL;

	memset(reply, 0, sizeof(*reply));
	if (hold_transfer(c->fd, &q, sizeof(q), true) &&
	    hold_transfer(c->fd, reply, sizeof(*reply), false) && reply->magic == HOLD_MAGIC &&
	    !reply->error && reply->ranges < MAX_RANGES)
		v = calloc(reply->ranges + 1, sizeof(*v));
	reply->reason[sizeof(reply->reason) - 1] = '\0';
	*n = v ? reply->ranges : 0;
	if (v && hold_transfer(c->fd, v, *n * sizeof(*v), false))
		return v;
	free(v);
	if (!reply->reason[0])
		snprintf(reply->reason, sizeof(reply->reason), "the holder does not answer");
	return NULL;
}

void hold_close(struct hold_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
