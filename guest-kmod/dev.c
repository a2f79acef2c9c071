// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/ooh: one open file is one tracker.
 */
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "compat/compat.h"
#include "dev.h"
#include "log.h"
#include "round.h"

/* No hypervisor sends an interrupt when the log fills: while somebody polls, we look this often. */
#define LOOK_MS 10

/* The sizes of the structs in the first version that had one. */
#define INFO_SIZE_MIN	 32
#define ATTACH_SIZE_MIN	 24
#define COLLECT_SIZE_MIN 48
#define STATS_SIZE_MIN	 16
#define LOWAT_SIZE_MIN	 16

/* The operations of an open /proc/PID/mem. */
static const struct file_operations *mem_fops;

struct ooh_file {
	struct ooh_rounds *rounds;
	u64 lowat; /* records */
	u32 told;  /* the round in which the waiters were told, + 1 */
	wait_queue_head_t wait;
	struct delayed_work look;
};

static __poll_t poll_state(const struct ooh_file *f)
{
	if (!ooh_rounds_attached(f->rounds))
		return EPOLLERR;
	if (ooh_rounds_over(f->rounds))
		return EPOLLHUP;
	if (ooh_rounds_waiting(f->rounds) >= READ_ONCE(f->lowat))
		return EPOLLIN | EPOLLRDNORM;
	return 0;
}

static void look_for_waiters(struct work_struct *work)
{
	struct ooh_file *f = container_of(to_delayed_work(work), struct ooh_file, look);
	u32 rounds = ooh_rounds_count(f->rounds);
	__poll_t mask = poll_state(f);

	if (!waitqueue_active(&f->wait))
		return;
	/* once per round: edge-triggered waiters take each wakeup for a change */
	if (mask && (f->told != rounds + 1 || mask & EPOLLHUP)) {
		WRITE_ONCE(f->told, rounds + 1);
		wake_up_poll(&f->wait, mask);
	}
	/* no longer: the next time is a change again */
	if (!mask)
		WRITE_ONCE(f->told, 0);
	if (!(mask & EPOLLHUP))
		schedule_delayed_work(&f->look, msecs_to_jiffies(LOOK_MS));
}

static __poll_t ooh_poll(struct file *file, struct poll_table_struct *pt)
{
	struct ooh_file *f = file->private_data;
	__poll_t mask;

	poll_wait(file, &f->wait, pt);
	mask = poll_state(f);
	if (!mask)
		WRITE_ONCE(f->told, 0);
	/* even if it is readable now: an edge-triggered waiter waits for the next time */
	if (!(mask & EPOLLHUP))
		schedule_delayed_work(&f->look, msecs_to_jiffies(LOOK_MS));
	return mask;
}

static u64 max_records(void)
{
	struct ooh_info info;

	ooh_log_info(&info);
	return info.max_records;
}

static int ooh_open(struct inode *inode, struct file *file)
{
	struct ooh_file *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);

	if (!f)
		return -ENOMEM;
	f->rounds = ooh_rounds_create();
	if (!f->rounds) {
		kfree(f);
		return -ENOMEM;
	}
	f->lowat = max_records() / 2;
	init_waitqueue_head(&f->wait);
	INIT_DELAYED_WORK(&f->look, look_for_waiters);
	file->private_data = f;
	return 0;
}

static int ooh_release(struct inode *inode, struct file *file)
{
	struct ooh_file *f = file->private_data;

	cancel_delayed_work_sync(&f->look);
	ooh_rounds_free(f->rounds);
	kfree(f);
	return 0;
}

/*
 * Copies a struct that begins with its size from the caller, as far as both sides know it.
 * Fields that only the caller knows must be 0.
 */
static int get_struct(void *known, size_t size, size_t min_size, const void __user *p,
		      u32 *its_size)
{
	int ret;

	if (get_user(*its_size, (const u32 __user *)p))
		return -EFAULT;
	if (*its_size < min_size)
		return -EINVAL;
	if (*its_size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(known, size, p, *its_size);
	/* the caller may have changed it meanwhile: the size that was checked counts */
	*(u32 *)known = *its_size;
	return ret;
}

static int put_struct(void *known, size_t size, void __user *p, u32 its_size)
{
	*(u32 *)known = size;
	return copy_to_user(p, known, min_t(size_t, size, its_size)) ? -EFAULT : 0;
}

#define GET(known, min_size, p, its_size) get_struct(known, sizeof(*(known)), min_size, p, its_size)
#define PUT(known, p, its_size)		  put_struct(known, sizeof(*(known)), p, its_size)

static int ioctl_info(void __user *p)
{
	struct ooh_info info = { 0 };
	u32 size;
	int ret = GET(&info, INFO_SIZE_MIN, p, &size);

	if (ret)
		return ret;
	info.version = OOH_ABI_VERSION;
	info.trackers = ooh_rounds_trackers();
	ooh_log_info(&info);
	return PUT(&info, p, size);
}

/*
 * The memory that an open /proc/PID/mem stands for, with mm_users, or an error. The kernel
 * does not export its check of who may trace whom, but made it when the file was opened.
 */
static struct mm_struct *mm_of(int fd)
{
	struct mm_struct *mm;
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != mem_fops)
		mm = ERR_PTR(-EBADF);
	else if (!file->private_data || !mmget_not_zero(file->private_data))
		mm = ERR_PTR(-ESRCH);
	else
		mm = file->private_data;
	fput(file);
	return mm;
}

