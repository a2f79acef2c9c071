// SPDX-License-Identifier: GPL-2.0-only
/* ooh checkpoint list, inspect, verify, prune, merge: what is in a folder of checkpoints. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "chain.h"
#include "cmd.h"
#include "crimage.h"
#include "criu.h"
#include "images.h"
#include "merge.h"
#include "packed.h"

struct manage {
	const struct verb *verb;
	const char *path;
	long number; /* NO_CHECKPOINT: the newest, or all */
	long keep;
	bool json, dry_run, undo;
	const char *packer;
	int dir;
	struct checkpoint *v;
	size_t n;
};

struct verb {
	const char *name;
	const struct argp *argp;
	enum use use;
	int (*run)(struct manage *m);
};

static struct checkpoint *by_n(const struct manage *m, long n)
{
	return chain_find(m->v, m->n, n);
}

static int pid_of(const struct checkpoint *c)
{
	int pid = 0;

	return sscanf(c->owner, "%*s %d", &pid) == 1 ? pid : 0;
}

/* In a word or two, without reading images */
static const char *state_of(const struct manage *m, const struct checkpoint *c, char *buf,
			    size_t size)
{
	const struct checkpoint *p = c;

	if (!c->marked)
		return "not complete";
	if (c->length)
		return c->packed ? "complete, compressed" : "complete";
	while (p && p->marked && p->parent != NO_CHECKPOINT)
		c = p, p = by_n(m, p->parent);
	snprintf(buf, size, "useless: %ld is %s", p ? p->n : c->parent,
		 p ? "not complete" : "missing");
	return buf;
}

