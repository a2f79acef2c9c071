// SPDX-License-Identifier: LGPL-2.1-or-later
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "backend.h"

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

__attribute__((visibility("default"))) int ooh_backends(struct ooh_backend *vec, int len)
{
	int i;

	for (i = 0; backends[i]; i++) {
		if (i >= len || !vec)
			continue;
		vec[i].name = backends[i]->name;
		vec[i].usable = !backends[i]->probe(vec[i].reason, sizeof(vec[i].reason));
		if (vec[i].usable)
			snprintf(vec[i].reason, sizeof(vec[i].reason), "%s", backends[i]->how);
	}
	return i;
}
