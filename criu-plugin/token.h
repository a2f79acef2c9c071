/* SPDX-License-Identifier: GPL-2.0-only */
/* Names that never come again, not even on a machine that was set back to a snapshot. */
#ifndef OOH_TOKEN_H
#define OOH_TOKEN_H

#include <stdint.h>

#define TOKEN_LEN 16

void token_make(uint8_t token[static TOKEN_LEN]);

#endif
