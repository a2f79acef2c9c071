// SPDX-License-Identifier: GPL-2.0-only
/* ooh top: rounds of several processes, shown as they go by. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "top.h"

#define BATCH_WIDTH 100
#define BATCH_HOT   5
#define JSON_HOT    20

double proc_rate(const struct proc *p)
{
	return !p->ended && !p->error[0] && p->seconds > 0 ? p->written * 4096 / p->seconds : 0;
}

double proc_share(const struct proc *p)
{
	/* pages that vanished were written, but are not mapped */
	return p->mapped > p->written ? (double)p->written / p->mapped : p->mapped ? 1 : 0;
}

static enum sort sort_by;

static double sort_value(const struct proc *p)
{
	switch (sort_by) {
	case SORT_RATE:
		return proc_rate(p);
	case SORT_SHARE:
		return proc_share(p);
	case SORT_MAPPED:
		return p->mapped;
	default:
		return 0;
	}
}

static int before(const void *a, const void *b)
{
	const struct proc *x = *(struct proc *const *)a, *y = *(struct proc *const *)b;
	double vx = sort_value(x), vy = sort_value(y);

	if (sort_by != SORT_PID && x->ended != y->ended)
		return x->ended ? 1 : -1;
	if (vx != vy)
		return vx < vy ? 1 : -1;
	return x->t.pid < y->t.pid ? -1 : 1;
}

void top_sort(struct top *top)
{
	sort_by = top->sort;
	qsort(top->order, top->n, sizeof(*top->order), before);
}

static void read_command(struct proc *p)
{
	char path[40], comm[24] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", p->t.pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(comm, sizeof(comm), f)) {
		comm[strcspn(comm, "\n")] = '\0';
		printable(p->command, sizeof(p->command), comm);
	}
	fclose(f);
}

/* What is present: the backend's own figure, or the kernel's */
static uint64_t mapped_pages(struct proc *p)
{
	struct ooh_tracker_stats stats;
	unsigned long pages = 0;
	char path[40];
	FILE *f;

	if (!ooh_stats(p->tracker, &stats, sizeof(stats)) && stats.mapped)
		return stats.mapped;
	snprintf(path, sizeof(path), "/proc/%d/statm", p->t.pid);
	f = fopen(path, "re");
	if (!f)
		return p->mapped;
	if (fscanf(f, "%*s %lu", &pages) != 1)
		pages = p->mapped;
	fclose(f);
	return pages;
}

static void note_all_dirty(struct proc *p)
{
	p->all_dirty++;
	p->all_dirty_round = p->rounds;
	p->all_dirty_time = time(NULL);
	snprintf(p->all_dirty_reason, sizeof(p->all_dirty_reason), "%s", ooh_reason(p->tracker));
}

static void note_end(struct proc *p)
{
	p->ended = true;
	p->written = p->unknown = 0;
	p->error[0] = '\0';
}

static void collect(struct proc *p)
{
	const struct ooh_range *r;
	unsigned int result;
	uint64_t began = now_ns();
	ssize_t n = ooh_collect(p->tracker, 0, &r, &result);
	uint64_t now = now_ns();

	if (n == -ESRCH && target_sleep(&p->t, 1000) == WAKE_ENDED) {
		note_end(p);
		return;
	}
	p->error[0] = '\0';
	if (n < 0) {
		printable(p->error, sizeof(p->error), ooh_reason(p->tracker));
		return;
	}
	p->rounds++;
	p->collect_ns = now - began;
	p->seconds = (now - p->since) / 1e9;
	p->since = now;
	p->all_dirty_now = result & OOH_ALL_DIRTY;
	if (p->all_dirty_now)
		note_all_dirty(p);
	n = ooh_unknown(p->tracker, &r);
	p->unknown = count_pages(r, n);
	n = ooh_written(p->tracker, &r);
	p->written = count_pages(r, n);
	p->total_written += p->written;
	p->total_unknown += p->unknown;
	p->total_ns += p->collect_ns;
	read_command(p);
	p->mapped = mapped_pages(p);
	/* Pages that cannot be told say nothing of where it is hot. */
	if (!vmas_read(p->t.pid, &p->vmas) && !p->all_dirty_now)
		heat_round(&p->heat, &p->vmas, r, n);
}

