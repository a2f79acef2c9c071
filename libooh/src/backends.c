// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "backend.h"

#define API __attribute__((visibility("default")))

/* What the first version of the struct had; nobody can have a smaller one. */
#define OOH_BACKEND_SIZE_1 528

_Static_assert(sizeof(struct ooh_backend) >= OOH_BACKEND_SIZE_1, "fields are only added");

const struct backend *const backends[] = {
	&backend_epml,	  &backend_spml,       &backend_pagemap_scan,
	&backend_uffd_wp, &backend_soft_dirty, NULL,
};

/* Puts the reason into words and returns rc. */
int backend_why(char *why, size_t size, int rc, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, size, format, ap);
	va_end(ap);
	return rc;
}

/*
 * Fills a struct of the caller's, of whatever version, from one of ours: what both have; the
 * rest of the caller's is 0.
 */
size_t give_sized(void *to, size_t size, const void *from, size_t own)
{
	memset(to, 0, size);
	memcpy(to, from, size < own ? size : own);
	return size;
}

API int ooh_backends(struct ooh_backend *vec, int len, size_t size)
{
	struct ooh_backend b;
	char *to = (char *)vec;
	int i;

	if (vec && size < OOH_BACKEND_SIZE_1)
		return -EINVAL;
	for (i = 0; backends[i]; i++) {
		if (i >= len || !vec)
			continue;
		memset(&b, 0, sizeof(b));
		b.name = backends[i]->name;
		b.usable = !backends[i]->probe(b.reason, sizeof(b.reason));
		if (b.usable && backends[i]->how)
			snprintf(b.reason, sizeof(b.reason), "%s", backends[i]->how);
		to += give_sized(to, size, &b, sizeof(b));
	}
	return i;
}

API const char *ooh_version(void)
{
	return OOH_VERSION;
}
