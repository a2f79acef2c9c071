// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh: the dirty pages of processes, from the log the processor keeps for the
 * hypervisor. include/linux/ooh.h describes what user space gets.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/string.h>

#include "ooh.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

DEFINE_MUTEX(ooh_lock);

unsigned int ooh_ring_pages = OOH_RING_AUTO;
module_param_named(ring_pages, ooh_ring_pages, uint, 0400);
MODULE_PARM_DESC(ring_pages,
		 "pages of the ring with Xen: 1 + a power of two; default: room for all memory");

enum ooh_inject ooh_inject;
static const char *const inject_names[] = { "none", "norearm", "droprecord", "corrupt" };

static int inject_set(const char *val, const struct kernel_param *kp)
{
	int i = sysfs_match_string(inject_names, val);

	if (i < 0)
		return i;
	WRITE_ONCE(ooh_inject, i);
	return 0;
}

static int inject_get(char *buf, const struct kernel_param *kp)
{
	return sprintf(buf, "%s\n", inject_names[ooh_inject]);
}

static const struct kernel_param_ops inject_ops = { .set = inject_set, .get = inject_get };
module_param_cb(inject, &inject_ops, NULL, 0600);
MODULE_PARM_DESC(inject, "fault to put in, for tests: none, norearm, droprecord, corrupt");

static int __init ooh_init(void)
{
	int ret;

	ret = ooh_frames_init();
	if (ret)
		return ret;
	ret = ooh_spml_init();
	if (ret)
		goto err_frames;
	ret = ooh_epml_init();
	if (ret)
		goto err_spml;
	ret = ooh_dev_init();
	if (ret)
		goto err_epml;
	return 0;

err_epml:
	ooh_epml_exit();
err_spml:
	ooh_spml_exit();
err_frames:
	ooh_frames_exit();
	return ret;
}

static void __exit ooh_exit(void)
{
	ooh_dev_exit();
	ooh_epml_exit();
	ooh_spml_exit();
	ooh_leaf_exit();
	ooh_frames_exit();
}

module_init(ooh_init);
module_exit(ooh_exit);
MODULE_DESCRIPTION("Dirty pages of processes from the hypervisor's page modification log");
MODULE_LICENSE("GPL");
