/* SPDX-License-Identifier: GPL-2.0-only */
/* /dev/ooh */
#ifndef OOH_DEV_H
#define OOH_DEV_H

int ooh_dev_init(void);
void ooh_dev_exit(void);

#endif /* OOH_DEV_H */
