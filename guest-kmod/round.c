// SPDX-License-Identifier: GPL-2.0-only
/* The rounds of one address space. */
#include <linux/cpu.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "compat/compat.h"
#include "counters.h"
#include "log.h"
#include "pagecache.h"
#include "pagetable.h"
#include "rmap.h"
#include "round.h"
#include "trace.h"

#define BATCH	      512 /* ranges copied to user space at once */
#define DIRTY_AT_ONCE 16  /* leaves reported before others may run */
#define SWEEP_SECS    1	  /* how often the memory of exited processes is freed */

struct ooh_rounds {
	struct mutex lock;
	bool attached;
	struct mm_struct *mm; /* mm_count is held, mm_users is not */
	struct pid *pid;
	struct ooh_leaves leaves;
	struct ooh_pagecache cache;
	u32 reported_reason; /* why everything is in the report: goes out with it */
	u64 collected;	     /* records when the last round ended */
	u64 end;	     /* how far the report that is being made has come */
	struct ooh_dev_stats stats;
	struct ooh_range batch[BATCH + 1];

	/* guarded by ooh_rmap_lock */
	struct list_head list;
	u32 reason; /* why the round that runs is all dirty */
};

static LIST_HEAD(trackers);
static unsigned int nr_trackers;

static void sweep_exited(struct work_struct *work);
static DECLARE_DELAYED_WORK(sweeper, sweep_exited);

struct ooh_rounds *ooh_rounds_create(void)
{
	struct ooh_rounds *r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);

	if (!r)
		return NULL;
	mutex_init(&r->lock);
	INIT_LIST_HEAD(&r->list);
	if (!ooh_pagecache_init(&r->cache))
		return r;
	kfree(r);
	return NULL;
}

int ooh_rounds_lock(struct ooh_rounds *r)
{
	return mutex_lock_interruptible(&r->lock);
}

void ooh_rounds_unlock(struct ooh_rounds *r)
{
	mutex_unlock(&r->lock);
}

bool ooh_rounds_attached(const struct ooh_rounds *r)
{
	/* the process and its mm are there from here on, and stay */
	return smp_load_acquire(&r->attached);
}

/* Has the process this memory now? If so, it has neither ended nor executed a program. */
static bool has_memory(struct pid *pid, const struct mm_struct *mm)
{
	struct task_struct *task, *thread;
	bool has = false;

	rcu_read_lock();
	task = pid_task(pid, PIDTYPE_TGID);
	/* the main thread may have ended before the others */
	if (task)
		for_each_thread(task, thread)
			has |= READ_ONCE(thread->mm) == mm;
	rcu_read_unlock();
	return has;
}

bool ooh_rounds_over(const struct ooh_rounds *r)
{
	return !atomic_read(&r->mm->mm_users) || !has_memory(r->pid, r->mm);
}

/* Records that collects of other trackers drained for this one, and those not drained yet. */
u64 ooh_rounds_waiting(const struct ooh_rounds *r)
{
	u64 log = ooh_log_waiting();

	if (READ_ONCE(r->reason) || READ_ONCE(r->reported_reason) || log == U64_MAX)
		return U64_MAX;
	return READ_ONCE(r->leaves.records) - READ_ONCE(r->collected) + log;
}

u32 ooh_rounds_count(const struct ooh_rounds *r)
{
	return READ_ONCE(r->stats.rounds);
}

unsigned int ooh_rounds_trackers(void)
{
	return READ_ONCE(nr_trackers);
}

/*
 * While a log is started, stopped or drained, CPUs must not come or go. The lock against that
 * is the outer one: cpusets take the mmap_lock of processes under it, and ooh_rmap_lock is
 * taken with the mmap_lock of a process held.
 */
static void lock_log(void)
{
	cpus_read_lock();
	mutex_lock(&ooh_rmap_lock);
}

static void unlock_log(void)
{
	mutex_unlock(&ooh_rmap_lock);
	cpus_read_unlock();
}

static void make_all_dirty(u32 reasons)
{
	struct ooh_rounds *r;

	reasons &= ~OOH_LOG_ANEW;
	if (!reasons)
		return;
	trace_ooh_lost(reasons);
	list_for_each_entry(r, &trackers, list)
		r->reason |= reasons;
}

