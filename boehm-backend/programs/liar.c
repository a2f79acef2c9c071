// SPDX-License-Identifier: GPL-2.0-only
/*
 * A libooh.so.0 for tests that have to fail: loaded in place of the real one, which
 * OOH_REAL names, it tells of the first sixteenth of the ranges only.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <ooh.h>

static void *real(const char *name)
{
	static void *lib;
	void *f;

	if (!lib)
		lib = dlopen(getenv("OOH_REAL"), RTLD_NOW);
	f = lib ? dlsym(lib, name) : NULL;
	if (!f) {
		fprintf(stderr, "liar: %s\n", dlerror());
		exit(2);
	}
	return f;
}

int ooh_open(pid_t pid, const char *backend, unsigned int flags, struct ooh_tracker **tracker,
	     char *reason, size_t size)
{
	int (*f)(pid_t, const char *, unsigned int, struct ooh_tracker **, char *, size_t) =
		real("ooh_open");

	return f(pid, backend, flags, tracker, reason, size);
}

ssize_t ooh_collect(struct ooh_tracker *tracker, unsigned int flags,
		    const struct ooh_range **ranges, unsigned int *result)
{
	ssize_t (*f)(struct ooh_tracker *, unsigned int, const struct ooh_range **,
		     unsigned int *) = real("ooh_collect");
	ssize_t n = f(tracker, flags, ranges, result);

	return n < 0 ? n : n / 16;
}

void ooh_close(struct ooh_tracker *tracker)
{
	void (*f)(struct ooh_tracker *) = real("ooh_close");

	f(tracker);
}

const char *ooh_reason(const struct ooh_tracker *tracker)
{
	const char *(*f)(const struct ooh_tracker *) = real("ooh_reason");

	return f(tracker);
}

const char *ooh_backend_name(const struct ooh_tracker *tracker)
{
	const char *(*f)(const struct ooh_tracker *) = real("ooh_backend_name");

	return f(tracker);
}
