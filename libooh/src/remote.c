// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The thread executes a syscall instruction that the process has anyway (in the
 * vDSO), by one single step. Nothing is written to its memory: only registers
 * are changed, and put back. The step ends in a signal stop, and leaving such a
 * stop with the old registers lets the kernel restart an interrupted system
 * call as if nothing had been.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "proc.h"
#include "remote.h"
#include "stop.h"
#include "vmas.h"

#ifndef __x86_64__
#error "remote system calls are written for x86-64"
#endif

#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#define PTRACE_SETSIGMASK 0x420b
#endif
#define GET_RSEQ_CONFIGURATION 0x420f

#define CS_64BIT	       0x33

static int open_mem(pid_t pid)
{
	return proc_open(pid, "mem", O_RDONLY);
}

static uint64_t find_in(int mem, const struct vma *vma)
{
	unsigned char buf[65536 + 1];
	uint64_t at;

	for (at = vma->start; at < vma->end; at += sizeof(buf) - 1) {
		size_t want = vma->end - at < sizeof(buf) ? vma->end - at : sizeof(buf);
		ssize_t i, n = pread(mem, buf, want, at);

		for (i = 0; i + 1 < n; i++)
			if (buf[i] == 0x0f && buf[i + 1] == 0x05)
				return at + i;
		if (n <= 0)
			break;
	}
	return 0;
}

static int find_insn(struct remote *r, pid_t pid)
{
	struct vmas vmas = { 0 };
	int mem, rc, vdso;
	size_t i;

	rc = vmas_read(pid, &vmas);
	if (rc)
		return rc;
	mem = open_mem(pid);
	if (mem < 0) {
		vmas_free(&vmas);
		return mem;
	}
	for (vdso = 1; vdso >= 0 && !r->insn; vdso--)
		for (i = 0; i < vmas.n && !r->insn; i++)
			if (vmas.v[i].exec && vdso == !strcmp(vmas.v[i].name, "[vdso]"))
				r->insn = find_in(mem, &vmas.v[i]);
	close(mem);
	vmas_free(&vmas);
	return r->insn ? 0 : -ENOEXEC;
}

/*
 * A restartable sequence (rseq) must be aborted when its thread is interrupted.
 * The kernel would see our address instead of one inside and forget it.
 */
static void abort_rseq(struct remote *r, pid_t pid)
{
	struct {
		uint64_t area;
		uint32_t size, signature, flags, pad;
	} conf = { 0 };
	struct {
		uint32_t version, flags;
		uint64_t start, length, abort;
	} cs;
	uint64_t ptr;
	int mem;

	if (ptrace(GET_RSEQ_CONFIGURATION, r->tid, sizeof(conf), &conf) < 0 || !conf.area)
		return;
	mem = open_mem(pid);
	if (mem < 0)
		return;
	if (pread(mem, &ptr, sizeof(ptr), conf.area + 8) == sizeof(ptr) && ptr &&
	    pread(mem, &cs, sizeof(cs), ptr) == sizeof(cs) && r->regs.rip - cs.start < cs.length)
		r->regs.rip = cs.abort;
	close(mem);
}

/*
 * The main thread of pid, or another one if it has ended, must be in a ptrace stop of the calling thread.
 * ENOEXEC: no syscall instruction found, or not a 64-bit program.
 */
int remote_begin(struct remote *r, pid_t pid)
{
	uint64_t all = ~UINT64_C(0);
	int rc;

	*r = (struct remote){ .pid = pid, .tid = proc_thread(pid) };
	if (!r->tid)
		return -ESRCH;
	if (ptrace(PTRACE_GETREGS, r->tid, 0, &r->regs))
		return -errno;
	if (r->regs.cs != CS_64BIT)
		return -ENOEXEC;
	rc = find_insn(r, pid);
	if (rc)
		return rc;
	if (ptrace(PTRACE_GETSIGMASK, r->tid, sizeof(r->sigmask), &r->sigmask) ||
	    ptrace(PTRACE_SETSIGMASK, r->tid, sizeof(all), &all))
		return -errno;
	abort_rseq(r, pid);
	return 0;
}

static int step(struct remote *r)
{
	struct timespec pause = { .tv_nsec = 20000 };
	int status, rc, left = STOP_LIMIT_MS;

	if (ptrace(PTRACE_SINGLESTEP, r->tid, 0, 0))
		return -errno;
	for (;;) {
		rc = stop_next(r->pid, r->tid, &status);
		if (rc < 0)
			return rc;
		if (rc)
			break;
		if (!left--)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
		pause.tv_nsec = 1000000;
	}
	if (status != SIGTRAP && !(status >> 8))
		r->pending = status;
	return 0;
}

long remote_syscall(struct remote *r, long nr, long a, long b, long c)
{
	struct user_regs_struct regs = r->regs;
	int rc, tries;

	regs.rip = r->insn;
	regs.rax = nr;
	regs.orig_rax = -1; /* no restart of what was interrupted, not yet */
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	if (ptrace(PTRACE_SETREGS, r->tid, 0, &regs))
		return -errno;
	/* A stop for another reason can come before the step is done. */
	for (tries = 0; tries < 8; tries++) {
		rc = step(r);
		if (rc)
			return rc;
		if (ptrace(PTRACE_GETREGS, r->tid, 0, &regs))
			return -errno;
		if (regs.rip != r->insn)
			return regs.rip == r->insn + 2 ? (long)regs.rax : -EIO;
	}
	return -ETIMEDOUT;
}

int remote_end(struct remote *r)
{
	int rc = 0;

	if (ptrace(PTRACE_SETREGS, r->tid, 0, &r->regs) ||
	    ptrace(PTRACE_SETSIGMASK, r->tid, sizeof(r->sigmask), &r->sigmask))
		rc = -errno;
	if (r->pending)
		syscall(SYS_tgkill, r->pid, r->tid, r->pending);
	return rc;
}
