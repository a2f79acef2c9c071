// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: a process tracks itself from one of its threads. Where only this test
 * writes, exactly the written pages are reported. Where other threads write all the
 * time, also while a collect runs, nothing is missed. Backends that cannot do it refuse.
 */
#include <pthread.h>
#include <ooh.h>

#include "tracker.h"

#define NR	64UL
#define WRITERS 2
#define ROUNDS	30

static char *area, *busy;
static volatile bool stop;

static void to_the_page(struct ooh_tracker *t, const char *name)
{
	static const char *const wanted[] = { "\x01\x02\x30", "", "\x3f", "\x01", "" };

	for (size_t k = 0; k < sizeof(wanted) / sizeof(wanted[0]); k++) {
		int missed = 0, extra = 0;
		const struct ooh_range *v;
		unsigned int flags;
		ssize_t n;

		for (const char *c = wanted[k]; *c; c++)
			area[*c * PAGE]++;
		n = ooh_collect(t, 0, &v, &flags);
		for (unsigned long i = 0; i < NR; i++) {
			bool should = i && strchr(wanted[k], i),
			     is = in_ranges(v, n, area + i * PAGE);

			missed += should && !is;
			extra += is && !should;
		}
		check(n >= 0 && !flags && !missed && !extra,
		      "%s, round %zu: %zu written, %d missed, %d extra", name, k, strlen(wanted[k]),
		      missed, extra);
	}
}

static void *writer(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!stop) {
		__atomic_fetch_add(busy + rand_r(&seed) % NR * PAGE, 1, __ATOMIC_RELAXED);
		if (rand_r(&seed) % 32 == 0)
			usleep(50);
	}
	return NULL;
}

/*
 * Each look comes after a collect. A page that differs from one look to the next was
 * written before the second collect, which then reported it, or after it: then the
 * next one reports it.
 */
static void all_the_time(struct ooh_tracker *t, const char *name)
{
	char seen[NR], last[NR];
	bool due[NR] = { false };
	pthread_t threads[WRITERS];
	int missed = 0, changed = 0;

	stop = false;
	for (unsigned long i = 0; i < WRITERS; i++)
		if (pthread_create(&threads[i], NULL, writer, (void *)(i + 1)))
			error("pthread_create");
	for (int k = 0; k < ROUNDS; k++) {
		const struct ooh_range *v;
		unsigned int flags;
		ssize_t n;

		usleep(2000);
		n = ooh_collect(t, 0, &v, &flags);
		if (n < 0 || flags) {
			check(false, "%s: %zd, %s", name, n, ooh_reason(t));
			break;
		}
		for (unsigned long i = 0; i < NR; i++) {
			bool told = in_ranges(v, n, busy + i * PAGE);

			seen[i] = *(volatile char *)(busy + i * PAGE);
			missed += due[i] && !told;
			/* if both report it, it may have changed before and after */
			due[i] = k && seen[i] != last[i] && !told;
			changed += k && seen[i] != last[i];
			last[i] = seen[i];
		}
	}
	stop = true;
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	check(changed > ROUNDS && !missed, "%s: others wrote %d pages, %d missed", name, changed,
	      missed);
}

static void *track(void *arg)
{
	const char *name = arg;
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t;

	for (int pid = 0; pid <= getpid(); pid += getpid()) {
		int rc = ooh_open(pid, name, 0, &t, why, sizeof(why));

		check(rc == 0, "%s, pid %d: %s", name, pid, rc ? why : "opened");
		if (rc)
			continue;
		to_the_page(t, name);
		all_the_time(t, name);
		ooh_close(t);
	}
	return NULL;
}

static void refused(const char *name)
{
	char why[OOH_REASON_LEN];
	struct ooh_tracker *t;
	int rc = ooh_open(0, name, 0, &t, why, sizeof(why));

	check(rc == -EDEADLK && !t, "%s: refused (%s)", name, why);
}

int main(void)
{
	struct ooh_backend backends[8];
	int nr = ooh_backends(backends, 8, sizeof(backends[0])), tried = 0;

	area = touched(NR);
	busy = touched(NR);
	for (int i = 0; i < nr && i < 8; i++) {
		char *name = (char *)backends[i].name;
		pthread_t thread;

		if (!backends[i].usable)
			continue;
		if (!strcmp(name, "uffd-wp") || !strcmp(name, "soft-dirty")) {
			refused(name);
			continue;
		}
		tried++;
		if (pthread_create(&thread, NULL, track, name) || pthread_join(thread, NULL))
			error("a thread");
	}
	if (!tried) {
		printf("skip: no backend here that can track its own process\n");
		return 77;
	}
	return verdict();
}
