// SPDX-License-Identifier: GPL-2.0-only
/*
 * What being tracked costs the tracked program: writers go over their arrays again and
 * again, word by word, while another process ends a round of each one's tracker each so often.
 *
 *	array [-r ROUNDS] [-i MILLISECONDS | -w] [-s PERMILLE] [-p PROCESSES] [-R] MIB BACKEND...
 *
 * PERMILLE of the pages are written, evenly spread; with -R they are read. BACKEND "none" is
 * a phase without a tracker, "mprotect" one by write protection and signals inside the writer
 * (as a garbage collector does it). With -w the writers wait for each round, in which they go
 * over their pages once, and the round ends when they have. The writers have the last
 * processor, the collector the first; on one processor they share it. Milliseconds are of
 * bench/events.h's second.
 *
 * One line a round: what it was, work (pages that the writers went over), write (with -w: ticks
 * of that), collect (CPU time of the round's end, in ticks; of mprotect the time until the writer
 * has done it), reported (pages), missed (written, not reported), extra (reported, not written),
 * the events, and own_...: those of them while the round ended. Missed and extra are known from
 * where the writers are before and behind a collect.
 * Exit status: 0, 1 pages were missed, 2 something does not work here.
 */
#include <getopt.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "events.h"

#define PROCESSES 16

/* What a writer and the collector share. */
struct shared {
	volatile uint64_t done;	      /* pages gone over */
	volatile uint64_t rounds_due; /* with -w: as often as they are to be gone over */
	volatile uint64_t rounds_gone;
	volatile uint64_t write;      /* with -w: ticks of the last time */
	volatile uint32_t rounds;     /* of mprotect, ended */
	volatile uint32_t all;	      /* a page could not be unprotected alone: all are */
	volatile uint32_t all_before; /* in the round before */
	volatile uint8_t *written[2]; /* mprotect's: one for each page, in even and odd rounds */
	char *mem;
};

static struct {
	unsigned long mib, pages, listed; /* of each process; that are gone over */
	unsigned int permille, processes, rounds, milliseconds;
	bool reader, stepwise;
} job = { .permille = 1000, .processes = 1, .rounds = 3, .milliseconds = 1000 };

struct writer {
	pid_t pid;
	struct shared *s;
	struct ooh_tracker *t;
	uint64_t last_begin, last_end; /* done, before and behind the last collect */
};

/* The counters before and behind the ends of a round, summed up. */
static uint64_t before_ends[SIMCALL_CNT_MAX], behind_ends[SIMCALL_CNT_MAX];

static struct writer writers[PROCESSES];
static struct shared *self; /* in a writer */

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "array: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* The page that is gone over as number n. */
static unsigned long page_of(uint64_t n)
{
	return n % job.listed * job.pages / job.listed;
}

/* ---- mprotect, in the writer */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	unsigned long page = ((char *)info->si_addr - self->mem) / PAGE;

	(void)sig;
	(void)context;
	if (page >= job.pages)
		_exit(3);
	self->written[self->rounds & 1][page] = 1;
	if (!mprotect(self->mem + page * PAGE, PAGE, PROT_READ | PROT_WRITE))
		return;
	/* no more mappings */
	self->all = 1;
	if (mprotect(self->mem, job.pages * PAGE, PROT_READ | PROT_WRITE))
		_exit(3);
}

static void on_round(int sig)
{
	/* the second signal ends the tracking */
	if (mprotect(self->mem, job.pages * PAGE,
		     sig == SIGUSR1 ? PROT_READ : PROT_READ | PROT_WRITE))
		_exit(3);
	self->all_before = self->all;
	self->all = 0;
	self->rounds++;
}

__attribute__((noreturn)) static void writer(struct shared *s)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction round = { .sa_handler = on_round, .sa_flags = SA_RESTART };
	volatile uint64_t sum = 0;
	uint64_t began = __rdtsc();
	char *mem;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	self = s;
	if (pin(sysconf(_SC_NPROCESSORS_ONLN) - 1))
		die("sched_setaffinity");
	mem = mmap(NULL, job.pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	if (mem == MAP_FAILED)
		die("mmap");
	madvise(mem, job.pages * PAGE, MADV_NOHUGEPAGE);
	memset(mem, 1, job.pages * PAGE);
	s->mem = mem;
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGUSR1, &round, NULL);
	sigaction(SIGUSR2, &round, NULL);
	for (uint64_t n = 0;; n++) {
		if (job.stepwise && n % job.listed == 0) {
			s->write = __rdtsc() - began;
			s->rounds_gone = n / job.listed;
			while (s->rounds_due <= n / job.listed)
				usleep(500);
			began = __rdtsc();
		}
		volatile uint64_t *word = (uint64_t *)(mem + page_of(n) * PAGE);

		if (job.reader)
			for (unsigned int i = 0; i < PAGE / sizeof(*word); i++)
				sum += word[i];
		else
			for (unsigned int i = 0; i < PAGE / sizeof(*word); i++)
				word[i] = n;
		s->done = n + 1;
	}
}

