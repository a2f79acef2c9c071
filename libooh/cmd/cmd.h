/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the ooh command share. */
#ifndef OOH_CMD_H
#define OOH_CMD_H

#include <argp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <sys/types.h>
#include <jansson.h>
#include <ooh.h>
#include "../src/stop.h"

/* Exit statuses, see ooh(1) */
enum {
	ST_OK = 0,
	ST_MISSED = 1,
	ST_DAMAGED = 1,
	ST_USAGE = 2,
	ST_CANNOT = 3,
	ST_ENDED = 4,
	ST_NO_CRIU = 5,
	ST_NO_EXEC = 127,
};

#define FOREVER 0

struct options {
	const char *backend; /* NULL: the best */
	long interval_ms;
	long rounds; /* FOREVER: until something ends it */
	bool json;
	bool summary; /* record: sums alone */
	bool batch;   /* top: text instead of a screen */
	bool metrics;
	const char *output;	 /* metrics: a file */
	const char *checkpoints; /* metrics: a folder */
	bool quiet;		 /* cmd neither reads nor writes what we do */
	pid_t pid;		 /* 0: cmd */
	pid_t *pids;		 /* top: all of them, pid is the last */
	size_t npids;
	char **cmd;
};

/* The process that is tracked */
struct target {
	pid_t pid;
	int pidfd;
	bool child; /* we started it */
	bool ended;
	bool status_known;
	int status;
	struct stop stop; /* valid while it is held */
	bool held;
};

enum wake { WAKE_INTERVAL, WAKE_ENDED, WAKE_SIGNAL };

int target_open(struct target *t, const struct options *o);
int target_hold(struct target *t);
void target_release(struct target *t);
enum wake target_sleep(struct target *t, long ms);
enum wake wait_until(struct pollfd *fds, nfds_t n, uint64_t ns);
int target_close(struct target *t, bool finished);

int cmd_backends(bool json);
int cmd_doctor(int argc, char **argv);
int cmd_record(const struct options *o);
int cmd_verify(const struct options *o);
int cmd_top(const struct options *o);
int cmd_checkpoint(int argc, char **argv);
int cmd_manage(int argc, char **argv);
int cmd_restore(int argc, char **argv);

/* Of argp's, which has it as -?; with parse_help() for what a parser does not know itself */
#define HELP_OPTION                                     \
	{                                               \
		NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0 \
	}

error_t parse_help(int key, struct argp_state *state);
long parse_number(struct argp_state *state, const char *what, const char *text, long min, long max);

void said_by(const char *name);
bool flush_output(void);
int finish_output(int status);
void progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_end(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int say_no_tracking(const struct options *o, int rc, const char *reason);
int print_json(json_t *root);
void put_json_line(json_t *root);
json_t *json_backend(const struct ooh_backend *b);
void put_backend(const struct ooh_backend *b);
json_t *json_address(uint64_t address);
const char *clock_time(char buf[static 16]);
json_t *json_time(void);
json_t *json_time_of(time_t t);
void printable(char *out, size_t size, const char *in);
uint64_t count_pages(const struct ooh_range *r, ssize_t n);
uint64_t ticks(void);
uint64_t now_ns(void);

#endif
