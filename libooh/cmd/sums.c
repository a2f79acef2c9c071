// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cmd.h"
#include "sums.h"

void parts_begin(struct parts *p, const struct ooh_range *r, size_t n)
{
	*p = (struct parts){ .r = r, .n = n, .at = n ? r[0].start : 0 };
}

/* False: there are no more. Neighbours with one name (a file's code and data) are one part. */
bool parts_next(struct parts *p, const struct vmas *vmas, struct part *part)
{
	const struct vma *v;
	uint64_t end;

	if (!p->n)
		return false;
	while (p->vma < vmas->n && vmas->v[p->vma].end <= p->at)
		p->vma++;
	v = vmas->v + p->vma;
	end = p->r->end;
	*part = (struct part){ .start = p->at, .end = end };
	if (p->vma < vmas->n && v->start > p->at) {
		part->end = v->start < end ? v->start : end;
	} else if (p->vma < vmas->n) {
		part->name = v->name;
		while (v->end < end && p->vma + 1 < vmas->n && v[1].start == v->end &&
		       !strcmp(v[1].name, part->name)) {
			v++;
			p->vma++;
		}
		part->end = v->end < end ? v->end : end;
	}
	p->at = part->end;
	if (p->at == end) {
		p->r++;
		p->at = --p->n ? p->r->start : 0;
	}
	return true;
}

const char *part_name(char *buf, size_t size, const struct part *part)
{
	printable(buf, size,
		  !part->name	? "(not mapped)"
		  : *part->name ? part->name
				: "(anonymous)");
	return buf;
}

static struct sum *find(struct sums *s, const char *name)
{
	struct sum *v;
	size_t i;

	for (i = 0; i < s->n; i++)
		if (!strcmp(s->v[i].name, name))
			return &s->v[i];
	if (s->n == s->cap) {
		v = realloc(s->v, (s->cap + 64) * sizeof(*v));
		if (!v)
			return NULL;
		s->v = v;
		s->cap += 64;
	}
	s->v[s->n] = (struct sum){ .name = strdup(name) };
	return s->v[s->n].name ? &s->v[s->n++] : NULL;
}

/* 0 or -ENOMEM */
int sums_add(struct sums *s, const struct vmas *vmas, const struct ooh_range *r, size_t n,
	     enum column column)
{
	struct part part;
	struct parts p;
	char name[128];
	struct sum *sum;

	for (parts_begin(&p, r, n); parts_next(&p, vmas, &part);) {
		sum = find(s, part_name(name, sizeof(name), &part));
		if (!sum)
			return -ENOMEM;
		*(column == WRITTEN ? &sum->written : &sum->unknown) +=
			(part.end - part.start) / 4096;
	}
	return 0;
}

static int more_written(const void *a, const void *b)
{
	const struct sum *x = a, *y = b;

	if (x->written != y->written)
		return x->written < y->written ? 1 : -1;
	if (x->unknown != y->unknown)
		return x->unknown < y->unknown ? 1 : -1;
	return strcmp(x->name, y->name);
}

void sums_sort(struct sums *s)
{
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), more_written);
}

void sums_free(struct sums *s)
{
	while (s->n)
		free(s->v[--s->n].name);
	free(s->v);
	*s = (struct sums){ 0 };
}