static int ioctl_attach(struct ooh_file *f, void __user *p)
{
	struct ooh_attach a;
	struct mm_struct *mm;
	struct pid *pid;
	u32 size;
	int ret = GET(&a, ATTACH_SIZE_MIN, p, &size);

	if (ret)
		return ret;
	if (a.flags)
		return -EINVAL;
	if (!ooh_log_usable(a.mechanism))
		return -EOPNOTSUPP;
	mm = mm_of(a.mem);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	pid = find_get_pid(a.pid);
	ret = pid ? ooh_rounds_lock(f->rounds) : -ESRCH;
	if (!ret) {
		ret = ooh_rounds_attach(f->rounds, pid, mm, a.mechanism);
		ooh_rounds_unlock(f->rounds);
	}
	put_pid(pid);
	/* if this is the last user, the memory goes away */
	mmput_async(mm);
	return ret;
}

static int ioctl_collect(struct ooh_file *f, void __user *p)
{
	struct ooh_collect c;
	u32 size;
	int ret = GET(&c, COLLECT_SIZE_MIN, p, &size);

	if (ret)
		return ret;
	if (c.flags & ~OOH_COLLECT_CONTINUE || c.reason || (c.start | c.end) & ~PAGE_MASK ||
	    (c.end && c.end <= c.start) || c.end > TASK_SIZE_MAX)
		return -EINVAL;
	ret = ooh_rounds_lock(f->rounds);
	if (ret)
		return ret;
	ret = ooh_rounds_collect(f->rounds, &c);
	if (!ret)
		ret = PUT(&c, p, size);
	/* the caller has all of it */
	if (!ret)
		ooh_rounds_reported(f->rounds, &c);
	ooh_rounds_unlock(f->rounds);
	return ret;
}

static int ioctl_stats(struct ooh_file *f, void __user *p)
{
	struct ooh_dev_stats s;
	u32 size;
	int ret = GET(&s, STATS_SIZE_MIN, p, &size);

	if (ret)
		return ret;
	if (!ooh_rounds_attached(f->rounds))
		return -ENOTCONN;
	ret = ooh_rounds_lock(f->rounds);
	if (ret)
		return ret;
	ooh_rounds_stats(f->rounds, &s);
	ooh_rounds_unlock(f->rounds);
	return PUT(&s, p, size);
}

static int ioctl_lowat(struct ooh_file *f, void __user *p)
{
	u64 records = max_records();
	struct ooh_lowat l;
	u32 size;
	int ret = GET(&l, LOWAT_SIZE_MIN, p, &size);

	if (ret)
		return ret;
	if (l.pad || l.records > records)
		return -EINVAL;
	WRITE_ONCE(f->lowat, l.records ?: records / 2);
	return 0;
}

static long do_ioctl(struct ooh_file *f, unsigned int cmd, void __user *p)
{
	switch (cmd) {
	case OOH_IOC_INFO:
		return ioctl_info(p);
	case OOH_IOC_ATTACH:
		return ioctl_attach(f, p);
	case OOH_IOC_COLLECT:
		return ioctl_collect(f, p);
	case OOH_IOC_STATS:
		return ioctl_stats(f, p);
	case OOH_IOC_LOWAT:
		return ioctl_lowat(f, p);
	default:
		return -ENOTTY;
	}
}

static long ooh_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long ret = do_ioctl(file->private_data, cmd, (void __user *)arg);

	/* nothing was done that the same call would not do again */
	return ret == -EINTR ? -ERESTARTSYS : ret;
}

static const struct file_operations ooh_fops = {
	.owner = THIS_MODULE,
	.open = ooh_open,
	.release = ooh_release,
	.unlocked_ioctl = ooh_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = ooh_poll,
	.llseek = noop_llseek,
};

static struct miscdevice ooh_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ooh",
	.fops = &ooh_fops,
	.mode = 0600,
};

/* Whoever loads a module is trusted to have the real /proc mounted; this checks that it is. */
static int learn_mem_fops(void)
{
	struct file *file = filp_open("/proc/self/mem", O_RDONLY, 0);
	int ret = -ENODEV;

	if (IS_ERR(file)) {
		pr_err("cannot open /proc/self/mem: error %ld\n", PTR_ERR(file));
		return PTR_ERR(file);
	}
	if (file_inode(file)->i_sb->s_magic == PROC_SUPER_MAGIC && file->private_data &&
	    file->private_data == current->mm) {
		mem_fops = file->f_op;
		ret = 0;
	} else {
		pr_err("/proc/self/mem is not what this module knows\n");
	}
	fput(file);
	return ret;
}

int ooh_dev_init(void)
{
	int ret = learn_mem_fops();

	if (ret)
		return ret;
	ret = misc_register(&ooh_misc);
	if (ret)
		pr_err("cannot register /dev/ooh: error %d\n", ret);
	return ret;
}

void ooh_dev_exit(void)
{
	misc_deregister(&ooh_misc);
}
