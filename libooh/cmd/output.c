// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "cmd.h"

static const char *speaker = "ooh";
static int output_error; /* the first one: it stays */

/* As argp has it: with the subcommand's name */
void said_by(const char *name)
{
	speaker = name;
}

/* Whether all could be written that was printed so far */
bool flush_output(void)
{
	if (!output_error && fflush(stdout))
		output_error = errno;
	else if (!output_error && ferror(stdout))
		output_error = EIO;
	return !output_error;
}

/*
 * The exit status in the end. Output that could not be written is an error; but a reader that
 * went away has what it wanted, and ends us without a word, as it ends other programs.
 */
int finish_output(int status)
{
	if (flush_output())
		return status;
	if (output_error == EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	say("standard output: %s", strerror(output_error));
	return status ? status : ST_CANNOT;
}

#define FIRST_MS 1000 /* what is done by then needs no progress */
#define NEXT_MS	 500
#define LOG_MS	 60000 /* where it is no terminal that reads it */

static uint64_t shown_first, shown_last;
static bool shown;

/* On work that takes long: a line that is written over, or one a minute into a log. */
void progress(const char *format, ...)
{
	const bool terminal = isatty(STDERR_FILENO);
	uint64_t now = now_ns() / 1000000;
	va_list ap;

	if (!shown_first)
		shown_first = shown_last = now;
	if (now - shown_first < FIRST_MS || now - shown_last < (terminal ? NEXT_MS : LOG_MS))
		return;
	shown_last = now;
	shown = terminal;
	fprintf(stderr, "%s%s: ", terminal ? "\r" : "", speaker);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, ", %" PRIu64 " s%s", (now - shown_first) / 1000,
		terminal ? "\033[K" : "\n");
}

void progress_end(void)
{
	if (shown)
		fputs("\r\033[K", stderr);
	shown = false;
	shown_first = 0;
}

void say(const char *format, ...)
{
	va_list ap;

	progress_end();
	fflush(stdout);
	fprintf(stderr, "%s: ", speaker);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* Why there is no tracker; returns the exit status. */
int say_no_tracking(const struct options *o, int rc, const char *reason)
{
	if (rc == -EPERM && strstr(reason, "stopping process"))
		say("%s (another program traces it, or it belongs to another user)", reason);
	else
		say("%s", reason && *reason ? reason : strerror(-rc));
	if (rc == -ENODEV && o->backend)
		return ST_USAGE;
	return ST_CANNOT;
}

int print_json(json_t *root)
{
	json_dumpf(root, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(root);
	flush_output();
	return ST_OK;
}

/* For a reader that takes one line after the other */
void put_json_line(json_t *root)
{
	json_dumpf(root, stdout, JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(root);
}

/* As text: not every reader of JSON has 64-bit integers. */
json_t *json_address(uint64_t address)
{
	return json_sprintf("0x%" PRIx64, address);
}

/* The time of day, for a person to compare with other logs */
const char *clock_time(char buf[static 16])
{
	time_t now = time(NULL);
	struct tm tm;

	strftime(buf, 16, "%H:%M:%S", localtime_r(&now, &tm));
	return buf;
}

json_t *json_time(void)
{
	struct timespec t;
	char buf[32];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t.tv_sec, &tm));
	return json_sprintf("%s.%03ldZ", buf, t.tv_nsec / 1000000);
}

/* Names come from other processes: nothing of theirs may steer the terminal. */
void printable(char *out, size_t size, const char *in)
{
	size_t i;

	for (i = 0; in[i] && i + 1 < size; i++)
		out[i] = in[i] >= ' ' && in[i] <= '~' ? in[i] : '?';
	out[i] = '\0';
}

uint64_t count_pages(const struct ooh_range *r, ssize_t n)
{
	uint64_t pages = 0;

	while (n-- > 0)
		pages += (r[n].end - r[n].start) / 4096;
	return pages;
}

json_t *json_time_of(time_t t)
{
	char buf[32];
	struct tm tm;

	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	return json_string(buf);
}

uint64_t ticks(void)
{
	return __rdtsc();
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

json_t *json_backend(const struct ooh_backend *b)
{
	return json_pack("{s:s, s:b, s:s}", "name", b->name, "usable", b->usable, "reason",
			 b->reason);
}

void put_backend(const struct ooh_backend *b)
{
	printf("%-13s  %-10s  %s\n", b->name, b->usable ? "usable" : "not usable", b->reason);
}

int cmd_backends(bool json)
{
	struct ooh_backend v[16];
	int i, n = ooh_backends(v, 16, sizeof(v[0]));
	json_t *root = json ? json_array() : NULL;

	for (i = 0; i < n; i++) {
		if (json)
			json_array_append_new(root, json_backend(&v[i]));
		else
			put_backend(&v[i]);
	}
	return json ? print_json(root) : ST_OK;
}
