// SPDX-License-Identifier: GPL-2.0-only
/*
 * EPML: the log that the processor writes for this guest, one per CPU, which the guest reads
 * without Xen. include/xen/spml.h is the contract, docs/epml-spec.md the processor's part.
 * Xen's bitmap remains beside it: it has what others than our CPUs write, and what Xen takes
 * out of a log that was full.
 *
 * A frame whose next write makes no record ("silent") is on record in a CPU's log, in the set
 * of logged frames, or in Xen's bitmap. A collect goes through these three in this order, and
 * arms again each frame that it takes out and that has a user.
 */
#include <linux/cpu.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>
#include <asm/asm.h>
#include <asm/irq.h>
#include <asm/irq_vectors.h>
#include <asm/tsc.h>
#include <xen/xen-ops.h>

#include "compat/compat.h"
#include "counters.h"
#include "inject.h"
#include "log.h"
#include "log-spml.h"
#include "trace.h"
#include "transport-xen.h"

/* in Xen's cpuid.h; the kernel's copy of it is older */
#ifndef XEN_HVM_CPUID_EPML
#define XEN_HVM_CPUID_EPML	  (1U << 8)
#define XEN_HVM_CPUID_EPML_VMFUNC (1U << 9)
#endif

/*
 * A CPU is interrupted when room for this many records is left: so much it can write with
 * interrupts off before Xen has to step in, 256 KiB of different pages. Without an interrupt
 * Xen empties each log that is full, by a VM exit.
 */
#define LOW_WATER (OOH_LOG_INTERRUPT ? 64 : 0)
#define RUNS	  1024

struct record {
	u64 linear; /* and XEN_EPML_R_* */
	u64 gpa;    /* 0: taken. The kernel never allocates frame 0 */
};

struct cpu_log {
	struct record *records; /* a page, written from the end to the beginning */
	bool on;		/* registered with Xen */
	int error;		/* why it is not */
	bool kept;		/* Xen did not give it back: never to be freed */
	u64 taken, walks, user, notifications;
};

static DEFINE_PER_CPU(struct cpu_log, cpu_logs);
static bool there, has_vmfunc, lost;
static int hp_state;

static bool use_vmfunc = true;
module_param_named(epml_vmfunc, use_vmfunc, bool, 0600);
MODULE_PARM_DESC(epml_vmfunc, "arm by VM functions where the processor has them; N: by hypercall");

/*
 * The set of logged frames, in chunks. A bit of a chunk's summary stands for a long of the
 * chunk. A chunk exists before any of its frames is armed, so interrupts need no memory:
 * frames of chunks that do not exist were never armed.
 */
#define CHUNK_LONGS   (OOH_CHUNK_FRAMES / BITS_PER_LONG)
#define SUMMARY_LONGS BITS_TO_LONGS(CHUNK_LONGS)
struct set_chunk {
	unsigned long bits[CHUNK_LONGS];
	unsigned long summary[SUMMARY_LONGS];
	unsigned long nr;
};
static DEFINE_XARRAY(set);
static atomic_long_t nr_in_set;

/* Ticks of the time stamp counter in which logged frames were armed again. */
static u64 arm_ticks;

/* Frames for XEN_SPML_rearm. */
static struct xen_spml_range *runs;
static unsigned int nr_runs;

/* VMREAD, VMWRITE: false if there is no log (#UD), as after a migration. */
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

/*
 * What is taken out of a log. Neighbours go into the set together. Data and page tables come
 * in turns, but lie in few chunks.
 */
#define FOUND 8
struct taken {
	struct set_chunk *found[FOUND]; /* by the last digit of their number */
	unsigned long word, bits;	/* of the set */
	unsigned long nr, walks, user;
};

static noinline struct set_chunk *find_chunk(struct taken *t, unsigned long nr)
{
	t->found[nr % FOUND] = xa_load(&set, nr);
	return t->found[nr % FOUND];
}

