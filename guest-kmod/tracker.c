// SPDX-License-Identifier: GPL-2.0-only
/*
 * Trackers: the rounds of one address space.
 */
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ooh.h"
#include "trace.h"

#define BATCH 128 /* ranges copied to user space at once */
#define TRIES 16  /* for page tables that change while they are looked at */

/*
 * ooh_lock guards what a collect of another tracker touches: marks, the list, the
 * users of frames. It is never held while something is waited for that a process can
 * hold: its mmap_lock, a fault on the caller's memory. The tracker's own lock is.
 */
struct ooh_tracker {
	struct mutex lock; /* outside of ooh_lock */
	struct list_head list;
	struct pid *pid;
	struct mm_struct *mm; /* mm_count is held, mm_users is not */
	struct ooh_leaves leaves;
	struct ooh_pmds pmds;
	bool retiring; /* some leaves are kept only until their pages were reported gone */
	u64 since;     /* real time when the last round's end began, ns */
	s64 to_boot;   /* and the boot clock beside it */
	u32 reason;    /* why the next round is all dirty */
	u64 collected; /* stats.records when the last round ended */
	struct ooh_stats stats;
	struct ooh_range batch[BATCH + 1];
};

static LIST_HEAD(trackers);
unsigned int ooh_trackers;

struct ooh_tracker *ooh_tracker_create(void)
{
	struct ooh_tracker *t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);

	if (!t)
		return NULL;
	mutex_init(&t->lock);
	INIT_LIST_HEAD(&t->list);
	return t;
}

struct mm_struct *ooh_tracker_mm(const struct ooh_tracker *t)
{
	return t->mm;
}

struct ooh_leaves *ooh_tracker_leaves(struct ooh_tracker *t)
{
	return &t->leaves;
}

u64 *ooh_tracker_records(struct ooh_tracker *t)
{
	return &t->stats.records;
}

/* What collects of other trackers drained for this one. */
u64 ooh_tracker_waiting(const struct ooh_tracker *t)
{
	if (READ_ONCE(t->reason))
		return U64_MAX;
	return READ_ONCE(t->stats.records) - READ_ONCE(t->collected);
}

void ooh_trackers_all_dirty(u32 reason)
{
	struct ooh_tracker *t;

	trace_ooh_overflow(reason);
	list_for_each_entry(t, &trackers, list)
		t->reason |= reason;
}

/* Lets go of everything but the tracker itself. */
static void forget(struct ooh_tracker *t)
{
	size_t i;

	for (i = 0; i < t->leaves.nr; i++)
		ooh_leaf_destroy(t->leaves.v[i]);
	ooh_frames_flush();
	t->leaves.nr = 0;
	t->pmds.known = false;
}

void ooh_tracker_free(struct ooh_tracker *t)
{
	mutex_lock(&ooh_lock);
	forget(t);
	if (t->mm) {
		list_del(&t->list);
		ooh_trackers--;
	}
	mutex_unlock(&ooh_lock);
	if (t->mm)
		mmdrop(t->mm);
	put_pid(t->pid);
	kvfree(t->leaves.v);
	ooh_walk_free(&t->pmds);
	kfree(t);
}

/*
 * Brings the leaves in line with the entries above the page tables: new ones
 * appear, others change or go. Page tables that are new are queued for arming.
 */
