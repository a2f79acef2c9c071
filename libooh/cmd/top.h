/* SPDX-License-Identifier: GPL-2.0-only */
/* ooh top: what is known of each process, and the two ways to show it. */
#ifndef OOH_TOP_H
#define OOH_TOP_H

#include <time.h>
#include "cmd.h"
#include "heat.h"

#define LINE 512

struct proc {
	struct target t;
	struct ooh_tracker *tracker;
	bool ended;
	char command[24];
	char reason[OOH_REASON_LEN]; /* of the choice of the backend */
	char error[OOH_REASON_LEN];  /* the last round's, if it failed */
	uint64_t since;		     /* when the round began, ns */

	/* of the last round */
	uint64_t mapped, written, unknown; /* pages */
	double seconds;
	uint64_t collect_ns;
	bool all_dirty_now;

	/* of all rounds */
	uint64_t total_written, total_unknown, total_ns;
	long rounds, all_dirty;
	long all_dirty_round; /* the last one in which everything was dirty */
	time_t all_dirty_time;
	char all_dirty_reason[OOH_REASON_LEN];

	struct heat heat;
	struct vmas vmas;
};

enum sort { SORT_RATE, SORT_SHARE, SORT_MAPPED, SORT_PID, SORTS };

struct top {
	const struct options *o;
	struct proc *procs;
	struct proc **order; /* as shown */
	size_t n;
	enum sort sort;
	long interval_ms, rounds;
	bool paused;
	int status; /* of what could not be shown */
};

extern const char *const sort_names[SORTS];

double proc_rate(const struct proc *p);	 /* bytes per second */
double proc_share(const struct proc *p); /* of what is mapped, 0 ... 1 */
void top_sort(struct top *top);

/* Lines for a terminal of so many columns; text that others made is made printable */
void top_summary(const struct top *top, char *line, int width);
void proc_head(char *line, int width);
void proc_row(const struct proc *p, char *line, int width);
void proc_choice(const struct proc *p, char *line, int width);
void proc_all_dirty(const struct proc *p, char *line, int width);
void hot_head(char *line, int width);
void hot_row(const struct hot *x, char *line, int width);

/* metrics.c; a status */
int put_metrics(const struct options *o, const struct top *top);

/* screen.c */
enum todo { DO_NOTHING, DO_QUIT, DO_DRAW };
int screen_open(void);
void screen_draw(const struct top *top);
enum todo screen_keys(struct top *top);
void screen_close(void);

#endif