/* From any CPU. The bits come first, as take_set() starts from the summary. */
static __always_inline void add_to_set(struct taken *t)
{
	unsigned long old, at = t->word % CHUNK_LONGS, nr = t->word / CHUNK_LONGS;
	struct set_chunk *chunk = t->found[nr % FOUND];

	if (!t->bits)
		return;
	if (unlikely(!chunk || chunk->nr != nr))
		chunk = find_chunk(t, nr);
	if (unlikely(!chunk))
		return;
	old = atomic_long_fetch_or(t->bits, (atomic_long_t *)&chunk->bits[at]);
	atomic_long_add(hweight_long(t->bits & ~old), &nr_in_set);
	if (!test_bit(at, chunk->summary))
		set_bit(at, chunk->summary);
}

/* Takes a record out of the log, if there is one. */
static __always_inline bool take_record(struct taken *t, struct record *r)
{
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
		add_to_set(t);
		t->word = pfn / BITS_PER_LONG;
		t->bits = 0;
	}
	t->bits |= BIT(pfn % BITS_PER_LONG);
	return true;
}

/*
 * Empties the log of the CPU that it runs on. Interrupts are off, but records can still be
 * made: by an NMI, or by page walks of this code. They may come between the VMREAD and the
 * VMWRITE, which would then lose them. Therefore each record is wiped when it is taken, so all
 * below the index is always wiped. A record made in between is where the index was, or, if Xen
 * had to empty the full log meanwhile, at the end again. A record made after the VMWRITE may be
 * taken too early there, which does no harm. Until this is done, up to 64 frames are neither in
 * the log nor in the set. Nobody looks for them: a collect waits until it is done on all CPUs.
 */
static void drain_cpu_log(void *unused)
{
	struct cpu_log *log = this_cpu_ptr(&cpu_logs);
	struct record *records = log->records;
	struct taken t = { 0 };
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
		take_record(&t, records + i);
	if (reset_index()) {
		for (i = XEN_EPML_RECORDS; i-- > 0 && take_record(&t, records + i);)
			;
		for (i = first; i-- > 0 && take_record(&t, records + i);)
			;
	} else {
		WRITE_ONCE(lost, true);
	}
	add_to_set(&t);
	log->taken += t.nr;
	log->walks += t.walks;
	log->user += t.user;
}

/*
 * The log's interrupt needs a vector that no device's interrupt can get, and whose handler a
 * module can set. There is one, by which KVM wakes up the vCPUs of its guests. Nobody else
 * uses it here, as Xen lets no domain with spml=1 have guests of its own.
 */
#if OOH_LOG_INTERRUPT
/* The log of this CPU fills. In interrupt context. */
static void cpu_log_fills(void)
{
	this_cpu_inc(cpu_logs.notifications);
	drain_cpu_log(NULL);
}

static void handle_interrupt(bool on)
{
	/* NULL: waits for handlers that run */
	kvm_set_posted_intr_wakeup_handler(on ? cpu_log_fills : NULL);
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
	struct xen_hvm_spml op;

	nr_runs = 0;
	return nr ? ooh_xen_ranges(XEN_SPML_rearm, runs, nr, &op) : 0;
}

static int queue_run(u64 gfn, u32 nr)
{
	int ret = nr_runs == RUNS ? rearm_by_hypercall() : 0;

	runs[nr_runs++] = (struct xen_spml_range){ .gfn = gfn, .nr = nr };
	return ret;
}

/*
 * Arms those of the OOH_GROUP_FRAMES frames from gfn on, which is aligned, whose bit is set.
 * They are armed when flush_translations() has run on all CPUs.
 */
static __always_inline int rearm_group(u64 gfn, const unsigned long *bits, bool by_vmfunc)
{
	u64 gpa = gfn << PAGE_SHIFT, end = gpa + PMD_SIZE;
	unsigned int first, last;
	int ret = 0;

	if (!by_vmfunc) {
		for_each_set_bitrange(first, last, bits, OOH_GROUP_FRAMES)
			ret = ret ?: queue_run(gfn + first, last - first);
		return ret;
	}
	while (gpa < end && !ret) {
		if (!vmfunc(XEN_EPML_VMFUNC_CLEAR, &gpa, bits))
			return -ENODEV;
		if (gpa == end)
			break;
		/* not mapped as it was when it was armed: Xen has to do it */
		ret = queue_run(gpa >> PAGE_SHIFT, 1);
		gpa += PAGE_SIZE;
	}
	return ret;
}

