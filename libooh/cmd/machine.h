/* SPDX-License-Identifier: GPL-2.0-only */
/* The machine that ooh runs on, and what is in the way of the processor's log there. */
#ifndef OOH_MACHINE_H
#define OOH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

enum machine_kind {
	BARE,	   /* no hypervisor */
	XEN_GUEST, /* HVM or PVH */
	XEN_PV_GUEST,
	XEN_HOST, /* dom0 */
	KVM_GUEST,
	OTHER_GUEST, /* of a hypervisor that we have no patches for */
};

enum answer { NO, YES, UNKNOWN };

/* Facts, each as it is seen from here */
struct machine {
	enum machine_kind kind;
	char hypervisor[32];
	unsigned int linux_major, linux_minor;
	char release[65];
	enum answer pml;     /* the processor has it; a guest does not see */
	enum answer offered; /* a guest: the hypervisor has the log for it; dom0: for its guests */
	enum answer patched; /* Xen knows SPML at all */
	enum answer installed; /* the module, for this kernel */
	bool loaded;
	bool locked_down;   /* the kernel takes signed modules alone */
	int device_error;   /* of opening /dev/ooh; 0: it opens */
	bool may_trace_all; /* root, or CAP_SYS_PTRACE */
	int ptrace_scope;   /* Yama's; 0 without it */
};

struct obstacle {
	const char *id; /* a word for programs; NULL: there is none */
	char what[256]; /* a sentence: what is in the way */
	char cure[256]; /* what to do; may be empty */
};

void machine_look(struct machine *m);
void machine_name(const struct machine *m, char *to, size_t size);
struct obstacle machine_obstacle(const struct machine *m);

#endif
