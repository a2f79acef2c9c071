// SPDX-License-Identifier: GPL-2.0-only
/* ooh top: the lines that the screen and --batch have in common. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "top.h"

#define BAR 10

const char *const sort_names[SORTS] = { "MB/s", "share", "mapped", "PID" };

/* Adds a column if it fits as a whole: half a number is a wrong number. */
static bool column(char *line, int width, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static bool column(char *line, int width, const char *format, ...)
{
	size_t at = strlen(line);
	char text[LINE];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (n < 0 || at + n > (size_t)width || at + n >= LINE)
		return false;
	strcpy(line + at, text);
	return true;
}

/* The first column: what does not fit is cut off. */
static void cut(char *line, int width, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void cut(char *line, int width, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, width < LINE ? width + 1 : LINE, format, ap);
	va_end(ap);
}

static const char *bytes_text(char buf[static 16], double bytes)
{
	static const char units[] = "KMGTP";
	int u = 0;

	for (bytes /= 1024; bytes >= 1000 && units[u + 1]; u++)
		bytes /= 1024;
	snprintf(buf, 16, bytes < 10 && u ? "%.1f%c" : "%.0f%c", bytes, units[u]);
	return buf;
}

static const char *time_text(char buf[static 16], uint64_t ns)
{
	if (ns < 10000000)
		snprintf(buf, 16, "%" PRIu64 "us", ns / 1000);
	else if (ns < UINT64_C(10000000000))
		snprintf(buf, 16, "%" PRIu64 "ms", ns / 1000000);
	else
		snprintf(buf, 16, "%" PRIu64 "s", ns / 1000000000);
	return buf;
}

void top_summary(const struct top *top, char *line, int width)
{
	size_t i, alive = 0;
	double rate = 0;
	char clock[16];

	for (i = 0; i < top->n; i++) {
		alive += !top->procs[i].ended;
		rate += proc_rate(&top->procs[i]);
	}
	cut(line, width, "ooh top - %s", clock_time(clock));
	if ((!top->paused || column(line, width, "  PAUSED")) &&
	    column(line, width, "  %.1f MB/s", rate / 1e6) &&
	    column(line, width, "  every %g s", top->interval_ms / 1000.0) &&
	    column(line, width, "  %zu of %zu running", alive, top->n))
		column(line, width, "  by %s", sort_names[top->sort]);
}

static int command_width(int width)
{
	int w = width - 72;

	return w < 8 ? 8 : w > 15 ? 15 : w;
}

void proc_head(char *line, int width)
{
	cut(line, width, "%7s %-*s", "PID", command_width(width), "COMMAND");
	if (column(line, width, " %6s", "MB/s") && column(line, width, " %7s", "WRITTEN") &&
	    column(line, width, " %6s", "SHARE") && column(line, width, " %7s", "UNKNOWN") &&
	    column(line, width, " %6s", "MAPPED") && column(line, width, " %7s", "COLLECT") &&
	    column(line, width, " %5s", "ROUND"))
		column(line, width, " %s", "BACKEND");
}

void proc_row(const struct proc *p, char *line, int width)
{
	int w = command_width(width);
	char text[16];

	cut(line, width, "%7d %-*.*s", p->t.pid, w, w, p->command);
	if (p->ended) {
		column(line, width, " ended");
		column(line, width, " after %ld rounds", p->rounds);
		return;
	}
	if (p->error[0]) {
		cut(line, width, "%7d %-*.*s error: %s", p->t.pid, w, w, p->command, p->error);
		return;
	}
	if (column(line, width, " %6.1f", proc_rate(p) / 1e6) &&
	    column(line, width, " %7" PRIu64, p->written) &&
	    column(line, width, " %5.1f%%", 100 * proc_share(p)) &&
	    column(line, width, " %7" PRIu64, p->unknown) &&
	    column(line, width, " %6s", bytes_text(text, p->mapped * 4096.0)) &&
	    column(line, width, " %7s", time_text(text, p->collect_ns)) &&
	    column(line, width, " %5ld", p->rounds))
		column(line, width, " %s", ooh_backend_name(p->tracker));
}

/* The answer, and why it is that one if there is room for all of it. */
void proc_choice(const struct proc *p, char *line, int width)
{
	int whole = snprintf(line, LINE, "%d %s: %s", p->t.pid, p->command, p->reason);
	char *why = strstr(line, " (");

	if (whole > width && why)
		*why = '\0';
}

void proc_all_dirty(const struct proc *p, char *line, int width)
{
	char clock[16];
	struct tm tm;

	if (!p->all_dirty) {
		cut(line, width, "everything dirty: never");
		return;
	}
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&p->all_dirty_time, &tm));
	cut(line, width, "everything dirty: %ld of %ld rounds, last at %s (round %ld): %s",
	    p->all_dirty, p->rounds, clock, p->all_dirty_round, p->all_dirty_reason);
}

/* The name of the mapping takes what is left; where there is little, others go. */
static bool with_range(int width)
{
	return width >= 68;
}

static bool with_bar(int width)
{
	return width >= 50;
}

void hot_head(char *line, int width)
{
	line[0] = '\0';
	if (column(line, width, "%7s %6s", "WRITTEN", "SHARE") &&
	    (!with_bar(width) || column(line, width, " %-*s", BAR, "")) &&
	    column(line, width, " %6s", "SIZE") && with_range(width))
		column(line, width, " %-25s", "RANGE");
	column(line, width, " MAPPING");
}

void hot_row(const struct hot *x, char *line, int width)
{
	double share = x->written * 4096 / (x->end - x->start);
	int bar = share * BAR + 0.5, left;
	char size[16], name[96];

	line[0] = '\0';
	if (share > 1)
		share = 1;
	if (bar > BAR)
		bar = BAR;
	if (!bar)
		bar = 1;
	if (column(line, width, "%7.0f %5.1f%%", x->written, 100 * share) &&
	    (!with_bar(width) || column(line, width, " %-*.*s", BAR, bar, "##########")) &&
	    column(line, width, " %6s", bytes_text(size, x->end - x->start)) && with_range(width))
		column(line, width, " %012" PRIx64 "-%012" PRIx64, x->start, x->end);
	left = width - (int)strlen(line) - 1;
	if (left < 4)
		return;
	printable(name, sizeof(name), x->name[0] ? x->name : "(anonymous)");
	/* the end of a path says more than its beginning */
	if ((int)strlen(name) > left && strrchr(name, '/'))
		memmove(name, strrchr(name, '/') + 1, strlen(strrchr(name, '/') + 1) + 1);
	column(line, width, " %.*s", left, name);
}
