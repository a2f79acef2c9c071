// SPDX-License-Identifier: GPL-2.0-only
#include "counters.h"

struct ooh_counters ooh_counters;
