// SPDX-License-Identifier: GPL-2.0-only
/*
 * EPML: the log that the processor writes for this guest, one for each CPU, read
 * without Xen. include/xen/spml.h is the contract, docs/epml-spec.md the
 * processor's part. The ring stays registered beside it: it has what others than
 * our CPUs write, and what Xen takes out of a log that was full.
 *
 * A frame that follows no more writes ("silent") is on record in a CPU's log, in
 * the set of logged frames, or in Xen's ring. A collect goes through these three
 * in this order, and arms again what it takes out of one of them and has a user.
 */
#include <linux/cpu.h>
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <asm/asm.h>
#include <asm/irq.h>
#include <asm/irq_vectors.h>
#include <asm/tsc.h>
#include <asm/xen/cpuid.h>
#include <asm/xen/hypervisor.h>
#include <xen/xen-ops.h>

#include "ooh.h"
#include "xen-spml.h"
#include "trace.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_EPML
#define XEN_HVM_CPUID_EPML	  (1U << 8)
#define XEN_HVM_CPUID_EPML_VMFUNC (1U << 9)
#endif

/*
 * A CPU is interrupted when so many records have room yet: what it may write with
 * interrupts off before Xen has to help out. It is 256 KiB of different pages.
 * 0: never, so each full log is an exit, and Xen moves what it holds into the ring.
 */
#define LOW_WATER (OOH_LOG_INTERRUPT ? 64 : 0)
#define RUNS	  1024

/* what an EPT page table covers, in longs of the set */
#define GROUP_LONGS BITS_TO_LONGS(OOH_SLOTS)
#define SIXTEENTH   (~0UL / 0xffff) /* every 16th bit */

struct record {
	u64 linear; /* and XEN_EPML_R_* */
	u64 gpa;    /* 0: taken. The kernel never gives out frame 0 */
};

struct log {
	struct record *records; /* a page, written from the end to the beginning */
	bool on;		/* Xen has it */
	u64 taken, walks, user, notifications;
};

static DEFINE_PER_CPU(struct log, logs);
static bool there, has_vmfunc, lost;
static int hp_state;
bool ooh_epml_on;

static bool use_vmfunc = true;
module_param_named(epml_vmfunc, use_vmfunc, bool, 0600);
MODULE_PARM_DESC(epml_vmfunc, "arm by VM functions where the processor has them; N: by hypercall");

/* The set of logged frames; a bit of the summary stands for a long of the set. */
static struct set {
	unsigned long *summary, nr_longs, longs[];
} * set;
static atomic_long_t waiting;

/* Ticks of the time stamp counter in which logged frames were armed again. */
static u64 arm_ticks;

/* Frames for XEN_SPML_rearm. */
static struct xen_spml_range *runs;
static unsigned int nr_runs;

/* VMREAD, VMWRITE: false when there is no log (#UD), as after a migration. */
static bool read_index(unsigned long *index)
{
	u8 ok = 0;

	*index = 0;
	asm volatile("1:\tvmread %[field], %[index]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok), [index] "+r"(*index)
		     : [field] "r"((unsigned long)XEN_EPML_INDEX)
		     : "cc", "memory");
	return ok;
}

static bool reset_index(void)
{
	unsigned long field = XEN_EPML_INDEX, index = XEN_EPML_INDEX_EMPTY;
	u8 ok = 0;

	asm volatile("1:\tvmwrite %[index], %[field]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok)
		     : [field] "r"(field), [index] "r"(index)
		     : "cc", "memory");
	return ok;
}

static bool vmfunc(u32 function, u64 *gpa, const unsigned long *bitmap)
{
	u8 ok = 0;

	asm volatile("1:\t.byte 0x0f, 0x01, 0xd4\n\t"
		     "movb $1, %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok), "+b"(*gpa)
		     : "a"(function), "c"(bitmap)
		     : "cc", "memory");
	return ok;
}

