// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sub-page permission: in a page that EPT makes read-only with the SPP bit set, a
 * table says for each 128 bytes whether they may be written. A write that it
 * allows sets the dirty flag and makes a record as any other; one that it denies
 * is an EPT violation, and does neither. (Specification, 5)
 */
#include "vm.h"

#define SECONDARY_SPP (1u << 23)
#define VMCS_SPPTP    0x2030
#define EPT_SPP	      (1ull << 61)

static u64 spp_table[4][512] __attribute__((aligned(4096)));
static volatile u64 offset;

static void write_sub_page(void)
{
	page(3)[offset / 8] = 1;
}

TEST(sub_page_permission)
{
	u64 *entry = ept_leaf(GPA(3));

	if (!(rdmsr(MSR_VMX_PROCBASED2) >> 32 & SECONDARY_SPP))
		skip("this processor has no SPP");
	for (u32 level = 0; level < 3; level++)
		spp_table[level][GPA(3) >> (39 - 9 * level) & 511] = (u64)spp_table[level + 1] | 1;
	/* bit 2n: sub-page n may be written */
	spp_table[3][GPA(3) >> 12 & 511] = 1ull << (2 * 5);
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) | SECONDARY_SPP);
	vmwrite(VMCS_SPPTP, (u64)spp_table[0]);
	arm_pages(0, 8);
	*entry = (*entry & ~(u64)EPT_WRITE) | EPT_SPP;

	offset = 4 * 128;
	check_eq(vm_start(write_sub_page), EXIT_EPT_VIOLATION);
	check_eq(records(), 0);
	check_eq(armed(GPA(3)), true);
	offset = 5 * 128;
	vm_run(write_sub_page);
	check_pages(3, 1);
	/* it is dirty now, although each write is looked at */
	vm_run(write_sub_page);
	check_eq(records(), 1);
	check_eq(test_mem[3][offset], 1);
}