static int merge(struct ooh_tracker *t)
{
	struct ooh_leaf **merged, *leaf;
	struct ooh_pmd *pmd = t->pmds.v, *end = pmd + t->pmds.nr;
	size_t i = 0, nr = 0, size = t->leaves.nr + t->pmds.nr;

	merged = kvmalloc_array(max_t(size_t, size, 1), sizeof(*merged), GFP_KERNEL);
	if (!merged)
		goto err;
	t->retiring = false;
	while (i < t->leaves.nr || pmd < end) {
		unsigned long addr = pmd < end ? pmd->addr : ULONG_MAX;

		while (!ooh_frames_room(OOH_SLOTS + 1))
			ooh_frames_flush();
		if (i < t->leaves.nr && t->leaves.v[i]->addr < addr) {
			leaf = t->leaves.v[i++];
			/* kept until it is known that its pages are gone and reported */
			if (!leaf->pmd && !leaf->mapped && !leaf->dirty && !leaf->left &&
			    !leaf->rescan) {
				ooh_leaf_destroy(leaf);
				continue;
			}
			if (leaf->pmd)
				ooh_leaf_set_pmd(leaf, 0);
			t->retiring |= !leaf->absent;
		} else {
			if (i < t->leaves.nr && t->leaves.v[i]->addr == addr)
				leaf = t->leaves.v[i++];
			else
				leaf = ooh_leaf_create(t, addr);
			if (!leaf)
				break;
			if (leaf->pmd != pmd->val)
				ooh_leaf_set_pmd(leaf, pmd->val);
			pmd++;
		}
		merged[nr++] = leaf;
	}
	/* no memory for a leaf: keep the others, the caller gives up */
	while (i < t->leaves.nr)
		merged[nr++] = t->leaves.v[i++];
	kvfree(t->leaves.v);
	t->leaves.v = merged;
	t->leaves.nr = nr;
	t->leaves.size = size;
	if (pmd == end)
		return 0;
err:
	/* the leaves are not those of the walk */
	t->pmds.known = false;
	return -ENOMEM;
}

/* A leaf without a page table, in its place in the order. */
struct ooh_leaf *ooh_leaves_insert(struct ooh_tracker *t, size_t at, unsigned long addr)
{
	struct ooh_leaves *l = &t->leaves;
	struct ooh_leaf *leaf;

	if (l->nr == l->size) {
		size_t size = max_t(size_t, 2 * l->size, 64);
		struct ooh_leaf **v = ooh_kvrealloc(l->v, l->size * sizeof(*v), size * sizeof(*v));

		if (!v)
			return NULL;
		l->v = v;
		l->size = size;
	}
	leaf = ooh_leaf_create(t, addr);
	if (!leaf)
		return NULL;
	memmove(l->v + at + 1, l->v + at, (l->nr - at) * sizeof(*l->v));
	l->v[at] = leaf;
	l->nr++;
	return leaf;
}

/* The time to compare files' times with in this round; 0 if the clock was set back. */
static u64 since(struct ooh_tracker *t)
{
	u64 now = ktime_get_real_ns(), before = t->since;
	s64 to_boot = now - ktime_get_boottime_ns();

	/* the two are not read at once; absent.c allows for more than this */
	if (to_boot + (s64)NSEC_PER_MSEC < t->to_boot)
		before = 0;
	t->since = now;
	t->to_boot = to_boot;
	return before;
}

/*
 * Follows the page tables of t->mm as they are now: page tables are armed
 * before they are looked through, frames before this returns, so whatever
 * changes from here on is logged. The caller holds mm_users.
 */
static int update(struct ooh_tracker *t, u64 since)
{
	unsigned int tries;
	bool again = true;
	size_t i;
	int ret;

	if (ooh_frames_update())
		ooh_trackers_all_dirty(OOH_REASON_NOMEM);
	for (tries = 0; again && tries < TRIES; tries++) {
		ret = ooh_walk(t->mm, &t->pmds);
		if (!ret || (ret == 1 && t->retiring))
			ret = merge(t);
		if (ret < 0)
			return ret;
		ooh_frames_flush();
		again = !ooh_leaves_scan(&t->leaves, &t->stats.tables);
	}
	/* still changing: whatever it is, it is reported; the next round looks again */
	if (again)
		for (i = 0; i < t->leaves.nr; i++)
			if (t->leaves.v[i]->rescan)
				ooh_leaf_mark_all(t->leaves.v[i]);
	/* a process can hold this lock for as long as it likes */
	mutex_unlock(&ooh_lock);
	ret = mmap_read_lock_killable(t->mm);
	mutex_lock(&ooh_lock);
	if (ret)
		return ret;
	ret = ooh_absent_update(t, since);
	mmap_read_unlock(t->mm);
	ooh_frames_flush();
	return ret;
}

