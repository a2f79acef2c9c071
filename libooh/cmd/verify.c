// SPDX-License-Identifier: GPL-2.0-only
/* ooh verify: a tracker's report against the contents of every page. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cmd.h"
#include "oracle.h"

#define SHOW_MISSED 10

/* Of the pages that are there */
struct parts {
	uint64_t written, unknown;
};

struct verify {
	const struct options *o;
	struct target t;
	struct ooh_tracker *tracker; /* NULL: the oracle alone */
	struct oracle *oracle;
	char backend[32];
	char reason[OOH_REASON_LEN];
	struct oracle_round sum;
	struct parts sum_parts;
	uint64_t sum_ticks;
	long all_dirty;
	long rounds, asked; /* asked: which round the next miss belongs to */
	json_t *json_rounds, *json_missed;
	bool judging;
};

struct cost {
	uint64_t ticks, ns;
};

static void on_missed(void *arg, uint64_t page, const char *mapping)
{
	struct verify *v = arg;

	if (!v->judging || json_array_size(v->json_missed) >= SHOW_MISSED)
		return;
	json_array_append_new(v->json_missed,
			      json_pack("{s:I, s:o, s:s}", "round", (json_int_t)v->asked, "address",
					json_address(page), "mapping", mapping));
}

static int collect(struct verify *v, const struct ooh_range **r, size_t *n, unsigned int *result,
		   struct cost *cost)
{
	uint64_t ns, tsc;
	ssize_t rc;

	*r = NULL;
	*n = 0;
	*result = 0;
	*cost = (struct cost){ 0 };
	if (!v->tracker)
		return 0;
	ns = now_ns();
	tsc = ticks();
	rc = ooh_collect(v->tracker, OOH_STOPPED, r, result);
	cost->ticks = ticks() - tsc;
	cost->ns = now_ns() - ns;
	if (rc < 0)
		return rc;
	*n = rc;
	return 0;
}

static void put_round(struct verify *v, const struct oracle_round *r, const struct parts *p,
		      unsigned int result, const char *why, const struct cost *cost)
{
	char clock[16];

	v->sum.mapped += r->mapped;
	v->sum.unreadable += r->unreadable;
	v->sum.changed += r->changed;
	v->sum.reported += r->reported;
	v->sum.missed += r->missed;
	v->sum.extra += r->extra;
	v->sum_parts.written += p->written;
	v->sum_parts.unknown += p->unknown;
	v->sum_ticks += cost->ticks;
	v->all_dirty += !!(result & OOH_ALL_DIRTY);
	if (v->json_rounds) {
		json_array_append_new(
			v->json_rounds,
			json_pack(
				"{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s}",
				"round", (json_int_t)v->rounds, "time", json_time(), "mapped",
				(json_int_t)r->mapped, "changed", (json_int_t)r->changed,
				"reported", (json_int_t)r->reported, "written",
				(json_int_t)p->written, "unknown", (json_int_t)p->unknown, "missed",
				(json_int_t)r->missed, "extra", (json_int_t)r->extra,
				"collect_ticks", (json_int_t)cost->ticks, "collect_ns",
				(json_int_t)cost->ns, "all_dirty", !!(result & OOH_ALL_DIRTY),
				"reason", why));
		return;
	}
	printf("%5ld %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64
	       " %11" PRIu64,
	       v->rounds, r->mapped, r->changed, p->written, p->unknown, r->missed, r->extra,
	       cost->ns / 1000);
	if (result & OOH_ALL_DIRTY)
		printf("  everything, at %s: %s", clock_time(clock), why);
	putchar('\n');
}

static struct parts count_parts(const struct verify *v)
{
	const struct ooh_range *r;
	struct parts parts = { 0 };
	ssize_t n;

	if (!v->tracker)
		return parts;
	n = ooh_written(v->tracker, &r);
	parts.written = oracle_there(v->oracle, r, n);
	n = ooh_unknown(v->tracker, &r);
	parts.unknown = oracle_there(v->oracle, r, n);
	return parts;
}

/* The process is held: no write of its own comes between the look and the collect. */
static int judge_round(struct verify *v)
{
	const struct ooh_range *r;
	struct parts parts;
	struct oracle_round out;
	struct cost cost;
	char why[OOH_REASON_LEN] = "";
	unsigned int result;
	size_t n;
	int rc;

	rc = oracle_look(v->oracle);
	if (!rc)
		rc = collect(v, &r, &n, &result, &cost);
	if (rc)
		return rc;
	if (v->tracker)
		snprintf(why, sizeof(why), "%s", ooh_reason(v->tracker));
	parts = count_parts(v);
	v->asked = v->rounds + 1;
	rc = oracle_judge(v->oracle, r, n, &out, on_missed, v);
	if (rc)
		return rc;
	if (!v->tracker)
		out.missed = 0;
	target_release(&v->t);
	v->rounds++;
	put_round(v, &out, &parts, result, why, &cost);
	return 0;
}

static int copy(struct verify *v)
{
	int rc = v->oracle ? oracle_copy(v->oracle) : -ENOMEM;

	if (rc)
		snprintf(v->reason, sizeof(v->reason), "copying process %d: %s", v->t.pid,
			 strerror(-rc));
	return rc;
}

