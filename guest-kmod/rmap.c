// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reverse map: who uses a frame, and which frames the hypervisor follows for us.
 *
 * A frame with a user is armed, once for all its users. Arming and forgetting are queued,
 * because users come and go while a page table is read with interrupts off.
 *
 * A frame that the hypervisor does not arm (there is a quota, and not all memory is
 * ordinary) counts as written in each round, and is tried again.
 */
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#include "compat/compat.h"
#include "counters.h"
#include "log.h"
#include "rmap.h"
#include "trace.h"

#define QUEUE	  8192
#define MAX_USERS (1U << 22)

DEFINE_MUTEX(ooh_rmap_lock);

/*
 * What is known of frames is kept in chunks. A chunk is made when one of its frames gets its
 * first user: memory may be plugged in at any time, and frames can have any number.
 */
struct chunk {
	ooh_node first_user[OOH_CHUNK_FRAMES];
	DECLARE_BITMAP(armed, OOH_CHUNK_FRAMES);
	DECLARE_BITMAP(refused, OOH_CHUNK_FRAMES);
	unsigned long nr_refused;
};
static DEFINE_XARRAY(chunks);

/* The chunk that was used last: frames that come together are neighbours. */
static struct chunk *last_chunk;
static unsigned long last_chunk_nr = ULONG_MAX;

/* Ids of users are dense, so that a node finds them by an array. */
static DEFINE_IDA(user_ids);
static struct ooh_users **users_by_id;
static u32 users_size;

static u64 to_arm[QUEUE], to_forget[QUEUE];
static unsigned int nr_to_arm, nr_to_forget;

static __always_inline struct chunk *chunk_of(unsigned long pfn)
{
	unsigned long nr = pfn >> OOH_CHUNK_SHIFT;

	if (unlikely(nr != last_chunk_nr)) {
		struct chunk *chunk = xa_load(&chunks, nr);

		/* not to be remembered: a chunk is added without this lock */
		if (!chunk)
			return NULL;
		last_chunk = chunk;
		last_chunk_nr = nr;
	}
	return last_chunk;
}

static __always_inline unsigned long in_chunk(unsigned long pfn)
{
	return pfn % OOH_CHUNK_FRAMES;
}

int ooh_rmap_add_users(struct ooh_users *u)
{
	struct ooh_users **grown, **old = NULL;
	int id;
	u32 size;

	id = ida_alloc_range(&user_ids, 1, MAX_USERS - 1, GFP_KERNEL_ACCOUNT);
	if (id < 0)
		return -ENOMEM;
	mutex_lock(&ooh_rmap_lock);
	while (id >= users_size) {
		size = max(2 * users_size, 1024U);
		mutex_unlock(&ooh_rmap_lock);
		grown = kvcalloc(size, sizeof(*grown), GFP_KERNEL);
		if (!grown) {
			ida_free(&user_ids, id);
			return -ENOMEM;
		}
		mutex_lock(&ooh_rmap_lock);
		/* somebody else may have been faster */
		if (size > users_size) {
			if (users_size)
				memcpy(grown, users_by_id, users_size * sizeof(*grown));
			old = users_by_id;
			users_by_id = grown;
			users_size = size;
		} else {
			old = grown;
		}
		mutex_unlock(&ooh_rmap_lock);
		kvfree(old);
		mutex_lock(&ooh_rmap_lock);
	}
	u->id = id;
	users_by_id[id] = u;
	mutex_unlock(&ooh_rmap_lock);
	return 0;
}

void ooh_rmap_del_users(struct ooh_users *u)
{
	mutex_lock(&ooh_rmap_lock);
	users_by_id[u->id] = NULL;
	mutex_unlock(&ooh_rmap_lock);
	ida_free(&user_ids, u->id);
}

bool ooh_rmap_prepared(unsigned long pfn)
{
	return chunk_of(pfn);
}

int ooh_rmap_prepare(unsigned long pfn)
{
	unsigned long nr = pfn >> OOH_CHUNK_SHIFT;
	const struct ooh_log_ops *log = READ_ONCE(ooh_log);
	struct chunk *chunk, *other;
	int ret;

	/* the tracker that asks keeps it from being freed */
	if (xa_load(&chunks, nr))
		return 0;
	if (!log)
		return -ENODEV;
	ret = log->prepare ? log->prepare(nr) : 0;
	if (ret)
		return ret;
	chunk = __vmalloc(sizeof(*chunk), GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!chunk)
		return -ENOMEM;
	other = xa_cmpxchg(&chunks, nr, NULL, chunk, GFP_KERNEL_ACCOUNT);
	if (other) {
		vfree(chunk);
		return xa_err(other);
	}
	return 0;
}

