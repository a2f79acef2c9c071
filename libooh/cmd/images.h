/* SPDX-License-Identifier: GPL-2.0-only */
/* What is in a folder of CRIU's images: their checksums, and what the plugin says of them. */
#ifndef OOH_IMAGES_H
#define OOH_IMAGES_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKSUMS "checksums"

DIR *images_list(int at);
int images_sum(int at);
int images_sum_fd(int fd, uint32_t *sum, unsigned long long *bytes);
int images_sum_file(int at, const char *name, uint32_t *sum, unsigned long long *bytes);
int images_check(int at, char *why, size_t size);
bool images_all_dirty(int at, char *why, size_t size);

#endif