static int begin(struct verify *v)
{
	int rc;

	rc = target_hold(&v->t);
	if (rc) {
		snprintf(v->reason, sizeof(v->reason), "stopping process %d: %s", v->t.pid,
			 strerror(-rc));
		return rc;
	}
	snprintf(v->backend, sizeof(v->backend), "none");
	snprintf(v->reason, sizeof(v->reason), "the oracle alone");
	v->oracle = oracle_new(v->t.pid);
	rc = copy(v);
	if (!rc && (!v->o->backend || strcmp(v->o->backend, "none"))) {
		rc = ooh_open(v->t.pid, v->o->backend, OOH_STOPPED, &v->tracker, v->reason,
			      sizeof(v->reason));
		if (rc)
			return rc;
		snprintf(v->backend, sizeof(v->backend), "%s", ooh_backend_name(v->tracker));
		/* others may have written before it tracked; and see oracle_copy() */
		rc = copy(v);
	}
	v->judging = v->tracker != NULL;
	target_release(&v->t);
	return rc;
}

/* True: all that was wanted was done. */
static bool run(struct verify *v, int *rc)
{
	for (*rc = 0; v->rounds < v->o->rounds;) {
		switch (target_sleep(&v->t, v->o->interval_ms)) {
		case WAKE_SIGNAL:
			return true;
		case WAKE_ENDED:
			return false;
		case WAKE_INTERVAL:
			break;
		}
		*rc = target_hold(&v->t);
		if (!*rc)
			*rc = judge_round(v);
		if (*rc == -EINTR) {
			*rc = 0;
			return true;
		}
		if (*rc == -ESRCH) {
			/* in the middle of a round, that is: by SIGKILL */
			target_release(&v->t);
			if (v->t.ended || target_sleep(&v->t, 1000) == WAKE_ENDED) {
				*rc = 0;
				return false;
			}
		}
		if (*rc || !flush_output())
			return true;
	}
	return true;
}

static void put_missed(const struct verify *v)
{
	size_t i;
	json_t *m;

	if (!v->sum.missed)
		return;
	printf("\nMISSED by %s: changed, and not reported (the first %d):\n", v->backend,
	       SHOW_MISSED);
	json_array_foreach(v->json_missed, i, m)
		printf("  round %" JSON_INTEGER_FORMAT "  %s  %s\n",
		       json_integer_value(json_object_get(m, "round")),
		       json_string_value(json_object_get(m, "address")),
		       json_string_value(json_object_get(m, "mapping")));
}

static int put_total(struct verify *v)
{
	const struct oracle_round *s = &v->sum;

	if (!v->o->json) {
		if (v->all_dirty)
			printf("everything was reported in %ld of %ld rounds\n", v->all_dirty,
			       v->rounds);
		printf("total %9s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64
		       "\n",
		       "", s->changed, v->sum_parts.written, v->sum_parts.unknown, s->missed,
		       s->extra);
		put_missed(v);
		json_decref(v->json_missed);
		return ST_OK;
	}
	return print_json(json_pack(
		"{s:s, s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}, s:o}",
		"backend", v->backend, "reason", v->reason, "pid", v->t.pid, "rounds",
		v->json_rounds, "total", "changed", (json_int_t)s->changed, "reported",
		(json_int_t)s->reported, "written", (json_int_t)v->sum_parts.written, "unknown",
		(json_int_t)v->sum_parts.unknown, "missed", (json_int_t)s->missed, "extra",
		(json_int_t)s->extra, "unreadable", (json_int_t)s->unreadable, "all_dirty",
		(json_int_t)v->all_dirty, "collect_ticks", (json_int_t)v->sum_ticks, "missed_pages",
		v->json_missed));
}

int cmd_verify(const struct options *o)
{
	struct verify v = { .o = o };
	int rc, status, done;
	bool finished;

	status = target_open(&v.t, o);
	if (status) {
		target_close(&v.t, true);
		return status;
	}
	rc = begin(&v);
	if (rc) {
		status = say_no_tracking(o, rc, v.reason);
		ooh_close(v.tracker);
		oracle_free(v.oracle);
		target_close(&v.t, true);
		return status;
	}
	v.json_missed = json_array();
	if (o->json)
		v.json_rounds = json_array();
	else
		printf("process %d: %s\n%5s %9s %9s %9s %9s %9s %9s %11s\n", v.t.pid, v.reason,
		       "round", "mapped", "changed", "written", "unknown", "missed", "extra",
		       "collect, us");
	finished = run(&v, &rc);
	if (rc) {
		say("round %ld: %s", v.rounds + 1,
		    v.tracker && *ooh_reason(v.tracker) ? ooh_reason(v.tracker) : strerror(-rc));
		status = ST_CANNOT;
	}
	target_release(&v.t);
	ooh_close(v.tracker);
	oracle_free(v.oracle);
	done = target_close(&v.t, finished);
	if (!status)
		status = done;
	if (!status && !v.rounds) {
		say("the process ended before the first round: nothing was verified");
		status = ST_ENDED;
	}
	done = put_total(&v);
	if (v.sum.missed)
		return ST_MISSED;
	return status ? status : done;
}
