/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults planted on purpose, to prove that tests see them. Only in a debug build (make
 * DEBUG=1): a module for use cannot be made to report less than was written.
 */
#ifndef OOH_INJECT_H
#define OOH_INJECT_H

#include <linux/compiler.h>

enum ooh_inject { OOH_INJECT_NONE, OOH_INJECT_NOREARM, OOH_INJECT_DROPRECORD, OOH_INJECT_LOST };

/* What DROPRECORD drops of a long: every 16th bit. */
#define OOH_INJECT_SIXTEENTH (~0UL / 0xffff)

#ifdef OOH_DEBUG
extern enum ooh_inject ooh_inject;
#define ooh_injected()	 READ_ONCE(ooh_inject)
#define ooh_inject_end() WRITE_ONCE(ooh_inject, OOH_INJECT_NONE)
#else
#define ooh_injected() OOH_INJECT_NONE
#define ooh_inject_end() \
	do {             \
	} while (0)
#endif

#endif /* OOH_INJECT_H */
