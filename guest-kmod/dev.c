// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/ooh: one open file is one tracker.
 */
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/ptrace.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "ooh.h"

/* Xen sends no interrupt when the log fills: whoever polls has us look so often. */
#define LOOK_MS 10

struct ooh_file {
	struct ooh_tracker *tracker;
	bool attached;
	u64 lowat;  /* records */
	u32 rounds; /* collects so far */
	u32 told;   /* in which of them the waiters were told, + 1 */
	wait_queue_head_t wait;
	struct delayed_work look;
};

static __poll_t state(const struct ooh_file *f)
{
	u64 own, ring, set, lowat = READ_ONCE(f->lowat);

	/* the tracker has an mm from here on, which stays until the release */
	if (!smp_load_acquire(&f->attached))
		return EPOLLERR;
	if (!atomic_read(&ooh_tracker_mm(f->tracker)->mm_users))
		return EPOLLHUP;
	own = ooh_tracker_waiting(f->tracker);
	ring = ooh_spml_waiting();
	set = ooh_epml_waiting();
	if (own == U64_MAX || ring == U64_MAX || set == U64_MAX || own + ring + set >= lowat)
		return EPOLLIN | EPOLLRDNORM;
	return 0;
}

static void look(struct work_struct *work)
{
	struct ooh_file *f = container_of(to_delayed_work(work), struct ooh_file, look);
	u32 rounds = READ_ONCE(f->rounds);
	__poll_t mask = state(f);

	if (!waitqueue_active(&f->wait))
		return;
	/* once a round: edge-triggered waiters take each wakeup for news */
	if (mask && (f->told != rounds + 1 || mask & EPOLLHUP)) {
		f->told = rounds + 1;
		wake_up_poll(&f->wait, mask);
	}
	if (!(mask & EPOLLHUP))
		schedule_delayed_work(&f->look, msecs_to_jiffies(LOOK_MS));
}

static __poll_t ooh_poll(struct file *file, struct poll_table_struct *pt)
{
	struct ooh_file *f = file->private_data;
	__poll_t mask;

	poll_wait(file, &f->wait, pt);
	mask = state(f);
	/* also when readable now: an edge-triggered waiter stays for the next time */
	if (!(mask & EPOLLHUP))
		schedule_delayed_work(&f->look, msecs_to_jiffies(LOOK_MS));
	return mask;
}

static u64 half_the_ring(void)
{
	struct ooh_info info;

	ooh_spml_info(&info);
	return info.ring_records / 2;
}

static int set_lowat(struct ooh_file *f, u64 records)
{
	if (records > 2 * half_the_ring())
		return -EINVAL;
	WRITE_ONCE(f->lowat, records ?: half_the_ring());
	return 0;
}

static int ooh_open(struct inode *inode, struct file *file)
{
	struct ooh_file *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);

	if (!f)
		return -ENOMEM;
	f->tracker = ooh_tracker_create();
	if (!f->tracker) {
		kfree(f);
		return -ENOMEM;
	}
	f->lowat = half_the_ring();
	init_waitqueue_head(&f->wait);
	INIT_DELAYED_WORK(&f->look, look);
	file->private_data = f;
	return 0;
}

static int ooh_release(struct inode *inode, struct file *file)
{
	struct ooh_file *f = file->private_data;

	cancel_delayed_work_sync(&f->look);
	ooh_tracker_free(f->tracker);
	mutex_lock(&ooh_lock);
	if (!ooh_trackers)
		ooh_epml_stop();
	mutex_unlock(&ooh_lock);
	kfree(f);
	return 0;
}

/*
 * May the caller look into this process? The kernel's own test is not exported;
 * this is its rule without the security modules: the same user in every respect
 * and a dumpable process, or CAP_SYS_PTRACE over its memory.
 */
static bool may_trace(struct task_struct *task, struct mm_struct *mm)
{
	const struct cred *mine = current_cred(), *its;
	bool same;

	if (same_thread_group(task, current))
		return true;
	rcu_read_lock();
	its = __task_cred(task);
	same = uid_eq(mine->fsuid, its->uid) && uid_eq(mine->fsuid, its->euid) &&
	       uid_eq(mine->fsuid, its->suid) && gid_eq(mine->fsgid, its->gid) &&
	       gid_eq(mine->fsgid, its->egid) && gid_eq(mine->fsgid, its->sgid);
	rcu_read_unlock();
	return (same && ooh_dumpable_by_owner(task, mm)) || ooh_ptrace_capable(task, mm);
}

/* One mechanism at a time, for all trackers: the first one's. */
static int use(u32 mechanism)
{
	int ret;

	if (ooh_trackers)
		return mechanism && (mechanism == OOH_MECH_EPML) != ooh_epml_on ? -EBUSY : 0;
	if (mechanism == OOH_MECH_SPML || (!mechanism && !ooh_epml_there()))
		return 0;
	ret = ooh_epml_start();
	return mechanism ? ret : 0;
}

static int start(struct ooh_file *f, struct pid *pid, struct mm_struct *mm, u32 mechanism)
{
	int ret;

	if (f->attached)
		return -EBUSY;
	/*
	 * What any CPU's log holds from before is none of the new tracker's business.
	 * And if the ring stayed behind in a migration, this has it put up again; the
	 * logs that use() may have registered need one.
	 */
	ret = ooh_collect_logs();
	if (!ret)
		ret = use(mechanism);
	if (!ret)
		ret = ooh_tracker_attach(f->tracker, pid, mm);
	if (!ret)
		smp_store_release(&f->attached, true);
	else if (!ooh_trackers)
		ooh_epml_stop();
	return ret;
}

