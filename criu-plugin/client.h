/* SPDX-License-Identifier: GPL-2.0-only */
/* The plugin's end of the line to ooh-holder. */
#ifndef OOH_CLIENT_H
#define OOH_CLIENT_H

#include <stddef.h>
#include "proto.h"

struct hold_client {
	int fd; /* -1: not connected */
};

int hold_backend(const char *wanted, char *name, size_t size, char *why, size_t why_size);
int hold_connect(struct hold_client *c, char *why, size_t size);
int hold_find(struct hold_client *c, char *why, size_t size);
struct hold_entry *hold_list(struct hold_client *c, size_t *n, struct hold_reply *reply);
int hold_call(struct hold_client *c, enum hold_op op, int pid, const char *backend,
	      const struct hold_mark *mark, struct hold_reply *reply, struct ooh_range **ranges);
void hold_close(struct hold_client *c);

#endif
