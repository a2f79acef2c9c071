/* SPDX-License-Identifier: GPL-2.0-only */
/* A folder of checkpoints: which are complete, which build on which. */
#ifndef OOH_CHAIN_H
#define OOH_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define NO_CHECKPOINT 0L /* they are counted from 1 */
#define NAME_LEN      32
#define OWNER_LEN     128
#define MERGED	      ".merge" /* of a folder that a merge makes, or leaves behind */

enum use { READ, CHANGE, CREATE };

struct checkpoint {
	long n;
	char owner[OWNER_LEN]; /* the process: boot, number, start; "": the folder is not ours */
	bool marked;	       /* as complete */
	long parent;	       /* then */
	int length;	       /* of the chain; 0: something that it builds on is not there */
	time_t time;
	double bytes;
	bool packed; /* compressed images are in it */
};

int chain_open(const char *path, enum use use);
void chain_name(char name[static NAME_LEN], long n);
int chain_folder(int dir, long n);
struct checkpoint chain_look(int dir, long n);
int chain_list(int dir, struct checkpoint **list, size_t *n);
struct checkpoint *chain_find(struct checkpoint *v, size_t n, long number);
void chain_keep_parents(struct checkpoint *v, size_t n, bool *kept);
long chain_highest(int dir);
long chain_newest(int dir);
int chain_length(int dir, long n);
long chain_parent(int dir, long n);
int chain_begin(int dir, long *n, const char *owner);
int chain_finish(int dir, long n, long parent);
void chain_remove(int dir, long n, const char *owner);
void chain_keep_log(int dir, long n, const char *owner);
void chain_tidy(int dir, const char *owner, long keep, long spare);
bool chain_check(int dir, long n, char *why, size_t size);
bool chain_check_one(int dir, long n, char *why, size_t size);
long chain_marked(int dir);
bool chain_made(const char *name);
bool chain_is_mark(const char *name);
int chain_replace(int dir, long n, const char *work);
int chain_begin_merge(int dir, long n, char *work, size_t size);
int chain_finish_folder(int dir, int at, long parent);
void chain_clean_merges(int dir);

#endif
