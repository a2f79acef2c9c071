/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Rounds: what of one address space was written since the last round.
 *
 * Each tracker has a mutex of its own. It is held while the tracker waits for things that
 * others may hold for as long as they like: the mmap_lock of its process, and the memory of
 * its caller.
 */
#ifndef OOH_ROUND_H
#define OOH_ROUND_H

#include <linux/types.h>
#include <ooh/uapi.h>

struct mm_struct;
struct ooh_rounds;
struct pid;

struct ooh_rounds *ooh_rounds_create(void);
void ooh_rounds_free(struct ooh_rounds *r);

/*
 * Begins the first round, and takes references to the process and the memory. The caller
 * holds mm_users of the memory. 0 or -errno
 */
int ooh_rounds_attach(struct ooh_rounds *r, struct pid *pid, struct mm_struct *mm, u32 mechanism);

/*
 * Ends a round, unless the caller goes on with the last one, and fills the caller's vector.
 * Nothing counts as reported before ooh_rounds_reported(): a call that fails leaves all of
 * it to the next. The caller of these two holds the tracker's lock, for which everybody who
 * has the file open can wait.
 */
int ooh_rounds_lock(struct ooh_rounds *r); /* 0, -EINTR */
void ooh_rounds_unlock(struct ooh_rounds *r);
int ooh_rounds_collect(struct ooh_rounds *r, struct ooh_collect *c);
void ooh_rounds_reported(struct ooh_rounds *r, const struct ooh_collect *c);
void ooh_rounds_stats(struct ooh_rounds *r, struct ooh_dev_stats *s); /* with the lock, too */

/* These take no lock. */
bool ooh_rounds_attached(const struct ooh_rounds *r);
bool ooh_rounds_over(const struct ooh_rounds *r);   /* the process, or its memory, is gone */
u64 ooh_rounds_waiting(const struct ooh_rounds *r); /* records; U64_MAX: something was lost */
u32 ooh_rounds_count(const struct ooh_rounds *r);   /* rounds that have ended */
unsigned int ooh_rounds_trackers(void);

/* Everything is dirty and is armed anew: for tests that armed nothing for a while. */
void ooh_rounds_all_anew(void);
void ooh_rounds_shutdown(void); /* no round ends any more */
void ooh_rounds_exit(void);

#endif /* OOH_ROUND_H */
