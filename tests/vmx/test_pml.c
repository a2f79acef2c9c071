// SPDX-License-Identifier: GPL-2.0-only
/*
 * PML beside EPML: both get a record of the same access, and neither loses one
 * because the other is full: both are looked at, PML first, before either is
 * written. (Specification, 5)
 */
#include "vm.h"

static void write_page_3(void)
{
	*page(3) = 1;
}

static void read_page_3(void)
{
	(void)*page(3);
}

static void enable_pml(u32 index)
{
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) | SECONDARY_PML);
	vmwrite(VMCS_PML_INDEX, index);
	arm_pages(0, 8);
}

static void check_untouched(void)
{
	check_eq(armed(GPA(3)), true);
	check_eq(test_mem[3][0], 0);
	for (u32 i = 0; i < 512; i++)
		check_eq(pml_log[i], 0xeeeeeeeeeeeeeeee);
	for (u32 i = 0; i < RECORDS; i++)
		check_eq(epml_log[i].gva, 0xeeeeeeeeeeeeeeee);
}

TEST(both_logs)
{
	enable_pml(511);
	vm_run(write_page_3);
	check_pages(3, 1);
	check_eq(vmread(VMCS_PML_INDEX), 510);
	check_eq(pml_log[511], GPA(3));
	check_eq(pml_log[510], 0xeeeeeeeeeeeeeeee);
}

TEST(pml_alone)
{
	vmwrite(VMCS_TERTIARY, 0);
	enable_pml(511);
	vm_run(write_page_3);
	check_eq(records(), 0);
	check_eq(vmread(VMCS_PML_INDEX), 510);
	check_eq(pml_log[511], GPA(3));
}

TEST(epml_alone)
{
	arm_pages(0, 8);
	vm_run(write_page_3);
	check_pages(3, 1);
	check_eq(vmread(VMCS_PML_INDEX), 511);
	check_eq(pml_log[511], 0xeeeeeeeeeeeeeeee);
}

TEST(pml_full)
{
	enable_pml(0xffff);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	check_eq(qualification, FULL_PML);
	check_untouched();
	check_eq(records(), 0);
	check_eq(vmread(VMCS_PML_INDEX), 0xffff);
	vmwrite(VMCS_PML_INDEX, 511);
	vm_finish();
	check_pages(3, 1);
	check_eq(pml_log[511], GPA(3));
}

/* Without EPML only bit 12 of the qualification is defined: the others are told, not judged. */
TEST(pml_full_without_epml)
{
	vmwrite(VMCS_TERTIARY, 0);
	enable_pml(0xffff);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	print("[qualification %lx] ", qualification);
	check_eq(qualification & 1 << 12, 0);
	check_untouched();
	vmwrite(VMCS_PML_INDEX, 511);
	vm_finish();
	check_eq(vmread(VMCS_PML_INDEX), 510);
	check_eq(pml_log[511], GPA(3));
}

TEST(epml_full)
{
	enable_pml(511);
	shadow_write(VMCS_EPML_INDEX, 0xffff);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	check_eq(qualification, FULL_EPML);
	check_untouched();
	check_eq(vmread(VMCS_PML_INDEX), 511);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	check_pages(3, 1);
	check_eq(vmread(VMCS_PML_INDEX), 510);
	check_eq(pml_log[511], GPA(3));
	check_eq(pml_log[510], 0xeeeeeeeeeeeeeeee);
}

TEST(both_full)
{
	enable_pml(512);
	shadow_write(VMCS_EPML_INDEX, 256);
	check_eq(vm_start(write_page_3), EXIT_LOG_FULL);
	check_eq(qualification, FULL_PML);
	vmwrite(VMCS_PML_INDEX, 0);
	check_eq(vm_resume(), EXIT_LOG_FULL);
	check_eq(qualification, FULL_EPML);
	check_untouched();
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	check_pages(3, 1);
	check_eq(pml_log[0], GPA(3));
	check_eq(vmread(VMCS_PML_INDEX), 0xffff);
}

/* PML's index is looked at for an accessed flag too (SDM); that writes no record */
TEST(accessed_flag)
{
	enable_pml(0xffff);
	*ept_leaf(GPA(3)) &= ~(u64)EPT_A;
	check_eq(vm_start(read_page_3), EXIT_LOG_FULL);
	check_eq(qualification, FULL_PML);
	vmwrite(VMCS_PML_INDEX, 511);
	vm_finish();
	check_untouched();
	check_eq(vmread(VMCS_PML_INDEX), 511);
	check_eq(records(), 0);
}
