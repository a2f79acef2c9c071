/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libooh: which pages of a process were written, round by round.
 *
 *	struct ooh_tracker *t;
 *	const struct ooh_range *r;
 *	ssize_t n;
 *
 *	ooh_open(pid, NULL, 0, &t, NULL, 0);		the first round begins
 *	...
 *	n = ooh_collect(t, 0, &r, NULL);		it ends, the next begins
 *	...						r[0] ... r[n - 1]
 *	ooh_close(t);
 *
 * Calls return 0 or a count, or -errno. Nothing is ever printed. A tracker is
 * used by one thread at a time. The manual: ooh(7), ooh_backends(3),
 * ooh_open(3), ooh_collect(3), ooh_fd(3).
 */
#ifndef LIBOOH_OOH_H
#define LIBOOH_OOH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/ooh.h> /* struct ooh_range, struct ooh_stats */

#ifdef __cplusplus
extern "C" {
#endif

#define OOH_REASON_LEN 512 /* enough for every reason in words */

struct ooh_backend {
	const char *name;
	int usable;		     /* 1: on this machine, by this process */
	char reason[OOH_REASON_LEN]; /* why not; if usable, how it works */
};

struct ooh_tracker;

/* Flags of ooh_open() and ooh_collect(), in */
#define OOH_STOPPED (1u << 0) /* the calling thread holds all threads in a ptrace stop */

/* Flags of ooh_collect(), out */
#define OOH_ALL_DIRTY (1u << 0) /* everything mapped is given out; ooh_reason() says why */

int ooh_backends(struct ooh_backend *vec, int len);
int ooh_open(pid_t pid, const char *backend, unsigned int flags, struct ooh_tracker **tracker,
	     char *reason, size_t size);
ssize_t ooh_collect(struct ooh_tracker *tracker, unsigned int flags,
		    const struct ooh_range **ranges, unsigned int *result);
int ooh_fd(struct ooh_tracker *tracker, uint64_t records);
void ooh_close(struct ooh_tracker *tracker);

const char *ooh_backend_name(const struct ooh_tracker *tracker);
const char *ooh_reason(const struct ooh_tracker *tracker);
int ooh_stats(struct ooh_tracker *tracker, struct ooh_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* LIBOOH_OOH_H */
