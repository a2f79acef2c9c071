// SPDX-License-Identifier: GPL-2.0-only
/* QEMU's device ooh-pml, for guests of KVM. include/qemu/ooh-pml.h is the contract. */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <qemu/ooh-pml.h>

#include "compat/compat.h"
#include "counters.h"
#include "transport.h"

/* Each operation is an exit to QEMU, so it gets much at once: 4 MiB of scattered pages. */
#define RANGES 1024
/* The most that QEMU hands out at once. */
#define NR_GROUPS  1024
#define RANGES_LEN (RANGES * sizeof(struct ooh_spml_range))
#define GROUPS_LEN (NR_GROUPS * sizeof(struct ooh_spml_group))

/* How often, at most, an operation looks at the log for those that wait for it. */
#define LOOK (HZ / 10)

/* Stays there if the device cannot read the operation. The device has no such error. */
#define UNANSWERED (-EIO)

static struct pci_dev *device;
static void __iomem *registers;

/* Each in one piece of physical memory: the device knows nothing of page tables. */
static struct ooh_spml_range *ranges;
static struct ooh_spml_group *groups;
static struct ooh_pml_op *operation; /* ooh_rmap_lock */
static struct ooh_pml_op *look;	     /* look_lock */
static DEFINE_MUTEX(look_lock);
static u64 known_waiting;
static unsigned long next_look;

/* When the write returns, the device has done the operation. */
static int ring(struct ooh_pml_op *op)
{
	op->rc = UNANSWERED;
	/* the compiler has to write all of it before, and to read it anew after */
	barrier();
	writeq(virt_to_phys(op), registers + OOH_PML_REG_DOORBELL);
	barrier();
	return READ_ONCE(op->rc);
}

static int qemu_op(u32 cmd)
{
	operation->cmd = cmd;
	ooh_counters.hypercalls++;
	return ring(operation);
}

static int probe(struct pci_dev *dev, const struct pci_device_id *id)
{
	int ret;

	if (device)
		return -EBUSY;
	ret = pci_enable_device_mem(dev);
	if (ret)
		return ret;
	ret = pci_request_region(dev, 0, KBUILD_MODNAME);
	if (ret)
		goto err_enabled;
	registers = pci_iomap(dev, 0, 0);
	ret = -ENOMEM;
	if (!registers)
		goto err_requested;
	device = dev;
	return 0;

err_requested:
	pci_release_region(dev, 0);
err_enabled:
	pci_disable_device(dev);
	return ret;
}

static void remove(struct pci_dev *dev)
{
	device = NULL;
	pci_iounmap(dev, registers);
	pci_release_region(dev, 0);
	pci_disable_device(dev);
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(OOH_PML_PCI_VENDOR_ID, OOH_PML_PCI_DEVICE_ID) }, {}
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver driver = {
	.name = KBUILD_MODNAME,
	.id_table = ids,
	.probe = probe,
	.remove = remove,
	/* unbound only with the module: trackers depend on the device */
	.driver.suppress_bind_attrs = true,
};

static int check_device(void)
{
	u32 magic = readl(registers + OOH_PML_REG_MAGIC);
	u32 version = readl(registers + OOH_PML_REG_VERSION);

	if (magic != OOH_PML_MAGIC) {
		pr_err("%s is no ooh-pml device: magic %#x\n", pci_name(device), magic);
		return -ENODEV;
	}
	if (version != OOH_PML_INTERFACE_VERSION) {
		pr_err("QEMU's device ooh-pml has version %u, this module knows %u\n", version,
		       OOH_PML_INTERFACE_VERSION);
		return -ENODEV;
	}
	return 0;
}

static void free_all(void)
{
	free_pages((unsigned long)ranges, get_order(RANGES_LEN));
	free_pages((unsigned long)groups, get_order(GROUPS_LEN));
	kfree(operation);
	kfree(look);
}

