/* SPDX-License-Identifier: GPL-2.0-only */
/* Running criu for ooh checkpoint and ooh restore. */
#ifndef OOH_CRIU_H
#define OOH_CRIU_H

#include <stdbool.h>
#include <sys/types.h>
#include "chain.h"

#define MAX_OPTIONS 32
#define OUTPUT	    "criu.log"

struct job {
	const char *path, *backend;
	double every;
	long length, rounds;
	pid_t pid;
	char **cmd;
	const char *criu_options[MAX_OPTIONS];
	int ncriu_options;
	char owner[OWNER_LEN]; /* which process it is, for the chain */
	long failed;	       /* the last one that failed: its log is kept */
	const char *log;       /* absolute, of a restore */
	int dir, pidfd;
	bool last; /* one more when a signal ends it */
	bool tracked; /* somebody can tell what was written */
};

int criu_run(const struct job *j, const char *folder, const char **argv);
void criu_say_why(const struct job *j, const char *folder, const char *what, int status);
void criu_add_options(const struct job *j, const char **argv, int n);
const char *criu_refused(const char *option);
bool criu_wants(const struct job *j, const char *option);

#endif
