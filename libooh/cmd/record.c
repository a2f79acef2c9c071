// SPDX-License-Identifier: GPL-2.0-only
/* ooh record: the ranges of each round. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cmd.h"

struct totals {
	long rounds;
	uint64_t pages, all_dirty;
};

static uint64_t count_pages(const struct ooh_range *r, ssize_t n)
{
	uint64_t pages = 0;

	while (n-- > 0)
		pages += (r[n].end - r[n].start) / 4096;
	return pages;
}

static json_t *round_json(long round, const struct ooh_range *r, ssize_t n, unsigned int result,
			  const char *reason)
{
	json_t *ranges = json_array();
	ssize_t i;

	for (i = 0; i < n; i++)
		json_array_append_new(ranges,
				      json_pack("{s:o, s:o}", "start", json_address(r[i].start),
						"end", json_address(r[i].end)));
	return json_pack("{s:I, s:o, s:I, s:b, s:s, s:o}", "round", (json_int_t)round, "time",
			 json_time(), "pages", (json_int_t)count_pages(r, n), "all_dirty",
			 !!(result & OOH_ALL_DIRTY), "reason", reason, "ranges", ranges);
}

static int one_round(struct ooh_tracker *tracker, json_t *rounds, struct totals *sum)
{
	const struct ooh_range *r;
	unsigned int result;
	ssize_t n = ooh_collect(tracker, 0, &r, &result), i;
	char clock[16];

	if (n < 0)
		return n;
	sum->rounds++;
	sum->pages += count_pages(r, n);
	sum->all_dirty += !!(result & OOH_ALL_DIRTY);
	if (rounds) {
		json_array_append_new(rounds,
				      round_json(sum->rounds, r, n, result, ooh_reason(tracker)));
		return 0;
	}
	printf("round %ld: %" PRIu64 " pages in %zd ranges", sum->rounds, count_pages(r, n), n);
	if (result & OOH_ALL_DIRTY)
		printf(", everything mapped at %s: %s", clock_time(clock), ooh_reason(tracker));
	putchar('\n');
	for (i = 0; i < n; i++)
		printf("  %" PRIx64 "-%" PRIx64 " %" PRIu64 "\n", (uint64_t)r[i].start,
		       (uint64_t)r[i].end, (uint64_t)(r[i].end - r[i].start) / 4096);
	/* A reader that went away (a closed pipe) ends the recording. */
	return fflush(stdout) ? -EPIPE : 0;
}

/* Until the rounds are done (then true) or something ends it */
static bool rounds_loop(struct target *t, struct ooh_tracker *tracker, const struct options *o,
			json_t *rounds, struct totals *sum, int *rc)
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
		*rc = one_round(tracker, rounds, sum);
		if (*rc == -EINTR) {
			*rc = 0;
			continue;
		}
		if (*rc == -ESRCH && target_sleep(t, 1000) == WAKE_ENDED) {
			*rc = 0;
			return o->rounds == FOREVER;
		}
		if (*rc || sum->rounds == o->rounds)
			return true;
	}
}

int cmd_record(const struct options *o)
{
	json_t *rounds = NULL;
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
	if (o->json)
		rounds = json_array();
	else
		printf("tracking process %d (%s)\n", t.pid, reason);
	finished = rounds_loop(&t, tracker, o, rounds, &sum, &rc);
	if (rc) {
		say("round %ld: %s", sum.rounds + 1,
		    rc == -EPIPE ? strerror(EPIPE) : ooh_reason(tracker));
		status = ST_CANNOT;
	}
	ooh_close(tracker);
	rc = target_close(&t, finished);
	if (!status)
		status = rc;
	if (!o->json) {
		printf("%ld rounds, %" PRIu64 " pages with %s", sum.rounds, sum.pages, name);
		if (sum.all_dirty)
			printf("; everything mapped in %" PRIu64 " of them", sum.all_dirty);
		putchar('\n');
		return status;
	}
	rc = print_json(json_pack("{s:s, s:s, s:i, s:o, s:{s:I, s:I, s:I}}", "backend", name,
				  "reason", reason, "pid", t.pid, "rounds", rounds, "total",
				  "rounds", (json_int_t)sum.rounds, "pages", (json_int_t)sum.pages,
				  "all_dirty", (json_int_t)sum.all_dirty));
	return status ? status : rc;
}