void ooh_rmap_free_chunks(void)
{
	struct chunk *chunk;
	unsigned long nr;

	nr_to_arm = nr_to_forget = 0;
	xa_for_each(&chunks, nr, chunk)
		vfree(chunk);
	xa_destroy(&chunks);
	last_chunk_nr = ULONG_MAX;
	ooh_counters.armed = 0;
}

void ooh_rmap_exit(void)
{
	ooh_rmap_free_chunks();
	kvfree(users_by_id);
	ida_destroy(&user_ids);
}

static struct ooh_users *users_of(ooh_node node)
{
	return users_by_id[node & OOH_NODE_TABLE ? node & ~OOH_NODE_TABLE : node >> 9];
}

static ooh_node *next_of(ooh_node node)
{
	struct ooh_users *u = users_of(node);

	return node & OOH_NODE_TABLE ? &u->table_next : &u->links->next[node % OOH_SLOTS];
}

static ooh_node *prev_of(ooh_node node)
{
	struct ooh_users *u = users_of(node);

	return node & OOH_NODE_TABLE ? &u->table_prev : &u->links->prev[node % OOH_SLOTS];
}

void ooh_rmap_link(unsigned long pfn, ooh_node node)
{
	struct chunk *chunk = chunk_of(pfn);
	ooh_node *head = &chunk->first_user[in_chunk(pfn)], first = *head;

	*next_of(node) = first;
	*prev_of(node) = 0;
	if (first)
		*prev_of(first) = node;
	else if (!test_bit(in_chunk(pfn), chunk->armed))
		to_arm[nr_to_arm++] = pfn;
	*head = node;
}

void ooh_rmap_unlink(unsigned long pfn, ooh_node node)
{
	ooh_node *head = &chunk_of(pfn)->first_user[in_chunk(pfn)];
	ooh_node next = *next_of(node), prev = *prev_of(node);

	if (next)
		*prev_of(next) = prev;
	if (prev)
		*next_of(prev) = next;
	else
		*head = next;
	if (!*head)
		to_forget[nr_to_forget++] = pfn;
}

void ooh_rmap_make_room(unsigned int nr)
{
	if (nr_to_arm + nr > QUEUE || nr_to_forget + nr > QUEUE)
		ooh_rmap_flush();
}

/* A frame that counts as written in each round from now on, until it is armed. */
static void refuse(unsigned long pfn)
{
	struct chunk *chunk = chunk_of(pfn);

	ooh_counters.refused++;
	if (!__test_and_set_bit(in_chunk(pfn), chunk->refused))
		chunk->nr_refused++;
	if (__test_and_clear_bit(in_chunk(pfn), chunk->armed))
		ooh_counters.armed--;
}

/* Leaves in the queue of frames to be forgotten those that are armed and have no user. */
static unsigned int to_be_forgotten(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr_to_forget; i++) {
		u64 pfn = to_forget[i];
		struct chunk *chunk = chunk_of(pfn);

		if (chunk->first_user[in_chunk(pfn)])
			continue;
		if (__test_and_clear_bit(in_chunk(pfn), chunk->armed))
			to_forget[n++] = pfn;
		if (__test_and_clear_bit(in_chunk(pfn), chunk->refused))
			chunk->nr_refused--;
	}
	return n;
}

/* Leaves in the queue of frames to be armed those that have a user and are not armed. */
static unsigned int to_be_armed(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < nr_to_arm; i++) {
		u64 pfn = to_arm[i];
		struct chunk *chunk = chunk_of(pfn);

		if (chunk->first_user[in_chunk(pfn)] &&
		    !__test_and_set_bit(in_chunk(pfn), chunk->armed))
			to_arm[n++] = pfn;
	}
	return n;
}

