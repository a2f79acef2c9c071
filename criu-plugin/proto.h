/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the CRIU plugin and the holder: over a stream socket of the local
 * machine, both of one build. Request, reply, then reply.ranges of struct
 * ooh_range.
 */
#ifndef OOH_PROTO_H
#define OOH_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ooh.h>

#define HOLD_MAGIC 0x4f4f4831u /* OOH1: to be changed with the structs */
#define HOLD_FD	   3	       /* where the holder finds its listening socket */

/* One tracker is told from all others, of this process or another, for good. */
struct hold_mark {
	uint8_t tracker[16];
	uint64_t round;
};

enum hold_op {
	HOLD_OPEN,    /* have a tracker of pid */
	HOLD_COLLECT, /* have one, end a round; what was written since mark? */
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

/* All of it, either way. false: the other end is gone, or an error. */
bool hold_transfer(int fd, void *data, size_t size, bool out);
uint64_t hold_pid_ns(void);

#endif
