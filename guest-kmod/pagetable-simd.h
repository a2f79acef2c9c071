/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OOH_PAGETABLE_SIMD_H
#define OOH_PAGETABLE_SIMD_H

#include <linux/types.h>

#define OOH_BLOCK 64 /* entries compared together */

/* Between these two, whose result ooh_entries_differ() gets, the task is not preempted. */
int ooh_entries_begin(void);
void ooh_entries_end(int how);
/* In the bits of mask. nr: a multiple of OOH_BLOCK. how: from ooh_entries_begin(), or 0 */
bool ooh_entries_differ(int how, const u64 *now, const u64 *then, unsigned int nr, u64 mask);

#endif /* OOH_PAGETABLE_SIMD_H */