/* Empties the logs, and marks the users of each logged frame. With the log locked. */
static int drain_log(void)
{
	u32 reasons = 0;
	int ret = ooh_rmap_drain(&reasons);

	make_all_dirty(reasons);
	return ret;
}

void ooh_rounds_all_anew(void)
{
	lock_log();
	/* frames that were not armed again are silent, and nobody knows which these are */
	if (nr_trackers && !drain_log()) {
		ooh_rmap_rearm_all();
		make_all_dirty(OOH_REASON_HYPERCALL);
	}
	unlock_log();
}

void ooh_rounds_shutdown(void)
{
	lock_log();
	ooh_log_shutdown();
	unlock_log();
}

/* With the log locked, when a tracker has gone. */
static void last_one_out(void)
{
	if (nr_trackers)
		return;
	ooh_rmap_free_chunks();
	ooh_log_stop();
}

static void enlist(struct ooh_rounds *r)
{
	list_add(&r->list, &trackers);
	WRITE_ONCE(nr_trackers, nr_trackers + 1);
}

static void strike_off(struct ooh_rounds *r)
{
	lock_log();
	list_del_init(&r->list);
	WRITE_ONCE(nr_trackers, nr_trackers - 1);
	last_one_out();
	unlock_log();
}

void ooh_rounds_free(struct ooh_rounds *r)
{
	if (r->mm) {
		/* nobody else has it but the sweeper, which waits for no tracker */
		mutex_lock(&r->lock);
		ooh_leaves_forget(&r->leaves);
		strike_off(r);
		mutex_unlock(&r->lock);
		/* it may still be unlocking this one; when its next run is due does not change */
		flush_work(&sweeper.work);
		mmdrop(r->mm);
		put_pid(r->pid);
	}
	ooh_leaves_free(&r->leaves);
	ooh_pagecache_free(&r->cache);
	kfree(r);
}

/* Leaves of an address space that has exited are of no use to anybody. */
static void sweep_exited(struct work_struct *work)
{
	struct ooh_rounds *r, *found;

	do {
		found = NULL;
		mutex_lock(&ooh_rmap_lock);
		list_for_each_entry(r, &trackers, list) {
			if (atomic_read(&r->mm->mm_users) || !READ_ONCE(r->leaves.nr) ||
			    !mutex_trylock(&r->lock))
				continue;
			found = r;
			break;
		}
		mutex_unlock(&ooh_rmap_lock);
		if (found) {
			ooh_leaves_forget(&found->leaves);
			mutex_unlock(&found->lock);
		}
	} while (found);
	if (ooh_rounds_trackers())
		schedule_delayed_work(&sweeper, SWEEP_SECS * HZ);
}

/*
 * Follows the memory as it is now. Frames and page tables are armed before this returns, so
 * whatever changes afterwards is logged.
 */
static int follow_memory(struct ooh_rounds *r)
{
	int ret = ooh_leaves_update(&r->leaves), err;

	if (ret)
		return ret;
	ret = ooh_pagecache_update(&r->cache, &r->leaves);
	mutex_lock(&ooh_rmap_lock);
	ooh_rmap_flush();
	mutex_unlock(&ooh_rmap_lock);
	err = ooh_pagecache_room(&r->cache);
	return ret ?: err;
}

/* Counts what was armed since then, by others too. Returns the time that it took. */
static u64 count_arming(struct ooh_rounds *r, const struct ooh_counters *before)
{
	u64 ns;

	mutex_lock(&ooh_rmap_lock);
	ns = ooh_counters.arm_ns - before->arm_ns;
	r->stats.armed += ooh_counters.armings - before->armings;
	mutex_unlock(&ooh_rmap_lock);
	r->stats.arm_ns += ns;
	return ns;
}

