// SPDX-License-Identifier: GPL-2.0-only
/*
 * Did any of many page-table entries change?
 *
 * The accessed and dirty flags that the CPU sets make a table look written in each round in
 * which it is used. So this compare is most of what a round costs for a process that writes
 * here and there. It uses the widest registers that the CPU has.
 *
 * Entries are read without a lock. One that is read while it is being written may be
 * misjudged. But that write is logged, so the table is read again in the next round.
 */
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>

#include "pagetable-simd.h"

enum how { SCALAR, AVX2, AVX512 };

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

static bool differ_scalar(const u64 *now, const u64 *then, unsigned int nr, u64 mask)
{
	u64 diff = 0;

	for (; nr; nr--)
		diff |= READ_ONCE(*now++) ^ *then++;
	return diff & mask;
}

/* clang-format off */
static bool differ_avx2(const u64 *now, const u64 *then, unsigned int nr, u64 mask)
{
	unsigned int blocks = nr / OOH_BLOCK;
	bool same;

#define STEP(at)                                    \
	"vmovdqu " #at "(%[now]), %%ymm1\n\t"       \
	"vpxor " #at "(%[then]), %%ymm1, %%ymm1\n\t" \
	"vpor %%ymm1, %%ymm0, %%ymm0\n\t"
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n"
		     "1:\n\t"
		     STEP(0) STEP(32) STEP(64) STEP(96) STEP(128) STEP(160) STEP(192) STEP(224)
		     STEP(256) STEP(288) STEP(320) STEP(352) STEP(384) STEP(416) STEP(448) STEP(480)
		     "add $512, %[now]\n\t"
		     "add $512, %[then]\n\t"
		     "dec %[blocks]\n\t"
		     "jnz 1b\n\t"
		     "vpbroadcastq %[mask], %%ymm1\n\t"
		     "vptest %%ymm1, %%ymm0"
		     : "=@ccz"(same), [now] "+r"(now), [then] "+r"(then), [blocks] "+r"(blocks)
		     : [mask] "m"(mask)
		     : "memory");
#undef STEP
	return !same;
}

static bool differ_avx512(const u64 *now, const u64 *then, unsigned int nr, u64 mask)
{
	unsigned int blocks = nr / OOH_BLOCK;
	bool same;

	/* 0xf6: what is there already, or the two differ */
#define STEP(at)                                  \
	"vmovdqu64 " #at "(%[now]), %%zmm1\n\t"   \
	"vpternlogq $0xf6, " #at "(%[then]), %%zmm1, %%zmm0\n\t"
	asm volatile("vpxorq %%zmm0, %%zmm0, %%zmm0\n"
		     "1:\n\t"
		     STEP(0) STEP(64) STEP(128) STEP(192) STEP(256) STEP(320) STEP(384) STEP(448)
		     "add $512, %[now]\n\t"
		     "add $512, %[then]\n\t"
		     "dec %[blocks]\n\t"
		     "jnz 1b\n\t"
		     "vptestmq %[mask]%{1to8%}, %%zmm0, %%k1\n\t"
		     "kortestw %%k1, %%k1"
		     : "=@ccz"(same), [now] "+r"(now), [then] "+r"(then), [blocks] "+r"(blocks)
		     : [mask] "m"(mask)
		     : "memory");
#undef STEP
	return !same;
}
/* clang-format on */

bool ooh_entries_differ(int how, const u64 *now, const u64 *then, unsigned int nr, u64 mask)
{
	switch (how) {
	case AVX512:
		return differ_avx512(now, then, nr, mask);
	case AVX2:
		return differ_avx2(now, then, nr, mask);
	default:
		return differ_scalar(now, then, nr, mask);
	}
}
