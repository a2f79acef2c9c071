// SPDX-License-Identifier: GPL-2.0-only
/*
 * Enumeration and VM entry: a processor says by MSR 492H that "enable EPML" may
 * be 1, and has the fields then; one that does not has neither. VM entry refuses
 * with error 7 what could not work. (Specification, 2, 3 and 8)
 */
#include "vm.h"

static void nothing(void)
{
}

TEST_ALWAYS(enumeration)
{
	static const u32 fields[] = { VMCS_EPML_VECTOR, VMCS_EPML_MARK, VMCS_EPML_INDEX,
				      VMCS_EPML_ADDRESS, VMCS_EPML_ADDRESS + 1 };

	for (u32 i = 0; i < ARRAY_LEN(fields); i++) {
		u64 value = 0x55, back = 0;

		if (!has_epml) {
			check_eq(vmx_read(fields[i], &back), ERROR_FIELD);
			check_eq(vmx_write(fields[i], value), ERROR_FIELD);
			continue;
		}
		check_eq(vmx_write(fields[i], value), 0);
		check_eq(vmx_read(fields[i], &back), 0);
		check_eq(back, value);
	}
	if (!has_epml)
		return;
	/* the two halves are one field, and 16 bits are 16 */
	vmwrite(VMCS_EPML_ADDRESS, 0x123456789abcd000);
	check_eq(vmread(VMCS_EPML_ADDRESS + 1), 0x12345678);
	vmwrite(VMCS_EPML_ADDRESS + 1, 0xff);
	check_eq(vmread(VMCS_EPML_ADDRESS), 0xff9abcd000);
	vmwrite(VMCS_EPML_MARK, 0x12345);
	check_eq(vmread(VMCS_EPML_MARK), 0x2345);
	/* what EPML needs */
	check_eq(rdmsr(MSR_VMX_EPT_VPID) >> 21 & 1, 1);
	check_eq(rdmsr(MSR_VMX_PROCBASED2) >> 32 &
			 (SECONDARY_EPT | SECONDARY_SHADOW | SECONDARY_VINTR),
		 SECONDARY_EPT | SECONDARY_SHADOW | SECONDARY_VINTR);
	check(rdmsr(0x48a) >= (VMCS_EPML_ADDRESS & 0x3fe), "highest index");
}

TEST(entry)
{
	vm_run(nothing);
	/* the index is not looked at */
	shadow_write(VMCS_EPML_INDEX, 0x1234);
	vm_run(nothing);
	check_eq(shadow_read(VMCS_EPML_INDEX), 0x1234);
}

TEST(entry_needs_ept)
{
	u64 eptp = vmread(VMCS_EPTP);

	vmwrite(VMCS_EPTP, eptp & ~(1ull << 6));
	check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
	vmwrite(VMCS_EPTP, eptp);
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) & ~SECONDARY_EPT);
	check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
}

TEST(entry_needs_a_shadow_vmcs)
{
	vmwrite(VMCS_LINK, ~0ull);
	check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
	vmwrite(VMCS_LINK, (u64)shadow_vmcs);
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) & ~SECONDARY_SHADOW);
	check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
}

TEST(entry_needs_an_address)
{
	static const u64 bad[] = { 1, 8, 0x800, 0xfff, 1ull << 62 };

	for (u32 i = 0; i < ARRAY_LEN(bad); i++) {
		vmwrite(VMCS_EPML_ADDRESS, (u64)epml_log | bad[i]);
		check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
	}
}

TEST(entry_needs_mark_and_vector)
{
	static const struct {
		u16 mark, vector;
		bool good;
	} settings[] = { { 0, 0, true },     { 0, 0xffff, true },  { 1, 16, true },
			 { 255, 255, true }, { 1, 15, false },	   { 1, 0, false },
			 { 1, 256, false },  { 256, 0x51, false }, { 0xffff, 0x51, false } };

	for (u32 i = 0; i < ARRAY_LEN(settings); i++) {
		vmwrite(VMCS_EPML_MARK, settings[i].mark);
		vmwrite(VMCS_EPML_VECTOR, settings[i].vector);
		check(!vm_entry_error(nothing) == settings[i].good, "setting %u", i);
	}
	/* a mark is a virtual interrupt; without a mark there is none */
	vmwrite(VMCS_SECONDARY, vmread(VMCS_SECONDARY) & ~SECONDARY_VINTR);
	vmwrite(VMCS_EPML_VECTOR, 0x51);
	vmwrite(VMCS_EPML_MARK, 1);
	check_eq(vm_entry_error(nothing), ERROR_CONTROLS);
	vmwrite(VMCS_EPML_MARK, 0);
	check_eq(vm_entry_error(nothing), 0);
}
