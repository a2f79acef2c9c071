/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a backend has to offer, and the tracker that it works on. */
#ifndef OOH_BACKEND_H
#define OOH_BACKEND_H

#include <sys/types.h>
#include <ooh.h>
#include "ownfd.h"
#include "ranges.h"

struct ooh_tracker;

struct backend {
	const char *name;
	const char *how; /* in words, when it is usable; NULL: probe() says it */

	/* Is it usable on this machine? 0, or -errno with the reason in words. */
	int (*probe)(char *why, size_t size);
	/* Begins a round. 0, or -errno with the reason in t->reason. */
	int (*attach)(struct ooh_tracker *t);
	/*
	 * Ends a round and begins the next: fills t->written, t->unknown and t->result.
	 * ESRCH: the address space is gone. EINTR: a signal came, and the round
	 * goes on. After any other error the tracker makes the next round all
	 * dirty.
	 */
	int (*collect)(struct ooh_tracker *t);
	void (*detach)(struct ooh_tracker *t);
	/* Are its descriptors still its own? NULL: it keeps none. */
	bool (*intact)(const struct ooh_tracker *t);
	/* Adds what only the backend knows; may be NULL. */
	int (*stats)(struct ooh_tracker *t, struct ooh_tracker_stats *stats);
	/*
	 * Sets the log's low-water mark; gives the descriptor that is readable
	 * from there on. NULL: it has no log.
	 */
	int (*lowat)(struct ooh_tracker *t, uint64_t records);
};

struct ooh_tracker {
	const struct backend *backend;
	void *priv; /* the backend's, NULL when not attached */
	pid_t pid;
	struct own_fd pidfd;
	struct own_fd epoll; /* what ooh_fd() gave out */
	uint64_t lowat;
	unsigned int flags;		/* of the call that runs: OOH_STOPPED */
	struct ranges written, unknown; /* of the last collect; what is in both was written */
	struct ranges out;		/* both; in between it is scratch */
	unsigned int result;
	bool lost; /* a collect failed: what it had seen is not known */
	struct ooh_tracker_stats stats;
	char ident[512]; /* tells one address space of the process from the next */
	size_t ident_len;
	char reason[OOH_REASON_LEN];
};

extern const struct backend backend_epml, backend_spml, backend_pagemap_scan, backend_uffd_wp,
	backend_soft_dirty;
extern const struct backend *const backends[]; /* in order of preference, NULL at the end */

size_t give_sized(void *to, size_t size, const void *from, size_t own);
int backend_why(char *why, size_t size, int rc, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
