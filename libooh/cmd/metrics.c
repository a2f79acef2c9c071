// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh metrics: OpenMetrics text, which is also what the textfile collector of Prometheus's
 * node_exporter reads.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "chain.h"
#include "criu.h"
#include "top.h"

/* Within a label's value; the text is printable. */
static const char *escaped(char *out, size_t size, const char *in)
{
	size_t n = 0;

	for (; *in && n + 2 < size; in++) {
		if (*in == '"' || *in == '\\')
			out[n++] = '\\';
		out[n++] = *in;
	}
	out[n] = '\0';
	return out;
}

static void family(FILE *f, const char *name, const char *type, const char *unit, const char *help)
{
	fprintf(f, "# TYPE ooh_%s %s\n", name, type);
	if (unit)
		fprintf(f, "# UNIT ooh_%s %s\n", name, unit);
	fprintf(f, "# HELP ooh_%s %s\n", name, help);
}

static void put_backends(FILE *f)
{
	struct ooh_backend v[16];
	int i, n = ooh_backends(v, 16, sizeof(v[0]));

	family(f, "build", "info", NULL, "The version of libooh.");
	fprintf(f, "ooh_build_info{version=\"%s\"} 1\n", ooh_version());
	family(f, "backend_usable", "gauge", NULL, "Whether this user can use the tracker here.");
	for (i = 0; i < n; i++)
		fprintf(f, "ooh_backend_usable{backend=\"%s\"} %d\n", v[i].name, v[i].usable);
}

enum value { UP, ROUNDS, WRITTEN, UNKNOWN, ALL_DIRTY, COLLECT, MAPPED, RECORDS, VALUES };

static const struct {
	const char *name, *type, *unit, *suffix, *help;
} values[VALUES] = {
	[UP] = { "up", "gauge", NULL, "", "1 while the process is tracked, 0 after its end." },
	[ROUNDS] = { "rounds", "counter", NULL, "_total", "Rounds so far." },
	[WRITTEN] = { "written_bytes", "counter", "bytes", "_total",
		      "Pages written, each once a round, in bytes." },
	[UNKNOWN] = { "unknown_bytes", "counter", "bytes", "_total",
		      "Pages of which the tracker cannot tell whether they changed." },
	[ALL_DIRTY] = { "all_dirty_rounds", "counter", NULL, "_total",
			"Rounds in which the tracker could not say what was written." },
	[COLLECT] = { "collect_seconds", "counter", "seconds", "_total",
		      "Time that it took to end the rounds." },
	[MAPPED] = { "mapped_bytes", "gauge", "bytes", "", "What is present." },
	[RECORDS] = { "log_records", "counter", NULL, "_total",
		      "Frames that were logged; write faults with uffd-wp." },
};

static double value_of(const struct proc *p, enum value v)
{
	struct ooh_tracker_stats stats = { 0 };

	switch (v) {
	case UP:
		return !p->ended && !p->error[0];
	case ROUNDS:
		return p->rounds;
	case WRITTEN:
		return p->total_written * 4096.0;
	case UNKNOWN:
		return p->total_unknown * 4096.0;
	case ALL_DIRTY:
		return p->all_dirty;
	case COLLECT:
		return p->total_ns / 1e9;
	case MAPPED:
		return p->ended ? 0 : p->mapped * 4096.0;
	case RECORDS:
		ooh_stats(p->tracker, &stats, sizeof(stats));
		return stats.records;
	default:
		return 0;
	}
}

static void put_processes(FILE *f, const struct top *top)
{
	char command[64];
	enum value v;
	size_t i;

	for (v = 0; v < VALUES; v++) {
		family(f, values[v].name, values[v].type, values[v].unit, values[v].help);
		for (i = 0; i < top->n; i++) {
			const struct proc *p = &top->procs[i];

			fprintf(f, "ooh_%s%s{pid=\"%d\",command=\"%s\",backend=\"%s\"} %.15g\n",
				values[v].name, values[v].suffix, p->t.pid,
				escaped(command, sizeof(command), p->command),
				ooh_backend_name(p->tracker), value_of(p, v));
		}
	}
}

/* The newest complete one is what an alert is about. */
static int put_checkpoints(FILE *f, const char *path)
{
	const struct checkpoint *last = NULL;
	struct checkpoint *v;
	char text[2 * PATH_MAX], label[2 * PATH_MAX];
	double bytes = 0;
	size_t i, n, complete = 0;
	int dir, status = folder_open(path, READ, &dir);

	if (status)
		return status;
	chain_list(dir, &v, &n);
	for (i = 0; i < n; i++) {
		bytes += v[i].bytes;
		if (!v[i].length)
			continue;
		complete++;
		last = &v[i];
	}
	printable(text, sizeof(text), path);
	escaped(label, sizeof(label), text);
	family(f, "checkpoints", "gauge", NULL, "Complete checkpoints.");
	fprintf(f, "ooh_checkpoints{folder=\"%s\"} %zu\n", label, complete);
	family(f, "checkpoint_bytes", "gauge", "bytes", "What all checkpoints take.");
	fprintf(f, "ooh_checkpoint_bytes{folder=\"%s\"} %.15g\n", label, bytes);
	family(f, "checkpoint_newest_timestamp_seconds", "gauge", "seconds",
	       "When the newest complete one was made; 0: there is none.");
	fprintf(f, "ooh_checkpoint_newest_timestamp_seconds{folder=\"%s\"} %lld\n", label,
		last ? (long long)last->time : 0);
	free(v);
	close(dir);
	return ST_OK;
}

/* A status; top: NULL if nothing is tracked */
static int put_all(FILE *f, const struct options *o, const struct top *top)
{
	int status = ST_OK;

	put_backends(f);
	if (top)
		put_processes(f, top);
	if (o->checkpoints)
		status = put_checkpoints(f, o->checkpoints);
	fputs("# EOF\n", f);
	return status;
}

/* Into a file that is there as a whole or not at all; a reader may come at any time. */
static int put_file(const struct options *o, const struct top *top)
{
	char path[PATH_MAX];
	int status;
	FILE *f;

	snprintf(path, sizeof(path), "%s.%d", o->output, getpid());
	f = fopen(path, "we");
	if (!f) {
		say("%s: %s", path, strerror(errno));
		return ST_CANNOT;
	}
	status = put_all(f, o, top);
	if (ferror(f) || fflush(f) || fclose(f) || rename(path, o->output)) {
		say("%s: %s", o->output, strerror(errno));
		unlink(path);
		return ST_CANNOT;
	}
	return status;
}

int put_metrics(const struct options *o, const struct top *top)
{
	return o->output ? put_file(o, top) : put_all(stdout, o, top);
}
