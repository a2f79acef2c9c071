/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of /proc/PID. Those of memory (maps, pagemap, mem) are empty there once the main
 * thread has ended, though the process lives on: then they are opened by another thread.
 */
#ifndef OOH_PROC_H
#define OOH_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/* A thread of the process that has not ended, the main one if possible; 0: there is none. */
pid_t proc_thread(pid_t pid);
/* The descriptor or -errno; ESRCH: the process has ended. */
int proc_open(pid_t pid, const char *name, int flags);

#endif
