// SPDX-License-Identifier: GPL-2.0-only
/* The ooh command: its arguments. */
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cmd.h"

/* libc looks for it, so it must not be hidden */
__attribute__((visibility("default"))) const char *argp_program_version = "ooh " OOH_VERSION;

struct arguments {
	struct options o;
	bool tracks; /* record, verify, top: they take a process */
	bool verify, top;
};

static const struct argp_option track_options[] = {
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best there is", 0 },
	{ "interval", 'i', "MS", 0, "milliseconds between rounds (100)", 0 },
	{ "rounds", 'n', "ROUNDS", 0, "end after so many rounds", 0 },
	{ "pid", 'p', "PID", 0, "track this process", 0 },
	{ "json", 'j', NULL, 0, "a JSON document instead of text", 0 },
	{ 0 },
};

#define OPT_BATCH 256

static const struct argp_option top_options[] = {
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best there is", 0 },
	{ "interval", 'i', "MS", 0, "milliseconds between rounds (1000)", 0 },
	{ "rounds", 'n', "ROUNDS", 0, "end after so many rounds", 0 },
	{ "pid", 'p', "PID[,PID...]", 0, "track these processes; may be repeated", 0 },
	{ "batch", OPT_BATCH, NULL, 0, "text for each round instead of a screen", 0 },
	{ "json", 'j', NULL, 0, "a line of JSON for each round instead of a screen", 0 },
	{ 0 },
};

static const struct argp_option list_options[] = {
	{ "json", 'j', NULL, 0, "a JSON document instead of text", 0 },
	{ 0 },
};

static long number(struct argp_state *state, const char *what, const char *text, long min, long max)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < min || n > max)
		argp_error(state, "%s: \"%s\" is not a number from %ld to %ld", what, text, min,
			   max);
	return n;
}

static void add_pids(struct argp_state *state, struct options *o, char *list)
{
	char *word, *rest = list;

	while ((word = strsep(&rest, ","))) {
		pid_t *v = realloc(o->pids, (o->npids + 1) * sizeof(*v));
		size_t i;

		if (!v)
			argp_failure(state, ST_CANNOT, ENOMEM, "-p");
		o->pids = v;
		o->pid = number(state, "-p", word, 1, INT_MAX);
		for (i = 0; i < o->npids && v[i] != o->pid; i++)
			;
		if (i == o->npids)
			v[o->npids++] = o->pid;
	}
}

static void check_backend(struct argp_state *state, const struct arguments *a)
{
	struct ooh_backend v[16];
	char names[256] = "";
	int i, n = ooh_backends(v, 16, sizeof(v[0]));

	if (a->verify && !strcmp(a->o.backend, "none"))
		return;
	for (i = 0; i < n; i++) {
		if (!strcmp(v[i].name, a->o.backend))
			return;
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			 i ? ", " : "", v[i].name);
	}
	argp_error(state, "there is no backend \"%s\"; there are: %s%s", a->o.backend, names,
		   a->verify ? ", and none (the oracle alone)" : "");
}