static bool all_have_logs(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (!per_cpu(cpu_logs, cpu).on)
			return false;
	return true;
}

/* How the set is taken, and what came of it. */
struct taking {
	const struct ooh_log_sink *sink;
	enum ooh_inject fault;
	bool by_vmfunc;
	unsigned long frames, rearmed;
	int ret;
};

/* Hands over all frames but every 16th: a fault that a test planted. */
static noinline void hand_over_most(const struct ooh_log_sink *sink, u64 gfn, unsigned long *group)
{
	DECLARE_BITMAP(unheard, OOH_GROUP_FRAMES);
	unsigned int w;

	for (w = 0; w < OOH_GROUP_LONGS; w++) {
		unheard[w] = group[w] & OOH_INJECT_SIXTEENTH;
		group[w] ^= unheard[w];
	}
	sink->group(gfn, group);
	bitmap_or(group, group, unheard, OOH_GROUP_FRAMES);
}

/*
 * Takes the group of frames of the longs from first on. Bit i of used: the summary has the
 * long first + i.
 */
static __always_inline void take_group(struct taking *t, struct set_chunk *chunk, u64 base,
				       unsigned int first, unsigned int used)
{
	DECLARE_BITMAP(group, OOH_GROUP_FRAMES) __aligned(64); /* as the VM function wants it */
	u64 gfn = base + first * BITS_PER_LONG, began;
	unsigned int nr = 0, left, w;
	int err;

	bitmap_zero(group, OOH_GROUP_FRAMES);
	for (left = used; left; left &= left - 1) {
		w = __ffs(left);
		group[w] = xchg(&chunk->bits[first + w], 0);
		nr += hweight_long(group[w]);
	}
	atomic_long_sub(nr, &nr_in_set);
	t->frames += nr;
	if (t->fault == OOH_INJECT_DROPRECORD)
		hand_over_most(t->sink, gfn, group);
	else
		t->sink->group(gfn, group);
	for (left = used, nr = 0; left; left &= left - 1)
		nr += hweight_long(group[__ffs(left)]);
	if (!nr || t->fault == OOH_INJECT_NOREARM)
		return;
	t->rearmed += nr;
	began = get_cycles();
	err = rearm_group(gfn, group, t->by_vmfunc);
	arm_ticks += get_cycles() - began;
	/* go on: everything in the set has to be reported */
	if (!t->ret)
		t->ret = err;
}

/*
 * Takes all frames out of the set, and marks their users. Frames that have users are armed
 * again; the others never were armed, or no longer need to be.
 */
static int take_set(const struct ooh_log_sink *sink)
{
	struct taking t = {
		.sink = sink,
		.fault = ooh_injected(),
		/*
		 * A CPU that is offline cannot flush its translations, and may come back to
		 * them. After a hypercall Xen flushes all of them, at the latest when they
		 * are used.
		 */
		.by_vmfunc = has_vmfunc && READ_ONCE(use_vmfunc) && all_have_logs() &&
			     num_online_cpus() == num_present_cpus(),
	};
	unsigned long nr, words;
	struct set_chunk *chunk;
	unsigned int s, w, used;
	u64 began;
	int err;

	xa_for_each(&set, nr, chunk) {
		cond_resched();
		for (s = 0; s < SUMMARY_LONGS; s++) {
			if (!READ_ONCE(chunk->summary[s]))
				continue;
			words = xchg(&chunk->summary[s], 0);
			for (w = s * BITS_PER_LONG; words; w += OOH_GROUP_LONGS) {
				used = words & (BIT(OOH_GROUP_LONGS) - 1);
				words >>= OOH_GROUP_LONGS;
				if (used)
					take_group(&t, chunk, (u64)nr << OOH_CHUNK_SHIFT, w, used);
			}
		}
	}
	began = get_cycles();
	if (t.by_vmfunc && t.rearmed)
		on_each_cpu(flush_translations, NULL, 1);
	err = rearm_by_hypercall();
	arm_ticks += get_cycles() - began;
	trace_ooh_drain(t.frames, t.rearmed);
	return t.ret ?: err;
}

