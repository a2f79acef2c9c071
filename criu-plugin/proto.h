/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the CRIU plugin and the holder: over a stream socket of the local
 * machine, both of one build. Request, reply, then what the reply announces:
 * reply.ranges of struct ooh_range, or of struct hold_entry for HOLD_LIST.
 */
#ifndef OOH_PROTO_H
#define OOH_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ooh.h>
#include "token.h"

#define HOLD_MAGIC 0x4f4f4832u /* OOH2: to be changed with the structs */
#define HOLD_FD	   3	       /* where the holder finds its listening socket */

/* One tracker is told from all others, of this process or another, for good; so is each mark. */
struct hold_mark {
	uint8_t tracker[TOKEN_LEN];
	uint64_t round;
	uint8_t token[TOKEN_LEN];
};

enum hold_op {
	HOLD_OPEN,    /* have a tracker of pid */
	HOLD_COLLECT, /* have one, end a round; what was written since mark? */
	HOLD_LIST,    /* whom do you hold? */
	HOLD_RELEASE, /* let go of pid; 0: of all */
};

struct hold_request {
	uint32_t magic;
	uint32_t op;
	uint64_t pid_ns; /* inode: pid means something there only */
	int32_t pid;
	uint32_t has_mark;
	struct hold_mark mark;
	char backend[32];
};

struct hold_reply {
	uint32_t magic;
	int32_t error; /* 0 or -errno */
	uint32_t all;  /* everything may have been written, reason says why */
	uint32_t pad;
	struct hold_mark mark; /* of the round that has ended */
	uint64_t ranges;
	char reason[OOH_REASON_LEN];
};

struct hold_entry {
	int32_t pid;
	uint32_t idle; /* seconds since somebody asked for it */
	uint64_t rounds;
	char backend[32];
};

/* All of it, either way. false: the other end is gone, or an error. */
bool hold_transfer(int fd, void *data, size_t size, bool out);
uint64_t hold_pid_ns(void);

#endif
