/* SPDX-License-Identifier: MIT */
/*
 * simcall.h: calls from software inside the emulated machine to the emulator
 *
 * Our Bochs (see ../bochs-patches) executes the byte sequence 0F 04 as a call
 * to the simulator: operation in RAX, arguments in RDI, RSI, RDX, result in
 * RAX. It works in 64-bit mode at any privilege level, and in a virtual
 * machine without a VM exit. Other processors raise #UD: a program that may
 * run elsewhere must be ready for SIGILL.
 *
 * A result below zero is -1 where the call says so, else a negative errno;
 * -ENOSYS (-38) if the emulator was started without BX_SIM_DIR.
 */
#ifndef OOH_SIMCALL_H
#define OOH_SIMCALL_H

#include <stdint.h>

#define SIMCALL_VERSION	 0
#define SIMCALL_READ	 1
#define SIMCALL_WRITE	 2
#define SIMCALL_COUNTERS 3
#define SIMCALL_SAVE	 4
#define SIMCALL_COSTS	 5

/* Channels: unix stream sockets $BX_SIM_DIR/chan0 and chan1 on the host. */
#define SIMCALL_CHAN_DOM0  0
#define SIMCALL_CHAN_GUEST 1

/* The most bytes that one READ or WRITE moves. */
#define SIMCALL_CHUNK (256 * 1024)

/* Indices of the values that COUNTERS returns, all counted from power on. */
#define SIMCALL_CNT_TICKS	  0  /* the TSC's; without costs, instructions and idle time */
#define SIMCALL_CNT_EXITS	  1  /* VM exits, all */
#define SIMCALL_CNT_ENTRIES	  2  /* VM entries */
#define SIMCALL_CNT_PML_RECORDS	  3  /* records written to the PML */
#define SIMCALL_CNT_PML_FULL	  4  /* exits: log full, without EPML's */
#define SIMCALL_CNT_EPT_VIOLATION 5  /* exits */
#define SIMCALL_CNT_EPT_MISCONFIG 6  /* exits */
#define SIMCALL_CNT_INVEPT	  7  /* instructions executed */
#define SIMCALL_CNT_INVVPID	  8  /* instructions executed */
#define SIMCALL_CNT_GUEST_PF	  9  /* #PF delivered in VMX guests */
#define SIMCALL_CNT_VMCALL	  10 /* exits: hypercalls */
#define SIMCALL_CNT_EXTINT	  11 /* exits: external interrupts */
#define SIMCALL_CNT_EPT_AD	  12 /* EPT entries given an A or D flag */
#define SIMCALL_CNT_EPML_RECORDS  13 /* records written to the EPML log */
#define SIMCALL_CNT_EPML_FULL	  14 /* exits: EPML log full */
#define SIMCALL_CNT_EPML_NOTIFY	  15 /* records that requested the notification interrupt */
#define SIMCALL_CNT_EXIT_REASON	  16 /* + basic exit reason */
#define SIMCALL_CNT_REASONS	  96
#define SIMCALL_CNT_CHARGED	  112 /* ticks charged for costly events */
#define SIMCALL_CNT_EXECUTED	  113 /* instructions, all processors */
#define SIMCALL_CNT_COSTLY	  114 /* + costly event */
#define SIMCALL_CNT_MAX		  (SIMCALL_CNT_COSTLY + SIMCALL_COST_EVENTS)

/* Costly events (testbed/costs), by number: X(name). */
/* clang-format off */
#define SIMCALL_COSTLY_EVENTS(X) \
	X(vmentry) X(exception) X(interrupt) X(iret) X(syscall) X(sysret) X(walk) X(nested_walk) \
	X(ad_update) X(mov_cr3) X(invlpg) X(invpcid) X(invept) X(invvpid) X(ipi) \
	X(posted_interrupt) X(pml_record) X(epml_record) X(vmread) X(vmwrite) X(shadow_vmread) \
	X(shadow_vmwrite) X(vmfunc) X(ept_clear)
/* clang-format on */
#define SIMCALL_ENUM(name) SIMCALL_COST_##name,
enum {
	SIMCALL_COSTLY_EVENTS(SIMCALL_ENUM) SIMCALL_COST_EVENTS,
	/* counted by reason; for COSTS all of them are one event */
	SIMCALL_COST_vmexit = SIMCALL_COST_EVENTS,
};
#define SIMCALL_COST_ALL (~0ULL)

static inline int64_t simcall(uint64_t op, uint64_t a, uint64_t b, uint64_t c)
{
	int64_t ret;

	__asm__ volatile(".byte 0x0f, 0x04"
			 : "=a"(ret)
			 : "0"(op), "D"(a), "S"(b), "d"(c)
			 : "memory");
	return ret;
}

static inline int64_t simcall_version(void)
{
	return simcall(SIMCALL_VERSION, 0, 0, 0);
}

/*
 * Bytes read; 0: nothing now; -1: no peer. A peer that went away is told by
 * one -1 before the next one is accepted. Only READ accepts a peer, so a
 * server of a channel has to poll it. With no peer on any channel the emulator
 * may stop the machine for up to 20 ms of host time in each READ.
 */
static inline int64_t simcall_read(unsigned int chan, void *buf, uint64_t len)
{
	return simcall(SIMCALL_READ, chan, (uint64_t)(uintptr_t)buf, len);
}

/*
 * Bytes taken, may be fewer than len; 0: the peer takes nothing now (the
 * emulator waited up to 20 ms of host time for it); -1: no peer.
 */
static inline int64_t simcall_write(unsigned int chan, const void *buf, uint64_t len)
{
	return simcall(SIMCALL_WRITE, chan, (uint64_t)(uintptr_t)buf, len);
}

/* Copies up to n values, returns how many there are. */
static inline int64_t simcall_counters(uint64_t *buf, uint64_t n)
{
	return simcall(SIMCALL_COUNTERS, (uint64_t)(uintptr_t)buf, n, 0);
}

/*
 * Of what the machine's table says for an event, SIMCALL_COST_*, or for all of them, charges
 * percent (0 to 1000) from now on. Returns 0, -2 (ENOENT) if the machine has no table, -22 (EINVAL)
 * for another percentage or event.
 */
static inline int64_t simcall_costs(uint64_t percent, uint64_t event)
{
	return simcall(SIMCALL_COSTS, percent, event, 0);
}

/*
 * Asks for a snapshot in $BX_SIM_DIR/save, taken after this instruction. The
 * machine runs on, and so does each machine started from the snapshot, with
 * the same result 0; there, every channel begins without a peer.
 */
static inline int64_t simcall_save(void)
{
	return simcall(SIMCALL_SAVE, 0, 0, 0);
}

#endif /* OOH_SIMCALL_H */
