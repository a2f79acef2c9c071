// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh: the dirty pages of processes, from the log that the processor keeps for the
 * hypervisor. include/ooh/uapi.h describes what user space gets.
 *
 * The layers, each of which calls only those below it:
 *
 *	dev.c			/dev/ooh
 *	round.c			the rounds of one address space
 *	pagetable*.c		what its page tables map
 *	pagecache.c		what it shows of files without an entry
 *	rmap.c			who uses a frame; what is armed
 *	log.c, log-*.c		which frames were written: by the hypervisor's bitmap, or
 *				the processor's logs
 *	transport-*.c		how the bitmap comes: from Xen, or from QEMU on KVM
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/string.h>

#include "compat/compat.h"
#include "dev.h"
#include "inject.h"
#include "log.h"
#include "pagecache.h"
#include "rmap.h"
#include "round.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

#ifdef OOH_DEBUG
static const char *const inject_names[] = { "none", "norearm", "droprecord", "lost" };

static int inject_set(const char *val, const struct kernel_param *kp)
{
	enum ooh_inject before = READ_ONCE(ooh_inject);
	int i = sysfs_match_string(inject_names, val);

	if (i < 0)
		return i;
	WRITE_ONCE(ooh_inject, i);
	if (before == OOH_INJECT_NOREARM && i != before)
		ooh_rounds_all_anew();
	return 0;
}

static int inject_get(char *buf, const struct kernel_param *kp)
{
	return sprintf(buf, "%s\n", inject_names[ooh_inject]);
}

static const struct kernel_param_ops inject_ops = { .set = inject_set, .get = inject_get };
module_param_cb(inject, &inject_ops, NULL, 0600);
MODULE_PARM_DESC(inject, "fault to plant, for tests: none, norearm, droprecord, lost");
#endif

/* Another kernel will have this memory: Xen and the processor must not write to it then. */
static int machine_goes_down(struct notifier_block *nb, unsigned long how, void *data)
{
	ooh_rounds_shutdown();
	pr_info("the kernel goes down: logging has stopped\n");
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = { .notifier_call = machine_goes_down };

static int __init ooh_init(void)
{
	int ret;

	ret = ooh_log_init();
	if (ret)
		return ret;
	ret = ooh_pagecache_start();
	if (ret)
		goto err_log;
	ret = register_reboot_notifier(&reboot_notifier);
	if (ret)
		goto err_pagecache;
	ret = ooh_dev_init();
	if (ret)
		goto err_notifier;
	return 0;

err_notifier:
	unregister_reboot_notifier(&reboot_notifier);
err_pagecache:
	ooh_pagecache_stop();
err_log:
	ooh_log_exit();
	return ret;
}

static void __exit ooh_exit(void)
{
	ooh_dev_exit();
	unregister_reboot_notifier(&reboot_notifier);
	ooh_rounds_exit();
	ooh_pagecache_stop();
	ooh_rmap_exit();
	ooh_log_exit();
}

module_init(ooh_init);
module_exit(ooh_exit);
MODULE_DESCRIPTION("Dirty pages of processes from the hypervisor's page modification log");
MODULE_AUTHOR("The OoH authors");
MODULE_VERSION(OOH_VERSION);
MODULE_LICENSE("GPL");