/* The exit status */
static int open_proc(struct proc *p, const struct options *all, pid_t pid)
{
	struct options o = *all;
	int rc, status;

	o.pid = pid;
	o.quiet = !o.batch && !o.json && !o.metrics;
	/* what a command prints would come between our lines */
	o.json = true;
	status = target_open(&p->t, &o);
	if (status)
		return status;
	rc = ooh_open(p->t.pid, o.backend, p->t.held ? OOH_STOPPED : 0, &p->tracker, p->reason,
		      sizeof(p->reason));
	if (rc)
		return say_no_tracking(&o, rc, p->reason);
	target_release(&p->t);
	p->since = now_ns();
	read_command(p);
	p->mapped = mapped_pages(p);
	return ST_OK;
}

static int close_proc(struct proc *p, bool finished)
{
	int status;

	ooh_close(p->tracker);
	status = target_close(&p->t, finished);
	heat_free(&p->heat);
	vmas_free(&p->vmas);
	return status;
}

static void put_text(const struct top *top)
{
	char line[LINE];
	size_t i, k, n;

	top_summary(top, line, BATCH_WIDTH);
	printf("%s\n", line);
	for (i = 0; i < top->n; i++) {
		const struct proc *p = top->order[i];
		struct hot hot[BATCH_HOT];

		proc_head(line, BATCH_WIDTH);
		printf("%s\n", line);
		proc_row(p, line, BATCH_WIDTH);
		printf("%s\n", line);
		proc_all_dirty(p, line, LINE);
		printf("        %s\n", line);
		n = p->ended ? 0 : heat_hottest(&p->heat, &p->vmas, hot, BATCH_HOT);
		hot_head(line, BATCH_WIDTH);
		if (n)
			printf("        %s\n", line);
		for (k = 0; k < n; k++) {
			hot_row(&hot[k], line, BATCH_WIDTH);
			printf("        %s\n", line);
		}
	}
	putchar('\n');
}

static json_t *json_hot(const struct proc *p)
{
	struct hot hot[JSON_HOT];
	size_t i, n = p->ended ? 0 : heat_hottest(&p->heat, &p->vmas, hot, JSON_HOT);
	json_t *list = json_array();
	char name[96];

	for (i = 0; i < n; i++) {
		printable(name, sizeof(name), hot[i].name);
		json_array_append_new(list, json_pack("{s:o, s:o, s:f, s:s}", "start",
						      json_address(hot[i].start), "end",
						      json_address(hot[i].end), "written",
						      hot[i].written, "mapping", name));
	}
	return list;
}

static json_t *json_proc(const struct proc *p)
{
	json_t *last = json_null();

	if (p->all_dirty)
		last = json_pack("{s:I, s:o, s:s}", "round", (json_int_t)p->all_dirty_round, "time",
				 json_time_of(p->all_dirty_time), "reason", p->all_dirty_reason);
	return json_pack(
		"{s:i, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:I, s:o, s:o}",
		"pid", p->t.pid, "command", p->command, "backend", ooh_backend_name(p->tracker),
		"ended", p->ended, "error", p->error, "rounds", (json_int_t)p->rounds, "mapped",
		(json_int_t)p->mapped, "written", (json_int_t)p->written, "unknown",
		(json_int_t)p->unknown, "bytes_per_second", proc_rate(p), "collect_ns",
		(json_int_t)p->collect_ns, "all_dirty", p->all_dirty_now, "all_dirty_rounds",
		(json_int_t)p->all_dirty, "last_all_dirty", last, "hot", json_hot(p));
}

