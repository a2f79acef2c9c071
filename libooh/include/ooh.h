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
 * r holds every page that changed, and more: the kernel's own trackers cannot tell
 * of some pages (of files, of shared memory) whether they did. ooh_written() and
 * ooh_unknown() give the two parts of it.
 *
 * Calls return 0 or a count, or -errno. Nothing is ever printed. A tracker is
 * used by one thread at a time. The manual: ooh(7), and a page for each call.
 *
 * A struct that the library fills is passed with its size: the library fills as
 * much as the caller knows of, and sets to 0 what it does not know of itself. New
 * fields come at the end.
 */
#ifndef LIBOOH_OOH_H
#define LIBOOH_OOH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header; ooh_version() gives that of the library, "MAJOR.MINOR.PATCH". */
#define OOH_VERSION_MAJOR 0
#define OOH_VERSION_MINOR 1
#define OOH_VERSION_PATCH 0

#define OOH_REASON_LEN	  512 /* enough for every reason in words */

struct ooh_backend {
	const char *name;
	int usable;		     /* 1: on this machine, by this process */
	char reason[OOH_REASON_LEN]; /* why not; if usable, how it works */
};

#ifndef OOH_RANGE
#define OOH_RANGE
struct ooh_range {
	uint64_t start; /* first byte */
	uint64_t end;	/* first byte behind */
};
#endif

/* Since ooh_open(), or since it was attached anew; 0 what a backend does not count */
struct ooh_tracker_stats {
	uint64_t rounds;    /* these three and unknown count what was given out */
	uint64_t reported;  /* pages */
	uint64_t all_dirty; /* rounds in which that was everything */
	uint64_t records;   /* frames that were logged; write faults with uffd-wp */
	uint64_t mapped;    /* pages followed now */
	uint64_t tables;    /* page tables that were looked through */
	uint64_t armed;	    /* frames newly armed */
	uint64_t drain_ns;  /* time in: emptying the logs */
	uint64_t map_ns;    /* time in: frames to pages */
	uint64_t arm_ns;    /* time in: arming and forgetting frames */
	uint64_t foreign;   /* these count for the whole guest: logged frames of no tracker */
	uint64_t overflows; /* always 0: of a ring that older modules had */
	uint64_t hypercalls;
	uint64_t log_records; /* taken out of the logs that the processor writes (epml) */
	uint64_t log_walks;   /* of these: made by page walks */
	uint64_t log_user;    /* of these: made in user mode */
	uint64_t notifications;
	uint64_t unknown; /* pages of reported of which it cannot be told */
};

struct ooh_tracker;

/* Flags of ooh_open() and ooh_collect(), in */
#define OOH_STOPPED (1u << 0) /* the calling thread holds all threads in a ptrace stop */

/* Flags of ooh_collect(), out */
#define OOH_ALL_DIRTY (1u << 0) /* everything mapped is given out; ooh_reason() says why */

int ooh_backends(struct ooh_backend *vec, int len, size_t size);
int ooh_open(pid_t pid, const char *backend, unsigned int flags, struct ooh_tracker **tracker,
	     char *reason, size_t size);
ssize_t ooh_collect(struct ooh_tracker *tracker, unsigned int flags,
		    const struct ooh_range **ranges, unsigned int *result);
ssize_t ooh_written(const struct ooh_tracker *tracker, const struct ooh_range **ranges);
ssize_t ooh_unknown(const struct ooh_tracker *tracker, const struct ooh_range **ranges);
int ooh_fd(struct ooh_tracker *tracker, uint64_t records);
void ooh_close(struct ooh_tracker *tracker);

const char *ooh_backend_name(const struct ooh_tracker *tracker);
const char *ooh_reason(const struct ooh_tracker *tracker);
int ooh_stats(struct ooh_tracker *tracker, struct ooh_tracker_stats *stats, size_t size);
const char *ooh_version(void);

#ifdef __cplusplus
}
#endif

#endif /* LIBOOH_OOH_H */
