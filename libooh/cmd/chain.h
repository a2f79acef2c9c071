/* SPDX-License-Identifier: GPL-2.0-only */
/* A folder of checkpoints: which are complete, which build on which. */
#ifndef OOH_CHAIN_H
#define OOH_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

#define NO_CHECKPOINT 0L /* they are counted from 1 */
#define NAME_LEN      32
#define OWNER_LEN     128

int chain_open(const char *path, int create);
void chain_name(char name[static NAME_LEN], long n);
long chain_highest(int dir);
long chain_newest(int dir);
int chain_length(int dir, long n);
int chain_begin(int dir, long *n, const char *owner);
int chain_finish(int dir, long n, long parent);
void chain_remove(int dir, long n, const char *owner);
void chain_keep_log(int dir, long n, const char *owner);
void chain_tidy(int dir, long keep, const char *owner);
bool chain_check(int dir, long n, char *why, size_t size);
long chain_marked(int dir);

#endif
