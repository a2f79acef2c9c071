/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files that another process maps: did one stay as it is over a round? The page table does
 * not tell; the file system does, where nobody can write to the file at either end and its time
 * is the same. docs/soundness.md has the argument.
 */
#ifndef OOH_FILES_H
#define OOH_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "ownfd.h"
#include "vmas.h"

#define NO_FILE (-1) /* of which nothing can be said */

struct file;

struct files {
	struct file *v;
	size_t n, cap;
	pid_t pid;
	struct own_fd clock; /* tells that somebody set the clock */
	bool clock_set;	     /* in this round or the one before */
	struct known_fs {
		dev_t dev;
		int kind;
	} fs[16];
	size_t nfs;
};

int files_init(struct files *f, pid_t pid);
void files_free(struct files *f);
/* A look at the mappings begins: */
void files_begin(struct files *f);
/* the number of a mapping's file, or NO_FILE; */
int files_of(struct files *f, const struct vma *vma);
/* and ends, after everything was read. */
void files_look(struct files *f);
/* Until files_begin(): has it kept its content since the last look? */
bool files_same(const struct files *f, int number);
/* Can it be told so of the round that begins? */
bool files_quiet(const struct files *f, int number);
int files_fd(const struct files *f, int number);

#endif
