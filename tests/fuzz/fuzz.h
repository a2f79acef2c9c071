/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest that wants to harm Xen: calls of HVMOP_spml, drawn from a seed, from threads
 * on all vCPUs. args.c makes up the arguments, ops.c makes the calls and judges each
 * answer, mem.c has the memory that they use and the canaries, main.c runs epochs and
 * reports the result, limits.c tries each quota.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <linux/mm.h>
#include <linux/types.h>
#include <xen/interface/xen.h>

#ifndef DEFINE_XEN_GUEST_HANDLE
#define DEFINE_XEN_GUEST_HANDLE(name) DEFINE_GUEST_HANDLE(name)
#endif
#include "xen-spml.h"

#undef pr_fmt
#define pr_fmt(fmt) "spml-fuzz: " fmt

/* splitmix64: the same numbers everywhere, for a seed */
struct fz_rng {
	u64 s;
};

static inline u64 fz_rand(struct fz_rng *r)
{
	u64 z = r->s += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static inline u32 fz_below(struct fz_rng *r, u32 n)
{
	return (u32)fz_rand(r) % n;
}

#define FZ_PICK(r, array) ((array)[fz_below(r, ARRAY_SIZE(array))])

enum fz_event {
	FZ_EPOCHS,
	FZ_ORDERLY, /* epochs in which Xen is started all the time */
	FZ_ROUNDS,  /* rounds whose result is known exactly */
	FZ_WRITES,
	FZ_RECORDS, /* bits handed out */
	FZ_MORES,   /* collects that had no room for all */
	FZ_BALLOONED,
	FZ_POPULATED,
	FZ_MOVED,
	FZ_GRANTED,
	FZ_SUPERPAGES,
	FZ_BAD_HANDLES,
	FZ_INDICES, /* of a vCPU's own log, written */
	FZ_VMFUNCS,
	FZ_EVENTS
};
void fz_count(enum fz_event e);

enum fz_plant {
	FZ_PLANT_NONE,
	FZ_PLANT_CANARY, /* a word that is not Xen's */
	FZ_PLANT_RECORD, /* a bit of a frame that nobody armed */
	FZ_PLANT_CODE,	 /* an error that the interface does not have */
	FZ_PLANT_ROUND,	 /* a write that is not reported */
};
extern bool fz_loose; /* arguments change while Xen reads them: what is armed is unknown */
bool fz_planted(enum fz_plant what); /* true once */

/* counts a broken promise of Xen's, and reports it */
__printf(1, 2) void fz_bad(const char *fmt, ...);
int fz_hypercall(struct xen_hvm_spml *op);

/*
 * mem.c: four areas of 2 MiB each, frames by number. Only some are what their
 * name says at any time; plain and status ones are always there.
 */
enum fz_area { FZ_PLAIN, FZ_STATUS, FZ_BALLOON, FZ_SUPER, FZ_AREAS };
#define FZ_PAGES 512U

extern uint fz_max_grants; /* a page each is lost for the domain's life */
int fz_mem_init(void);
void fz_mem_exit(void);
unsigned long fz_gfn(enum fz_area a, unsigned int i);
void *fz_va(enum fz_area a, unsigned int i);
bool fz_always_ram(u64 gfn);
void fz_write(unsigned int i); /* a plain page */
void fz_write_some(struct fz_rng *r);
void fz_change_some(struct fz_rng *r); /* ballooning, grants, moves, superpages */
void fz_settle(void);		       /* everything is ordinary memory again */
void fz_check_canaries(void);
void *fz_hole_get(struct fz_rng *r); /* an address with no memory behind it, or NULL */
void fz_hole_put(void *va);
void fz_scribble(struct fz_rng *r);		  /* over what may be Xen's count */
void fz_list(enum fz_area a, unsigned int i);	  /* the page may become the one for status */
void fz_list_log(enum fz_area a, unsigned int i); /* or a vCPU's log */
void fz_ask(u64 gfn, u64 nr);			  /* the frames may become armed */
bool fz_asked(u64 gfn);
int fz_move(unsigned long from, unsigned long to);

/* args.c */
#define FZ_RANGES    (2 * PAGE_SIZE / sizeof(struct xen_spml_range))
#define FZ_GROUPS    (2 * PAGE_SIZE / sizeof(struct xen_spml_group))
#define FZ_MAY(code) (1U << fz_code_index(code))
struct fz_worker;
struct fz_args {
	struct xen_hvm_spml op;
	unsigned int may; /* answers */
	bool inner_good;  /* what the argument points to can be read, or written to */
};
void *fz_bad_address(struct fz_rng *r, void *two_pages);
void *fz_good_address(struct fz_rng *r, void *two_pages, unsigned int size);
void fz_make_call(struct fz_worker *w, struct fz_args *c);

/* ops.c */
enum { FZ_UNKNOWN = XEN_SPML_rearm + 1, FZ_CMDS };
#define FZ_CODES 10
struct fz_worker {
	struct fz_rng rng;
	unsigned int calls;	       /* of this epoch */
	void *op;		       /* two pages, then none */
	struct xen_spml_range *ranges; /* likewise */
	struct xen_spml_group *groups; /* likewise */
	u64 table[FZ_CMDS][FZ_CODES];
	u64 ns[FZ_CMDS], longest[FZ_CMDS];
	struct task_struct *task;
};
int fz_worker_init(struct fz_worker *w);
void fz_worker_exit(struct fz_worker *w);
void fz_call(struct fz_worker *w);
void fz_orderly_begin(struct fz_rng *r); /* starts Xen, does an exact round */
void fz_orderly_end(void);
void fz_stop_all(void);
void fz_own_log(struct fz_rng *r); /* what needs no hypercall */
extern const char *const fz_code_names[FZ_CODES];
int fz_code_index(int ret);
bool fz_started(void); /* Xen is started all the time: an orderly epoch */

/* limits.c */
struct seq_file;
void fz_limits(void);
void fz_limits_show(struct seq_file *m);

#endif /* FUZZ_H */