static u64 mapped(const struct ooh_tracker *t)
{
	u64 pages = 0;
	size_t i;

	for (i = 0; i < t->leaves.nr; i++)
		pages += t->leaves.v[i]->mapped;
	return pages;
}

int ooh_tracker_attach(struct ooh_tracker *t, struct pid *pid, struct mm_struct *mm)
{
	u64 armed = ooh_frames_armed;
	size_t i;
	int ret;

	mmgrab(mm);
	t->mm = mm;
	t->pid = get_pid(pid);
	list_add(&t->list, &trackers);
	ooh_trackers++;
	since(t);
	ret = update(t, t->since);
	if (ret)
		goto err;
	/* the round begins now: what is there is no news */
	for (i = 0; i < t->leaves.nr; i++) {
		bitmap_zero(t->leaves.v[i]->pending, OOH_SLOTS);
		t->leaves.v[i]->dirty = false;
	}
	memset(&t->stats, 0, sizeof(t->stats));
	t->stats.armed = ooh_frames_armed - armed;
	return 0;

err:
	forget(t);
	list_del_init(&t->list);
	ooh_trackers--;
	t->mm = NULL;
	mmdrop(mm);
	put_pid(t->pid);
	t->pid = NULL;
	return ret;
}

/*
 * Is it still the address space of the process? Another one may keep it alive after
 * an exec (CLONE_VM).
 */
static bool still_its_own(const struct ooh_tracker *t)
{
	struct task_struct *leader, *thread;
	bool its_own = false;

	rcu_read_lock();
	leader = pid_task(t->pid, PIDTYPE_TGID);
	if (leader)
		for_each_thread(leader, thread)
			its_own |= READ_ONCE(thread->mm) == t->mm;
	rcu_read_unlock();
	return its_own;
}

/* Empties the logs: whoever uses the frames gets its marks. */
int ooh_collect_logs(void)
{
	return ooh_epml_on ? ooh_epml_collect() : ooh_spml_collect();
}

static int end_round(struct ooh_tracker *t)
{
	u64 began, armed, arming, before;
	size_t i;
	int ret;

	if (!still_its_own(t) || !mmget_not_zero(t->mm)) {
		forget(t);
		return -ESRCH;
	}
	before = since(t);
	ret = ooh_collect_logs();
	if (ret)
		goto out;
	began = ktime_get_ns();
	armed = ooh_frames_armed;
	arming = ooh_spml_arm_ns;
	if (t->reason)
		for (i = 0; i < t->leaves.nr; i++)
			t->leaves.v[i]->rescan = true;
	ret = update(t, before);
	if (ret) {
		/* what was drained stays marked; what could not be followed is not known */
		t->reason |= OOH_REASON_NOMEM;
		goto out;
	}
	if (t->reason)
		for (i = 0; i < t->leaves.nr; i++)
			ooh_leaf_mark_present(t->leaves.v[i]);
	/* what others' collects mark from here on is for the next round */
	for (i = 0; i < t->leaves.nr; i++) {
		struct ooh_leaf *leaf = t->leaves.v[i];

		if (!leaf->dirty)
			continue;
		bitmap_or(leaf->round, leaf->round, leaf->pending, OOH_SLOTS);
		bitmap_zero(leaf->pending, OOH_SLOTS);
		leaf->dirty = false;
		leaf->left = true;
	}
	t->stats.rounds++;
	t->collected = t->stats.records;
	t->stats.all_dirty += t->reason != 0;
	t->stats.armed += max(ooh_frames_armed, armed) - armed;
	arming = ooh_spml_arm_ns - arming;
	t->stats.arm_ns += arming;
	t->stats.map_ns += ktime_get_ns() - began - arming;
out:
	/* the last user of the mm takes it down: not with the lock held */
	mmput_async(t->mm);
	return ret;
}

