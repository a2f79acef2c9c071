// SPDX-License-Identifier: GPL-2.0-only
/* ooh record: the ranges of each round. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cmd.h"
#include "sums.h"

struct record {
	const struct options *o;
	struct target t;
	struct ooh_tracker *tracker;
	char choice[OOH_REASON_LEN]; /* why it is this tracker */
	struct vmas vmas;
	struct sums sums;
	/* of all rounds */
	long rounds;
	uint64_t written, unknown, all_dirty;
};

struct round {
	const struct ooh_range *written, *unknown;
	ssize_t nwritten, nunknown;
	uint64_t pages_written, pages_unknown;
	bool all_dirty;
};

static json_t *ranges_json(const struct record *rec, const struct ooh_range *r, ssize_t n)
{
	json_t *ranges = json_array(), *name;
	struct part part;
	struct parts p;
	char text[128];

	for (parts_begin(&p, r, n); parts_next(&p, &rec->vmas, &part);) {
		printable(text, sizeof(text), part.name ?: "");
		name = part.name ? json_string(text) : json_null();
		json_array_append_new(ranges, json_pack("{s:o, s:o, s:o}", "start",
							json_address(part.start), "end",
							json_address(part.end), "mapping", name));
	}
	return ranges;
}

/* A line, so that a reader need not wait for the end, nor keep what came before. */
static void put_json(const struct record *rec, const struct round *r)
{
	put_json_line(json_pack("{s:I, s:o, s:i, s:s, s:s, s:I, s:I, s:b, s:s, s:o, s:o}", "round",
				(json_int_t)rec->rounds, "time", json_time(), "pid", rec->t.pid,
				"backend", ooh_backend_name(rec->tracker), "choice", rec->choice,
				"written", (json_int_t)r->pages_written, "unknown",
				(json_int_t)r->pages_unknown, "all_dirty", r->all_dirty, "reason",
				ooh_reason(rec->tracker), "ranges",
				ranges_json(rec, r->written, r->nwritten), "unknown_ranges",
				ranges_json(rec, r->unknown, r->nunknown)));
}

static void put_text(const struct record *rec, const struct round *r)
{
	char clock[16], name[128];
	struct part part;
	struct parts p;

	printf("round %ld: %" PRIu64 " pages written in %zd ranges", rec->rounds, r->pages_written,
	       r->nwritten);
	if (r->all_dirty)
		printf(", not known of everything mapped (%" PRIu64 " pages) at %s: %s",
		       r->pages_unknown, clock_time(clock), ooh_reason(rec->tracker));
	else if (r->pages_unknown)
		printf(", not known of %" PRIu64 " pages of files or shared memory",
		       r->pages_unknown);
	putchar('\n');
	for (parts_begin(&p, r->written, r->nwritten); parts_next(&p, &rec->vmas, &part);)
		printf("  %012" PRIx64 "-%012" PRIx64 " %6" PRIu64 "  %s\n", part.start, part.end,
		       (part.end - part.start) / 4096, part_name(name, sizeof(name), &part));
}

static int one_round(struct record *rec)
{
	const struct ooh_range *all;
	unsigned int result;
	ssize_t n = ooh_collect(rec->tracker, 0, &all, &result);
	struct round r = { 0 };

	if (n < 0)
		return n;
	r.all_dirty = result & OOH_ALL_DIRTY;
	r.nwritten = ooh_written(rec->tracker, &r.written);
	r.nunknown = ooh_unknown(rec->tracker, &r.unknown);
	r.pages_written = count_pages(r.written, r.nwritten);
	r.pages_unknown = count_pages(r.unknown, r.nunknown);
	rec->rounds++;
	rec->written += r.pages_written;
	rec->unknown += r.pages_unknown;
	rec->all_dirty += r.all_dirty;
	/* of a process that has just ended the last names are left */
	vmas_read(rec->t.pid, &rec->vmas);
	if (sums_add(&rec->sums, &rec->vmas, r.written, r.nwritten, WRITTEN) ||
	    sums_add(&rec->sums, &rec->vmas, r.unknown, r.nunknown, UNKNOWN))
		return -ENOMEM;
	if (rec->o->summary)
		return 0;
	if (rec->o->json)
		put_json(rec, &r);
	else
		put_text(rec, &r);
	return 0;
}

