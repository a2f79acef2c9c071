// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is one of many page-table entries not what it was?
 *
 * The accessed and dirty flags that the CPU sets make a table look written in each
 * round in which it is used, so this compare is most of what a round costs to a
 * process that writes here and there. It goes by the widest registers there are.
 *
 * Entries are read without a lock. One that is read while it is being written may be
 * misjudged; that write is logged, and the table comes again in the next round.
 */
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>

#include "ooh.h"

enum how { SCALAR, AVX2, AVX512 };

/* What differs may do so from here on: between the two the task is not preempted. */
int ooh_entries_begin(void)
{
	enum how how = boot_cpu_has(X86_FEATURE_AVX512F) ? AVX512
		       : boot_cpu_has(X86_FEATURE_AVX2)	 ? AVX2
							 : SCALAR;

	if (how == SCALAR || !irq_fpu_usable())
		return SCALAR;
	kernel_fpu_begin();
	return how;
}

void ooh_entries_end(int how)
{
	if (how != SCALAR)
		kernel_fpu_end();
}

static bool differ_scalar(const u64 *new, const u64 *old, unsigned int nr, u64 mask)
{
	u64 diff = 0;

	for (; nr; nr--)
		diff |= READ_ONCE(*new ++) ^ *old++;
	return diff & mask;
}

/* clang-format off */
static bool differ_avx2(const u64 *new, const u64 *old, unsigned int nr, u64 mask)
{
	unsigned int blocks = nr / OOH_BLOCK;
	bool same;

#define STEP(at)                                    \
	"vmovdqu " #at "(%[new]), %%ymm1\n\t"       \
	"vpxor " #at "(%[old]), %%ymm1, %%ymm1\n\t" \
	"vpor %%ymm1, %%ymm0, %%ymm0\n\t"
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n"
		     "1:\n\t"
		     STEP(0) STEP(32) STEP(64) STEP(96) STEP(128) STEP(160) STEP(192) STEP(224)
		     STEP(256) STEP(288) STEP(320) STEP(352) STEP(384) STEP(416) STEP(448) STEP(480)
		     "add $512, %[new]\n\t"
		     "add $512, %[old]\n\t"
		     "dec %[blocks]\n\t"
		     "jnz 1b\n\t"
		     "vpbroadcastq %[mask], %%ymm1\n\t"
		     "vptest %%ymm1, %%ymm0"
		     : "=@ccz"(same), [new] "+r"(new), [old] "+r"(old), [blocks] "+r"(blocks)
		     : [mask] "m"(mask)
		     : "memory");
#undef STEP
	return !same;
}

static bool differ_avx512(const u64 *new, const u64 *old, unsigned int nr, u64 mask)
{
	unsigned int blocks = nr / OOH_BLOCK;
	bool same;

	/* 0xf6: what is there already, or the two differ */
#define STEP(at)                                  \
	"vmovdqu64 " #at "(%[new]), %%zmm1\n\t"   \
	"vpternlogq $0xf6, " #at "(%[old]), %%zmm1, %%zmm0\n\t"
	asm volatile("vpxorq %%zmm0, %%zmm0, %%zmm0\n"
		     "1:\n\t"
		     STEP(0) STEP(64) STEP(128) STEP(192) STEP(256) STEP(320) STEP(384) STEP(448)
		     "add $512, %[new]\n\t"
		     "add $512, %[old]\n\t"
		     "dec %[blocks]\n\t"
		     "jnz 1b\n\t"
		     "vptestmq %[mask]%{1to8%}, %%zmm0, %%k1\n\t"
		     "kortestw %%k1, %%k1"
		     : "=@ccz"(same), [new] "+r"(new), [old] "+r"(old), [blocks] "+r"(blocks)
		     : [mask] "m"(mask)
		     : "memory");
#undef STEP
	return !same;
}
/* clang-format on */

/* By the bits of mask; nr: a multiple of OOH_BLOCK. how: of ooh_entries_begin(), or 0. */
bool ooh_entries_differ(int how, const u64 *new, const u64 *old, unsigned int nr, u64 mask)
{
	switch (how) {
	case AVX512:
		return differ_avx512(new, old, nr, mask);
	case AVX2:
		return differ_avx2(new, old, nr, mask);
	default:
		return differ_scalar(new, old, nr, mask);
	}
}