/*
 * The caller did not get the answer, and it is not known what of it was read. Pages that
 * it said are gone are in no page table any more, so whole leaves are given out again.
 */
void ooh_tracker_untold(struct ooh_tracker *t)
{
	size_t i;

	for (i = 0; i < t->leaves.nr; i++) {
		bitmap_fill(t->leaves.v[i]->round, OOH_SLOTS);
		t->leaves.v[i]->left = true;
	}
	t->reason |= OOH_REASON_UNTOLD;
}

struct mutex *ooh_tracker_lock(struct ooh_tracker *t)
{
	return &t->lock;
}

/* Sets the marks of ranges again that user space did not get. */
static void give_back(struct ooh_tracker *t, const struct ooh_range *r, unsigned int nr)
{
	size_t i = 0;

	for (; nr; nr--, r++) {
		unsigned long addr;

		for (addr = r->start; addr < r->end; addr += PAGE_SIZE) {
			while (t->leaves.v[i]->addr + PMD_SIZE <= addr)
				i++;
			__set_bit(pte_index(addr), t->leaves.v[i]->round);
			t->leaves.v[i]->left = true;
		}
	}
}

/* The caller's vector on its way out. */
struct output {
	struct ooh_tracker *t;
	struct ooh_range __user *vec;
	u32 len, nr;		      /* of vec: room, elements copied */
	struct ooh_range *last, *end; /* in t->batch: filled, and how far there is room */
	u64 pages;
};

static void begin_batch(struct output *out)
{
	struct ooh_range *b = out->t->batch;

	/* before the first: nothing begins where this ends */
	b->end = 1;
	out->last = b;
	out->end = b + min_t(u32, BATCH, out->len - out->nr);
}

/*
 * 0, or -EFAULT: what was in the batch is pending again. Others may mark pages of the
 * tracker meanwhile; its leaves stay, as its own lock is held.
 */
static int flush_output(struct output *out)
{
	struct ooh_range *b = out->t->batch + 1;
	u32 n = out->last - out->t->batch;
	unsigned long left;

	if (n) {
		mutex_unlock(&ooh_lock);
		left = copy_to_user(out->vec + out->nr, b, sizeof(*b) * n);
		mutex_lock(&ooh_lock);
		if (left) {
			give_back(out->t, b, n);
			/* batches before this one are in the vector of a call that fails */
			if (out->nr)
				ooh_tracker_untold(out->t);
			return -EFAULT;
		}
	}
	out->nr += n;
	begin_batch(out);
	return 0;
}

/*
 * The pages of a leaf to be given out, whose marks it takes off. False: there was no room in
 * the batch for all of them.
 */
static bool put_leaf(struct output *out, struct ooh_leaf *leaf)
{
	struct ooh_range *last = out->last, *room = out->end;
	unsigned long addr = leaf->addr, left = 0;
	unsigned int w, pages = 0;

	for (w = 0; w < OOH_SLOTS / BITS_PER_LONG; w++, addr += BITS_PER_LONG * PAGE_SIZE) {
		left = leaf->round[w];
		if (!left)
			continue;
		pages += hweight_long(left);
		do {
			/* the lowest run of them: adding its lowest bit makes it carry */
			unsigned long carried = left + (left & -left);
			unsigned long start = addr + __ffs(left) * PAGE_SIZE;

			if (last->end != start) {
				if (last == room)
					goto full;
				(++last)->start = start;
			}
			last->end = addr + (carried ? __ffs(carried) : BITS_PER_LONG) * PAGE_SIZE;
			left &= carried;
		} while (left);
		leaf->round[w] = 0;
	}
	leaf->left = false;
	goto out;
full:
	leaf->round[w] = left;
	pages -= hweight_long(left);
out:
	out->last = last;
	out->pages += pages;
	return !left;
}