int ooh_rounds_attach(struct ooh_rounds *r, struct pid *pid, struct mm_struct *mm, u32 mechanism)
{
	struct ooh_counters before;
	int ret;

	if (r->mm)
		return -EBUSY;
	if (!has_memory(pid, mm))
		return -ESRCH;
	/*
	 * What a CPU's log holds from before does not concern the new tracker: a drain, or
	 * the start of the log, takes it out.
	 */
	lock_log();
	ret = ooh_log ? drain_log() : 0;
	if (!ret)
		ret = ooh_log_start(mechanism);
	if (!ret) {
		r->leaves.mm = mm;
		r->pid = get_pid(pid);
		mmgrab(mm);
		r->mm = mm;
		enlist(r);
	}
	before = ooh_counters;
	unlock_log();
	if (ret)
		return ret;
	ret = follow_memory(r);
	if (ret) {
		ooh_leaves_forget(&r->leaves);
		strike_off(r);
		put_pid(r->pid);
		r->mm = NULL;
		mmdrop(mm);
		return ret;
	}
	/* the round begins now: what is there already is not new */
	ooh_leaves_drop(&r->leaves);
	r->cache.pending.nr = 0;
	r->leaves.records = r->leaves.tables = 0;
	count_arming(r, &before);
	r->stats.arm_ns = 0;
	schedule_delayed_work(&sweeper, SWEEP_SECS * HZ);
	smp_store_release(&r->attached, true);
	return 0;
}

static int end_round(struct ooh_rounds *r)
{
	struct ooh_counters before;
	u64 began, arming;
	int ret;

	if (!mmget_not_zero(r->mm)) {
		ooh_leaves_forget(&r->leaves);
		return -ESRCH;
	}
	ret = has_memory(r->pid, r->mm) ? 0 : -ESRCH;
	if (ret)
		goto out;
	lock_log();
	ret = drain_log();
	if (!ret) {
		r->reported_reason |= r->reason;
		r->reason = 0;
	}
	before = ooh_counters;
	unlock_log();
	if (ret)
		goto out;
	began = ktime_get_ns();
	if (r->reported_reason)
		ooh_leaves_rescan(&r->leaves);
	ret = follow_memory(r);
	if (ret) {
		/*
		 * What was drained stays marked. What could not be followed for lack of memory is
		 * not known.
		 */
		if (ret != -EINTR)
			r->reported_reason |= OOH_REASON_NOMEM;
		goto out;
	}
	ooh_leaves_take(&r->leaves);
	if (r->reported_reason)
		ooh_leaves_report_all(&r->leaves);
	WRITE_ONCE(r->stats.rounds, r->stats.rounds + 1);
	WRITE_ONCE(r->collected, r->leaves.records);
	r->stats.all_dirty += r->reported_reason != 0;
	arming = count_arming(r, &before);
	r->stats.map_ns += ktime_get_ns() - began - arming;
out:
	/* if this is the last user, the mm goes away: not with the lock held */
	mmput_async(r->mm);
	return ret;
}

/* The caller's vector on its way out. */
struct output {
	struct ooh_rounds *r;
	struct ooh_range __user *vec;
	u32 len, nr;		      /* of vec: room, elements copied */
	struct ooh_range *last, *end; /* in r->batch: filled, and how far there is room */
	const struct ooh_span *span, *last_span;
	unsigned long next_span; /* where the next one begins */
	u64 pages;
};

static void begin_batch(struct output *out)
{
	struct ooh_range *b = out->r->batch;

	/* before the first: none begins where this ends */
	b->end = 1;
	out->last = b;
	out->end = b + min_t(u32, BATCH, out->len - out->nr);
}

static int flush_output(struct output *out)
{
	struct ooh_range *b = out->r->batch + 1;
	u32 n = out->last - out->r->batch;

	if (n && copy_to_user(out->vec + out->nr, b, sizeof(*b) * n))
		return -EFAULT;
	out->nr += n;
	return 0;
}

/*
 * Adds pages that lie after all those before them, or overlap the last of these. 0, -EFAULT,
 * or -ENOSPC: there is no room, and everything below start is in the vector.
 */
static int put_range(struct output *out, unsigned long start, unsigned long end)
{
	struct ooh_range *last = out->last;
	int ret;

	if (last->end >= start && start) {
		if (last->end < end) {
			out->pages += (end - last->end) >> PAGE_SHIFT;
			last->end = end;
		}
		return 0;
	}
	if (unlikely(last == out->end)) {
		ret = flush_output(out);
		if (ret)
			return ret;
		if (out->nr == out->len) {
			out->r->end = start;
			return -ENOSPC;
		}
		begin_batch(out);
		last = out->last;
	}
	last++;
	last->start = start;
	last->end = end;
	out->last = last;
	out->pages += (end - start) >> PAGE_SHIFT;
	return 0;
}

