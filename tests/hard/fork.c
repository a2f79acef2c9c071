// SPDX-License-Identifier: GPL-2.0-only
/* Children, and the copies that are made of their pages or ours. */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hard.h"

#define SIBLING_STACK (64 * 1024)

static void write_some(struct worker *w, struct rng *r)
{
	size_t i, n = 4 + below(r, 12);

	for (i = 0; i < n; i++)
		store(w, any_page(w, r), r);
}

static int ended_well(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, __WALL) != pid)
		return -errno;
	return status ? VAIN : DONE;
}

/*
 * Each side writes before and after the other. Does the child see what was there at the fork,
 * and do we see nothing of what it writes?
 */
static int op_fork(struct worker *w, struct rng *r)
{
	/* nothing shared is ever mapped here */
	volatile uint64_t *own = (uint64_t *)page_in(w, ALIKE, r);
	uint64_t before = *own, after = before + 1;
	bool we_first = below(r, 2);
	pid_t pid = fork();
	int rc;

	if (pid < 0)
		return -errno;
	if (!pid) {
		rc = *own == before ? 0 : 1;
		*own = ~before;
		write_some(w, r);
		_exit(rc);
	}
	if (we_first)
		*own = after;
	write_some(w, r);
	rc = ended_well(pid);
	if (rc == DONE && *own != (we_first ? after : before))
		rc = VAIN;
	/* the last owner writes without a copy */
	*own = after;
	write_some(w, r);
	return rc;
}

/* A child that keeps our pages shared for some rounds, until the next time. */
static int op_sleeper(struct worker *w, struct rng *r)
{
	if (w->sleeper > 0 && (kill(w->sleeper, SIGKILL) || waitpid(w->sleeper, NULL, 0) < 0))
		return -errno;
	w->sleeper = fork();
	if (w->sleeper < 0)
		return -errno;
	if (!w->sleeper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_some(w, r);
		for (;;)
			pause();
	}
	write_some(w, r);
	return DONE;
}

static int in_our_memory(struct worker *w, void *arg)
{
	write_some(w, arg);
	return DONE;
}

/* Another process in the same memory, as after vfork(2). */
static int op_vfork(struct worker *w, struct rng *r)
{
	return through_gate(w, in_our_memory, r);
}

static int writes_for_a_while(void *arg)
{
	const struct region *common = arg;
	/* each its own sequence */
	struct rng r = { (uintptr_t)&r ^ *(uint64_t *)common->at };
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (i = 0; i < 2000; i++) {
		store(NULL, common->at + below(&r, common->pages) * PAGE, &r);
		if (i % 16 == 0)
			usleep(1000);
	}
	syscall(SYS_exit, 0);
	return 0;
}

/*
 * Another process in the same memory, which runs on beside it: what stops us does not stop it.
 * So it is for an oracle that stops nobody, or knows of such processes.
 */
static int op_sibling(struct worker *w, struct rng *r)
{
	(void)r;
	if (w->sibling > 0 && waitpid(w->sibling, NULL, __WALL | WNOHANG) != w->sibling)
		return VAIN; /* the last one is still at it */
	if (!w->sibling_stack)
		w->sibling_stack = map(SIBLING_STACK, MAP_PRIVATE, -1);
	w->sibling = clone(writes_for_a_while, w->sibling_stack + SIBLING_STACK, CLONE_VM | SIGCHLD,
			   &w->region[COMMON]);
	return w->sibling < 0 ? -errno : DONE;
}

const struct kind fork_kinds[] = {
	{ "sibling", 0, op_sibling },
	{ "fork", 60, op_fork },
	{ "sleeper", 20, op_sleeper },
	{ "vfork", 150, op_vfork },
	{ 0 },
};
