// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames: who uses a frame, and which frames Xen follows for us.
 *
 * A frame with a user is armed, once for all its users. Arming and forgetting
 * are queued, because a user comes or goes in the middle of a page table that
 * is being looked through with interrupts off.
 */
#include <linux/mmzone.h>
#include <linux/vmalloc.h>

#include "ooh.h"
#include "trace.h"

#define QUEUE 8192

/* By page frame number; these grow with the guest's memory. */
static unsigned long nr_frames;
static ooh_node *heads;
static unsigned long *armed;

static u64 *to_arm, *to_forget;
static unsigned int nr_arm, nr_forget;

/* Frames that Xen would not arm: they count as logged in every round. */
static unsigned long *refused, nr_refused;

/* The largest one that was to be followed and is not below nr_frames; 0: none. */
static unsigned long beyond;

u64 ooh_frames_foreign, ooh_frames_armed;

unsigned long ooh_frames_nr(void)
{
	return nr_frames;
}

static unsigned long memory_end(void)
{
	unsigned long end = 0;
	int nid;

	for_each_online_node(nid)
		end = max(end, node_end_pfn(nid));
	return end;
}

/* An array with more elements, the new ones being zero; the old one is freed. */
static void *grown(void *old, size_t nr_old, size_t nr, size_t size)
{
	void *larger = vcalloc(nr, size);

	if (larger && old) {
		memcpy(larger, old, nr_old * size);
		vfree(old);
	}
	return larger;
}

/* Room for all frames below nr. What was got before memory ran out stays. */
static int make_room(unsigned long nr)
{
	size_t old_longs = BITS_TO_LONGS(nr_frames), longs = BITS_TO_LONGS(nr);
	void *p;

	p = grown(heads, nr_frames, nr, sizeof(*heads));
	if (!p)
		return -ENOMEM;
	heads = p;
	p = grown(armed, old_longs, longs, sizeof(long));
	if (!p)
		return -ENOMEM;
	armed = p;
	p = grown(refused, old_longs, longs, sizeof(long));
	if (!p)
		return -ENOMEM;
	refused = p;
	nr_frames = nr;
	return 0;
}

int ooh_frames_init(void)
{
	unsigned long nr = memory_end();

	to_arm = vcalloc(QUEUE, sizeof(*to_arm));
	to_forget = vcalloc(QUEUE, sizeof(*to_forget));
	if (to_arm && to_forget && !make_room(nr))
		return 0;
	pr_err("no memory for the frame table (%lu frames)\n", nr);
	ooh_frames_exit();
	return -ENOMEM;
}

/*
 * Memory may have been plugged in, and pages of it be in use by what is tracked: their
 * frames are followed from here on, and until then everything counts as written.
 */
int ooh_frames_update(void)
{
	unsigned long old = nr_frames, nr = max(memory_end(), beyond + 1);
	int ret = 0;

	if (nr > old) {
		ret = ooh_epml_make_room(nr);
		if (!ret)
			ret = make_room(nr);
	}
	if (!ret && beyond) {
		beyond = 0;
		ooh_leaves_link_from(old);
		ooh_trackers_all_dirty(OOH_REASON_HYPERCALL);
	}
	return ret;
}

void ooh_frames_exit(void)
{
	vfree(heads);
	vfree(armed);
	vfree(to_arm);
	vfree(to_forget);
	vfree(refused);
}

static ooh_node *next_of(ooh_node node)
{
	struct ooh_leaf *leaf = ooh_leaf_of(node);

	return node & OOH_NODE_TABLE ? &leaf->table_next : &leaf->slots->next[node % OOH_SLOTS];
}

static ooh_node *prev_of(ooh_node node)
{
	struct ooh_leaf *leaf = ooh_leaf_of(node);

	return node & OOH_NODE_TABLE ? &leaf->table_prev : &leaf->slots->prev[node % OOH_SLOTS];
}

/* The caller has seen to it that there is room in the queue. */
void ooh_frame_link(unsigned long pfn, ooh_node node)
{
	ooh_node first;

	if (pfn >= nr_frames) {
		/* plugged in since ooh_frames_update(), which goes on with it */
		beyond = max(beyond, pfn);
		ooh_trackers_all_dirty(OOH_REASON_HYPERCALL);
		return;
	}
	first = heads[pfn];
	*next_of(node) = first;
	*prev_of(node) = 0;
	if (first)
		*prev_of(first) = node;
	else if (!test_bit(pfn, armed))
		to_arm[nr_arm++] = pfn;
	heads[pfn] = node;
}