void ooh_rmap_flush(void)
{
	/* a frame may be queued twice, or for both by now */
	unsigned int forget = to_be_forgotten(), arm = to_be_armed(), i;
	int ret = 0, err = 0;

	nr_to_forget = nr_to_arm = 0;
	ooh_counters.armed += arm;
	ooh_counters.armings += arm;
	ooh_counters.armed -= forget;
	/* without a log nothing is followed: the next drain reports that */
	if (!ooh_log) {
		for (i = 0; i < arm; i++)
			refuse(to_arm[i]);
		return;
	}
	if (forget)
		err = ooh_log->forget(to_forget, forget);
	/* the hypervisor goes on following some: more records than need be */
	if (err)
		ooh_counters.not_forgotten++;
	/* the error shows in the frames that are refused */
	if (arm)
		ret = ooh_log->arm(to_arm, arm, refuse);
	if (arm || forget)
		trace_ooh_arm(arm, forget, ret ?: err);
}

void ooh_rmap_rearm_all(void)
{
	struct chunk *chunk;
	unsigned long nr, i;

	nr_to_arm = nr_to_forget = 0;
	ooh_counters.armed = 0;
	xa_for_each(&chunks, nr, chunk) {
		bitmap_zero(chunk->armed, OOH_CHUNK_FRAMES);
		bitmap_zero(chunk->refused, OOH_CHUNK_FRAMES);
		chunk->nr_refused = 0;
		cond_resched();
		for (i = 0; i < OOH_CHUNK_FRAMES; i++) {
			if (!chunk->first_user[i])
				continue;
			ooh_rmap_make_room(1);
			to_arm[nr_to_arm++] = (nr << OOH_CHUNK_SHIFT) + i;
		}
	}
	ooh_rmap_flush();
}

/* A frame was written: marks each of its users. False: it has none. */
static __always_inline bool users_hear(ooh_node node)
{
	ooh_node next;

	if (!node) {
		ooh_counters.foreign++;
		return false;
	}
	do {
		struct ooh_users *u = users_of(node);

		if (unlikely(node & OOH_NODE_TABLE)) {
			u->table_written = OOH_TABLE_WRITTEN;
			next = u->table_next;
		} else {
			unsigned int slot = node % OOH_SLOTS;

			__set_bit(slot, u->written);
			u->any_written = true;
			next = u->links->next[slot];
		}
		++*u->records;
		node = next;
	} while (unlikely(node));
	return true;
}

static __always_inline bool frame_written(unsigned long pfn)
{
	const struct chunk *chunk = chunk_of(pfn);

	return users_hear(likely(chunk) ? chunk->first_user[in_chunk(pfn)] : 0);
}

static void group_written(unsigned long pfn, unsigned long *bits)
{
	/* these are neighbours, so all lie in one chunk */
	const struct chunk *chunk = chunk_of(pfn);
	const ooh_node *first = chunk ? &chunk->first_user[in_chunk(pfn)] : NULL;
	unsigned long left;
	unsigned int w;

	for (w = 0; w < OOH_GROUP_LONGS; w++)
		for (left = bits[w]; left; left &= left - 1)
			if (!users_hear(first ? first[w * BITS_PER_LONG + __ffs(left)] : 0))
				bits[w] &= ~(left & -left);
}

/* What was not armed counts as written, and is tried again: there may be room now. */
static void refused_are_written(void)
{
	struct chunk *chunk;
	unsigned long nr, i, pfn;

	xa_for_each(&chunks, nr, chunk) {
		if (!chunk->nr_refused)
			continue;
		cond_resched();
		for_each_set_bit(i, chunk->refused, OOH_CHUNK_FRAMES) {
			pfn = (nr << OOH_CHUNK_SHIFT) + i;
			__clear_bit(i, chunk->refused);
			chunk->nr_refused--;
			if (!frame_written(pfn))
				continue;
			/* a flush refuses only frames before this one */
			ooh_rmap_make_room(1);
			to_arm[nr_to_arm++] = pfn;
		}
	}
	ooh_rmap_flush();
}

int ooh_rmap_drain(u32 *reasons)
{
	static const struct ooh_log_sink sink = { group_written };
	int ret;

	if (!ooh_log)
		return -ENODEV;
	/*
	 * A log may arm again only frames that have users. A frame that lost its last user, and
	 * that is still queued to be forgotten, would count as armed when it gets a new one.
	 */
	ooh_rmap_flush();
	ret = ooh_log->drain(&sink, reasons);
	if (ret)
		return ret;
	if (*reasons & OOH_LOG_ANEW)
		ooh_rmap_rearm_all();
	else
		refused_are_written();
	return 0;
}