static const char *time_text(char buf[static 32], time_t t)
{
	struct tm tm;

	strftime(buf, 32, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
	return buf;
}

static json_t *json_of(const struct manage *m, const struct checkpoint *c)
{
	char state[64];

	return json_pack("{s:I, s:o, s:I, s:o, s:o, s:b, s:b, s:s}", "number", (json_int_t)c->n,
			 "time", json_time_of(c->time), "bytes", (json_int_t)c->bytes, "parent",
			 c->marked && c->parent ? json_integer(c->parent) : json_null(), "pid",
			 c->owner[0] ? json_integer(pid_of(c)) : json_null(), "complete",
			 c->length > 0, "compressed", c->packed, "state",
			 state_of(m, c, state, sizeof(state)));
}

static int list(struct manage *m)
{
	json_t *root = json_array();
	char state[64], when[32], parent[24];
	size_t i;

	for (i = 0; m->json && i < m->n; i++)
		json_array_append_new(root, json_of(m, &m->v[i]));
	if (m->json)
		return print_json(root);
	json_decref(root);
	if (!m->n) {
		printf("%s holds no checkpoint\n", m->path);
		return ST_OK;
	}
	printf("%6s  %-19s  %9s  %9s  %7s  %s\n", "NUMBER", "TIME", "MB", "BUILDS ON", "PROCESS",
	       "");
	for (i = 0; i < m->n; i++) {
		const struct checkpoint *c = &m->v[i];

		snprintf(parent, sizeof(parent), "%ld", c->parent);
		printf("%6ld  %-19s  %9.1f  %9s  %7d  %s\n", c->n, time_text(when, c->time),
		       c->bytes / 1e6, c->marked && c->parent ? parent : "-", pid_of(c),
		       state_of(m, c, state, sizeof(state)));
	}
	return ST_OK;
}

/* ---- inspect */

static void comm_of(int at, long pid, char *comm, size_t size)
{
	struct pb record, tc, sub;
	struct image img;
	char name[40];
	unsigned int field, inner;
	uint64_t v;

	comm[0] = '\0';
	snprintf(name, sizeof(name), "core-%ld.img", pid);
	if (image_load(&img, at, name, COMMON_MAGIC, CORE_MAGIC))
		return;
	if (image_next(&img, &record))
		while (pb_next(&record, &field, &v, &tc))
			while (field == 3 && pb_next(&tc, &inner, &v, &sub))
				if (inner == 6) {
					char text[64];

					snprintf(text, sizeof(text), "%.*s",
						 (int)(sub.end - sub.at), (const char *)sub.at);
					printable(comm, size, text);
				}
	image_free(&img);
}

/* The processes in it, as {pid, parent, command} */
static json_t *processes(int at)
{
	json_t *all = json_array();
	struct pb record, sub;
	struct image img;
	char comm[64];
	unsigned int field;
	uint64_t v, pid, parent;

	if (image_load(&img, at, "pstree.img", COMMON_MAGIC, PSTREE_MAGIC))
		return all;
	while (image_next(&img, &record)) {
		pid = parent = 0;
		while (pb_next(&record, &field, &v, &sub)) {
			if (field == 1)
				pid = v;
			if (field == 2)
				parent = v;
		}
		comm_of(at, pid, comm, sizeof(comm));
		json_array_append_new(all,
				      json_pack("{s:I, s:I, s:s}", "pid", (json_int_t)pid, "parent",
						(json_int_t)parent, "command", comm));
	}
	image_free(&img);
	return all;
}

static void count_pages_of(int at, uint64_t *here, uint64_t *before)
{
	DIR *d = images_list(at);
	struct dirent *e;
	struct pagemap_image pm;

	*here = *before = 0;
	while (d && (e = readdir(d))) {
		if (!is_pagemap(e->d_name) || pagemap_image_read(&pm, at, e->d_name))
			continue;
		*here += pm.present;
		*before += pm.in_parent;
		pagemap_image_free(&pm);
	}
	if (d)
		closedir(d);
}

static json_t *options_of(const struct manage *m, long n)
{
	json_t *all = json_array();
	struct job j = { .dir = m->dir };
	char name[NAME_LEN];
	int i;

	chain_name(name, n);
	criu_recall(&j, name);
	for (i = 0; i < j.ncriu_options; i++) {
		json_array_append_new(all, json_string(j.criu_options[i]));
		free((char *)j.criu_options[i]);
	}
	return all;
}

static json_t *builds_on(const struct manage *m, const struct checkpoint *c)
{
	json_t *all = json_array();

	while (c && c->marked && c->parent != NO_CHECKPOINT) {
		json_array_append_new(all, json_integer(c->parent));
		c = by_n(m, c->parent);
	}
	return all;
}

static void print_list(const char *what, json_t *list, const char *none)
{
	size_t i;
	json_t *x;

	printf("%-11s", what);
	json_array_foreach(list, i, x) {
		if (json_is_object(x))
			printf("%s%" JSON_INTEGER_FORMAT " %s", i ? ", " : " ",
			       json_integer_value(json_object_get(x, "pid")),
			       json_string_value(json_object_get(x, "command")));
		else if (json_is_integer(x))
			printf("%s%" JSON_INTEGER_FORMAT, i ? ", " : " ", json_integer_value(x));
		else
			printf(" %s", json_string_value(x));
	}
	puts(i ? "" : none);
}

static int inspect(struct manage *m)
{
	const struct checkpoint *c = by_n(m, m->number ? m->number : chain_newest(m->dir));
	json_t *root, *procs, *before, *options;
	uint64_t here, in_parents;
	char when[32], state[64], why[256];
	bool everything;
	int at = c ? chain_folder(m->dir, c->n) : -1;

	if (at < 0) {
		if (m->number)
			say("%s holds no checkpoint %ld", m->path, m->number);
		else
			say("%s holds no complete checkpoint", m->path);
		return ST_CANNOT;
	}
	count_pages_of(at, &here, &in_parents);
	procs = processes(at);
	before = builds_on(m, c);
	options = options_of(m, c->n);
	everything =
		c->marked && c->parent != NO_CHECKPOINT && images_all_dirty(at, why, sizeof(why));
	close(at);
	root = json_of(m, c);
	json_object_update_new(root, json_pack("{s:o, s:I, s:I, s:o, s:o, s:o}", "builds_on",
					       before, "pages_here", (json_int_t)here,
					       "pages_before", (json_int_t)in_parents, "processes",
					       procs, "options", options, "everything_because",
					       everything ? json_string(why) : json_null()));
	if (m->json)
		return print_json(root);
	printf("checkpoint %ld of %s: %s\n", c->n, time_text(when, c->time),
	       state_of(m, c, state, sizeof(state)));
	print_list("processes", procs, " not known");
	print_list("builds on", before, " nothing: it holds everything");
	printf("%-11s %.1f MB in this folder\n", "size", c->bytes / 1e6);
	printf("%-11s %" PRIu64 " in this folder, %" PRIu64 " in those it builds on\n", "pages",
	       here, in_parents);
	if (everything)
		printf("%-11s of all that was written, as %s\n", "", why);
	print_list("options", options, " none that a restore needs");
	json_decref(root);
	return ST_OK;
}

/* ---- verify */

static bool check(struct manage *m, const struct checkpoint *c, char *why, size_t size)
{
	if (!chain_check_one(m->dir, c->n, why, size))
		return false;
	return !merge_try(m->dir, c->n, why, size);
}

/* Each folder is read once; who builds on a damaged one is of no use either. */
static int verify(struct manage *m)
{
	bool *whole = calloc(m->n + 1, sizeof(*whole));
	size_t i, good = 0, bad = 0;
	char why[512];

	for (i = 0; whole && i < m->n; i++) {
		const struct checkpoint *c = &m->v[i], *p = by_n(m, c->parent);

		if (!c->marked || (m->number && c->n > m->number))
			continue;
		progress("reading checkpoint %ld, %zu of %zu", c->n, i + 1, m->n);
		if (c->parent != NO_CHECKPOINT && !(p && whole[p - m->v]))
			snprintf(why, sizeof(why), "it builds on %ld", c->parent);
		else
			whole[i] = check(m, c, why, sizeof(why));
		/* removed meanwhile, by an ooh that goes on making them */
		if (!whole[i] && !chain_length(m->dir, c->n) && c->length)
			continue;
		progress_end();
		if (m->number && c->n != m->number)
			continue;
		good += whole[i];
		bad += !whole[i];
		printf("checkpoint %ld: %s%s\n", c->n,
		       whole[i] ? "whole" : "cannot be used: ", whole[i] ? "" : why);
	}
	progress_end();
	free(whole);
	if (!good && !bad) {
		say("%s holds no complete checkpoint%s", m->path,
		    m->number ? " of that number" : "");
		return ST_CANNOT;
	}
	return bad ? ST_DAMAGED : ST_OK;
}

/* ---- prune */

/*
 * Kept are, of each process, the newest that are whole, as many as wanted; whatever is newer; what
 * is none of ours; and all that these build on. Of a process that has none that is whole all is
 * kept.
 */
static bool *choose_kept(struct manage *m)
{
	bool *kept = calloc(m->n + 1, sizeof(*kept)), *done = calloc(m->n + 1, sizeof(*done));
	char why[512];
	size_t i, k;

	for (i = m->n; kept && done && i > 0; i--) {
		const struct checkpoint *c = &m->v[i - 1];
		long left = m->keep;

		if (!c->owner[0])
			kept[i - 1] = true;
		if (!c->owner[0] || done[i - 1])
			continue;
		for (k = i; k > 0; k--) {
			const struct checkpoint *x = &m->v[k - 1];

			if (strcmp(x->owner, c->owner))
				continue;
			done[k - 1] = true;
			if (!left)
				continue;
			kept[k - 1] = true;
			if (!x->marked)
				continue;
			progress("reading checkpoint %ld", x->n);
			if (x->length && chain_check(m->dir, x->n, why, sizeof(why)))
				left--;
			else
				say("checkpoint %ld cannot be used, and is kept: %s", x->n,
				    x->length ? why : "what it builds on is not there");
		}
	}
	progress_end();
	if (kept)
		chain_keep_parents(m->v, m->n, kept);
	free(done);
	return kept;
}

static int prune(struct manage *m)
{
	bool *kept;
	double freed = 0;
	size_t i, gone = 0;

	if (!m->dry_run)
		chain_clean_merges(m->dir);
	kept = choose_kept(m);
	if (!kept) {
		say("%s", strerror(ENOMEM));
		return ST_CANNOT;
	}
	/* who builds on another goes before it */
	for (i = m->n; i > 0; i--) {
		const struct checkpoint *c = &m->v[i - 1];

		if (kept[i - 1])
			continue;
		if (!m->dry_run)
			chain_remove(m->dir, c->n, c->owner);
		gone++;
		freed += c->bytes;
		printf("checkpoint %ld: %s\n", c->n, m->dry_run ? "would be removed" : "removed");
	}
	free(kept);
	printf("%zu %s, %.1f MB; %zu kept\n", gone, m->dry_run ? "would be removed" : "removed",
	       freed / 1e6, m->n - gone);
	return ST_OK;
}

/* ---- merge */

static int merge_one(struct manage *m)
{
	long n = m->number ? m->number : chain_newest(m->dir);
	const struct checkpoint *c = by_n(m, n);
	char why[512];

	chain_clean_merges(m->dir);
	if (!c || !c->length) {
		if (m->number)
			say("%s holds no complete checkpoint %ld", m->path, n);
		else
			say("%s holds no complete checkpoint", m->path);
		return ST_CANNOT;
	}
	if (c->length == 1) {
		printf("checkpoint %ld: it holds everything already\n", n);
		return ST_OK;
	}
	if (!chain_check(m->dir, n, why, sizeof(why)) || merge(m->dir, n, why, sizeof(why))) {
		say("checkpoint %ld cannot be merged: %s", n, why);
		return ST_CANNOT;
	}
	printf("checkpoint %ld: it holds everything now, and builds on none of the %d before it\n",
	       n, c->length - 1);
	return ST_OK;
}

/* ---- compress */

static int compress_one(struct manage *m, const struct checkpoint *c)
{
	int at = chain_folder(m->dir, c->n), rc;
	char why[512];

	progress("checkpoint %ld", c->n);
	if (m->undo)
		rc = unpack_folder(at, at, why, sizeof(why));
	else if (!chain_check_one(m->dir, c->n, why, sizeof(why)))
		rc = -EBADMSG;
	else
		rc = pack_folder(at, m->packer, why, sizeof(why));
	close(at);
	if (rc)
		say("checkpoint %ld: %s", c->n, why);
	return rc;
}

static int compress(struct manage *m)
{
	struct checkpoint *after;
	double was = 0, is = 0;
	bool failed = false;
	size_t i, n;

	for (i = 0; i < m->n; i++) {
		was += m->v[i].bytes;
		if (m->v[i].owner[0] && m->v[i].marked && compress_one(m, &m->v[i]))
			failed = true;
	}
	progress_end();
	if (!chain_list(m->dir, &after, &n))
		for (i = 0; i < n; i++)
			is += after[i].bytes;
	free(after);
	printf("%.1f MB, and were %.1f MB\n", is / 1e6, was / 1e6);
	return failed ? ST_CANNOT : ST_OK;
}

/* ---- arguments */

#define OPT_UNDO 256

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct manage *m = state->input;

	switch (key) {
	case 'j':
		m->json = true;
		return 0;
	case 'n':
		m->dry_run = true;
		return 0;
	case 'w':
		m->packer = packer_choose(arg);
		if (!m->packer)
			argp_error(state, "-w: there is zstd, gzip, xz and lz4, and no \"%s\"",
				   arg);
		return 0;
	case OPT_UNDO:
		m->undo = true;
		return 0;
	case 'k':
		m->keep = parse_number(state, "-k", arg, 1, 1000000);
		return 0;
	case ARGP_KEY_ARG:
		if (!m->path) {
			m->path = arg;
			return 0;
		}
		if (m->verb->run == prune || m->verb->run == compress)
			return ARGP_ERR_UNKNOWN;
		m->number = checkpoint_number(state, arg);
		return 0;
	case ARGP_KEY_END:
		if (!m->path)
			argp_error(state, "in which folder are the checkpoints?");
		if (m->verb->run == compress && !m->packer)
			m->packer = packer_choose(NULL);
		if (m->verb->run == compress && !m->packer)
			argp_failure(state, ST_CANNOT, 0, "there is neither zstd nor gzip");
		if (m->verb->run == prune && !m->keep)
			argp_error(state, "how many are to be kept? Give -k N");
		return 0;
	}
	return parse_help(key, state);
}

