// SPDX-License-Identifier: GPL-2.0-only
/*
 * insmod spml-fuzz.ko [seed=N] [calls=N] [seconds=N] [threads=N] [epoch=N] [first=N]
 *                     [grants=N] [mode=fuzz|limits] [plant=canary|record|code|round]
 *
 * runs until that many calls were made or the time is over. The result is in
 * /proc/spml-fuzz until rmmod. Between epochs no call is in progress, and memory is
 * checked for what Xen did to it. An epoch's calls depend on the seed, its number and
 * the thread alone (how threads meet does not): first=N calls=1 repeats epoch N.
 * Only without ooh.ko: a domain follows frames for one of its programs.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <xen/xen.h>

#include "fuzz.h"

static ulong seed = 1, calls = 100000, seconds = 3600, threads = 2, epoch = 2000, first;
static char *mode = "fuzz", *plant = "";
module_param(seed, ulong, 0444);
module_param(calls, ulong, 0444);
module_param(seconds, ulong, 0444);
module_param(threads, ulong, 0444);
MODULE_PARM_DESC(threads, "on each vCPU");
module_param(epoch, ulong, 0444);
MODULE_PARM_DESC(epoch, "calls between two looks at memory");
module_param(first, ulong, 0444);
uint fz_max_grants = 48;
module_param_named(grants, fz_max_grants, uint, 0444);
MODULE_PARM_DESC(grants, "at most; each takes a page of what the domain may have, until it ends");
module_param(mode, charp, 0444);
module_param(plant, charp, 0444);

static const char *const event_names[FZ_EVENTS] = {
	"epochs",    "orderly", "rounds",  "writes",	 "records",	"mores",   "ballooned",
	"populated", "moved",	"granted", "superpages", "bad-handles", "indices", "vmfuncs",
};
static const char *const cmd_names[FZ_CMDS] = { "info", "start",  "arm",      "forget", "collect",
						"stop", "logreg", "logunreg", "rearm",	"unknown" };
static const char *const plant_names[] = { "", "canary", "record", "code", "round" };

bool fz_loose;
static atomic_t planted = ATOMIC_INIT(FZ_PLANT_NONE);
static atomic64_t events[FZ_EVENTS];
static atomic_t bad;
static struct fz_worker *workers;
static unsigned int nr_workers;
static u64 made, took;

static atomic_t left; /* workers still at work */
static DECLARE_COMPLETION(all_done);

void fz_count(enum fz_event e)
{
	atomic64_inc(&events[e]);
}

bool fz_planted(enum fz_plant what)
{
	return atomic_read(&planted) == what &&
	       atomic_cmpxchg(&planted, what, FZ_PLANT_NONE) == what;
}

void fz_bad(const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	/* the rest would be more of the same, and the log is slow */
	if (atomic_inc_return(&bad) > 20)
		return;
	va_start(args, fmt);
	vaf.va = &args;
	pr_err("broken: %pV", &vaf);
	va_end(args);
}

