// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <sys/mman.h>
#include "mem.h"

#define FIRST 16384

void *mem_new(size_t size)
{
	void *v = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return v == MAP_FAILED ? NULL : v;
}

int mem_grow(void **v, size_t *cap, size_t element)
{
	size_t more = *cap ? 2 * *cap : FIRST / element;
	void *p;

	if (*cap)
		p = mremap(*v, *cap * element, more * element, MREMAP_MAYMOVE);
	else
		p = mem_new(more * element);
	if (!p || p == MAP_FAILED)
		return -ENOMEM;
	*v = p;
	*cap = more;
	return 0;
}

void mem_free(void *v, size_t size)
{
	if (v)
		munmap(v, size);
}
