// SPDX-License-Identifier: GPL-2.0-only
#include "inject.h"

enum ooh_inject ooh_inject;
