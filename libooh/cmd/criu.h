/* SPDX-License-Identifier: GPL-2.0-only */
/* Running criu for ooh checkpoint and ooh restore. */
#ifndef OOH_CRIU_H
#define OOH_CRIU_H

#include <argp.h>
#include <stdbool.h>
#include <sys/types.h>
#include "chain.h"
#include "cmd.h"

#define MAX_OPTIONS 32
#define OUTPUT	    "criu.log"
#define OPTIONS	    "criu-options"
#define LIMIT_S	    3600
#define OPT_LIMIT   257

#define COMMON_OPTIONS                                                                          \
	{ "criu", 'c', "OPTION", 0, "one more option for criu; may be repeated", 0 },           \
		{ "limit", OPT_LIMIT, "SECONDS", 0, "end a criu that takes longer (3600)", 0 }, \
		HELP_OPTION,                                                                    \
	{                                                                                       \
		0                                                                               \
	}

struct job {
	const char *path, *backend;
	double every;
	long limit; /* of one criu, in seconds */
	long length, rounds, keep;
	long number; /* to be restored */
	pid_t pid;
	char **cmd;
	const char *criu_options[MAX_OPTIONS];
	int ncriu_options;
	char owner[OWNER_LEN]; /* which process it is, for the chain */
	long failed;	       /* the last one that failed: its log is kept */
	const char *log;       /* absolute, of a restore */
	int dir, pidfd;
	char doing[40];		    /* for progress */
	const char *before, *after; /* hooks */
	const char *packer;
	bool json;
	bool last;    /* one more when a signal ends it */
	bool tracked; /* somebody can tell what was written */
};

int criu_run(const struct job *j, const char *folder, const char **argv);
int criu_hook(const struct job *j, const char *command, long n, const char *status);
int criu_absent(void);
void criu_say_why(const struct job *j, const char *folder, const char *what, int status);
void criu_add_options(const struct job *j, const char **argv, int n);
const char *criu_refused(const char *option);
bool criu_wants(const struct job *j, const char *option);
int criu_remember(const struct job *j, const char *folder);
void criu_recall(struct job *j, const char *folder);

/* Of the commands that take such a folder */
int folder_open(const char *path, enum use use, int *dir);
long checkpoint_number(struct argp_state *state, const char *arg);
error_t job_parse(int key, char *arg, struct argp_state *state);

#endif
