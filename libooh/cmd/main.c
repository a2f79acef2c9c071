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
#include "top.h"

/* libc looks for it, so it must not be hidden */
__attribute__((visibility("default"))) const char *argp_program_version = "ooh " OOH_VERSION;

struct arguments {
	struct options o;
	bool tracks; /* record, verify, top: they take a process */
	bool verify, top;
};

#define TRACK_OPTIONS                                                                   \
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best there is", 0 }, \
		{ "interval", 'i', "MS", 0, "milliseconds between rounds (100)", 0 },   \
		{ "rounds", 'n', "ROUNDS", 0, "end after so many rounds", 0 },          \
		{ "pid", 'p', "PID", 0, "track this process", 0 },                      \
	{                                                                               \
		"json", 'j', NULL, 0, "JSON instead of text", 0                         \
	}

static const struct argp_option verify_options[] = {
	TRACK_OPTIONS,
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option record_options[] = {
	TRACK_OPTIONS,
	{ "summary", 's', NULL, 0, "no rounds, but their sums at the end", 0 },
	HELP_OPTION,
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
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option metrics_options[] = {
	{ "backend", 'b', "BACKEND", 0, "the tracker; default: the best there is", 0 },
	{ "interval", 'i', "MS", 0, "milliseconds between rounds (1000; 15000 into a file)", 0 },
	{ "rounds", 'n', "ROUNDS", 0, "end after so many (1; into a file: none)", 0 },
	{ "pid", 'p', "PID[,PID...]", 0, "track these processes; may be repeated", 0 },
	{ "checkpoints", 'C', "DIR", 0, "of the checkpoints in this folder, too", 0 },
	{ "output", 'o', "FILE", 0, "written anew after each round, as a whole", 0 },
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option list_options[] = {
	{ "json", 'j', NULL, 0, "a JSON document instead of text", 0 },
	HELP_OPTION,
	{ 0 },
};

error_t parse_help(int key, struct argp_state *state)
{
	if (key != 'h')
		return ARGP_ERR_UNKNOWN;
	argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
	return 0;
}

/* A number from min to max, or the end with what is wrong with this one */
long parse_number(struct argp_state *state, const char *what, const char *text, long min, long max)
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
		o->pid = parse_number(state, "-p", word, 1, INT_MAX);
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
	if (!a->o.pid && !a->o.cmd && !a->o.metrics)
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
		a->o.interval_ms = parse_number(state, "-i", arg, 0, 24 * 3600 * 1000);
		return 0;
	case 'n':
		a->o.rounds = parse_number(state, "-n", arg, 1, INT_MAX);
		return 0;
	case 's':
		a->o.summary = true;
		return 0;
	case 'o':
		a->o.output = arg;
		return 0;
	case 'C':
		a->o.checkpoints = arg;
		return 0;
	case OPT_BATCH:
		a->o.batch = true;
		return 0;
	case 'p':
		if (a->top)
			add_pids(state, &a->o, arg);
		else
			a->o.pid = parse_number(state, "-p", arg, 1, INT_MAX);
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
	return parse_help(key, state);
}

static const struct argp backends_argp = {
	.options = list_options,
	.parser = parse,
	.doc = "The trackers that libooh knows: usable here or not, and why not.",
};

static const struct argp record_argp = {
	.options = record_options,
	.parser = parse,
	.args_doc = "-p PID\n-- COMMAND [ARG...]",
	.doc = "Prints the pages that a process wrote, round by round.",
};

static const struct argp verify_argp = {
	.options = verify_options,
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

static const struct argp metrics_argp = {
	.options = metrics_options,
	.parser = parse,
	.args_doc = "[-p PID[,PID...]]\n-- COMMAND [ARG...]",
	.doc = "Prints OpenMetrics text: which trackers are usable, and how much the processes wrote.",
};

static int run_backends(int argc, char **argv)
{
	struct arguments a = { 0 };

	argp_parse(&backends_argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	return cmd_backends(a.o.json);
}

/* In order: what follows the command's name is the command's. */
static int run_record(int argc, char **argv)
{
	struct arguments a = { .o.interval_ms = 100, .o.rounds = FOREVER, .tracks = true };

	argp_parse(&record_argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	return cmd_record(&a.o);
}

static int run_verify(int argc, char **argv)
{
	struct arguments a = {
		.o.interval_ms = 100, .o.rounds = 10, .tracks = true, .verify = true
	};

	argp_parse(&verify_argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	return cmd_verify(&a.o);
}

static int run_top(int argc, char **argv)
{
	struct arguments a = {
		.o.interval_ms = 1000, .o.rounds = FOREVER, .tracks = true, .top = true
	};

	argp_parse(&top_argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	return cmd_top(&a.o);
}

static int run_metrics(int argc, char **argv)
{
	struct arguments a = { .o.interval_ms = -1, .o.rounds = -1, .tracks = true, .top = true };

	a.o.metrics = true;
	argp_parse(&metrics_argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
	if (a.o.interval_ms < 0)
		a.o.interval_ms = a.o.output ? 15000 : 1000;
	if (a.o.rounds < 0)
		a.o.rounds = a.o.output ? FOREVER : 1;
	return a.o.pid || a.o.cmd ? cmd_top(&a.o) : put_metrics(&a.o, NULL);
}

static const struct command {
	const char *name, *what;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "backends", "the trackers: usable here or not, and why not", run_backends },
	{ "doctor", "what works here, or the first thing in the way", cmd_doctor },
	{ "record", "the pages that a process wrote, round by round", run_record },
	{ "verify", "whether a tracker misses a page, by comparing contents", run_verify },
	{ "top", "how much processes write, and where, live", run_top },
	{ "metrics", "the same as OpenMetrics text, for Prometheus", run_metrics },
	{ "checkpoint", "incremental checkpoints of a process, made by criu", cmd_checkpoint },
	{ "restore", "a process brought back from them", cmd_restore },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void put_usage(FILE *f)
{
	size_t i;

	fputs("Usage: ooh SUBCOMMAND [OPTION...]\n"
	      "Which pages of a process were written, round by round.\n\n",
	      f);
	for (i = 0; i < COMMANDS; i++)
		fprintf(f, "  %-10s  %s\n", commands[i].name, commands[i].what);
	fputs("\n"
	      "  ooh record -n 5 -p PID           five rounds of a process that runs\n"
	      "  ooh top -- COMMAND [ARG...]      one that is started\n"
	      "  ooh help SUBCOMMAND              its options\n"
	      "  ooh --version\n\n"
	      "See ooh(1).\n",
	      f);
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	say("there is no subcommand \"%s\"; \"ooh help\" lists them", name);
	return NULL;
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c)
{
	return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

int main(int argc, char **argv)
{
	char *help_argv[5] = { argv[0] };
	const struct command *c;
	char name[32];

	argp_err_exit_status = ST_USAGE;
	/* A reader that goes away must not leave the process held. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		put_usage(stderr);
		return ST_USAGE;
	}
	if (is_one_of(argv[1], "--help", "-h", "-?") || (argc == 2 && !strcmp(argv[1], "help"))) {
		put_usage(stdout);
		return finish_output(ST_OK);
	}
	if (is_one_of(argv[1], "--version", "-V", "version")) {
		puts(argp_program_version);
		return finish_output(ST_OK);
	}
	/* "help checkpoint prune", too */
	if (!strcmp(argv[1], "help")) {
		argc = argc > 4 ? 4 : argc;
		memcpy(help_argv + 1, argv + 2, (argc - 2) * sizeof(*argv));
		help_argv[argc - 1] = "--help";
		argv = help_argv;
	}
	c = find_command(argv[1]);
	if (!c)
		return ST_USAGE;
	snprintf(name, sizeof(name), "ooh %s", c->name);
	argv[1] = name;
	said_by(name);
	return finish_output(c->run(argc - 1, argv + 1));
}
