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

#define QUEUE	8192
#define REFUSED 1024

static unsigned long nr_frames;
static ooh_node *heads;
static unsigned long *armed;

static u64 *to_arm, *to_forget;
static unsigned int nr_arm, nr_forget;

/* Frames that Xen would not arm: they count as logged in every round. */
static unsigned long *refused;
static unsigned int nr_refused;

u64 ooh_frames_foreign, ooh_frames_armed;

unsigned long ooh_frames_nr(void)
{
	return nr_frames;
}

int ooh_frames_init(void)
{
	int nid;

	for_each_online_node(nid)
		nr_frames = max(nr_frames, node_end_pfn(nid));
	heads = vcalloc(nr_frames, sizeof(*heads));
	armed = vcalloc(BITS_TO_LONGS(nr_frames), sizeof(long));
	to_arm = vcalloc(QUEUE, sizeof(*to_arm));
	to_forget = vcalloc(QUEUE, sizeof(*to_forget));
	refused = vcalloc(REFUSED, sizeof(*refused));
	if (heads && armed && to_arm && to_forget && refused)
		return 0;
	pr_err("no memory for the frame table (%lu frames)\n", nr_frames);
	ooh_frames_exit();
	return -ENOMEM;
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
		/* memory that was plugged in later */
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
	if (nr_refused < REFUSED)
		refused[nr_refused++] = pfn;
	else
		ooh_trackers_all_dirty(OOH_REASON_HYPERCALL);
	clear_bit(pfn, armed);
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

void ooh_frames_unarmed(void)
{
	unsigned int i, nr = nr_refused;

	/* another try each round: what was short then may be there now */
	nr_refused = 0;
	for (i = 0; i < nr; i++) {
		if (!heads[refused[i]])
			continue;
		frame_logged(refused[i]);
		if (ooh_frames_room(1))
			to_arm[nr_arm++] = refused[i];
		else
			refused[nr_refused++] = refused[i];
	}
}