/* Adds the spans that begin below addr. */
static int put_spans(struct output *out, unsigned long addr, unsigned long from,
		     unsigned long until)
{
	int ret = 0;

	while (!ret && out->next_span < addr) {
		unsigned long start = max(out->span->start, from);
		unsigned long end = min(out->span->end, until);

		if (start < end)
			ret = put_range(out, start, end);
		if (ret)
			break;
		out->span++;
		out->next_span = out->span == out->last_span ? ULONG_MAX : out->span->start;
	}
	return ret;
}

/*
 * Adds those pages of a whole leaf that are in the report; no span is among them. Most of
 * what a report costs is here. False: there may be no room for all of them, and nothing was
 * done.
 */
static bool put_whole_leaf(struct output *out, const struct ooh_leaf *leaf)
{
	struct ooh_range *last = out->last;
	unsigned long addr = leaf->addr, left;
	unsigned int w, pages = 0;

	/* between two ranges there is a page that is in none */
	if (out->end - last < OOH_SLOTS / 2)
		return false;
	for (w = 0; w < OOH_SLOTS / BITS_PER_LONG; w++, addr += BITS_PER_LONG * PAGE_SIZE) {
		left = leaf->report[w];
		if (!left)
			continue;
		pages += hweight_long(left);
		do {
			/* the lowest run of them: adding its lowest bit makes it carry */
			unsigned long carried = left + (left & -left);
			unsigned long start = addr + __ffs(left) * PAGE_SIZE;

			if (last->end != start)
				(++last)->start = start;
			last->end = addr + (carried ? __ffs(carried) : BITS_PER_LONG) * PAGE_SIZE;
			left &= carried;
		} while (left);
	}
	out->last = last;
	out->pages += pages;
	return true;
}

/* Adds those pages of a leaf, slots from ... last - 1, that are in the report. */
static int put_leaf(struct output *out, const struct ooh_leaf *leaf, unsigned int from,
		    unsigned int last, unsigned long start, unsigned long until)
{
	unsigned long addr = leaf->addr, left;
	unsigned int w;
	int ret;

	for (w = 0; w < OOH_SLOTS / BITS_PER_LONG; w++, addr += BITS_PER_LONG * PAGE_SIZE) {
		left = leaf->report[w];
		if (!left)
			continue;
		if (w == from / BITS_PER_LONG)
			left &= ~0UL << from % BITS_PER_LONG;
		if (w < from / BITS_PER_LONG || w * BITS_PER_LONG >= last)
			continue;
		if (last - w * BITS_PER_LONG < BITS_PER_LONG)
			left &= BIT(last - w * BITS_PER_LONG) - 1;
		while (left) {
			/* the lowest run of them: adding its lowest bit makes it carry */
			unsigned long carried = left + (left & -left);
			unsigned long first = addr + __ffs(left) * PAGE_SIZE;

			if (unlikely(out->next_span < first)) {
				ret = put_spans(out, first, start, until);
				if (ret)
					return ret;
			}
			ret = put_range(out, first,
					addr + (carried ? __ffs(carried) : BITS_PER_LONG) *
							PAGE_SIZE);
			if (ret)
				return ret;
			left &= carried;
		}
	}
	return 0;
}

/* Which slots of a leaf lie in start ... end - 1? */
static unsigned int first_slot(const struct ooh_leaf *leaf, unsigned long start)
{
	return start > leaf->addr ? (start - leaf->addr) >> PAGE_SHIFT : 0;
}

static unsigned int slots_end(const struct ooh_leaf *leaf, unsigned long end)
{
	return end - leaf->addr < PMD_SIZE ? (end - leaf->addr) >> PAGE_SHIFT : OOH_SLOTS;
}

static unsigned long end_of(const struct ooh_collect *c)
{
	return c->end ?: TASK_SIZE_MAX;
}

