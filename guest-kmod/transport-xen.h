/* SPDX-License-Identifier: GPL-2.0-only */
/* What log-epml.c needs of Xen beside the bitmap. */
#ifndef OOH_TRANSPORT_XEN_H
#define OOH_TRANSPORT_XEN_H

#include <linux/types.h>
/*
 * Xen's public header includes those beside it. This is what it needs of them.
 */
#include <xen/interface/xen.h>
#ifndef DEFINE_XEN_GUEST_HANDLE
#define DEFINE_XEN_GUEST_HANDLE(name) DEFINE_GUEST_HANDLE(name)
#endif
#include "xen-spml.h"

u32 ooh_xen_features(void); /* the bits of Xen's leaf for HVM guests; 0: no Xen */
int ooh_xen_op(struct xen_hvm_spml *op);
int ooh_xen_ranges(u32 cmd, struct xen_spml_range *r, unsigned int nr, struct xen_hvm_spml *op);

#endif /* OOH_TRANSPORT_XEN_H */
