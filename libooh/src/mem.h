/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory from mmap(2), not from malloc(3): a process that tracks itself may
 * collect while its other threads are suspended, one of them inside malloc.
 */
#ifndef OOH_MEM_H
#define OOH_MEM_H

#include <stddef.h>

/* Makes *v, of *cap elements, larger; what is new is zero. 0 or -ENOMEM. */
int mem_grow(void **v, size_t *cap, size_t element);
void *mem_new(size_t size);
void mem_free(void *v, size_t size);

#endif