static int work(void *arg)
{
	struct fz_worker *w = arg;
	unsigned int i;

	for (i = 0; i < w->calls; i++) {
		fz_call(w);
		cond_resched();
	}
	if (atomic_dec_and_test(&left))
		complete(&all_done);
	/* the leader takes it away */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static int run_workers(u64 salt)
{
	unsigned int i;
	int ret = 0;

	reinit_completion(&all_done);
	atomic_set(&left, nr_workers);
	for (i = 0; i < nr_workers; i++) {
		struct fz_worker *w = &workers[i];

		w->rng.s = salt + i * 0x632be59bd9b4e019ULL;
		w->calls = DIV_ROUND_UP(epoch, nr_workers);
		w->task = kthread_create(work, w, "spml-fuzz/%u", i);
		if (IS_ERR(w->task)) {
			ret = PTR_ERR(w->task);
			w->task = NULL;
			if (atomic_dec_and_test(&left))
				complete(&all_done);
			continue;
		}
		kthread_bind(w->task, i / threads);
		get_task_struct(w->task);
	}
	for (i = 0; i < nr_workers; i++)
		if (workers[i].task)
			wake_up_process(workers[i].task);
	wait_for_completion(&all_done);
	for (i = 0; i < nr_workers; i++)
		if (workers[i].task) {
			made += workers[i].calls;
			kthread_stop_put(workers[i].task);
		}
	return ret;
}

static int fuzz(void)
{
	unsigned long end = jiffies + seconds * HZ, e;
	struct fz_rng r;
	int ret = 0;

	for (e = first; made < calls && time_before(jiffies, end) && !ret; e++) {
		r.s = seed * 0x9e3779b97f4a7c15ULL ^ (e + 1) * 0xc2b2ae3d27d4eb4fULL;
		/* a third of the epochs is orderly, and a third of the others is loose */
		if (fz_below(&r, 3) < 1)
			fz_orderly_begin(&r);
		else
			fz_loose = !fz_below(&r, 3);
		ret = run_workers(fz_rand(&r));
		fz_count(FZ_EPOCHS);
		fz_orderly_end();
		fz_stop_all();
		fz_settle();
		fz_check_canaries();
		fz_loose = false;
		if (signal_pending(current))
			ret = -EINTR;
	}
	/* after all that, the next one is served as well as the first */
	r.s = seed;
	fz_orderly_begin(&r);
	fz_orderly_end();
	fz_stop_all();
	fz_check_canaries();
	return ret;
}

static int show(struct seq_file *m, void *v)
{
	unsigned int c, k, i;

	seq_printf(m, "seed %lu\nvcpus %u\nthreads %u\ncalls %llu\nms %llu\n", seed,
		   num_online_cpus(), nr_workers, made, took);
	for (i = 0; i < FZ_EVENTS; i++)
		seq_printf(m, "%s %lld\n", event_names[i], atomic64_read(&events[i]));
	for (c = 0; c < FZ_CMDS; c++) {
		u64 ns = 0, longest = 0;

		for (i = 0; i < nr_workers; i++) {
			ns += workers[i].ns[c];
			longest = max(longest, workers[i].longest[c]);
		}
		seq_printf(m, "us %s %llu longest %llu\n", cmd_names[c], ns / 1000, longest / 1000);
	}
	for (c = 0; c < FZ_CMDS; c++)
		for (k = 0; k < FZ_CODES; k++) {
			u64 n = 0;

			for (i = 0; i < nr_workers; i++)
				n += workers[i].table[c][k];
			if (n)
				seq_printf(m, "answer %s %s %llu\n", cmd_names[c], fz_code_names[k],
					   n);
		}
	fz_limits_show(m);
	seq_printf(m, "broken %d\n", atomic_read(&bad));
	return 0;
}

static void finish(void)
{
	unsigned int i;

	for (i = 0; workers && i < nr_workers; i++)
		fz_worker_exit(&workers[i]);
	vfree(workers);
	fz_mem_exit();
}

static int __init fuzz_init(void)
{
	u64 began = get_jiffies_64();
	struct xen_hvm_spml op = { .cmd = XEN_SPML_info };
	unsigned int i;
	int ret;

	if (!xen_hvm_domain() || fz_hypercall(&op))
		return -ENODEV;
	for (i = 0; i < ARRAY_SIZE(plant_names); i++)
		if (!strcmp(plant, plant_names[i]))
			atomic_set(&planted, i);
	if (!threads || !epoch)
		return -EINVAL;
	nr_workers = threads * num_online_cpus();
	workers = vcalloc(nr_workers, sizeof(*workers));
	ret = workers ? fz_mem_init() : -ENOMEM;
	for (i = 0; !ret && i < nr_workers; i++)
		ret = fz_worker_init(&workers[i]);
	if (!ret && !strcmp(mode, "limits"))
		fz_limits();
	else if (!ret)
		ret = fuzz();
	took = jiffies64_to_msecs(get_jiffies_64() - began);
	if (!ret && !proc_create_single("spml-fuzz", 0444, NULL, show))
		ret = -ENOMEM;
	if (ret)
		finish();
	return ret;
}

static void __exit fuzz_exit(void)
{
	remove_proc_entry("spml-fuzz", NULL);
	finish();
}

module_init(fuzz_init);
module_exit(fuzz_exit);

MODULE_DESCRIPTION("Calls of HVMOP_spml that are meant to hurt");
MODULE_LICENSE("GPL");
