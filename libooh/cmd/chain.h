/* SPDX-License-Identifier: GPL-2.0-only */
/* A folder of checkpoints: which are complete, which build on which. */
#ifndef OOH_CHAIN_H
#define OOH_CHAIN_H

#include <stddef.h>

#define NO_CHECKPOINT 0L /* they are counted from 1 */
#define NAME_LEN      32

int chain_open(const char *path, int create);
void chain_name(char name[static NAME_LEN], long n);
long chain_highest(int dir);
long chain_newest(int dir);
int chain_length(int dir, long n);
int chain_begin(int dir, long n);
int chain_finish(int dir, long n, long parent);
void chain_remove(int dir, long n);
void chain_tidy(int dir, long keep);

#endif
