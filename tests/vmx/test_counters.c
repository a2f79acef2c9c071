// SPDX-License-Identifier: GPL-2.0-only
/*
 * The emulator's event counters, which measurements rely on: records of both logs
 * and exits of both full logs apart, although those have one exit reason. An
 * interrupt request is counted for each record that made one.
 */
#include "../../testbed/agent/simcall.h"
#include "vm.h"

static u64 begin[SIMCALL_CNT_MAX], now[SIMCALL_CNT_MAX];

static void write_4_pages(void)
{
	for (u32 i = 0; i < 4; i++)
		*page(i) = 1;
}

static u64 since(u32 counter)
{
	return now[counter] - begin[counter];
}

TEST(counters)
{
	if (simcall_counters(begin, SIMCALL_CNT_MAX) < SIMCALL_CNT_MAX)
		error("the emulator has no counters");
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) | SECONDARY_PML);
	vmwrite(VMCS_PML_INDEX, 0);
	shadow_write(VMCS_EPML_INDEX, 1);
	vmwrite(VMCS_EPML_MARK, 1);
	arm_pages(0, 4);
	check_eq(vm_start(write_4_pages), EXIT_LOG_FULL);
	check_eq(qualification, FULL_PML);
	vmwrite(VMCS_PML_INDEX, 511);
	check_eq(vm_resume(), EXIT_LOG_FULL);
	check_eq(qualification, FULL_EPML);
	shadow_write(VMCS_EPML_INDEX, RECORDS - 1);
	vm_finish();
	simcall_counters(now, SIMCALL_CNT_MAX);
	check_eq(since(SIMCALL_CNT_PML_RECORDS), 4);
	check_eq(since(SIMCALL_CNT_PML_FULL), 1);
	check_eq(since(SIMCALL_CNT_EPML_RECORDS), 4);
	check_eq(since(SIMCALL_CNT_EPML_FULL), 1);
	/* after the first record there was room for one, after the second for none */
	check_eq(since(SIMCALL_CNT_EPML_NOTIFY), 2);
	check_eq(since(SIMCALL_CNT_EXIT_REASON + EXIT_LOG_FULL), 2);
	check_eq(since(SIMCALL_CNT_EXITS), 3);
	check_eq(since(SIMCALL_CNT_ENTRIES), 3);
}
