/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two ways to read the state of pages: PAGEMAP_SCAN, and /proc/PID/pagemap word by word. */
#ifndef OOH_PAGEMAP_H
#define OOH_PAGEMAP_H

#include <sys/types.h>

#include "ownfd.h"
#include "runs.h"

/* Bits of a /proc/PID/pagemap word */
#define PM_SOFT_DIRTY (UINT64_C(1) << 55)
#define PM_EXCLUSIVE  (UINT64_C(1) << 56)
#define PM_UFFD_WP    (UINT64_C(1) << 57)
#define PM_FILE	      (UINT64_C(1) << 61)
#define PM_SWAP	      (UINT64_C(1) << 62)
#define PM_PRESENT    (UINT64_C(1) << 63)

/* How pagemap_read() tells RUN_DIRTY */
enum dirty_by { DIRTY_BY_SOFT_DIRTY, DIRTY_BY_NO_UFFD_WP };

int pagemap_open(pid_t pid);
int pagemap_has_scan(void);
int pagemap_reopen(struct own_fd *o, pid_t pid);
int pagemap_scan(int fd, uint64_t start, uint64_t end, bool protect, unsigned int ignore,
		 unsigned int always, struct runs *out);
int pagemap_read(int fd, uint64_t start, uint64_t end, enum dirty_by by, unsigned int ignore,
		 unsigned int always, struct runs *out);

#endif