static void put_json(const struct top *top)
{
	json_t *list = json_array(), *root;
	size_t i;

	for (i = 0; i < top->n; i++)
		json_array_append_new(list, json_proc(top->order[i]));
	root = json_pack("{s:I, s:o, s:o}", "round", (json_int_t)top->rounds, "time", json_time(),
			 "processes", list);
	json_dumpf(root, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(root);
}

static bool on_screen(const struct top *top)
{
	return !top->o->batch && !top->o->json && !top->o->metrics;
}

/* False: nobody reads it any more. */
static bool show(struct top *top)
{
	top_sort(top);
	if (on_screen(top)) {
		screen_draw(top);
		return true;
	}
	if (top->o->metrics) {
		top->status = put_metrics(top->o, top);
		return !top->status && flush_output();
	}
	if (top->o->json)
		put_json(top);
	else
		put_text(top);
	return flush_output();
}

static size_t find_ended(struct top *top)
{
	size_t i, alive = 0;

	for (i = 0; i < top->n; i++) {
		struct proc *p = &top->procs[i];

		if (!p->ended && target_sleep(&p->t, 0) == WAKE_ENDED)
			note_end(p);
		alive += !p->ended;
	}
	return alive;
}

/* Sleeps until the time has come, a key was pressed, or a process ended. */
static enum wake sleep_until(struct top *top, struct pollfd *fds, uint64_t ns)
{
	size_t i, n = 0;

	for (i = 0; i < top->n; i++)
		if (!top->procs[i].ended)
			fds[n++] = (struct pollfd){ .fd = top->procs[i].t.pidfd, .events = POLLIN };
	if (on_screen(top))
		fds[n++] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	if (wait_until(fds, n, ns) == WAKE_SIGNAL)
		return WAKE_SIGNAL;
	/* the terminal is gone */
	if (on_screen(top) && fds[n - 1].revents & (POLLHUP | POLLERR | POLLNVAL))
		return WAKE_SIGNAL;
	return WAKE_INTERVAL;
}

/* Until the rounds are done or somebody wants no more (then true), or all ended */
static bool loop(struct top *top, struct pollfd *fds)
{
	uint64_t last = now_ns(), next;
	size_t i, alive = top->n;

	if (on_screen(top))
		show(top);
	for (;;) {
		next = top->paused ? UINT64_MAX : last + top->interval_ms * UINT64_C(1000000);
		if (sleep_until(top, fds, next) == WAKE_SIGNAL)
			return true;
		if (on_screen(top)) {
			enum todo todo = screen_keys(top);

			if (todo == DO_QUIT)
				return true;
			if (todo == DO_DRAW)
				show(top);
		}
		i = alive;
		alive = find_ended(top);
		if (!on_screen(top) && !alive) {
			show(top);
			return top->o->rounds == FOREVER;
		}
		if (now_ns() < next) {
			if (on_screen(top) && alive != i)
				show(top);
			continue;
		}
		last = now_ns();
		for (i = 0; i < top->n; i++)
			if (!top->procs[i].ended)
				collect(&top->procs[i]);
		top->rounds++;
		if (!show(top) || top->rounds == top->o->rounds)
			return true;
	}
}

static int open_all(struct top *top)
{
	const struct options *o = top->o;
	size_t i;
	int status;

	for (i = 0; i < top->n; i++) {
		struct proc *p = &top->procs[i];

		p->t.pidfd = -1;
		top->order[i] = p;
	}
	for (i = 0; i < top->n; i++) {
		status = open_proc(&top->procs[i], o, o->npids ? o->pids[i] : 0);
		if (status)
			return status;
	}
	return ST_OK;
}

int cmd_top(const struct options *o)
{
	struct top top = { .o = o, .interval_ms = o->interval_ms, .n = o->npids ? o->npids : 1 };
	struct pollfd *fds = calloc(top.n + 1, sizeof(*fds));
	bool finished = true, failed = false;
	int rc, status = ST_CANNOT;
	size_t i;

	top.procs = calloc(top.n, sizeof(*top.procs));
	top.order = calloc(top.n, sizeof(*top.order));
	if (!fds || !top.procs || !top.order) {
		say("%s", strerror(ENOMEM));
		goto out;
	}
	if (on_screen(&top) && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))) {
		say("standard input and output must be a terminal; --batch and --json need none");
		status = ST_USAGE;
		goto out;
	}
	status = open_all(&top);
	if (!status && on_screen(&top))
		status = screen_open();
	if (!status) {
		finished = loop(&top, fds);
		if (on_screen(&top))
			screen_close();
	}
	for (i = 0; i < top.n; i++) {
		struct proc *p = &top.procs[i];

		if (p->error[0])
			say("process %d: %s", p->t.pid, p->error);
		failed |= p->error[0] != '\0';
		rc = close_proc(p, finished);
		if (!status)
			status = rc;
	}
	if (top.status || failed)
		status = ST_CANNOT;
out:
	free(top.order);
	free(top.procs);
	free(fds);
	free(o->pids);
	return status;
}