static int qemu_open(struct ooh_spml_room *room)
{
	int ret;

	BUILD_BUG_ON(sizeof(*ranges) != sizeof(struct ooh_pml_range));
	BUILD_BUG_ON(offsetof(struct ooh_spml_range, nr) != offsetof(struct ooh_pml_range, nr));
	BUILD_BUG_ON(sizeof(*groups) != sizeof(struct ooh_pml_group));
	BUILD_BUG_ON(OOH_GROUP_FRAMES != OOH_PML_GROUP_FRAMES);
	ret = pci_register_driver(&driver);
	if (ret) {
		pr_err("cannot register a driver for QEMU's device: error %d\n", ret);
		return ret;
	}
	ret = -ENXIO;
	if (!device)
		goto err_driver;
	ret = check_device();
	if (ret)
		goto err_driver;
	ranges = (void *)__get_free_pages(GFP_KERNEL, get_order(RANGES_LEN));
	groups = (void *)__get_free_pages(GFP_KERNEL | __GFP_RETRY_MAYFAIL, get_order(GROUPS_LEN));
	/* zeroed, as reserved fields and those that an operation does not use have to be */
	operation = kzalloc(sizeof(*operation), GFP_KERNEL);
	look = kzalloc(sizeof(*look), GFP_KERNEL);
	ret = -ENOMEM;
	if (!ranges || !groups || !operation || !look) {
		pr_err("no memory for what QEMU reports\n");
		goto err_memory;
	}
	ret = qemu_op(OOH_PML_INFO);
	if (ret) {
		pr_err("QEMU's device does not answer: error %d\n", ret);
		ret = -ENODEV;
		goto err_memory;
	}
	*room = (struct ooh_spml_room){
		.max_tracked = operation->u.info.max_tracked,
		.ranges = ranges,
		.nr_ranges = RANGES,
		.groups = groups,
		.nr_groups = NR_GROUPS,
	};
	return 0;

err_memory:
	free_all();
err_driver:
	pci_unregister_driver(&driver);
	return ret;
}

/* The device writes during operations only: it keeps no page. */
static void qemu_close(bool pages_kept)
{
	free_all();
	pci_unregister_driver(&driver);
}

static int qemu_start(void)
{
	memset(&operation->u, 0, sizeof(operation->u));
	WRITE_ONCE(known_waiting, 0);
	return qemu_op(OOH_PML_START);
}

static int qemu_stop(void)
{
	return qemu_op(OOH_PML_STOP);
}

/* QEMU does a bounded amount of work in one operation. */
static int range_op(u32 cmd, unsigned int nr, struct ooh_spml_place *place)
{
	struct ooh_pml_ranges *arg = &operation->u.ranges;
	u64 began = ktime_get_ns();
	int ret;

	*arg = (struct ooh_pml_ranges){
		.ranges = virt_to_phys(ranges),
		.nr_ranges = nr,
	};
	do {
		ret = qemu_op(cmd);
	} while (!ret && arg->done < nr);
	*place = (struct ooh_spml_place){ arg->done, arg->offset };
	ooh_counters.arm_ns += ktime_get_ns() - began;
	return ret;
}

/*
 * What KVM does not map yet (nobody touched it since it last took its mapping away) it maps at the
 * first access, writable and dirty, even if that reads. That is not to be after it was armed.
 */
static void touch_frames(unsigned int nr)
{
	unsigned int i;
	char byte;
	u64 gfn;

	for (i = 0; i < nr; i++) {
		for (gfn = ranges[i].gfn; gfn < ranges[i].gfn + ranges[i].nr; gfn++)
			/* some have no mapping: memfd_secret(2), those that are broken */
			(void)copy_from_kernel_nofault(&byte, __va(PFN_PHYS(gfn)), 1);
		cond_resched();
	}
}

static int qemu_arm(unsigned int nr, struct ooh_spml_place *place)
{
	touch_frames(nr);
	return range_op(OOH_PML_ARM, nr, place);
}

static int qemu_forget(unsigned int nr)
{
	struct ooh_spml_place place;

	return range_op(OOH_PML_FORGET, nr, &place);
}

static int qemu_collect(struct ooh_spml_round *round)
{
	struct ooh_pml_collect *c = &operation->u.collect;
	int ret;

	*c = (struct ooh_pml_collect){
		.groups = virt_to_phys(groups),
		.nr_groups = NR_GROUPS,
		.cursor = round->cursor,
	};
	ret = qemu_op(OOH_PML_COLLECT);
	WRITE_ONCE(known_waiting, ret == -ENODEV ? U64_MAX : c->logged);
	*round = (struct ooh_spml_round){
		.done = c->done,
		.more = c->flags & OOH_PML_COLLECT_MORE,
		.cursor = c->cursor,
	};
	return ret;
}

/* The device sends no event: it has to be asked. */
static u64 qemu_waiting(void)
{
	if (time_is_after_jiffies(READ_ONCE(next_look)) || !mutex_trylock(&look_lock))
		return READ_ONCE(known_waiting);
	look->cmd = OOH_PML_COLLECT;
	look->u.collect = (struct ooh_pml_collect){ .flags = OOH_PML_COLLECT_PEEK };
	WRITE_ONCE(known_waiting, ring(look) ? U64_MAX : look->u.collect.logged);
	WRITE_ONCE(next_look, jiffies + LOOK);
	mutex_unlock(&look_lock);
	return READ_ONCE(known_waiting);
}

const struct ooh_transport ooh_transport_qemu = {
	.name = "QEMU",
	.via = OOH_VIA_QEMU,
	.idle_costs = true,
	.open = qemu_open,
	.close = qemu_close,
	.start = qemu_start,
	.stop = qemu_stop,
	.arm = qemu_arm,
	.forget = qemu_forget,
	.collect = qemu_collect,
	.waiting = qemu_waiting,
};
