/* SPDX-License-Identifier: GPL-2.0-only */
/* The processes that the holder has a tracker of. */
#ifndef OOH_HELD_H
#define OOH_HELD_H

#include <sys/types.h>
#include "proto.h"

struct held;

void held_watch(int epoll);
bool held_any(void);
void held_drop(struct held *h);
void held_sweep(void);
void held_serve(const struct hold_request *q, struct hold_reply *reply, struct ooh_range **ranges);
struct hold_entry *held_list(size_t *n);
int held_release(pid_t pid);

#endif
