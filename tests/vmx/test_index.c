// SPDX-License-Identifier: GPL-2.0-only
/*
 * The index lives in the shadow VMCS, and nowhere else: the guest reads and
 * writes it by VMREAD and VMWRITE without a VM exit where the bitmaps let it, and
 * the next record goes where it says. Every other field exits. What the guest
 * writes there is not trusted: above 255 there is no room. (Specification, 3)
 */
#include "vm.h"

static volatile u64 seen[4];
static volatile int failed;
static volatile u64 field;

static void read_and_write(void)
{
	u64 v;

	failed = guest_vmread(VMCS_EPML_INDEX, &v);
	seen[0] = v;
	*page(1) = 1;
	failed |= guest_vmread(VMCS_EPML_INDEX, &v);
	seen[1] = v;
	failed |= guest_vmwrite(VMCS_EPML_INDEX, 100);
	*page(2) = 1;
	failed |= guest_vmread(VMCS_EPML_INDEX, &v);
	seen[2] = v;
}

TEST(guest_reads_and_writes_it)
{
	arm_pages(0, 8);
	vm_run(read_and_write);
	check_eq(failed, 0);
	check_eq(seen[0], 255);
	check_eq(seen[1], 254);
	check_eq(seen[2], 99);
	check_eq(shadow_read(VMCS_EPML_INDEX), 99);
	check_eq(epml_log[255].gva, GVA(1));
	check_eq(epml_log[100].gva, GVA(2));
	check_eq(epml_log[100].gpa, GPA(2));
	check_eq(epml_log[254].gva, 0xeeeeeeeeeeeeeeee);
	/* the ordinary VMCS has such a field too, without a function */
	check_eq(vmread(VMCS_EPML_INDEX), 0);
}

static void count_down(void)
{
	for (u32 i = 0; i < RECORDS; i++)
		*page(i) = 1;
}

/* 256 records fit; the index goes from 0 to FFFFH */
TEST(wrap)
{
	arm_pages(0, PAGES);
	vm_run(count_down);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0xffff);
	for (u32 i = 0; i < RECORDS; i++) {
		check_eq(record(i)->gva, GVA(i));
		check_eq(record(i)->gpa, GPA(i));
	}
	check_eq(record(RECORDS - 1) - epml_log, 0);
}

static void bad_index(void)
{
	guest_vmwrite(VMCS_EPML_INDEX, field);
	*page(1) = 1;
}

TEST(out_of_range)
{
	static const u16 bad[] = { 0x1234, 0xffff, 0x8000, 256, 511 };

	for (u32 i = 0; i < ARRAY_LEN(bad); i++) {
		arm_pages(1, 1);
		field = bad[i];
		check_eq(vm_start(bad_index), EXIT_LOG_FULL);
		check_eq(qualification, FULL_EPML);
		check_eq(shadow_read(VMCS_EPML_INDEX), bad[i]);
		check_eq(armed(GPA(1)), true);
	}
	/* nothing was written, to the log or behind it */
	for (u32 i = 0; i < RECORDS; i++)
		check_eq(epml_log[i].gva, 0xeeeeeeeeeeeeeeee);
}

/* the VMM's own view: it sets the index while the guest is not running */
TEST(host_writes_it)
{
	shadow_write(VMCS_EPML_INDEX, 7);
	arm_pages(1, 1);
	field = 7;
	vm_run(bad_index);
	check_eq(epml_log[7].gva, GVA(1));
	check_eq(shadow_read(VMCS_EPML_INDEX), 6);
}

static void read_field(void)
{
	u64 v = 0x5ec4e7;

	failed = guest_vmread(field, &v);
	seen[0] = v;
}

static void write_field(void)
{
	failed = guest_vmwrite(field, 0);
}

/*
 * With the bitmaps of a VMM that gives the guest the index alone, all other
 * encodings exit, so that no machine address can be seen or set.
 */
TEST(nothing_else_passes)
{
	for (u32 enc = 0; enc <= 0x8000; enc++) {
		u32 reason, expected = EXIT_VMREAD;

		if (enc == VMCS_EPML_INDEX)
			continue;
		field = enc == 0x8000 ? 0x100000000 | VMCS_EPML_INDEX : enc;
		reason = vm_start(read_field);
		if (reason == expected) {
			expected = EXIT_VMWRITE;
			reason = vm_start(write_field);
		}
		if (reason != expected)
			end(FAILURE, "field %lx: exit %u, expected %u", field, reason, expected);
	}
	field = VMCS_EPML_INDEX;
	vm_run(read_field);
	check_eq(seen[0], 255);
	check_eq(failed, 0);
}

/* no exit, and not for user mode either: #GP, as the SDM has it */
static void user_fault(struct frame *f)
{
	seen[3] = f->vector;
	f->rip = (u64)guest_return;
}

TEST(not_in_user_mode)
{
	guest_hook = user_fault;
	seen[3] = 0;
	field = VMCS_EPML_INDEX;
	vm_run_user(read_field);
	check_eq(seen[3], 13);
	seen[3] = 0;
	vm_run_user(write_field);
	check_eq(seen[3], 13);
	check_eq(shadow_read(VMCS_EPML_INDEX), 255);
}