/* ---- rounds, in the collector */

static void sleep_until(uint64_t ticks)
{
	for (struct timespec t = until(ticks); t.tv_sec || t.tv_nsec; t = until(ticks))
		nanosleep(&t, NULL);
}

static uint64_t work(void)
{
	uint64_t sum = 0;

	for (unsigned int p = 0; p < job.processes; p++)
		sum += writers[p].s->done;
	return sum;
}

static void count(uint64_t *sums)
{
	uint64_t now[SIMCALL_CNT_MAX];

	if (!emulated)
		return;
	simcall_counters(now, SIMCALL_CNT_MAX);
	for (int i = 0; i < SIMCALL_CNT_MAX; i++)
		sums[i] += now[i];
}

static void signal_round(struct writer *w, int sig)
{
	uint32_t before = w->s->rounds;

	if (kill(w->pid, sig))
		die("kill");
	for (int i = 0; w->s->rounds == before; i++) {
		if (waitpid(w->pid, NULL, WNOHANG) || i > 100000) {
			fprintf(stderr, "array: the writer ended, or does not answer\n");
			exit(2);
		}
		usleep(100);
	}
}

/* Fills got, a byte for each page of the array; returns how many are set. Adds what the end of the round took. */
static unsigned long collect(struct writer *w, bool by_mprotect, uint8_t *got, uint64_t *ticks)
{
	const struct ooh_range *v;
	unsigned long nr = 0;
	unsigned int flags;
	uint64_t began;
	ssize_t n;

	memset(got, 0, job.pages);
	count(before_ends);
	began = by_mprotect ? __rdtsc() : clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (by_mprotect) {
		/* it is the writer that sets it, in the round that ends now */
		uint32_t all;

		signal_round(w, SIGUSR1);
		*ticks += __rdtsc() - began;
		count(behind_ends);
		all = w->s->all_before;
		for (unsigned long i = 0; i < job.pages; i++) {
			volatile uint8_t *was = &w->s->written[!(w->s->rounds & 1)][i];

			got[i] = *was | all;
			*was = 0;
		}
	} else if (w->t) {
		uint64_t start = (uintptr_t)w->s->mem, end = start + job.pages * PAGE;

		n = ooh_collect(w->t, 0, &v, &flags);
		*ticks += to_ticks(clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
		count(behind_ends);
		if (n < 0 || flags) {
			fprintf(stderr, "array: %s\n", ooh_reason(w->t));
			exit(2);
		}
		for (ssize_t i = 0; i < n; i++)
			for (uint64_t at = v[i].start < start ? start : v[i].start;
			     at < v[i].end && at < end; at += PAGE)
				got[(at - start) / PAGE] = 1;
	}
	for (unsigned long i = 0; i < job.pages; i++)
		nr += got[i];
	return nr;
}

/* Sets the bits of the pages gone over as numbers begin to end, end excluded. */
static void mark(uint8_t *pages, uint64_t begin, uint64_t end, uint8_t bit)
{
	if (end > begin + job.listed)
		end = begin + job.listed;
	for (uint64_t n = begin; n < end; n++)
		pages[page_of(n)] |= bit;
}

/* Has the writers go over their pages once; returns the ticks of all. */
static uint64_t step(void)
{
	uint64_t ticks = 0;

	for (unsigned int p = 0; p < job.processes; p++) {
		struct shared *s = writers[p].s;
		s->rounds_due++;

		while (s->rounds_gone != s->rounds_due) {
			if (waitpid(writers[p].pid, NULL, WNOHANG)) {
				fprintf(stderr, "array: a writer ended\n");
				exit(2);
			}
			usleep(500);
		}
		ticks += s->write;
	}
	return ticks;
}

static unsigned long phase(const char *backend)
{
	bool by_mprotect = !strcmp(backend, "mprotect"), tracked = strcmp(backend, "none");
	uint8_t *got = malloc(job.pages), *kind = malloc(job.pages);
	uint64_t interval = ticks_per_second / 1000 * job.milliseconds, next, before;
	unsigned int unsure = job.stepwise ? 0 : 1; /* the page that a writer is at */
	unsigned long all_missed = 0;
	char why[OOH_REASON_LEN];
	struct point a, b;

	for (unsigned int p = 0; p < job.processes; p++) {
		struct writer *w = &writers[p];

		if (!tracked || by_mprotect)
			continue;
		if (ooh_open(w->pid, backend, 0, &w->t, why, sizeof(why))) {
			fprintf(stderr, "array: %s\n", why);
			exit(2);
		}
	}
	next = __rdtsc();
	/* one round for what happens only once */
	for (int k = -1; k < (int)job.rounds; k++) {
		unsigned long reported = 0, missed = 0, extra = 0;
		uint64_t spent = 0, wrote = 0, after;

		memset(before_ends, 0, sizeof(before_ends));
		memset(behind_ends, 0, sizeof(behind_ends));
		/* what a tracker has left behind, a write fault for each page, is over by then */
		next += k < 0 && tracked ? interval / 4 : interval;
		if (job.stepwise)
			wrote = step();
		else
			sleep_until(next);
		for (unsigned int p = 0; tracked && p < job.processes; p++) {
			struct writer *w = &writers[p];
			uint64_t begin = w->s->done, end;

			reported += collect(w, by_mprotect, got, &spent);
			end = w->s->done;
			if (k >= 0) {
				memset(kind, 0, job.pages);
				/* those of which it is sure; and all that can be */
				if (!job.reader && begin > w->last_end + unsure)
					mark(kind, w->last_end + unsure, begin - unsure, 1);
				if (!job.reader)
					mark(kind, w->last_begin, end + unsure, 2);
				for (unsigned long i = 0; i < job.pages; i++) {
					missed += (kind[i] & 1) && !got[i];
					extra += got[i] && !(kind[i] & 2);
				}
			}
			w->last_begin = begin;
			w->last_end = end;
		}
		if (k >= 0) {
			take(&b, writers[0].t);
			after = work();
			printf("bench array backend %s mib %lu permille %u processes %u reader %d "
			       "stepwise %d milliseconds %u cpus %ld round %d ",
			       backend, job.mib, job.permille, job.processes, job.reader,
			       job.stepwise, job.stepwise ? 0 : job.milliseconds,
			       sysconf(_SC_NPROCESSORS_ONLN), k);
			print_events(&a, &b);
			print_counters("own_", before_ends, behind_ends);
			printf(" work %llu write %llu collect %llu reported %lu missed %lu extra "
			       "%lu\n",
			       (unsigned long long)(after - before), (unsigned long long)wrote,
			       (unsigned long long)spent, reported, missed, extra);
			fflush(stdout);
		}
		all_missed += missed;
		take(&a, writers[0].t);
		before = work();
	}
	for (unsigned int p = 0; p < job.processes; p++) {
		ooh_close(writers[p].t);
		writers[p].t = NULL;
		if (by_mprotect)
			signal_round(&writers[p], SIGUSR2);
	}
	free(got);
	free(kind);
	return all_missed;
}

static unsigned int number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end || n < 1 || n > max) {
		fprintf(stderr, "array: %s: not a number from 1 to %lu\n", text, max);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	unsigned long missed = 0;
	int opt;

	while ((opt = getopt(argc, argv, "r:i:s:p:Rw")) != -1) {
		switch (opt) {
		case 'r':
			job.rounds = number(optarg, 1000);
			break;
		case 'i':
			job.milliseconds = number(optarg, 100000);
			break;
		case 's':
			job.permille = number(optarg, 1000);
			break;
		case 'p':
			job.processes = number(optarg, PROCESSES);
			break;
		case 'R':
			job.reader = true;
			break;
		case 'w':
			job.stepwise = true;
			break;
		default:
			optind = argc;
		}
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: array [-r ROUNDS] [-i MILLISECONDS | -w] [-s PERMILLE] "
				"[-p PROCESSES] [-R] MIB BACKEND...\n");
		return 2;
	}
	job.mib = number(argv[optind], 1 << 20);
	job.pages = (job.mib << 20) / PAGE;
	job.listed = job.pages * job.permille / 1000 ?: 1;
	events_init();
	for (unsigned int p = 0; p < job.processes; p++) {
		struct writer *w = &writers[p];

		w->s = shared_memory(sizeof(*w->s));
		w->s->written[0] = shared_memory(job.pages);
		w->s->written[1] = shared_memory(job.pages);
		w->pid = fork();
		if (w->pid < 0)
			die("fork");
		if (w->pid == 0)
			writer(w->s);
	}
	if (pin(0))
		die("sched_setaffinity");
	/* until their memory is there */
	for (unsigned int p = 0; p < job.processes; p++)
		while (!writers[p].s->mem || (!job.stepwise && writers[p].s->done < 2)) {
			if (waitpid(writers[p].pid, NULL, WNOHANG)) {
				fprintf(stderr, "array: a writer ended: is there the memory?\n");
				return 2;
			}
			usleep(10000);
		}
	for (int i = optind + 1; i < argc; i++)
		missed += phase(argv[i]);
	for (unsigned int p = 0; p < job.processes; p++) {
		kill(writers[p].pid, SIGKILL);
		waitpid(writers[p].pid, NULL, 0);
	}
	return missed != 0;
}
