/* SPDX-License-Identifier: GPL-2.0-only */
/* What log.c and log-epml.c need of the hypervisor's log. */
#ifndef OOH_LOG_SPML_H
#define OOH_LOG_SPML_H

#include <linux/types.h>

struct ooh_log_sink;

int ooh_spml_start(void);
int ooh_spml_anew(void); /* what the hypervisor knows is of no use. 0, -ENOMEM, -ENODEV */
u64 ooh_spml_waiting(void);
u64 ooh_spml_max_tracked(void);
u32 ooh_spml_via(void); /* OOH_VIA_* */
int ooh_spml_arm(const u64 *pfns, unsigned int nr, void (*refused)(unsigned long pfn));
int ooh_spml_forget(const u64 *pfns, unsigned int nr);
int ooh_spml_drain(const struct ooh_log_sink *sink, u32 *reasons);
void ooh_spml_shutdown(void);

extern const struct ooh_log_sink ooh_spml_nobody; /* for what was logged before a tracker came */

#endif /* OOH_LOG_SPML_H */
