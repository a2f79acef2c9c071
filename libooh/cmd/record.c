// SPDX-License-Identifier: GPL-2.0-only
/* ooh record: the ranges of each round. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cmd.h"

struct totals {
	long rounds;
	uint64_t written, unknown, all_dirty;
};

struct round {
	const struct ooh_range *written, *unknown;
	ssize_t nwritten, nunknown;
	uint64_t pages_written, pages_unknown;
	bool all_dirty;
};

static json_t *ranges_json(const struct ooh_range *r, ssize_t n)
{
	json_t *ranges = json_array();
	ssize_t i;

	for (i = 0; i < n; i++)
		json_array_append_new(ranges,
				      json_pack("{s:o, s:o}", "start", json_address(r[i].start),
						"end", json_address(r[i].end)));
	return ranges;
}

/* A line, so that a reader need not wait for the end, nor keep what came before. */
static void put_json(const struct target *t, struct ooh_tracker *tracker, const char *choice,
		     long round, const struct round *r)
{
	json_t *root =
		json_pack("{s:I, s:o, s:i, s:s, s:s, s:I, s:I, s:b, s:s, s:o, s:o}", "round",
			  (json_int_t)round, "time", json_time(), "pid", t->pid, "backend",
			  ooh_backend_name(tracker), "choice", choice, "written",
			  (json_int_t)r->pages_written, "unknown", (json_int_t)r->pages_unknown,
			  "all_dirty", r->all_dirty, "reason", ooh_reason(tracker), "ranges",
			  ranges_json(r->written, r->nwritten), "unknown_ranges",
			  ranges_json(r->unknown, r->nunknown));

	json_dumpf(root, stdout, JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(root);
}

static void put_text(struct ooh_tracker *tracker, long round, const struct round *r)
{
	char clock[16];
	ssize_t i;

	printf("round %ld: %" PRIu64 " pages written in %zd ranges", round, r->pages_written,
	       r->nwritten);
	if (r->all_dirty)
		printf(", not known of everything mapped (%" PRIu64 " pages) at %s: %s",
		       r->pages_unknown, clock_time(clock), ooh_reason(tracker));
	else if (r->pages_unknown)
		printf(", not known of %" PRIu64 " pages of files or shared memory",
		       r->pages_unknown);
	putchar('\n');
	for (i = 0; i < r->nwritten; i++)
		printf("  %" PRIx64 "-%" PRIx64 " %" PRIu64 "\n", (uint64_t)r->written[i].start,
		       (uint64_t)r->written[i].end, count_pages(&r->written[i], 1));
}

static int one_round(struct target *t, struct ooh_tracker *tracker, const struct options *o,
		     const char *choice, struct totals *sum)
{
	const struct ooh_range *all;
	unsigned int result;
	ssize_t n = ooh_collect(tracker, 0, &all, &result);
	struct round r = { 0 };

	if (n < 0)
		return n;
	r.all_dirty = result & OOH_ALL_DIRTY;
	r.nwritten = ooh_written(tracker, &r.written);
	r.nunknown = ooh_unknown(tracker, &r.unknown);
	r.pages_written = count_pages(r.written, r.nwritten);
	r.pages_unknown = count_pages(r.unknown, r.nunknown);
	sum->rounds++;
	sum->written += r.pages_written;
	sum->unknown += r.pages_unknown;
	sum->all_dirty += r.all_dirty;
	if (o->json)
		put_json(t, tracker, choice, sum->rounds, &r);
	else
		put_text(tracker, sum->rounds, &r);
	return 0;
}

/* Until the rounds are done (then true) or something ends it */
static bool rounds_loop(struct target *t, struct ooh_tracker *tracker, const struct options *o,
			const char *choice, struct totals *sum, int *rc)
{
	*rc = 0;
	for (;;) {
		switch (target_sleep(t, o->interval_ms)) {
		case WAKE_SIGNAL:
			return true;
		case WAKE_ENDED:
			return o->rounds == FOREVER;
		case WAKE_INTERVAL:
			break;
		}
		*rc = one_round(t, tracker, o, choice, sum);
		if (*rc == -EINTR) {
			*rc = 0;
			continue;
		}
		if (*rc == -ESRCH && target_sleep(t, 1000) == WAKE_ENDED) {
			*rc = 0;
			return o->rounds == FOREVER;
		}
		if (*rc || sum->rounds == o->rounds || !flush_output())
			return true;
	}
}

int cmd_record(const struct options *o)
{
	struct totals sum = { 0 };
	struct ooh_tracker *tracker;
	char reason[OOH_REASON_LEN] = "", name[32];
	struct target t;
	bool finished;
	int rc, status;

	status = target_open(&t, o);
	if (status) {
		target_close(&t, true);
		return status;
	}
	rc = ooh_open(t.pid, o->backend, t.held ? OOH_STOPPED : 0, &tracker, reason,
		      sizeof(reason));
	if (rc) {
		status = say_no_tracking(o, rc, reason);
		target_close(&t, true);
		return status;
	}
	target_release(&t);
	snprintf(name, sizeof(name), "%s", ooh_backend_name(tracker));
	if (!o->json)
		printf("process %d: %s\n", t.pid, reason);
	finished = rounds_loop(&t, tracker, o, reason, &sum, &rc);
	if (rc) {
		say("round %ld: %s", sum.rounds + 1, ooh_reason(tracker));
		status = ST_CANNOT;
	}
	ooh_close(tracker);
	rc = target_close(&t, finished);
	if (!status)
		status = rc;
	if (o->json)
		return status;
	printf("%ld rounds, %" PRIu64 " pages written", sum.rounds, sum.written);
	if (sum.unknown)
		printf(", not known of %" PRIu64, sum.unknown);
	printf(", with %s", name);
	if (sum.all_dirty)
		printf("; everything mapped in %" PRIu64 " of them", sum.all_dirty);
	putchar('\n');
	return status;
}