/* The tracker's lock, and ooh_lock within it. */
static int lock_tracker(struct ooh_file *f)
{
	int ret = mutex_lock_interruptible(ooh_tracker_lock(f->tracker));

	if (ret)
		return ret;
	ret = mutex_lock_interruptible(&ooh_lock);
	if (ret)
		mutex_unlock(ooh_tracker_lock(f->tracker));
	return ret;
}

static void unlock_tracker(struct ooh_file *f)
{
	mutex_unlock(&ooh_lock);
	mutex_unlock(ooh_tracker_lock(f->tracker));
}

/* Any thread that is left will do: the first one may have ended. */
static struct task_struct *get_process(struct pid *pid, struct mm_struct **mm)
{
	struct task_struct *leader, *thread, *task = NULL;

	rcu_read_lock();
	leader = pid_task(pid, PIDTYPE_TGID);
	if (leader)
		for_each_thread(leader, thread) {
			if (!READ_ONCE(thread->mm))
				continue;
			task = thread;
			get_task_struct(task);
			break;
		}
	rcu_read_unlock();
	*mm = task ? get_task_mm(task) : NULL;
	if (task && !*mm) {
		put_task_struct(task);
		return NULL;
	}
	return task;
}

static int attach(struct ooh_file *f, const struct ooh_attach *a)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;
	int ret;

	if (a->flags)
		return -EINVAL;
	if (a->mechanism && a->mechanism != OOH_MECH_SPML &&
	    !(a->mechanism == OOH_MECH_EPML && ooh_epml_there()))
		return -EOPNOTSUPP;
	pid = find_get_pid(a->pid);
	task = pid ? get_process(pid, &mm) : NULL;
	if (!task) {
		put_pid(pid);
		return -ESRCH;
	}
	ret = may_trace(task, mm) ? 0 : -EACCES;
	put_task_struct(task);
	if (!ret)
		ret = lock_tracker(f);
	if (!ret) {
		ret = start(f, pid, mm, a->mechanism);
		unlock_tracker(f);
	}
	mmput(mm);
	put_pid(pid);
	return ret;
}

static int collect(struct ooh_file *f, struct ooh_collect *c, void __user *p)
{
	int ret;

	if (c->flags & ~OOH_COLLECT_CONTINUE || c->pad || (c->start | c->end) & ~PAGE_MASK ||
	    (c->end && c->end <= c->start))
		return -EINVAL;
	ret = lock_tracker(f);
	if (ret)
		return ret;
	ret = f->attached ? ooh_tracker_collect(f->tracker, c) : -ENOTCONN;
	WRITE_ONCE(f->rounds, f->rounds + 1);
	if (!ret) {
		/* with the tracker's lock: what was told is known until the next collect */
		mutex_unlock(&ooh_lock);
		ret = copy_to_user(p, c, sizeof(*c)) ? -EFAULT : 0;
		mutex_lock(&ooh_lock);
		if (ret)
			ooh_tracker_untold(f->tracker);
	}
	unlock_tracker(f);
	return ret;
}

static long ooh_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct ooh_file *f = file->private_data;
	void __user *p = (void __user *)arg;
	union {
		struct ooh_info info;
		struct ooh_attach attach;
		struct ooh_collect collect;
		struct ooh_stats stats;
		u64 lowat;
	} u;
	int ret;

	memset(&u, 0, sizeof(u));
	switch (cmd) {
	case OOH_IOC_INFO:
		u.info.version = OOH_ABI_VERSION;
		mutex_lock(&ooh_lock);
		ooh_spml_info(&u.info);
		u.info.trackers = ooh_trackers;
		mutex_unlock(&ooh_lock);
		return copy_to_user(p, &u.info, sizeof(u.info)) ? -EFAULT : 0;
	case OOH_IOC_ATTACH:
		if (copy_from_user(&u.attach, p, sizeof(u.attach)))
			return -EFAULT;
		return attach(f, &u.attach);
	case OOH_IOC_COLLECT:
		if (copy_from_user(&u.collect, p, sizeof(u.collect)))
			return -EFAULT;
		return collect(f, &u.collect, p);
	case OOH_IOC_STATS:
		mutex_lock(&ooh_lock);
		ret = f->attached ? 0 : -ENOTCONN;
		if (!ret)
			ooh_tracker_stats(f->tracker, &u.stats);
		mutex_unlock(&ooh_lock);
		if (ret)
			return ret;
		return copy_to_user(p, &u.stats, sizeof(u.stats)) ? -EFAULT : 0;
	case OOH_IOC_LOWAT:
		if (copy_from_user(&u.lowat, p, sizeof(u.lowat)))
			return -EFAULT;
		return set_lowat(f, u.lowat);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations ooh_fops = {
	.owner = THIS_MODULE,
	.open = ooh_open,
	.release = ooh_release,
	.unlocked_ioctl = ooh_ioctl,
	.poll = ooh_poll,
	.llseek = noop_llseek,
};

static struct miscdevice ooh_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ooh",
	.fops = &ooh_fops,
	.mode = 0600,
};

int ooh_dev_init(void)
{
	int ret = misc_register(&ooh_misc);

	if (ret)
		pr_err("cannot register /dev/ooh: error %d\n", ret);
	return ret;
}

void ooh_dev_exit(void)
{
	misc_deregister(&ooh_misc);
}