/* Fills the caller's vector. */
static int fill_vector(struct ooh_rounds *r, struct ooh_collect *c)
{
	const struct ooh_spans *spans = &r->cache.pending;
	struct output out = {
		.r = r,
		.vec = u64_to_user_ptr(c->vec),
		.len = c->vec_len,
		.span = spans->v,
		.last_span = spans->v + spans->nr,
		.next_span = spans->nr ? spans->v[0].start : ULONG_MAX,
	};
	unsigned long end = end_of(c);
	unsigned int reported = 0;
	int ret = 0;
	size_t i;

	r->end = end;
	begin_batch(&out);
	for (i = 0; !ret && i < r->leaves.nr && r->leaves.v[i]->addr < end; i++) {
		struct ooh_leaf *leaf = r->leaves.v[i];

		if (i % OOH_LEAVES_AT_ONCE == 0)
			cond_resched();
		if (!leaf->dirty || leaf->addr + PMD_SIZE <= c->start)
			continue;
		/* fewer of these: each may have a range for every second page */
		if (++reported % DIRTY_AT_ONCE == 0)
			cond_resched();
		if (c->start <= leaf->addr && end - leaf->addr >= PMD_SIZE &&
		    out.next_span >= leaf->addr + PMD_SIZE && out.last->end <= leaf->addr) {
			if (put_whole_leaf(&out, leaf))
				continue;
			ret = flush_output(&out);
			if (ret)
				return ret;
			begin_batch(&out);
			if (put_whole_leaf(&out, leaf))
				continue;
		}
		ret = put_leaf(&out, leaf, first_slot(leaf, c->start), slots_end(leaf, end),
			       c->start, end);
	}
	if (!ret)
		ret = put_spans(&out, end, c->start, end);
	c->flags = ret == -ENOSPC ? OOH_F_MORE : 0;
	if (!ret)
		ret = flush_output(&out);
	if (ret && ret != -ENOSPC)
		return ret;
	c->vec_len = out.nr;
	c->pages = out.pages;
	return 0;
}

void ooh_rounds_reported(struct ooh_rounds *r, const struct ooh_collect *c)
{
	size_t i;

	for (i = 0; i < r->leaves.nr && r->leaves.v[i]->addr < r->end; i++) {
		struct ooh_leaf *leaf = r->leaves.v[i];
		unsigned int from, end;

		if (i % OOH_LEAVES_AT_ONCE == 0)
			cond_resched();
		if (!leaf->dirty || leaf->addr + PMD_SIZE <= c->start)
			continue;
		from = first_slot(leaf, c->start);
		end = slots_end(leaf, r->end);
		if (from == 0 && end == OOH_SLOTS) {
			bitmap_zero(leaf->report, OOH_SLOTS);
			leaf->dirty = false;
			continue;
		}
		bitmap_clear(leaf->report, from, end - from);
		leaf->dirty = !bitmap_empty(leaf->report, OOH_SLOTS);
	}
	ooh_pagecache_reported(&r->cache, c->start, r->end);
	if (c->reason)
		WRITE_ONCE(r->reported_reason, 0);
	r->stats.reported += c->pages;
}

int ooh_rounds_collect(struct ooh_rounds *r, struct ooh_collect *c)
{
	u64 tables = r->leaves.tables;
	bool goes_on = c->flags & OOH_COLLECT_CONTINUE;
	int ret;

	if (!ooh_rounds_attached(r))
		return -ENOTCONN;
	if (!goes_on)
		ret = end_round(r);
	else
		ret = ooh_rounds_over(r) ? -ESRCH : ooh_pagecache_room(&r->cache);
	if (!ret)
		ret = fill_vector(r, c);
	if (ret)
		return ret;
	c->reason = goes_on ? 0 : r->reported_reason;
	if (c->reason)
		c->flags |= OOH_F_ALL_DIRTY;
	if (!goes_on)
		trace_ooh_collect(r, r->stats.rounds, r->leaves.tables - tables, c->pages,
				  c->reason);
	return 0;
}

void ooh_rounds_stats(struct ooh_rounds *r, struct ooh_dev_stats *s)
{
	*s = r->stats;
	s->records = r->leaves.records;
	s->tables = r->leaves.tables;
	s->mapped = ooh_leaves_mapped(&r->leaves);
	mutex_lock(&ooh_rmap_lock);
	s->foreign = ooh_counters.foreign;
	s->hypercalls = ooh_counters.hypercalls;
	s->refused = ooh_counters.refused;
	s->drain_ns = ooh_counters.drain_ns;
	s->map_ns += ooh_counters.map_ns;
	if (ooh_log && ooh_log->stats)
		ooh_log->stats(s);
	mutex_unlock(&ooh_rmap_lock);
}

void ooh_rounds_exit(void)
{
	cancel_delayed_work_sync(&sweeper);
}