/* What is taken out of a log: neighbours go into the set together. */
struct taken {
	struct record *records;
	unsigned long word, bits; /* of the set */
	unsigned long nr, walks, user;
};

/* From any CPU. The bits first: take() goes by the summary. */
static void add(struct taken *t)
{
	struct set *s = READ_ONCE(set);
	unsigned long old;

	/* beyond are frames that were never armed: room for them comes first */
	if (!t->bits || t->word >= s->nr_longs)
		return;
	old = atomic_long_fetch_or(t->bits, (atomic_long_t *)&s->longs[t->word]);
	atomic_long_add(hweight_long(t->bits & ~old), &waiting);
	if (!test_bit(t->word, s->summary))
		set_bit(t->word, s->summary);
}

/* Takes record i out of the log, if there is one. */
static __always_inline bool take_record(struct taken *t, unsigned int i)
{
	struct record *r = &t->records[i];
	u64 gpa = READ_ONCE(r->gpa), linear = r->linear;
	unsigned long pfn = gpa >> PAGE_SHIFT;

	if (!gpa)
		return false;
	WRITE_ONCE(r->gpa, 0);
	t->nr++;
	t->walks += !!(linear & XEN_EPML_R_WALK);
	t->user += !!(linear & XEN_EPML_R_USER);
	trace_ooh_record(linear & PAGE_MASK, gpa, linear & ~PAGE_MASK);
	if (pfn / BITS_PER_LONG != t->word) {
		add(t);
		t->word = pfn / BITS_PER_LONG;
		t->bits = 0;
	}
	t->bits |= BIT(pfn % BITS_PER_LONG);
	return true;
}

/*
 * Empties the log of the CPU it runs on. Interrupts are off, but records can be
 * made even so: by an NMI, or by page walks of what is done here. Nothing keeps
 * them from coming between the VMREAD and the VMWRITE, which then would forget
 * them. Therefore records are wiped when they are taken, and what lies below the
 * index is wiped already: such a record is where the index was, or, if Xen had
 * to empty the full log meanwhile, at the end again. What was made behind the
 * VMWRITE may be taken there too early, which is no harm. Until this is done up
 * to 64 frames are neither in the log nor in the set: nobody looks for them, as a
 * collect waits for it to be done on all CPUs.
 */
static void drain(void *unused)
{
	struct log *log = this_cpu_ptr(&logs);
	struct taken t = { .records = log->records };
	unsigned long index;
	unsigned int first, i;

	if (!READ_ONCE(log->on))
		return;
	if (!read_index(&index)) {
		WRITE_ONCE(lost, true);
		return;
	}
	first = index < XEN_EPML_RECORDS ? index + 1 : 0;
	if (first == XEN_EPML_RECORDS)
		return;
	for (i = XEN_EPML_RECORDS; i-- > first;)
		take_record(&t, i);
	if (reset_index()) {
		for (i = XEN_EPML_RECORDS; i-- > 0 && take_record(&t, i);)
			;
		for (i = first; i-- > 0 && take_record(&t, i);)
			;
	} else {
		WRITE_ONCE(lost, true);
	}
	add(&t);
	log->taken += t.nr;
	log->walks += t.walks;
	log->user += t.user;
}

/*
 * The log's interrupt needs a vector that no device's interrupt can get and
 * whose handler a module can set. There is one: where the kernel has KVM wake
 * up the vCPUs of guests. Nobody else uses it here, as Xen lets no domain with
 * spml=1 have guests of its own.
 */
#if OOH_LOG_INTERRUPT
/* The log of this CPU fills. In interrupt context. */
static void notified(void)
{
	this_cpu_inc(logs.notifications);
	drain(NULL);
}

static void handle_interrupt(bool on)
{
	/* NULL: waits for those that run */
	kvm_set_posted_intr_wakeup_handler(on ? notified : NULL);
}
#else
static void handle_interrupt(bool on)
{
}
#endif