static void check(struct argp_state *state, const struct arguments *a)
{
	if (!a->tracks)
		return;
	if (a->o.pid && a->o.cmd)
		argp_error(state, "either -p PID or a command, not both");
	if (!a->o.pid && !a->o.cmd)
		argp_error(state, "what is to be tracked? Give -p PID, or -- and a command");
	if (a->o.backend)
		check_backend(state, a);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'b':
		a->o.backend = arg;
		return 0;
	case 'i':
		a->o.interval_ms = number(state, "-i", arg, 0, 24 * 3600 * 1000);
		return 0;
	case 'n':
		a->o.rounds = number(state, "-n", arg, 1, INT_MAX);
		return 0;
	case OPT_BATCH:
		a->o.batch = true;
		return 0;
	case 'p':
		if (a->top)
			add_pids(state, &a->o, arg);
		else
			a->o.pid = number(state, "-p", arg, 1, INT_MAX);
		return 0;
	case 'j':
		a->o.json = true;
		return 0;
	case ARGP_KEY_ARGS:
		if (!a->tracks)
			argp_error(state, "too many arguments: %s", state->argv[state->next]);
		a->o.cmd = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		check(state, a);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp backends_argp = {
	.options = list_options,
	.parser = parse,
	.doc = "The trackers that libooh knows: usable here or not, and why not.",
};

static const struct argp record_argp = {
	.options = track_options,
	.parser = parse,
	.args_doc = "-p PID\n-- COMMAND [ARG...]",
	.doc = "Prints the pages that a process wrote, round by round.",
};

static const struct argp verify_argp = {
	.options = track_options,
	.parser = parse,
	.args_doc = "-p PID\n-- COMMAND [ARG...]",
	.doc = "Compares what a tracker reports with the contents of every page of the process "
	       "(the backend \"none\": only the contents). 10 rounds unless told otherwise.\v"
	       "Exit status: 0 nothing missed, 1 the tracker missed pages, 2 wrong usage, "
	       "3 the process cannot be tracked, 4 it ended too early.",
};

static const struct argp top_argp = {
	.options = top_options,
	.parser = parse,
	.args_doc = "-p PID[,PID...]\n-- COMMAND [ARG...]",
	.doc = "Shows how much processes write, and where, until q is pressed (h: the other keys).",
};

static const char usage[] =
	"Usage: ooh backends [--json]\n"
	"       ooh record [-b BACKEND] [-i MS] [-n ROUNDS] [--json] (-p PID | -- COMMAND...)\n"
	"       ooh verify [-b BACKEND] [-i MS] [-n ROUNDS] [--json] (-p PID | -- COMMAND...)\n"
	"       ooh top    [-b BACKEND] [-i MS] [-n ROUNDS] [--batch | --json]\n"
	"                  (-p PID[,PID...] | -- COMMAND...)\n"
	"       ooh checkpoint [-e SECONDS] [-l N] [-n N] [--last] [-b BACKEND]\n"
	"                  [--limit SECONDS] [-c OPTION]... DIR (-p PID | -- COMMAND...)\n"
	"       ooh restore [--limit SECONDS] [-c OPTION]... DIR\n"
	"       ooh --help | --version | SUBCOMMAND --help\n";

int main(int argc, char **argv)
{
	struct arguments a = { .o.interval_ms = 100 };
	const char *sub = argc > 1 ? argv[1] : "";
	const struct argp *argp;
	char name[32];

	argp_err_exit_status = ST_USAGE;
	/* A reader that goes away must not leave the process held. */
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(sub, "--help") || !strcmp(sub, "-?") || !strcmp(sub, "help")) {
		printf("%s\nWhich pages of a process were written, round by round. See ooh(1).\n",
		       usage);
		return ST_OK;
	}
	if (!strcmp(sub, "--version") || !strcmp(sub, "-V")) {
		puts(argp_program_version);
		return ST_OK;
	}
	if (!strcmp(sub, "backends")) {
		argp = &backends_argp;
	} else if (!strcmp(sub, "record")) {
		argp = &record_argp;
		a.tracks = true;
		a.o.rounds = FOREVER;
	} else if (!strcmp(sub, "verify")) {
		argp = &verify_argp;
		a.tracks = a.verify = true;
		a.o.rounds = 10;
	} else if (!strcmp(sub, "top")) {
		argp = &top_argp;
		a.tracks = a.top = true;
		a.o.rounds = FOREVER;
		a.o.interval_ms = 1000;
	} else if (!strcmp(sub, "checkpoint") || !strcmp(sub, "restore")) {
		argp = NULL; /* theirs: checkpoint.c */
	} else {
		if (*sub)
			say("there is no subcommand \"%s\"", sub);
		fputs(usage, stderr);
		return ST_USAGE;
	}
	snprintf(name, sizeof(name), "ooh %s", sub);
	argv[1] = name;
	if (!strcmp(sub, "checkpoint"))
		return cmd_checkpoint(argc - 1, argv + 1);
	if (!strcmp(sub, "restore"))
		return cmd_restore(argc - 1, argv + 1);
	/* In order: what follows the command's name is the command's. */
	argp_parse(argp, argc - 1, argv + 1, ARGP_IN_ORDER, NULL, &a);
	if (argp == &backends_argp)
		return cmd_backends(a.o.json);
	if (argp == &top_argp)
		return cmd_top(&a.o);
	return argp == &record_argp ? cmd_record(&a.o) : cmd_verify(&a.o);
}
