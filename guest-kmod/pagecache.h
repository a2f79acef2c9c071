/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Page cache: content that a process maps from a file (or shared memory) without having a
 * page-table entry for it.
 */
#ifndef OOH_PAGECACHE_H
#define OOH_PAGECACHE_H

#include <linux/types.h>

#include "pagetable.h"

/* Pages of which only this is kept: that they are to be reported. */
struct ooh_span {
	unsigned long start, end;
};

struct ooh_spans { /* ascending, disjoint, not adjacent */
	struct ooh_span *v;
	size_t nr, size;
};

struct ooh_area;

struct ooh_areas { /* mappings of files, ascending */
	struct ooh_area *v;
	size_t nr, size;
};

struct ooh_pagecache {
	struct ooh_areas areas;	  /* as they were in the last round */
	struct ooh_areas spare;	  /* memory for those of the next one */
	struct ooh_spans pending; /* user space is to get these */
	struct ooh_spans swapped; /* what was in swap in the last round */
	u64 *found;		  /* of one leaf */
};

/* With the module. */
int ooh_pagecache_start(void);
void ooh_pagecache_stop(void);

int ooh_pagecache_init(struct ooh_pagecache *pc);
void ooh_pagecache_free(struct ooh_pagecache *pc);

/*
 * Looks at all pages of files that have no entry and may have changed: fills slots of
 * leaves, and adds to the pending spans. The caller holds mm_users, but not
 * ooh_rmap_lock. 0, -ENOMEM, or -EINTR (a signal came while others held the mmap_lock, or
 * one that kills). What is left out after an error is in the next call.
 */
int ooh_pagecache_update(struct ooh_pagecache *pc, struct ooh_leaves *l);
/* Whatever is pending below end, from start on, has been reported. 0 or -ENOMEM */
int ooh_pagecache_room(struct ooh_pagecache *pc); /* for the following, which cannot fail */
void ooh_pagecache_reported(struct ooh_pagecache *pc, unsigned long start, unsigned long end);

#endif /* OOH_PAGECACHE_H */