static void flush_translations(void *unused)
{
	u64 gpa = 0;

	if (!vmfunc(XEN_EPML_VMFUNC_FLUSH, &gpa, NULL))
		WRITE_ONCE(lost, true);
}

static int rearm_by_hypercall(void)
{
	unsigned int nr = nr_runs;

	nr_runs = 0;
	return nr ? ooh_spml_rearm(runs, nr) : 0;
}

static int queue_run(u64 gfn, u32 nr)
{
	int ret = nr_runs == RUNS ? rearm_by_hypercall() : 0;

	runs[nr_runs++] = (struct xen_spml_range){ .gfn = gfn, .nr = nr };
	return ret;
}

/*
 * Those with a bit of the OOH_SLOTS frames from gfn on, which is aligned. They are
 * armed when flush_translations() has been everywhere.
 */
static int rearm_group(u64 gfn, const unsigned long *bits, bool by_vmfunc)
{
	u64 gpa = gfn << PAGE_SHIFT, end = gpa + PMD_SIZE;
	unsigned int first, last;
	int ret = 0;

	if (!by_vmfunc) {
		for_each_set_bitrange(first, last, bits, OOH_SLOTS)
			ret = ret ?: queue_run(gfn + first, last - first);
		return ret;
	}
	while (gpa < end && !ret) {
		if (!vmfunc(XEN_EPML_VMFUNC_CLEAR, &gpa, bits))
			return -ENODEV;
		if (gpa == end)
			break;
		/* not mapped as it was armed: for Xen to see to */
		ret = queue_run(gpa >> PAGE_SHIFT, 1);
		gpa += PAGE_SIZE;
	}
	return ret;
}

static bool all_have_logs(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (!per_cpu(logs, cpu).on)
			return false;
	return true;
}

/*
 * Takes all frames out of the set, and lets their users know. Those that have
 * users are armed again: the others never were, or no longer need to be.
 */
static int take(void)
{
	enum ooh_inject fault = READ_ONCE(ooh_inject);
	/*
	 * A CPU that is offline cannot flush its translations, and might come back to
	 * them. For a hypercall Xen flushes them all, at the latest when they are used.
	 */
	bool by_vmfunc = has_vmfunc && READ_ONCE(use_vmfunc) && all_have_logs() &&
			 num_online_cpus() == num_present_cpus();
	DECLARE_BITMAP(group, OOH_SLOTS) __aligned(64); /* as the VM function wants it */
	unsigned long nr_frames = 0, rearmed = 0, s, words, bits, unheard, users, w, first;
	unsigned int nr;
	int ret = 0, err;
	u64 began;

	for (s = 0; s < BITS_TO_LONGS(set->nr_longs); s++) {
		if (!READ_ONCE(set->summary[s]))
			continue;
		words = xchg(&set->summary[s], 0);
		while (words) {
			first = round_down(s * BITS_PER_LONG + __ffs(words), GROUP_LONGS);
			bitmap_zero(group, OOH_SLOTS);
			for (w = first; w < first + GROUP_LONGS; w++) {
				if (!__test_and_clear_bit(w % BITS_PER_LONG, &words))
					continue;
				bits = xchg(&set->longs[w], 0);
				atomic_long_sub(hweight_long(bits), &waiting);
				nr_frames += hweight_long(bits);
				unheard = fault == OOH_INJECT_DROPRECORD ? bits & SIXTEENTH : 0;
				users = ooh_frames_logged_bits(w * BITS_PER_LONG, bits & ~unheard);
				group[w % GROUP_LONGS] = users | unheard;
			}
			nr = bitmap_weight(group, OOH_SLOTS);
			if (!nr || fault == OOH_INJECT_NOREARM)
				continue;
			rearmed += nr;
			/* go on: what is in the set has to become known */
			began = get_cycles();
			err = rearm_group(first * BITS_PER_LONG, group, by_vmfunc);
			arm_ticks += get_cycles() - began;
			ret = ret ?: err;
		}
	}
	began = get_cycles();
	if (by_vmfunc && rearmed)
		on_each_cpu(flush_translations, NULL, 1);
	err = rearm_by_hypercall();
	arm_ticks += get_cycles() - began;
	trace_ooh_drain(nr_frames, rearmed, 0);
	return ret ?: err;
}