/* Has Xen logged anything, or may it have, as the writes of a CPU without a log? */
static bool xen_has_some(void)
{
	return ooh_spml_waiting() || !all_have_logs() || ooh_injected() == OOH_INJECT_LOST;
}

static u64 arm_ns(void)
{
	return mul_u64_u32_div(arm_ticks, NSEC_PER_MSEC, tsc_khz);
}

/* There is no record yet. The host may be another one than before. */
static void begin_on_this_host(void)
{
	WRITE_ONCE(lost, false);
	has_vmfunc = ooh_xen_features() & XEN_HVM_CPUID_EPML_VMFUNC;
}

/* Before a CPU comes up: its first write may be to an armed frame. */
static int log_up(unsigned int cpu)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_log_register };
	struct cpu_log *log = per_cpu_ptr(&cpu_logs, cpu);
	int ret;

	memset(log->records, 0, PAGE_SIZE);
	op.u.log.gfn = page_to_pfn(virt_to_page(log->records));
	op.u.log.vcpu = xen_vcpu_nr(cpu);
	op.u.log.vector = POSTED_INTR_WAKEUP_VECTOR;
	op.u.log.low_water = LOW_WATER;
	ret = ooh_xen_op(&op);
	log->error = ret;
	WRITE_ONCE(log->on, !ret);
	/* its writes are logged as with SPML then: xen_has_some() */
	if (ret)
		pr_warn("CPU %u has no log of its own: error %d from Xen\n", cpu, ret);
	return 0;
}

/* When a CPU is down: Xen takes over what its log holds. */
static int log_down(unsigned int cpu)
{
	struct xen_hvm_spml op = { .cmd = XEN_SPML_log_unregister };
	struct cpu_log *log = per_cpu_ptr(&cpu_logs, cpu);
	int ret;

	if (!log->on)
		return 0;
	WRITE_ONCE(log->on, false);
	op.u.log.vcpu = xen_vcpu_nr(cpu);
	ret = ooh_xen_op(&op);
	if (ret && ret != -ENODEV) {
		pr_warn("Xen did not give back the log of CPU %u: error %d\n", cpu, ret);
		log->kept = true;
		/* nobody will read what it holds */
		WRITE_ONCE(lost, true);
	}
	return 0;
}

/* Xen was stopped, which took the logs away, and started again. */
static void register_logs(void)
{
	unsigned int cpu;

	begin_on_this_host();
	for_each_online_cpu(cpu)
		log_up(cpu);
}

static int epml_drain(const struct ooh_log_sink *sink, u32 *reasons)
{
	u64 began = ktime_get_ns(), now, arming;
	bool more;
	int ret;

	/*
	 * The caller holds cpus_read_lock(): a CPU that comes up must neither miss the flush of
	 * translations nor get two logs.
	 */
	on_each_cpu(drain_cpu_log, NULL, 1);
	now = ktime_get_ns();
	ooh_counters.drain_ns += now - began;
	arming = arm_ns();
	ret = take_set(sink);
	arming = arm_ns() - arming;
	if (READ_ONCE(lost))
		ret = -ENODEV;
	more = xen_has_some();
	ooh_counters.map_ns += ktime_get_ns() - now - arming;
	if (ret) {
		*reasons |= ret == -ENODEV ? OOH_REASON_RESTORED : OOH_REASON_HYPERCALL;
		*reasons |= OOH_LOG_ANEW;
		ret = ooh_spml_anew();
	} else if (more) {
		ret = ooh_spml_drain(sink, reasons);
	}
	if (!ret && *reasons & OOH_LOG_ANEW)
		register_logs();
	return ret;
}

