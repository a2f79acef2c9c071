// SPDX-License-Identifier: GPL-2.0-only
/*
 * What only a kernel can do to the log that the processor writes for it. Module
 * parameters, in /sys/module/burst/parameters; each acts on the CPU it is used on:
 *
 *	write	"ADDRESS PAGES": adds one to the first byte of each of the caller's
 *		pages, through the direct map, with interrupts off
 *	index	the log's index, read and written
 *	field	a field of the VMCS to be read and written: EIO if neither can be, as
 *		is right for all but one
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <asm/asm.h>

#define INDEX 0x0816

static bool vmread(unsigned long field, unsigned long *value)
{
	u8 ok = 0;

	asm volatile("1:\tvmread %[field], %[value]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok), [value] "+r"(*value)
		     : [field] "r"(field)
		     : "cc");
	return ok;
}

static bool vmwrite(unsigned long field, unsigned long value)
{
	u8 ok = 0;

	asm volatile("1:\tvmwrite %[value], %[field]\n\t"
		     "seta %[ok]\n"
		     "2:\n\t" _ASM_EXTABLE(1b, 2b)
		     : [ok] "+q"(ok)
		     : [field] "r"(field), [value] "r"(value)
		     : "cc", "memory");
	return ok;
}

static int write_pages(const char *text, const struct kernel_param *kp)
{
	unsigned long addr, nr, i;
	struct page **pages;
	long got;

	if (sscanf(text, "%li %lu", &addr, &nr) != 2 || !nr || nr > 4096)
		return -EINVAL;
	pages = kvcalloc(nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	got = get_user_pages_fast(addr, nr, FOLL_WRITE, pages);
	local_irq_disable();
	for (i = 0; got > 0 && i < got; i++)
		++*(volatile u8 *)page_address(pages[i]);
	local_irq_enable();
	for (i = 0; got > 0 && i < got; i++)
		put_page(pages[i]);
	kvfree(pages);
	return got == nr ? 0 : -EFAULT;
}

static int set_index(const char *text, const struct kernel_param *kp)
{
	unsigned long value;

	if (kstrtoul(text, 0, &value))
		return -EINVAL;
	return vmwrite(INDEX, value) ? 0 : -EIO;
}

static int get_index(char *text, const struct kernel_param *kp)
{
	unsigned long value = 0;

	return vmread(INDEX, &value) ? sysfs_emit(text, "%lu\n", value) : -EIO;
}

static int try_field(const char *text, const struct kernel_param *kp)
{
	unsigned long field, value = 0;

	if (kstrtoul(text, 0, &field))
		return -EINVAL;
	return vmread(field, &value) | vmwrite(field, value) ? 0 : -EIO;
}

static const struct kernel_param_ops write_ops = { .set = write_pages };
static const struct kernel_param_ops index_ops = { .set = set_index, .get = get_index };
static const struct kernel_param_ops field_ops = { .set = try_field };
module_param_cb(write, &write_ops, NULL, 0200);
module_param_cb(index, &index_ops, NULL, 0600);
module_param_cb(field, &field_ops, NULL, 0200);

static int __init burst_init(void)
{
	return 0;
}

static void __exit burst_exit(void)
{
}

module_init(burst_init);
module_exit(burst_exit);
MODULE_DESCRIPTION("Hard treatment of the processor's log, for tests");
MODULE_LICENSE("GPL");