static const struct argp_option json_options[] = {
	{ "json", 'j', NULL, 0, "JSON instead of text", 0 },
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option prune_options[] = {
	{ "keep", 'k', "N", 0, "of each process so many that are whole", 0 },
	{ "dry-run", 'n', NULL, 0, "remove nothing, and say what would be", 0 },
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option compress_options[] = {
	{ "with", 'w', "PROGRAM", 0, "zstd, gzip, xz or lz4; default: the first there is", 0 },
	{ "undo", OPT_UNDO, NULL, 0, "plain files again", 0 },
	HELP_OPTION,
	{ 0 },
};

static const struct argp_option no_options[] = {
	HELP_OPTION,
	{ 0 },
};

static const struct argp list_argp = {
	.options = json_options,
	.parser = parse,
	.args_doc = "DIR",
	.doc = "The checkpoints in DIR: when, how large, what they build on, complete or not.",
};

static const struct argp inspect_argp = {
	.options = json_options,
	.parser = parse,
	.args_doc = "DIR [NUMBER]",
	.doc = "What is in a checkpoint (the newest complete one): processes, pages, options.",
};

static const struct argp verify_argp = {
	.options = no_options,
	.parser = parse,
	.args_doc = "DIR [NUMBER]",
	.doc = "Reads the checkpoints: whether all files are as they were written, and every page is "
	       "there.\vExit status: 0 all are whole, 1 one is not.",
};

static const struct argp prune_argp = {
	.options = prune_options,
	.parser = parse,
	.args_doc = "-k N DIR",
	.doc = "Removes checkpoints, but the newest N of each process that are whole (they are read "
	       "for that) and what these build on.",
};

static const struct argp merge_argp = {
	.options = no_options,
	.parser = parse,
	.args_doc = "DIR [NUMBER]",
	.doc = "Makes a checkpoint (the newest) hold everything, so that it builds on no other. "
	       "Removes none.",
};

static const struct argp compress_argp = {
	.options = compress_options,
	.parser = parse,
	.args_doc = "DIR",
	.doc = "Compresses the images of memory of all complete checkpoints. A restore needs room for "
	       "what they were, in TMPDIR or /var/tmp.",
};

static const struct verb verbs[] = {
	{ "list", &list_argp, READ, list },
	{ "inspect", &inspect_argp, READ, inspect },
	{ "verify", &verify_argp, READ, verify },
	{ "prune", &prune_argp, CHANGE, prune },
	{ "merge", &merge_argp, CHANGE, merge_one },
	{ "compress", &compress_argp, CHANGE, compress },
};

/* The exit status, or -1: the word is none of ours. */
int cmd_manage(int argc, char **argv)
{
	const struct verb *verb = NULL;
	struct manage m = { 0 };
	char name[40];
	size_t i;
	int status;

	for (i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, argv[1]))
			verb = &verbs[i];
	if (!verb)
		return -1;
	m.verb = verb;
	snprintf(name, sizeof(name), "%s %s", argv[0], verb->name);
	argv[1] = name;
	said_by(name);
	argp_parse(verb->argp, argc - 1, argv + 1, 0, NULL, &m);
	status = folder_open(m.path, verb->use, &m.dir);
	if (status)
		return status;
	if (chain_list(m.dir, &m.v, &m.n)) {
		say("%s", strerror(ENOMEM));
		status = ST_CANNOT;
	} else {
		status = verb->run(&m);
	}
	free(m.v);
	close(m.dir);
	return status;
}