static bool epml_usable(void)
{
	return there && ooh_log_spml.usable();
}

static void free_set(void)
{
	struct set_chunk *chunk;
	unsigned long nr;

	xa_for_each(&set, nr, chunk)
		kfree(chunk);
	xa_destroy(&set);
}

static int epml_prepare(unsigned long nr)
{
	struct set_chunk *chunk, *other;

	if (xa_load(&set, nr))
		return 0;
	chunk = kzalloc(sizeof(*chunk), GFP_KERNEL);
	if (!chunk)
		return -ENOMEM;
	chunk->nr = nr;
	other = xa_cmpxchg(&set, nr, NULL, chunk, GFP_KERNEL);
	if (!other)
		return 0;
	kfree(chunk);
	return xa_err(other);
}

static void epml_stop(void)
{
	__cpuhp_remove_state_cpuslocked(hp_state, true);
	/* wait for interrupts that have found a log */
	kick_all_cpus_sync();
	/* no CPU adds to it any more */
	take_set(&ooh_spml_nobody);
	free_set();
}

/* After this, the processor writes the logs. */
static int epml_start(void)
{
	unsigned int cpu;
	int ret, error = 0;

	ret = ooh_spml_start();
	if (ret)
		return ret;
	begin_on_this_host();
	ret = cpuhp_setup_state_cpuslocked(CPUHP_BP_PREPARE_DYN, "ooh/epml:prepare", log_up,
					   log_down);
	if (ret < 0)
		return ret;
	hp_state = ret;
	/* a callback that fails would keep CPUs from coming up later */
	for_each_online_cpu(cpu)
		error = error ?: per_cpu(cpu_logs, cpu).error;
	if (!error)
		return 0;
	epml_stop();
	return error == -ENOMEM ? error : -ENODEV;
}

static u64 epml_waiting(void)
{
	u64 xen = ooh_spml_waiting();

	if (READ_ONCE(lost) || xen == U64_MAX)
		return U64_MAX;
	/* frames are counted after they are added, and may have been taken by then */
	return xen + max(0L, atomic_long_read(&nr_in_set));
}

static void epml_stats(struct ooh_dev_stats *s)
{
	unsigned int cpu;

	s->arm_ns += arm_ns();
	for_each_possible_cpu(cpu) {
		const struct cpu_log *log = per_cpu_ptr(&cpu_logs, cpu);

		s->log_records += READ_ONCE(log->taken);
		s->log_walks += READ_ONCE(log->walks);
		s->log_user += READ_ONCE(log->user);
		s->notifications += READ_ONCE(log->notifications);
	}
}

static void free_logs(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		if (!per_cpu(cpu_logs, cpu).kept)
			free_page((unsigned long)per_cpu(cpu_logs, cpu).records);
	vfree(runs);
}

static int epml_init(void)
{
	u32 features = ooh_spml_via() == OOH_VIA_XEN ? ooh_xen_features() : 0;
	unsigned int cpu;
	bool good;

	if (!(features & XEN_HVM_CPUID_EPML))
		return 0;
	runs = vcalloc(RUNS, sizeof(*runs));
	good = runs;
	for_each_possible_cpu(cpu) {
		struct cpu_log *log = per_cpu_ptr(&cpu_logs, cpu);

		log->records = (void *)get_zeroed_page(GFP_KERNEL);
		good &= log->records != NULL;
	}
	if (!good) {
		pr_err("no memory for the processor's logs\n");
		free_logs();
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

static void epml_exit(void)
{
	if (!there)
		return;
	handle_interrupt(false);
	free_logs();
}

const struct ooh_log_ops ooh_log_epml = {
	.mechanism = OOH_MECH_EPML,
	.init = epml_init,
	.exit = epml_exit,
	.usable = epml_usable,
	.start = epml_start,
	.stop = epml_stop,
	.prepare = epml_prepare,
	.arm = ooh_spml_arm,
	.forget = ooh_spml_forget,
	.drain = epml_drain,
	.waiting = epml_waiting,
	.stats = epml_stats,
};