void ooh_frame_unlink(unsigned long pfn, ooh_node node)
{
	ooh_node next, prev;

	if (pfn >= nr_frames)
		return;
	next = *next_of(node);
	prev = *prev_of(node);
	if (next)
		*prev_of(next) = prev;
	if (prev)
		*next_of(prev) = next;
	else
		heads[pfn] = next;
	if (!heads[pfn])
		to_forget[nr_forget++] = pfn;
}

bool ooh_frames_room(unsigned int nr)
{
	return nr_arm + nr <= QUEUE && nr_forget + nr <= QUEUE;
}

static void refuse(unsigned long pfn)
{
	if (!__test_and_set_bit(pfn, refused))
		nr_refused++;
	__clear_bit(pfn, armed);
	ooh_frames_armed--;
}

int ooh_frames_flush(void)
{
	unsigned int i, a = 0, f = 0;
	int ret = 0, err;

	/* a frame can have been queued twice, or have changed its mind since */
	for (i = 0; i < nr_forget; i++)
		if (!heads[to_forget[i]] && test_bit(to_forget[i], armed)) {
			__clear_bit(to_forget[i], armed);
			to_forget[f++] = to_forget[i];
		}
	for (i = 0; i < nr_arm; i++)
		if (heads[to_arm[i]] && !test_bit(to_arm[i], armed)) {
			__set_bit(to_arm[i], armed);
			to_arm[a++] = to_arm[i];
		}
	nr_forget = nr_arm = 0;
	ooh_frames_armed += a - f;
	if (f)
		ret = ooh_spml_forget(to_forget, f);
	if (a) {
		err = ooh_spml_arm(to_arm, a, refuse);
		if (err)
			ret = err;
	}
	if (a || f)
		trace_ooh_arm(a, f, ret);
	return ret;
}

void ooh_frames_rearm_all(void)
{
	unsigned long pfn;

	nr_arm = nr_forget = nr_refused = 0;
	ooh_frames_armed = 0;
	bitmap_zero(armed, nr_frames);
	bitmap_zero(refused, nr_frames);
	for (pfn = 0; pfn < nr_frames; pfn++) {
		if (!heads[pfn])
			continue;
		if (nr_arm == QUEUE)
			ooh_frames_flush();
		to_arm[nr_arm++] = pfn;
	}
	ooh_frames_flush();
}

/* A write to the frame was logged: each of its users hears of it. False: it has none. */
static inline bool frame_logged(unsigned long pfn)
{
	ooh_node node, next;

	node = likely(pfn < nr_frames) ? heads[pfn] : 0;
	if (!node) {
		ooh_frames_foreign++;
		return false;
	}
	do {
		struct ooh_leaf *leaf = ooh_leaf_of(node);

		if (unlikely(node & OOH_NODE_TABLE)) {
			leaf->rescan = true;
			next = leaf->table_next;
		} else {
			unsigned int slot = node % OOH_SLOTS;

			__set_bit(slot, leaf->pending);
			leaf->dirty = true;
			next = leaf->slots->next[slot];
		}
		++*leaf->records;
		node = next;
	} while (unlikely(node));
	return true;
}

/* Frames pfn + i with bit i set. The bits of those that have users come back. */
unsigned long ooh_frames_logged_bits(unsigned long pfn, unsigned long bits)
{
	unsigned long users = 0;

	for (; bits; bits &= bits - 1)
		if (frame_logged(pfn + __ffs(bits)))
			users |= bits & -bits;
	return users;
}

/* Records from ... to - 1 of the ring. */
void ooh_frames_logged(const u64 *records, u64 mask, u64 from, u64 to)
{
	for (; from != to; from++)
		frame_logged(records[from & mask] >> PAGE_SHIFT);
}

/* Frames that are not armed count as written, and Xen is asked for them once more. */
void ooh_frames_unarmed(void)
{
	unsigned long pfn;

	if (!nr_refused)
		return;
	/* what is refused again has a bit behind this loop's back, and is not met again */
	for_each_set_bit(pfn, refused, nr_frames) {
		__clear_bit(pfn, refused);
		nr_refused--;
		if (!heads[pfn])
			continue;
		frame_logged(pfn);
		if (!ooh_frames_room(1))
			ooh_frames_flush();
		to_arm[nr_arm++] = pfn;
	}
	ooh_frames_flush();
}