/* Is there anything in the ring, or what a CPU without a log wrote, which a collect puts there? */
static bool ring_in_use(void)
{
	return ooh_spml_waiting() || !all_have_logs() ||
	       READ_ONCE(ooh_inject) == OOH_INJECT_CORRUPT;
}

static u64 arm_ns(void)
{
	return mul_u64_u32_div(arm_ticks, NSEC_PER_MSEC, tsc_khz);
}

int ooh_epml_collect(void)
{
	u64 began = ktime_get_ns(), now, arming;
	bool ring;
	int ret;

	/* a CPU that comes up must not miss the flush of translations */
	cpus_read_lock();
	on_each_cpu(drain, NULL, 1);
	now = ktime_get_ns();
	ooh_spml_drain_ns += now - began;
	arming = arm_ns();
	ret = take();
	arming = arm_ns() - arming;
	if (READ_ONCE(lost))
		ret = -ENODEV;
	ring = ring_in_use();
	cpus_read_unlock();
	ooh_spml_map_ns += ktime_get_ns() - now - arming;
	if (ret)
		return ooh_spml_start_over(ret == -ENODEV ? OOH_REASON_RESTORED
							  : OOH_REASON_HYPERCALL);
	if (ring)
		return ooh_spml_collect();
	ooh_frames_unarmed();
	return 0;
}

/* Before a CPU comes up: its first write may be to an armed frame. */
static int log_up(unsigned int cpu)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_log_register };
	struct log *log = per_cpu_ptr(&logs, cpu);
	int ret;

	memset(log->records, 0, PAGE_SIZE);
	op.u.log.gfn = page_to_pfn(virt_to_page(log->records));
	op.u.log.vcpu = xen_vcpu_nr(cpu);
	op.u.log.vector = POSTED_INTR_WAKEUP_VECTOR;
	op.u.log.low_water = LOW_WATER;
	ret = ooh_spml_op(&op);
	WRITE_ONCE(log->on, !ret);
	/* it is as with SPML then: ring_in_use() */
	if (ret)
		pr_warn("CPU %u has no log of its own: Xen says %d\n", cpu, ret);
	return 0;
}

/* When a CPU is down: Xen moves what its log holds into the ring. */
static int log_down(unsigned int cpu)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_log_unregister };
	struct log *log = per_cpu_ptr(&logs, cpu);
	int ret;

	if (!log->on)
		return 0;
	WRITE_ONCE(log->on, false);
	op.u.log.vcpu = xen_vcpu_nr(cpu);
	ret = ooh_spml_op(&op);
	if (ret && ret != -ENODEV)
		pr_warn("Xen did not let go of the log of CPU %u: %d\n", cpu, ret);
	return 0;
}

/* The ring was given back, and the logs with it; there is a new one. */
void ooh_epml_log_again(void)
{
	unsigned int cpu;

	if (!ooh_epml_on)
		return;
	cpus_read_lock();
	WRITE_ONCE(lost, false);
	for_each_online_cpu(cpu)
		log_up(cpu);
	cpus_read_unlock();
}

bool ooh_epml_there(void)
{
	return there;
}

/* For the first tracker: from here on the processor writes the logs. */
int ooh_epml_start(void)
{
	bool all;
	int ret;

	if (!there)
		return -EOPNOTSUPP;
	WRITE_ONCE(lost, false);
	ret = cpuhp_setup_state(CPUHP_BP_PREPARE_DYN, "ooh/epml:prepare", log_up, log_down);
	if (ret < 0)
		return ret;
	hp_state = ret;
	ooh_epml_on = true;
	cpus_read_lock();
	all = all_have_logs();
	cpus_read_unlock();
	if (all)
		return 0;
	ooh_epml_stop();
	return -ENODEV;
}

