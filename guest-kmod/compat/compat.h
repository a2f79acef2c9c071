/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between kernel versions, and what was tested. */
#ifndef OOH_COMPAT_H
#define OOH_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "ooh: tested with Linux 6.12 only; older kernels need a look at leaf.c (page-table helpers)"
#endif
#ifndef CONFIG_X86_64
#error "ooh: x86-64 only"
#endif

/*
 * Header of the ABI with Xen, which is written for Xen's public headers:
 * what it takes from there.
 */
#include <xen/interface/xen.h>

#ifndef DEFINE_XEN_GUEST_HANDLE
#define DEFINE_XEN_GUEST_HANDLE(name) DEFINE_GUEST_HANDLE(name)
#endif

#endif /* OOH_COMPAT_H */