static void put_summary_json(struct record *rec)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; i < rec->sums.n; i++)
		json_array_append_new(list,
				      json_pack("{s:s, s:I, s:I}", "mapping", rec->sums.v[i].name,
						"written", (json_int_t)rec->sums.v[i].written,
						"unknown", (json_int_t)rec->sums.v[i].unknown));
	put_json_line(json_pack("{s:I, s:o, s:i, s:s, s:s, s:I, s:I, s:I, s:o}", "rounds",
				(json_int_t)rec->rounds, "time", json_time(), "pid", rec->t.pid,
				"backend", ooh_backend_name(rec->tracker), "choice", rec->choice,
				"written", (json_int_t)rec->written, "unknown",
				(json_int_t)rec->unknown, "all_dirty", (json_int_t)rec->all_dirty,
				"mappings", list));
}

static void put_summary_text(struct record *rec)
{
	uint64_t others = 0;
	size_t i;

	printf("%ld rounds, %" PRIu64 " pages written", rec->rounds, rec->written);
	if (rec->unknown)
		printf(", not known of %" PRIu64, rec->unknown);
	printf(", with %s", ooh_backend_name(rec->tracker));
	if (rec->all_dirty)
		printf("; everything mapped in %" PRIu64 " of them", rec->all_dirty);
	putchar('\n');
	if (!rec->written && !rec->unknown)
		return;
	printf("%10s %10s %10s  %s\n", "WRITTEN", "PER ROUND", "UNKNOWN", "MAPPING");
	for (i = 0; i < rec->sums.n && rec->sums.v[i].written; i++)
		printf("%10" PRIu64 " %10.1f %10" PRIu64 "  %s\n", rec->sums.v[i].written,
		       (double)rec->sums.v[i].written / rec->rounds, rec->sums.v[i].unknown,
		       rec->sums.v[i].name);
	for (; i < rec->sums.n; i++)
		others += rec->sums.v[i].unknown;
	if (others)
		printf("%10d %10.1f %10" PRIu64 "  (all others)\n", 0, 0.0, others);
}

/* Until the rounds are done (then true) or something ends it */
static bool rounds_loop(struct record *rec, int *rc)
{
	const struct options *o = rec->o;

	*rc = 0;
	for (;;) {
		switch (target_sleep(&rec->t, o->interval_ms)) {
		case WAKE_SIGNAL:
			return true;
		case WAKE_ENDED:
			return o->rounds == FOREVER;
		case WAKE_INTERVAL:
			break;
		}
		*rc = one_round(rec);
		if (*rc == -EINTR) {
			*rc = 0;
			continue;
		}
		if (*rc == -ESRCH && target_sleep(&rec->t, 1000) == WAKE_ENDED) {
			*rc = 0;
			return o->rounds == FOREVER;
		}
		if (*rc || rec->rounds == o->rounds || !flush_output())
			return true;
	}
}

static int record(struct record *rec)
{
	int rc, status = target_open(&rec->t, rec->o);
	bool finished;

	if (status) {
		target_close(&rec->t, true);
		return status;
	}
	rc = ooh_open(rec->t.pid, rec->o->backend, rec->t.held ? OOH_STOPPED : 0, &rec->tracker,
		      rec->choice, sizeof(rec->choice));
	if (rc) {
		status = say_no_tracking(rec->o, rc, rec->choice);
		target_close(&rec->t, true);
		return status;
	}
	target_release(&rec->t);
	if (!rec->o->json)
		printf("process %d: %s\n", rec->t.pid, rec->choice);
	finished = rounds_loop(rec, &rc);
	if (rc) {
		say("round %ld: %s", rec->rounds + 1,
		    rc == -ENOMEM ? strerror(ENOMEM) : ooh_reason(rec->tracker));
		status = ST_CANNOT;
	}
	sums_sort(&rec->sums);
	if (!rec->o->json)
		put_summary_text(rec);
	else if (rec->o->summary)
		put_summary_json(rec);
	ooh_close(rec->tracker);
	rc = target_close(&rec->t, finished);
	return status ? status : rc;
}

int cmd_record(const struct options *o)
{
	struct record rec = { .o = o };
	int status = record(&rec);

	vmas_free(&rec.vmas);
	sums_free(&rec.sums);
	return status;
}
