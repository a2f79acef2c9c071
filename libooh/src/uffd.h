/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A userfaultfd of another process, held here. */
#ifndef OOH_UFFD_H
#define OOH_UFFD_H

#include <stdint.h>
#include <linux/userfaultfd.h>
#include "backend.h"
#include "vmas.h"

/* Newer than the headers of Debian 12 */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

int uffd_probe(int flags, uint64_t features, char *why, size_t size);
int uffd_open(struct ooh_tracker *t, int flags, uint64_t features);
int uffd_free_for_us(struct ooh_tracker *t, int fd, const struct vmas *vmas);
int uffd_register(int fd, uint64_t start, uint64_t end);
int uffd_protect(int fd, uint64_t start, uint64_t end, bool on);

#endif
