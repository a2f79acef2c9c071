// SPDX-License-Identifier: LGPL-2.1-or-later
/* The calls of ooh.h: the choice of a backend, and what all backends have in common. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend.h"
#include "proc.h"
#include "vmas.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define RANDOM_BYTES 16

/* What the first version of the struct had; nobody can have a smaller one. */
#define OOH_STATS_SIZE_1 (17 * sizeof(uint64_t))

_Static_assert(sizeof(struct ooh_tracker_stats) >= OOH_STATS_SIZE_1, "fields are only added");

#define API __attribute__((visibility("default")))

static bool ended(const struct ooh_tracker *t)
{
	struct pollfd fd = { .fd = t->pidfd.fd, .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

/*
 * A failure while a process ends has many names: what it was asked for had no memory any
 * more. It has none well before its pidfd tells of its end.
 */
static bool gone(const struct ooh_tracker *t)
{
	struct vmas vmas = { 0 };
	int rc;

	if (ended(t))
		return true;
	rc = vmas_read(t->pid, &vmas);
	vmas_free(&vmas);
	return rc == -ESRCH;
}

static ssize_t read_at(pid_t pid, const char *name, void *buf, size_t size, uint64_t at)
{
	int fd = proc_open(pid, name, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return fd;
	do
		n = pread(fd, buf, size, at);
	while (n < 0 && errno == EINTR);
	close(fd);
	return n < 0 ? -errno : n;
}

/*
 * For each exec the kernel makes 16 random bytes (AT_RANDOM), and picks addresses at random
 * unless that is turned off. Returns whether these are others than before. A program that
 * changes the bytes looks as if it had executed another, which costs a round of everything.
 */
static bool new_address_space(struct ooh_tracker *t)
{
	uint64_t ident[sizeof(t->ident) / sizeof(uint64_t)] = { 0 };
	const ssize_t room = sizeof(ident) - RANDOM_BYTES;
	ssize_t i, n;
	bool differs;

	n = read_at(t->pid, "auxv", ident, room, 0);
	if (n < 0)
		return true;
	n -= n % (2 * sizeof(ident[0]));
	for (i = 0; i < n / (ssize_t)sizeof(ident[0]); i += 2)
		if (ident[i] == AT_RANDOM && read_at(t->pid, "mem", (char *)ident + n, RANDOM_BYTES,
						     ident[i + 1]) == RANDOM_BYTES)
			break;
	n += RANDOM_BYTES;
	differs = (size_t)n != t->ident_len || memcmp(ident, t->ident, n);
	memcpy(t->ident, ident, n);
	t->ident_len = n;
	return differs;
}

static int attach(struct ooh_tracker *t)
{
	int rc, tries;

	t->reason[0] = '\0';
	/* An exec in the middle would leave us with the old memory. */
	for (tries = 0; tries < 8; tries++) {
		new_address_space(t);
		rc = t->backend->attach(t);
		if (rc && gone(t))
			break;
		if (rc && !t->reason[0])
			backend_why(t->reason, sizeof(t->reason), rc, "%s", strerrordesc_np(-rc));
		if (rc && rc != -ESRCH)
			return rc;
		if (!rc && !new_address_space(t))
			return 0;
		if (!rc)
			t->backend->detach(t);
		t->priv = NULL;
		if (gone(t))
			break;
	}
	if (gone(t))
		backend_why(t->reason, sizeof(t->reason), -ESRCH, "process %d ended", t->pid);
	else if (!t->reason[0])
		backend_why(t->reason, sizeof(t->reason), -ESRCH,
			    "process %d executes one new program after the other", t->pid);
	return -ESRCH;
}

static int tgid_of(pid_t pid)
{
	char path[40], line[128];
	int tgid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Tgid: %d", &tgid) == 1)
			break;
	fclose(f);
	return tgid;
}

static int not_permitted(struct ooh_tracker *t, int rc)
{
	char path[40], buf[1024];
	struct passwd entry, *pw = NULL;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", t->pid);
	if (stat(path, &st))
		return rc;
	getpwuid_r(st.st_uid, &entry, buf, sizeof(buf), &pw);
	if (st.st_uid == geteuid())
		return backend_why(t->reason, sizeof(t->reason), rc,
				   "process %d may not be traced by this user: not permitted",
				   t->pid);
	return backend_why(t->reason, sizeof(t->reason), rc,
			   "process %d belongs to user %s (%u): not permitted", t->pid,
			   pw ? pw->pw_name : "?", st.st_uid);
}

static int open_pidfd(struct ooh_tracker *t)
{
	int fd = syscall(SYS_pidfd_open, t->pid, 0);

	/* close-on-exec is its default */
	return own_take(&t->pidfd, fd < 0 ? -errno : fd);
}

/* What holds whichever backend it is going to be */
static int check_process(struct ooh_tracker *t)
{
	struct vmas vmas = { 0 };
	int fd, rc, tgid = t->pid > 0 ? tgid_of(t->pid) : 0;

	if (!tgid)
		return backend_why(t->reason, sizeof(t->reason), -ESRCH, "there is no process %d",
				   t->pid);
	if (tgid != t->pid)
		return backend_why(t->reason, sizeof(t->reason), -EINVAL,
				   "%d is a thread of process %d", t->pid, tgid);
	rc = open_pidfd(t);
	if (rc < 0)
		return backend_why(t->reason, sizeof(t->reason), rc, "process %d: %s", t->pid,
				   strerrordesc_np(-rc));
	fd = proc_open(t->pid, "mem", O_RDONLY);
	if (fd == -EACCES || fd == -EPERM)
		return not_permitted(t, fd);
	if (fd >= 0)
		close(fd);
	rc = vmas_read(t->pid, &vmas);
	vmas_free(&vmas);
	if (rc == -EACCES || rc == -EPERM)
		return not_permitted(t, rc);
	if (rc)
		return backend_why(
			t->reason, sizeof(t->reason), rc,
			"process %d has no memory: it has ended, or is a thread of the kernel",
			t->pid);
	return 0;
}

static int attach_named(struct ooh_tracker *t, const char *name)
{
	char why[OOH_REASON_LEN - 64], names[128] = "";
	int i, rc;

	for (i = 0; backends[i]; i++) {
		if (strcmp(backends[i]->name, name)) {
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				 i ? ", " : "", backends[i]->name);
			continue;
		}
		rc = backends[i]->probe(why, sizeof(why));
		if (rc)
			return backend_why(t->reason, sizeof(t->reason), rc,
					   "backend %s is not usable: %s", name, why);
		t->backend = backends[i];
		rc = attach(t);
		if (rc) {
			snprintf(why, sizeof(why), "%s", t->reason);
			return backend_why(t->reason, sizeof(t->reason), rc, "%s: %s", name, why);
		}
		return backend_why(t->reason, sizeof(t->reason), 0, "%s was asked for", name);
	}
	return backend_why(t->reason, sizeof(t->reason), -ENODEV,
			   "there is no backend %s (there are: %s)", name, names);
}

/* Appends to the words of why, as far as there is room: "a: REASON", and "a, b: REASON" once. */
static void note(char *why, size_t size, const char *name, const char *reason, char *last)
{
	size_t at = strlen(why), n;

	if (at && !strcmp(reason, last)) {
		/* the name goes before the reason that is there already */
		n = strlen(reason) + 2;
		if (at >= n && at + strlen(name) + 3 < size) {
			memmove(why + at - n + strlen(name) + 2, why + at - n, n + 1);
			memcpy(why + at - n, ", ", 2);
			memcpy(why + at - n + 2, name, strlen(name));
		}
		return;
	}
	snprintf(last, OOH_REASON_LEN, "%s", reason);
	snprintf(why + at, size - at, "%s%s: %s", at ? "; " : "", name, reason);
}

/* The answer comes first, then what led to it. */
static int attach_best(struct ooh_tracker *t)
{
	char why[OOH_REASON_LEN - 64] = "", reason[OOH_REASON_LEN], last_reason[OOH_REASON_LEN];
	int i, rc, last = -EOPNOTSUPP;

	for (i = 0; backends[i]; i++) {
		t->backend = backends[i];
		rc = t->backend->probe(reason, sizeof(reason));
		if (!rc) {
			rc = attach(t);
			snprintf(reason, sizeof(reason), "%s", t->reason);
			last = rc;
		}
		if (!rc)
			return backend_why(t->reason, sizeof(t->reason), 0, "using %s%s%s%s",
					   t->backend->name, *why ? " (" : "", why,
					   *why ? ")" : "");
		if (rc == -ESRCH && gone(t))
			return rc;
		note(why, sizeof(why), t->backend->name, reason, last_reason);
	}
	return backend_why(t->reason, sizeof(t->reason), last, "no backend is usable (%s)", why);
}

API int ooh_open(pid_t pid, const char *backend, unsigned int flags, struct ooh_tracker **tracker,
		 char *reason, size_t size)
{
	struct ooh_tracker *t;
	int rc;

	if (!tracker || (flags & ~OOH_STOPPED))
		return -EINVAL;
	*tracker = NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->pid = pid ? pid : getpid();
	t->pidfd.fd = t->epoll.fd = -1;
	t->flags = flags;
	rc = check_process(t);
	if (!rc)
		rc = backend ? attach_named(t, backend) : attach_best(t);
	if (reason && size)
		snprintf(reason, size, "%s", t->reason);
	if (rc)
		ooh_close(t);
	else
		*tracker = t;
	return rc;
}

static int give_everything(struct ooh_tracker *t, const char *why)
{
	struct vmas vmas = { 0 };
	size_t i;
	int rc = vmas_read(t->pid, &vmas);

	ranges_clear(&t->written);
	ranges_clear(&t->unknown);
	for (i = 0; !rc && i < vmas.n; i++)
		rc = ranges_add(&t->unknown, vmas.v[i].start, vmas.v[i].end);
	vmas_free(&vmas);
	t->result |= OOH_ALL_DIRTY;
	snprintf(t->reason, sizeof(t->reason), "%s", why);
	return rc;
}

static int watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int watch_log(struct ooh_tracker *t)
{
	int fd = t->backend->lowat(t, t->lowat);

	return fd < 0 ? fd : watch(t->epoll.fd, fd);
}

/* The old address space, or what was known of it, is gone: begin anew. */
static int start_over(struct ooh_tracker *t, const char *why)
{
	int rc;

	if (t->priv)
		t->backend->detach(t);
	t->priv = NULL;
	rc = attach(t);
	if (!rc && t->epoll.fd >= 0)
		rc = watch_log(t);
	return rc ? rc : give_everything(t, why);
}

static bool intact(const struct ooh_tracker *t)
{
	return own_there(&t->pidfd) && own_there(&t->epoll) &&
	       (!t->priv || !t->backend->intact || t->backend->intact(t));
}

/*
 * The program has closed our descriptors, or CRIU has restored it. Its own process is found again;
 * another one's number may stand for somebody else by now.
 */
static int find_again(struct ooh_tracker *t)
{
	int rc;

	if (t->pid != getpid() && !own_there(&t->pidfd))
		return backend_why(t->reason, sizeof(t->reason), -EBADF,
				   "somebody has closed the tracker's descriptors");
	if (!own_there(&t->pidfd)) {
		own_close(&t->pidfd);
		rc = open_pidfd(t);
		if (rc < 0)
			return rc;
	}
	/* What the caller watches is gone, too; ooh_fd() gives it a new one. */
	if (!own_there(&t->epoll))
		own_close(&t->epoll);
	return start_over(t, "the tracker's descriptors were closed, or the process was restored");
}

static int collect(struct ooh_tracker *t)
{
	int rc;

	if (!intact(t))
		return find_again(t);
	if (t->lost || !t->priv)
		return start_over(t, "the collect before failed");
	rc = t->backend->collect(t);
	/* not lost; and a process that is waited for may let nobody read its memory either */
	if (rc == -EINTR)
		return rc;
	if (rc ? gone(t) : ended(t))
		return backend_why(t->reason, sizeof(t->reason), -ESRCH, "process %d ended",
				   t->pid);
	/*
	 * Looked at after the collect, so that an exec during it is seen too. It can be what
	 * the collect failed of, by whatever name.
	 */
	if (new_address_space(t) || rc == -ESRCH)
		return start_over(t, "the process executed a new program");
	return rc;
}

static void swap(struct ranges *a, struct ranges *b)
{
	struct ranges t = *a;

	*a = *b;
	*b = t;
}

/* Makes what the backend found two sets without a page in common, and joins them. */
static int put_together(struct ooh_tracker *t)
{
	size_t i;
	int rc = 0;

	if (t->result & OOH_ALL_DIRTY) {
		for (i = 0; !rc && i < t->written.n; i++)
			rc = ranges_add(&t->unknown, t->written.v[i].start, t->written.v[i].end);
		if (rc)
			return rc;
		ranges_clear(&t->written);
	}
	ranges_normalise(&t->written);
	ranges_normalise(&t->unknown);
	rc = ranges_without(&t->out, &t->unknown, &t->written);
	if (rc)
		return rc;
	swap(&t->out, &t->unknown);
	ranges_clear(&t->out);
	return ranges_join(&t->out, &t->written, &t->unknown);
}

API ssize_t ooh_collect(struct ooh_tracker *t, unsigned int flags, const struct ooh_range **ranges,
			unsigned int *result)
{
	int rc;

	if (!t || !ranges || (flags & ~OOH_STOPPED))
		return -EINVAL;
	*ranges = NULL;
	t->flags = flags;
	t->result = 0;
	t->reason[0] = '\0';
	ranges_clear(&t->written);
	ranges_clear(&t->unknown);
	ranges_clear(&t->out);
	if (result)
		*result = 0;
	rc = collect(t);
	if (!rc)
		rc = put_together(t);
	t->lost = rc && rc != -EINTR;
	if (rc) {
		ranges_clear(&t->written);
		ranges_clear(&t->unknown);
		if (!t->reason[0])
			/* not strerror(), which looks for a translation: see mem.h */
			backend_why(t->reason, sizeof(t->reason), rc, "%s: %s", t->backend->name,
				    strerrordesc_np(-rc));
		return rc;
	}
	t->stats.rounds++;
	t->stats.reported += ranges_pages(&t->out);
	t->stats.unknown += ranges_pages(&t->unknown);
	t->stats.all_dirty += !!(t->result & OOH_ALL_DIRTY);
	if (result)
		*result = t->result;
	*ranges = t->out.v;
	return t->out.n;
}

static ssize_t give_part(const struct ranges *part, const struct ooh_range **ranges)
{
	*ranges = part->v;
	return part->n;
}

API ssize_t ooh_written(const struct ooh_tracker *t, const struct ooh_range **ranges)
{
	return t && ranges ? give_part(&t->written, ranges) : -EINVAL;
}

API ssize_t ooh_unknown(const struct ooh_tracker *t, const struct ooh_range **ranges)
{
	return t && ranges ? give_part(&t->unknown, ranges) : -EINVAL;
}

/*
 * A descriptor of our own, which stays when an exec makes us attach anew: what
 * it watches may change, what the caller watches does not.
 */
API int ooh_fd(struct ooh_tracker *t, uint64_t records)
{
	int rc;

	if (!t)
		return -EINVAL;
	if (!t->backend->lowat)
		return -EOPNOTSUPP;
	if (!intact(t))
		return -EBADF;
	if (t->epoll.fd >= 0) {
		rc = t->priv ? t->backend->lowat(t, records) : 0;
		if (rc >= 0)
			t->lowat = records;
		return rc < 0 ? rc : t->epoll.fd;
	}
	rc = epoll_create1(EPOLL_CLOEXEC);
	rc = own_take(&t->epoll, rc < 0 ? -errno : rc);
	if (rc < 0)
		return rc;
	t->lowat = records;
	/* a tracker that has lost its process finds it, or its end, by a collect */
	rc = watch(t->epoll.fd, t->pidfd.fd);
	if (!rc && t->priv)
		rc = watch_log(t);
	if (!rc)
		return t->epoll.fd;
	own_close(&t->epoll);
	return rc;
}

API void ooh_close(struct ooh_tracker *t)
{
	if (!t)
		return;
	if (t->priv)
		t->backend->detach(t);
	own_close(&t->epoll);
	own_close(&t->pidfd);
	ranges_free(&t->written);
	ranges_free(&t->unknown);
	ranges_free(&t->out);
	free(t);
}

API const char *ooh_backend_name(const struct ooh_tracker *t)
{
	return t ? t->backend->name : "";
}

API const char *ooh_reason(const struct ooh_tracker *t)
{
	return t ? t->reason : "";
}

API int ooh_stats(struct ooh_tracker *t, struct ooh_tracker_stats *stats, size_t size)
{
	struct ooh_tracker_stats own;
	int rc = 0;

	if (!t || !stats || size < OOH_STATS_SIZE_1)
		return -EINVAL;
	own = t->stats;
	if (t->priv && t->backend->stats && intact(t))
		rc = t->backend->stats(t, &own);
	/* These count what the caller was given, over every re-attach. */
	own.rounds = t->stats.rounds;
	own.reported = t->stats.reported;
	own.unknown = t->stats.unknown;
	own.all_dirty = t->stats.all_dirty;
	give_sized(stats, size, &own, sizeof(own));
	return rc;
}
