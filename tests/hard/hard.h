/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A process whose memory changes in every way there is, mixed. Each worker (a thread, pinned
 * to a vCPU) draws one operation after the other. Which operation, and with which parameters,
 * follows from the seed, the worker's number and the operation's number alone. What comes of
 * it does not: that depends on the kernel.
 */
#ifndef HARD_H
#define HARD_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE	  4096UL
#define HUGE_PAGE (2UL << 20)

struct rng {
	uint64_t state;
};
uint64_t draw(struct rng *r);
static inline size_t below(struct rng *r, size_t n)
{
	return draw(r) % n;
}

/*
 * The kinds of memory. COMMON is one region that all workers write at once; the
 * others exist once for each worker, so that they can be unmapped.
 */
enum place {
	COMMON,
	ANON,
	MOVED, /* its address and size change */
	THP,
	MEMFD,
	SYSV,
	FILE_SHARED,
	FILE_PRIVATE, /* the same file as FILE_SHARED, for a copy on write */
	PINNED,	      /* registered with io_uring */
	BUSY,
	ALIKE = BUSY, /* for KSM: seldom written, so that there is something to merge */
	QUIET,	      /* a file that nobody has open for writing, except for moments */
	REMOTE,	      /* a file that its server changes */
	MARKED,	      /* shared memory under write protection by a userfaultfd of our own */
	PLACES
};

struct region {
	char *at;
	size_t pages;
};

/* A process beside this one, which does what it is told: others.c. */
struct helper {
	pid_t pid;
	int to, from;
	bool busy; /* it has an order that nobody waited for */
};

struct uring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	char *registered;
};

struct count {
	uint64_t tried, done, refused, vain, ticks;
	int error; /* of the last one refused */
};

struct worker {
	unsigned int number;
	pthread_t thread;
	struct region region[PLACES];
	int memfd, file, direct, sysv; /* behind the regions; direct: the file with O_DIRECT */
	int quiet, marked, remote;     /* likewise; the last one past the page cache */
	int source, pipe[2], socket[2], pagemap, uffd;
	struct helper helper;
	struct uring uring;
	char *gate_stack;
	pid_t sleeper; /* a child that keeps copies of our pages */
	pid_t sibling; /* another process in our memory, which writes it */
	char *sibling_stack;
	struct region reserved, plugged;
	struct region equal; /* what KSM should have merged by now */
	struct count *count; /* by kind */
};

/*
 * DONE: it took effect. VAIN: the kernel accepted it, without an effect that could be seen.
 * -errno: refused.
 */
enum { DONE, VAIN };

struct kind {
	const char *name;
	unsigned int weight; /* in 100 000 operations; 0: only if asked for (--with) */
	int (*fn)(struct worker *w, struct rng *r);
};
/* each ends with an element without a name */
extern const struct kind store_kinds[], kernel_kinds[], mapping_kinds[], fork_kinds[],
	other_kinds[], reclaim_kinds[], moving_kinds[], file_kinds[], space_kinds[],
	machine_kinds[];

struct options {
	uint64_t seed, ops;
	unsigned int workers, cpus;
	unsigned int seconds, linger_ms;
	unsigned int lives, reserve_gib;
	const char *dir, *stats, *coarse, *cgroup;
	bool machine; /* may do what concerns the whole machine */
};
extern struct options opt;

/* main.c */
__attribute__((noreturn, format(printf, 1, 2))) void broken(const char *fmt, ...);

/* regions.c */
extern const char *const place_names[PLACES];
void common_create(void);
void files_create(struct worker *w); /* before the helpers are forked, which have them too */
void regions_create(struct worker *w);
/* held by whoever has the kernel choose an address, and while there is a hole to be filled */
extern pthread_mutex_t address_space;
void *map(size_t len, int flags, int fd);
char *page_in(struct worker *w, enum place place, struct rng *r);
char *any_page(struct worker *w, struct rng *r);
char *room(struct worker *w, struct rng *r, size_t len); /* len bytes in one region */
struct region *part(struct worker *w, enum place place, struct rng *r, size_t max,
		    struct region *out);
char *map_aligned(size_t len);
/* what the kernel knows of a page: 0 if nothing */
uint64_t page_word(struct worker *w, const void *page);
uint64_t frame_of(struct worker *w, const void *page);
bool is_present(struct worker *w, const void *page);
size_t present_in(struct worker *w, const struct region *r);

/* stores.c */
void store(struct worker *w, char *page, struct rng *r);
/* one store to each page */
void sweep(const struct region *r, uint64_t value);

/* kernel.c */
void uring_create(struct worker *w);

/* others.c */
void helper_start(struct worker *w);
void helper_stop(struct worker *w);
int through_gate(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg);
/* what a helper does with the quiet file, or with what is marked; page: of the region */
enum other { OTHER_QUIET, OTHER_QUIET_COLD, OTHER_QUIET_BACK_IN_TIME, OTHER_MARKED };
int others_write(struct worker *w, struct rng *r, enum other what, size_t page, uint64_t *value);

/* files.c */
void server_start(void);
void server_stop(void);
void quiet_create(struct worker *w);
void quiet_map(struct worker *w);

/* machine.c */
void machine_prepare(void);

#endif /* HARD_H */