/* When no frame is armed any more. */
void ooh_epml_stop(void)
{
	if (!ooh_epml_on)
		return;
	ooh_epml_on = false;
	cpuhp_remove_state(hp_state);
	/* nobody's any more */
	take();
}

u64 ooh_epml_waiting(void)
{
	if (!READ_ONCE(ooh_epml_on))
		return 0;
	/* it is counted behind the set, which somebody may have emptied by then */
	return READ_ONCE(lost) ? U64_MAX : max(0L, atomic_long_read(&waiting));
}

void ooh_epml_stats(struct ooh_stats *s)
{
	unsigned int cpu;

	s->arm_ns += arm_ns();
	for_each_possible_cpu(cpu) {
		const struct log *log = per_cpu_ptr(&logs, cpu);

		s->log_records += READ_ONCE(log->taken);
		s->log_walks += READ_ONCE(log->walks);
		s->log_user += READ_ONCE(log->user);
		s->notifications += READ_ONCE(log->notifications);
	}
}

static void free_set(struct set *s)
{
	if (s)
		vfree(s->summary);
	vfree(s);
}

static struct set *alloc_set(unsigned long nr_frames)
{
	/* whole EPT page tables, as take() goes by these */
	unsigned long nr = round_up(BITS_TO_LONGS(nr_frames), GROUP_LONGS);
	struct set *s = vzalloc(struct_size(s, longs, nr));

	if (!s)
		return NULL;
	s->nr_longs = nr;
	s->summary = vcalloc(BITS_TO_LONGS(nr), sizeof(long));
	if (s->summary)
		return s;
	vfree(s);
	return NULL;
}

static void nothing(void *unused)
{
}

/* The guest has more memory. What was logged meanwhile stays in the set. */
int ooh_epml_make_room(unsigned long nr_frames)
{
	struct set *old = set, *new;
	unsigned long w;

	if (!there || nr_frames <= old->nr_longs * BITS_PER_LONG)
		return 0;
	new = alloc_set(nr_frames);
	if (!new)
		return -ENOMEM;
	smp_store_release(&set, new);
	/* CPUs use the set with interrupts off: then none has the old one any more */
	on_each_cpu(nothing, NULL, 1);
	for (w = 0; w < old->nr_longs; w++) {
		unsigned long before;

		if (!old->longs[w])
			continue;
		before = atomic_long_fetch_or(old->longs[w], (atomic_long_t *)&new->longs[w]);
		/* counted in each of the two */
		atomic_long_sub(hweight_long(before & old->longs[w]), &waiting);
		set_bit(w, new->summary);
	}
	free_set(old);
	return 0;
}

static void let_go(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu(logs, cpu).records);
	free_set(set);
	vfree(runs);
}

int ooh_epml_init(void)
{
	u32 features = cpuid_eax(xen_cpuid_base() + 4);
	unsigned int cpu;
	bool good;

	if (!(features & XEN_HVM_CPUID_EPML))
		return 0;
	set = alloc_set(ooh_frames_nr());
	runs = vcalloc(RUNS, sizeof(*runs));
	good = set && runs;
	for_each_possible_cpu(cpu) {
		struct log *log = per_cpu_ptr(&logs, cpu);

		log->records = (void *)get_zeroed_page(GFP_KERNEL);
		good &= log->records != NULL;
	}
	if (!good) {
		pr_err("no memory for the processor's logs\n");
		let_go();
		return -ENOMEM;
	}
	has_vmfunc = features & XEN_HVM_CPUID_EPML_VMFUNC;
	there = true;
	handle_interrupt(true);
	pr_info("EPML: the processor's own logs, armed again by %s%s\n",
		has_vmfunc ? "VM functions" : "hypercall",
		OOH_LOG_INTERRUPT ? "" : ", no interrupt before they are full");
	return 0;
}

void ooh_epml_exit(void)
{
	if (!there)
		return;
	handle_interrupt(false);
	let_go();
}
