/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Images of memory that are compressed: pages-1.img.zst instead of pages-1.img. The programs that do it
 * are the distribution's.
 */
#ifndef OOH_PACKED_H
#define OOH_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

bool packed_name(const char *name);
bool packed_there(int at, const char *name);
bool packed_any(int at);
const char *packer_choose(const char *name);

int packed_open(int at, const char *name, pid_t *child);
int packed_close(int fd, pid_t child);

int pack_folder(int at, const char *packer, char *why, size_t size);
int unpack_folder(int at, int out, char *why, size_t size);

#endif
