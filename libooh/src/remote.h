/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lets a stopped thread of another process make system calls. */
#ifndef OOH_REMOTE_H
#define OOH_REMOTE_H

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct remote {
	pid_t pid, tid;
	uint64_t insn;		      /* a syscall instruction of the process */
	struct user_regs_struct regs; /* to be restored, as is the next */
	uint64_t sigmask;
	int pending; /* an unblockable signal came meanwhile */
};

int remote_begin(struct remote *r, pid_t pid);
long remote_syscall(struct remote *r, long nr, long a, long b, long c);
int remote_end(struct remote *r);

#endif
