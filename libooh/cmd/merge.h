/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OOH_MERGE_H
#define OOH_MERGE_H

#include <stddef.h>

int merge(int dir, long n, char *why, size_t size);
int merge_try(int dir, long n, char *why, size_t size);

#endif
