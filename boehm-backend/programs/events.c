// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what a collector with wrong dirty bits loses. Each case keeps one
 * object reachable in a way that only dirty bits tell of, and counts the
 * collected ones: a static root written, a region that becomes a root when it is
 * already filled, the heap as it grows, memory that read(2) filled, a forked
 * child that goes on alone. Exit status 0: none lost, and what was dropped was
 * collected; 1: lost; 77: the incremental mode is off.
 */
#ifdef THREADED
#define GC_THREADS
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <gc.h>

#define PAGE   4096
#define ROUNDS 16

struct object {
	struct object *next;
	long id;
	long pad[6];
};

/* Each case has a counter of its own: what an earlier one kept may go now. */
static int counters[32], *lost = counters, dropped, failures;

static void GC_CALLBACK gone(void *object, void *counter)
{
	(void)object;
	++*(int *)counter;
}

static struct object *watched(int *counter, long id)
{
	struct object *o = GC_MALLOC(sizeof(*o));

	o->id = id;
	GC_REGISTER_FINALIZER_NO_ORDER(o, gone, counter, NULL, NULL);
	return o;
}

/* A cycle of the collector, in small steps, while garbage is made. */
__attribute__((noinline)) static void cycle(void)
{
	GC_word no = GC_get_gc_no();
	int i;

	for (i = 0; i < 100000 && GC_get_gc_no() == no; i++) {
		GC_MALLOC(64);
		GC_collect_a_little();
	}
	GC_invoke_finalizers();
}

/* Overwrites what calls left on the stack. */
__attribute__((noinline)) static void clear_stack(void)
{
	volatile char junk[8192];

	memset((char *)junk, 0, sizeof(junk));
}

static void check(const char *what)
{
	printf("%s %s: %d lost\n", *lost ? "FAIL:" : "ok:  ", what, *lost);
	fflush(stdout);
	failures += *lost++ != 0;
}

static struct object *root[64 * PAGE / sizeof(void *)];

__attribute__((noinline)) static void into(struct object **where, long id)
{
	*where = watched(lost, id);
}

static void static_root(void)
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		into(&root[(i * 7 % 64) * (PAGE / sizeof(void *)) + i], i);
		clear_stack();
		cycle();
	}
	check("a page of the static roots");
	memset(root, 0, sizeof(root));
}

static void old_to_new(void)
{
	/* old, marked objects on pages of their own come to refer to new ones */
	struct object **old[16];
	int i;

	for (i = 0; i < 16; i++)
		old[i] = GC_MALLOC(PAGE);
	GC_gcollect();
	for (i = 0; i < ROUNDS; i++) {
		into(&old[i % 16][i], i);
		clear_stack();
		cycle();
	}
	check("an old object refers to a new one");
	GC_reachable_here(old);
}

static void late_root(void)
{
	struct object **region = mmap(NULL, ROUNDS * PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i, k, freq = GC_get_full_freq();

	GC_set_full_freq(0); /* marks are not kept from cycle to cycle */
	for (i = 0; i < ROUNDS; i++) {
		struct object **slot = region + i * (PAGE / sizeof(void *));
		struct object *volatile keep;

		into(slot, i);
		keep = *slot;
		cycle();
		for (k = 0; k < 1000000 && !GC_collect_a_little(); k++)
			GC_MALLOC(64);
		/* a cycle has begun; the page has been the same since before */
		GC_add_roots(slot, slot + PAGE / sizeof(void *));
		keep = NULL;
		clear_stack();
		cycle();
		(void)keep;
	}
	GC_set_full_freq(freq);
	check("a region filled before it becomes a root");
}

static void growing(void)
{
	struct object **all = GC_MALLOC(1024 * sizeof(*all));
	int i;

	for (i = 0; i < 1024; i++) {
		into(&all[i], i);
		all[i]->next = GC_MALLOC(20000); /* the heap grows by 20 MB */
		*(struct object **)all[i]->next = watched(lost, i);
		if (i % 64 == 0)
			GC_collect_a_little();
	}
	clear_stack();
	cycle();
	cycle();
	check("a heap that grows");
	GC_reachable_here(all);
}

/* A pointer that the kernel writes: no store of this process. */
static void by_system_call(void)
{
	struct object **buffer = GC_MALLOC(PAGE);
	int i, fd[2];

	if (pipe(fd))
		exit(2);
	GC_gcollect();
	for (i = 0; i < ROUNDS; i++) {
		struct object *o = watched(lost, i);

		if (write(fd[1], &o, sizeof(o)) != sizeof(o))
			exit(2);
		/* EFAULT with mprotect, a limit that it documents */
		if (read(fd[0], &buffer[i], sizeof(o)) != sizeof(o)) {
			char junk[sizeof(o)];

			if (GC_incremental_protection_needs() == GC_PROTECTS_NONE ||
			    read(fd[0], junk, sizeof(junk)) < 0)
				exit(2);
			buffer[i] = o;
		}
		o = NULL;
		clear_stack();
		cycle();
	}
	close(fd[0]);
	close(fd[1]);
	check("read(2) into an old object");
	GC_reachable_here(buffer);
}

static void child_goes_on(void)
{
	struct object **old = GC_MALLOC(PAGE);
	int status = -1;
	pid_t pid;

	GC_gcollect();
	into(&old[0], 0); /* written before the fork, not read yet */
	fflush(stdout);
	GC_atfork_prepare();
	pid = fork();
	if (pid)
		GC_atfork_parent();
	else
		GC_atfork_child();
	if (!pid) {
		static_root();
		old_to_new();
		GC_reachable_here(old);
		fflush(stdout);
		_exit(failures ? 1 : 0);
	}
	waitpid(pid, &status, 0);
	*lost += status != 0;
	clear_stack();
	cycle();
	check("parent and child after fork");
	GC_reachable_here(old);
}

static void drop(void)
{
	int i;

	for (i = 0; i < 100; i++)
		watched(&dropped, i);
	clear_stack();
	GC_gcollect();
	GC_invoke_finalizers();
	printf("%s what was dropped is collected: %d of 100\n",
	       dropped > 50 ? "ok:  " : "FAIL:", dropped);
	failures += dropped <= 50;
}

int main(void)
{
	GC_set_handle_fork(-1);
	GC_INIT();
	GC_enable_incremental();
	GC_set_time_limit(0); /* mark in small steps, however small the heap is */
	if (!GC_is_incremental_mode()) {
		printf("skip: no incremental mode\n");
		return 77;
	}
	printf("dirty bits by %#x\n", GC_get_actual_vdb());
	fflush(stdout);
	static_root();
	old_to_new();
	late_root();
	growing();
	by_system_call();
	child_goes_on();
	drop();
	return failures ? 1 : 0;
}
