// SPDX-License-Identifier: GPL-2.0-only
/* Options, the workers, and what they did. */
#include <argp.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "hard.h"

#define KINDS_MAX   128
#define WORKERS_MAX 16

struct options opt = {
	.seed = 1, .ops = 100000, .workers = 3, .dir = "/tmp", .lives = 1, .reserve_gib = 4
};

static struct kind kinds[KINDS_MAX];
static bool asked[KINDS_MAX]; /* drawn only if asked for */
static size_t nkinds;
static unsigned int weights; /* their sum */
static struct worker workers[WORKERS_MAX];
static pthread_barrier_t all_there;
static time_t end;
static unsigned int life;

void broken(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("hard: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

uint64_t draw(struct rng *r)
{
	uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Each operation has its own, so that how many numbers it draws changes no other. */
static struct rng rng_of(const struct worker *w, uint64_t op)
{
	struct rng r = { opt.seed };

	r.state = draw(&r) ^ w->number;
	r.state = draw(&r) ^ op;
	return r;
}

static size_t draw_kind(struct rng *r)
{
	unsigned int at = below(r, weights);
	size_t k;

	for (k = 0; at >= kinds[k].weight; k++)
		at -= kinds[k].weight;
	return k;
}

static void gather(void)
{
	static const struct kind *const tables[] = { store_kinds,  kernel_kinds, mapping_kinds,
						     fork_kinds,   other_kinds,	 reclaim_kinds,
						     moving_kinds, file_kinds,	 space_kinds,
						     machine_kinds };
	size_t i;

	for (i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		const struct kind *k;

		for (k = tables[i]; k->name; k++) {
			asked[nkinds] = !k->weight;
			kinds[nkinds++] = *k;
			weights += k->weight;
		}
	}
}

static time_t seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t ops = opt.ops / opt.workers + (w->number < opt.ops % opt.workers);
	uint64_t i, n = ops * (life + 1) / opt.lives;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(w->number % opt.cpus, &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		broken("vCPU %u: %m", w->number % opt.cpus);
	pthread_barrier_wait(&all_there);
	for (i = ops * life / opt.lives; i < n && !(end && i % 64 == 0 && seconds() >= end); i++) {
		struct rng r = rng_of(w, i);
		size_t k = draw_kind(&r);
		struct count *c = &w->count[k];
		uint64_t began = __rdtsc();
		int rc = kinds[k].fn(w, &r);

		c->ticks += __rdtsc() - began;
		c->tried++;
		if (rc < 0)
			c->error = -rc;
		*(rc == DONE ? &c->done : rc == VAIN ? &c->vain : &c->refused) += 1;
	}
	return NULL;
}

/*
 * Prints a line for each kind: how often it was tried, took effect, did not, was refused, and
 * why. And a line for each region: where it is at the end.
 */
static void put_stats(FILE *f)
{
	uint64_t ops = 0, digest = 0;
	size_t i, k;

	for (i = 0; i < opt.workers; i++)
		for (k = i ? ANON : COMMON; k < PLACES; k++)
			fprintf(f, "place %s %#" PRIxPTR " %zu\n", place_names[k],
				(uintptr_t)workers[i].region[k].at, workers[i].region[k].pages);

	for (k = 0; k < nkinds; k++) {
		struct count sum = { 0 };

		if (asked[k] && !kinds[k].weight)
			continue;

		for (i = 0; i < opt.workers; i++) {
			const struct count *c = &workers[i].count[k];

			sum.tried += c->tried;
			sum.done += c->done;
			sum.vain += c->vain;
			sum.refused += c->refused;
			sum.ticks += c->ticks;
			if (c->error)
				sum.error = c->error;
			/* which worker did what: follows from the seed alone */
			digest = (digest ^ c->tried) * UINT64_C(0x100000001b3);
		}
		ops += sum.tried;
		fprintf(f,
			"kind %s tried %" PRIu64 " done %" PRIu64 " vain %" PRIu64
			" refused %" PRIu64 " kticks %" PRIu64 " error %s\n",
			kinds[k].name, sum.tried, sum.done, sum.vain, sum.refused, sum.ticks / 1000,
			sum.error ? strerror(sum.error) : "-");
	}
	fprintf(f,
		"seed %" PRIu64 " workers %u cpus %u lives %u ops %" PRIu64 " digest %016" PRIx64
		"\n",
		opt.seed, opt.workers, opt.cpus, life + 1, ops, digest);
}

enum {
	OPT_MACHINE = 256,
	OPT_LINGER,
	OPT_WITHOUT,
	OPT_WITH,
	OPT_COARSE,
	OPT_CGROUP,
	OPT_LIVES,
	OPT_RESERVE
};

static const struct argp_option options[] = {
	{ "seed", 's', "N", 0, "Where the sequence begins (1)", 0 },
	{ "ops", 'n', "N", 0, "Operations, of all workers together (100000)", 0 },
	{ "seconds", 't', "N", 0, "Begin none after this time", 0 },
	{ "workers", 'w', "N", 0, "Threads, 1 to 16 (3)", 0 },
	{ "dir", 'd', "DIR", 0, "Where the files are; for O_DIRECT on a disk (/tmp)", 0 },
	{ "stats", 'o', "FILE", 0, "Where the counts go (standard output)", 0 },
	{ "linger", OPT_LINGER, "MS", 0, "Live on at the end, for a last round (0)", 0 },
	{ "without", OPT_WITHOUT, "KIND", 0, "Draw none of this kind", 0 },
	{ "with", OPT_WITH, "KIND", 0, "Draw this kind, which is not drawn otherwise", 0 },
	{ "coarse", OPT_COARSE, "DIR", 0,
	  "Where the files with the coarsest time stamps are (the other files' folder)", 0 },
	{ "cgroup", OPT_CGROUP, "DIR", 0, "A memory cgroup to run in, whose limit is ours", 0 },
	{ "lives", OPT_LIVES, "N", 0,
	  "Do it in so many lives, each an exec at the same addresses (1)", 0 },
	{ "reserve", OPT_RESERVE, "GIB", 0, "The largest address space reserved at once (4)", 0 },
	{ "machine", OPT_MACHINE, NULL, 0,
	  "Compact the machine's memory and take frames out of use, too", 0 },
	{ 0 }
};

static uint64_t number(struct argp_state *state, const char *text, uint64_t min, uint64_t max)
{
	char *rest;
	uint64_t n = strtoull(text, &rest, 0);

	if (!*text || *rest || n < min || n > max)
		argp_error(state, "\"%s\" is not a number from %" PRIu64 " to %" PRIu64, text, min,
			   max);
	return n;
}

static size_t kind_of(struct argp_state *state, const char *name)
{
	size_t k;

	for (k = 0; k < nkinds && strcmp(kinds[k].name, name); k++)
		;
	if (k == nkinds)
		argp_error(state, "there is no kind \"%s\"", name);
	return k;
}

static void set_weight(size_t k, unsigned int weight)
{
	weights += weight - kinds[k].weight;
	kinds[k].weight = weight;
}

#define WEIGHT_ASKED 50

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 's':
		opt.seed = number(state, arg, 0, UINT64_MAX);
		break;
	case 'n':
		opt.ops = number(state, arg, 1, UINT64_MAX / 2);
		break;
	case 't':
		opt.seconds = number(state, arg, 1, 1000000);
		break;
	case 'w':
		opt.workers = number(state, arg, 1, WORKERS_MAX);
		break;
	case 'd':
		opt.dir = arg;
		break;
	case 'o':
		opt.stats = arg;
		break;
	case OPT_LINGER:
		opt.linger_ms = number(state, arg, 0, 1000000);
		break;
	case OPT_MACHINE:
		opt.machine = true;
		break;
	case OPT_WITHOUT:
		set_weight(kind_of(state, arg), 0);
		break;
	case OPT_WITH:
		set_weight(kind_of(state, arg), WEIGHT_ASKED);
		break;
	case OPT_COARSE:
		opt.coarse = arg;
		break;
	case OPT_CGROUP:
		opt.cgroup = arg;
		break;
	case OPT_LIVES:
		opt.lives = number(state, arg, 1, 1000);
		break;
	case OPT_RESERVE:
		opt.reserve_gib = number(state, arg, 1, 1024);
		break;
	case ARGP_KEY_ARG:
		argp_usage(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = { options, parse,
				  NULL,	   "A process whose memory changes in every way there is.",
				  NULL,	   NULL,
				  NULL };

/*
 * An exec of the same program, with the same arguments and environment, without address space
 * randomization: the next life has the same addresses. A process that shares the old memory
 * keeps it. What one life leaves to the next is in a file, open at a fixed number.
 */
#define LEGACY_FD 900

static int keeps_the_memory(void *unused)
{
	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pause();
	_exit(0);
}

static void live_again(char **argv)
{
	static char stack[16384];
	unsigned int i;

	life++;
	if (lseek(LEGACY_FD, 0, SEEK_SET) || write(LEGACY_FD, &life, sizeof(life)) != sizeof(life))
		broken("the legacy: %m");
	for (i = 0; i < opt.workers; i++)
		if (write(LEGACY_FD, workers[i].count, nkinds * sizeof(struct count)) < 0)
			broken("the legacy: %m");
	if (clone(keeps_the_memory, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL) < 0)
		broken("clone: %m");
	execv("/proc/self/exe", argv);
	broken("exec: %m");
}

/* The first life makes the file, and starts over where addresses do not vary. */
static void inherit(char **argv)
{
	unsigned int i;
	int fd;

	if (fcntl(LEGACY_FD, F_GETFD) < 0) {
		fd = memfd_create("legacy", 0);
		if (fd < 0 || dup2(fd, LEGACY_FD) < 0 || close(fd))
			broken("the legacy: %m");
		if (personality(ADDR_NO_RANDOMIZE) < 0)
			broken("personality: %m");
		execv("/proc/self/exe", argv);
		broken("exec: %m");
	}
	if (lseek(LEGACY_FD, 0, SEEK_SET) || read(LEGACY_FD, &life, sizeof(life)) < 0)
		broken("the legacy: %m");
	for (i = 0; i < opt.workers; i++)
		if (read(LEGACY_FD, workers[i].count, nkinds * sizeof(struct count)) < 0)
			broken("the legacy: %m");
}

int main(int argc, char **argv)
{
	unsigned int i;
	FILE *f;

	gather();
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	opt.cpus = sysconf(_SC_NPROCESSORS_ONLN);
	for (i = 0; i < opt.workers; i++) {
		workers[i].number = i;
		workers[i].count = calloc(nkinds, sizeof(struct count));
	}
	if (opt.lives > 1)
		inherit(argv);
	machine_prepare();
	server_start();
	for (i = 0; i < opt.workers; i++)
		files_create(&workers[i]);
	common_create();
	for (i = 0; i < opt.workers; i++)
		helper_start(&workers[i]);
	for (i = 0; i < opt.workers; i++) {
		regions_create(&workers[i]);
		uring_create(&workers[i]);
	}
	pthread_barrier_init(&all_there, NULL, opt.workers);
	end = opt.seconds ? seconds() + opt.seconds : 0;
	for (i = 1; i < opt.workers; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			broken("no thread");
	work(&workers[0]);
	for (i = 1; i < opt.workers; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < opt.workers; i++)
		helper_stop(&workers[i]);
	server_stop();
	if (life + 1 < opt.lives && !(end && seconds() >= end))
		live_again(argv);
	usleep(opt.linger_ms * 1000);
	f = opt.stats ? fopen(opt.stats, "w") : stdout;
	if (!f)
		broken("%s: %m", opt.stats);
	put_stats(f);
	if (fclose(f))
		broken("the counts: %m");
	return 0;
}