/* The same, with room being made. 0, -EFAULT, or -ENOSPC: the vector is full */
static int put_all(struct output *out, struct ooh_leaf *leaf)
{
	while (!put_leaf(out, leaf)) {
		int ret = flush_output(out);

		if (ret)
			return ret;
		if (out->nr == out->len)
			return -ENOSPC;
	}
	return 0;
}

/* Only those of slots from ... last - 1. */
static int put_some(struct output *out, struct ooh_leaf *leaf, unsigned int from, unsigned int last)
{
	DECLARE_BITMAP(others, OOH_SLOTS);
	int ret;

	bitmap_copy(others, leaf->round, OOH_SLOTS);
	bitmap_clear(others, from, last - from);
	bitmap_andnot(leaf->round, leaf->round, others, OOH_SLOTS);
	ret = put_all(out, leaf);
	bitmap_or(leaf->round, leaf->round, others, OOH_SLOTS);
	leaf->left = !bitmap_empty(leaf->round, OOH_SLOTS);
	return ret;
}

/* Fills the caller's vector. */
static int report(struct ooh_tracker *t, struct ooh_collect *c)
{
	struct output out = { .t = t, .vec = u64_to_user_ptr(c->vec), .len = c->vec_len };
	unsigned long end = c->end ?: TASK_SIZE_MAX;
	int ret = 0;
	size_t i;

	begin_batch(&out);
	for (i = 0; !ret && i < t->leaves.nr && t->leaves.v[i]->addr < end; i++) {
		struct ooh_leaf *leaf = t->leaves.v[i];

		if (!leaf->left || leaf->addr + PMD_SIZE <= c->start)
			continue;
		if (c->start <= leaf->addr && end - leaf->addr >= PMD_SIZE)
			ret = put_all(&out, leaf);
		else
			ret = put_some(&out, leaf,
				       c->start > leaf->addr ? (c->start - leaf->addr) >> PAGE_SHIFT
							     : 0,
				       end - leaf->addr < PMD_SIZE
					       ? (end - leaf->addr) >> PAGE_SHIFT
					       : OOH_SLOTS);
	}
	c->flags = ret == -ENOSPC ? OOH_F_MORE : 0;
	if (ret == -EFAULT)
		return ret;
	ret = flush_output(&out);
	if (ret)
		return ret;
	c->vec_len = out.nr;
	c->pages = out.pages;
	t->stats.reported += c->pages;
	return 0;
}

int ooh_tracker_collect(struct ooh_tracker *t, struct ooh_collect *c)
{
	u32 reason;
	int ret;

	if (!(c->flags & OOH_COLLECT_CONTINUE)) {
		u64 tables = t->stats.tables;

		ret = end_round(t);
		if (ret)
			return ret;
		/* a failed call leaves it for the next */
		reason = t->reason;
		t->reason = 0;
		ret = report(t, c);
		if (ret) {
			t->reason |= reason;
			return ret;
		}
		trace_ooh_collect(t, t->stats.rounds, t->stats.tables - tables, c->pages, reason);
	} else {
		reason = 0;
		ret = report(t, c);
		if (ret)
			return ret;
	}
	c->reason = reason;
	if (reason)
		c->flags |= OOH_F_ALL_DIRTY;
	return 0;
}

void ooh_tracker_stats(struct ooh_tracker *t, struct ooh_stats *s)
{
	*s = t->stats;
	s->mapped = mapped(t);
	s->foreign = ooh_frames_foreign;
	s->overflows = ooh_spml_overflows;
	s->hypercalls = ooh_spml_hypercalls;
	s->drain_ns = ooh_spml_drain_ns;
	s->map_ns = ooh_spml_map_ns + s->map_ns;
	ooh_epml_stats(s);
}
