// SPDX-License-Identifier: GPL-2.0-only
/* ooh doctor: does it work here, and if not, what is the first thing in the way? */
#include <argp.h>
#include <stdio.h>
#include <string.h>
#include "cmd.h"
#include "machine.h"

#define MAX_BACKENDS 16

struct doctor {
	const char *backend; /* NULL: any */
	bool json;
	struct ooh_backend v[MAX_BACKENDS];
	int n;
	const struct ooh_backend *best; /* that is usable, or the one that was asked for */
	const struct ooh_backend *log;	/* spml */
	struct machine machine;
	struct obstacle obstacle; /* on the way to the processor's log */
	char name[64];
	const char *others; /* which processes of others can be followed; NULL: all */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct doctor *d = state->input;

	switch (key) {
	case 'b':
		d->backend = arg;
		return 0;
	case 'j':
		d->json = true;
		return 0;
	}
	return parse_help(key, state);
}

static const struct argp_option options[] = {
	{ "backend", 'b', "BACKEND", 0, "does this tracker work here? default: the best there is",
	  0 },
	{ "json", 'j', NULL, 0, "a JSON document instead of text", 0 },
	HELP_OPTION,
	{ 0 },
};

static const struct argp doctor_argp = {
	.options = options,
	.parser = parse,
	.doc = "Says whether and by which tracker ooh works here, or the first thing in the way; then "
	       "the same of the log that the processor keeps.\v"
	       "Exit status: 0 it works, 2 wrong usage, 3 it does not.",
};

static bool is_log(const struct ooh_backend *b)
{
	return b && (!strcmp(b->name, "epml") || !strcmp(b->name, "spml"));
}

static const char *others(const struct machine *m)
{
	if (m->may_trace_all)
		return NULL;
	if (m->ptrace_scope)
		return "As this user: programs that ooh starts (ooh top -- COMMAND). Those that run "
		       "already (-p PID) need root, or kernel.yama.ptrace_scope=0.";
	return "As this user: the user's own processes. Those of others need root.";
}

static void examine(struct doctor *d)
{
	int i;

	d->n = ooh_backends(d->v, MAX_BACKENDS, sizeof(d->v[0]));
	for (i = 0; i < d->n; i++) {
		if (d->backend ? !strcmp(d->v[i].name, d->backend) : !d->best && d->v[i].usable)
			d->best = &d->v[i];
		if (!strcmp(d->v[i].name, "spml"))
			d->log = &d->v[i];
	}
	machine_look(&d->machine);
	machine_name(&d->machine, d->name, sizeof(d->name));
	d->obstacle = machine_obstacle(&d->machine);
	/* the device is there, and it is the library that cannot use it */
	if (!d->obstacle.id && d->log && !d->log->usable) {
		d->obstacle.id = "version";
		snprintf(d->obstacle.what, sizeof(d->obstacle.what), "%s", d->log->reason);
	}
	d->others = others(&d->machine);
}

static bool works(const struct doctor *d)
{
	return d->best && d->best->usable;
}

static json_t *text_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

static int print_document(const struct doctor *d)
{
	json_t *root = json_pack("{s:b}", "works", works(d)), *list = json_array(), *log;
	int i;

	json_object_set_new(root, "backend", works(d) ? json_string(d->best->name) : json_null());
	json_object_set_new(root, "reason", text_or_null(d->best ? d->best->reason : NULL));
	log = json_pack("{s:b}", "usable", d->log && d->log->usable);
	json_object_set_new(log, "obstacle", text_or_null(d->obstacle.id));
	json_object_set_new(log, "what", text_or_null(d->obstacle.what));
	json_object_set_new(log, "cure", text_or_null(d->obstacle.cure));
	json_object_set_new(root, "log", log);
	json_object_set_new(root, "machine", json_string(d->name));
	json_object_set_new(root, "kernel", json_string(d->machine.release));
	json_object_set_new(root, "others", text_or_null(d->others));
	for (i = 0; i < d->n; i++)
		json_array_append_new(list, json_backend(&d->v[i]));
	json_object_set_new(root, "backends", list);
	return print_json(root);
}

static void print_obstacle(const struct obstacle *o)
{
	printf("%s.\n", o->what);
	if (o->cure[0])
		printf("    To do: %s.\n", o->cure);
}

static void print_answer(const struct doctor *d)
{
	if (works(d))
		printf("ooh works here by %s: %s.\n", d->best->name, d->best->reason);
	/* no log; or epml, and there is the other log */
	else if (d->backend && (!is_log(d->best) || (d->log && d->log->usable)))
		printf("%s does not work here: %s.\n", d->best->name, d->best->reason);
	else {
		printf("%s does not work here: ", d->backend ? d->best->name : "ooh");
		print_obstacle(&d->obstacle);
		if (!d->backend)
			printf("No tracker of the kernel's is usable, either; ooh backends says "
			       "why.\n");
	}
	if (works(d) && !is_log(d->best) && d->obstacle.id) {
		printf("Not by the processor's log (spml): ");
		print_obstacle(&d->obstacle);
	}
	if (works(d) && d->others)
		printf("%s\n", d->others);
	printf("\n%-13s  %s, Linux %s\n", "machine", d->name, d->machine.release);
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor d = { 0 };
	int i;

	argp_parse(&doctor_argp, argc, argv, 0, NULL, &d);
	examine(&d);
	if (d.backend && !d.best) {
		say("there is no backend \"%s\"; ooh backends lists them", d.backend);
		return ST_USAGE;
	}
	if (d.json) {
		i = print_document(&d);
		return i ? i : works(&d) ? ST_OK : ST_CANNOT;
	}
	print_answer(&d);
	/* of the logs all was said */
	for (i = 0; i < d.n; i++)
		if (!is_log(&d.v[i]) || d.v[i].usable)
			put_backend(&d.v[i]);
	return works(&d) ? ST_OK : ST_CANNOT;
}
