/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Logs say which frames were written. Each kind is a struct of functions, in a file of its
 * own, and knows nothing of processes and pages. One kind at a time serves all trackers: the
 * first of them decides. ooh_rmap_lock guards all calls but usable() and waiting(). For
 * start(), stop() and drain() the caller also holds cpus_read_lock(), taken first.
 */
#ifndef OOH_LOG_H
#define OOH_LOG_H

#include <linux/bits.h>
#include <linux/types.h>
#include <ooh/uapi.h>

/* Frames for which things, such as memory, are taken together. */
#define OOH_CHUNK_SHIFT	 15
#define OOH_CHUNK_FRAMES (1UL << OOH_CHUNK_SHIFT)

/* Frames that are handed over together: those that one page table of the EPT maps. */
#define OOH_GROUP_FRAMES 512
#define OOH_GROUP_LONGS	 (OOH_GROUP_FRAMES / BITS_PER_LONG)

/* A drain may say this beside OOH_REASON_*: no frame is armed any more. */
#define OOH_LOG_ANEW (1U << 31)

/* Gets what a log holds. */
struct ooh_log_sink {
	/*
	 * Frames pfn + i for which bit i is set, of OOH_GROUP_FRAMES, to which pfn is aligned.
	 * It clears the bits of frames that have no user.
	 */
	void (*group)(unsigned long pfn, unsigned long *bits);
};

struct ooh_log_ops {
	u32 mechanism; /* OOH_MECH_* */

	/* With the module. 0 even if there is no such log: usable() says so */
	int (*init)(void);
	void (*exit)(void);
	bool (*usable)(void);
	/* Before the first tracker, and after the last one. */
	int (*start)(void);
	void (*stop)(void);
	/* Before frames of this chunk are armed. May sleep; no lock is held. Optional */
	int (*prepare)(unsigned long chunk);
	/*
	 * After the return, the first write to each of the frames is logged. Frames for which
	 * that is not so are handed to refused(). 0 or the first error.
	 */
	int (*arm)(const u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn));
	/* Stops following frames. One that is still followed does no harm. */
	int (*forget)(const u64 *pfns, unsigned int nr);
	/*
	 * Ends a round: hands all frames that were written to the sink, arms them again,
	 * and adds to the reasons why these may not be all. The reasons count even if it
	 * fails. -ENODEV: there is no log any more. -ENOMEM: there is no memory for one now.
	 */
	int (*drain)(const struct ooh_log_sink *sink, u32 *reasons);
	/* Records not drained yet; U64_MAX: lost. Takes no lock. */
	u64 (*waiting)(void);
	void (*stats)(struct ooh_dev_stats *s); /* adds what only it counts. Optional */
};

extern const struct ooh_log_ops ooh_log_spml, ooh_log_epml;
extern const struct ooh_log_ops *ooh_log; /* in use, or NULL */

int ooh_log_init(void);
void ooh_log_exit(void);
bool ooh_log_usable(u32 mechanism); /* 0: any */
/* 0: the best there is. -EBUSY: another one is in use */
int ooh_log_start(u32 mechanism);
void ooh_log_stop(void);
u64 ooh_log_waiting(void);
void ooh_log_info(struct ooh_info *info);
void ooh_log_shutdown(void); /* no log is written until the module is loaded again */

#endif /* OOH_LOG_H */
