// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what a garbage collector does. A process that tracks itself collects while
 * its other threads are suspended by a signal, within malloc or stdio. ooh_collect() must
 * not wait for a lock that one of them holds: it does not call malloc, and it reports what
 * the threads wrote.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <ooh.h>

#include "tracker.h"

#define WORKERS 4
#define ROUNDS	200

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

static volatile bool collecting, done;
static volatile int called;
static sem_t suspended;
static volatile int go;
static char *area;

/* The dynamic linker uses these in place of the library's. */
void *malloc(size_t size)
{
	called += collecting;
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	called += collecting;
	return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	called += collecting;
	return __libc_realloc(p, size);
}

static void suspend(int sig)
{
	int round = go;
	sigset_t wait;

	(void)sig;
	sigfillset(&wait);
	sigdelset(&wait, SIGUSR2);
	sem_post(&suspended);
	while (go == round)
		sigsuspend(&wait);
}

static void nothing(int sig)
{
	(void)sig;
}

static void *worker(void *arg)
{
	volatile unsigned long *count = arg;
	unsigned long n = 0;

	while (!done) {
		void *p = malloc(100 + n++ % 5000);
		FILE *f = fopen("/dev/null", "w");

		if (f)
			fclose(f);
		free(p);
		++*count;
	}
	return NULL;
}

static void try(const char *name)
{
	unsigned long before[WORKERS] = { 0 };
	pthread_t threads[WORKERS];
	struct ooh_tracker *t;
	char why[OOH_REASON_LEN];
	int missed = 0, extra = 0, failed = 0, wrote = 0;

	if (ooh_open(0, name, 0, &t, why, sizeof(why))) {
		check(false, "%s: %s", name, why);
		return;
	}
	done = false;
	called = 0;
	for (unsigned long i = 0; i < WORKERS; i++) {
		before[i] = *(unsigned long *)(area + i * PAGE);
		if (pthread_create(&threads[i], NULL, worker, area + i * PAGE))
			error("pthread_create");
	}
	for (int k = 0; k < ROUNDS; k++) {
		const struct ooh_range *v;
		unsigned int flags;
		ssize_t n;

		usleep(100);
		for (int i = 0; i < WORKERS; i++)
			pthread_kill(threads[i], SIGUSR1);
		for (int i = 0; i < WORKERS; i++)
			while (sem_wait(&suspended))
				;
		alarm(60); /* whoever waits for a suspended thread waits for ever */
		collecting = true;
		n = ooh_collect(t, 0, &v, &flags);
		collecting = false;
		alarm(0);
		failed += n < 0;
		extra += in_ranges(v, n, area + WORKERS * PAGE);
		for (int i = 0; i < WORKERS; i++) {
			unsigned long now = *(unsigned long *)(area + i * PAGE);

			missed += now != before[i] && !in_ranges(v, n, area + i * PAGE);
			wrote += now != before[i];
			before[i] = now;
		}
		go++;
		for (int i = 0; i < WORKERS; i++)
			pthread_kill(threads[i], SIGUSR2);
	}
	done = true;
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	ooh_close(t);
	check(!failed && !called, "%s: %d failed collects, %d calls of malloc in %d", name, failed,
	      called, ROUNDS);
	check(wrote && !missed && !extra, "%s: %d pages written, %d missed, %d extra", name, wrote,
	      missed, extra);
}

int main(void)
{
	struct ooh_backend backends[8];
	int nr = ooh_backends(backends, 8, sizeof(backends[0])), tried = 0;

	area = touched(WORKERS + 1);
	sem_init(&suspended, 0, 0);
	signal(SIGUSR1, suspend);
	signal(SIGUSR2, nothing);
	for (int i = 0; i < nr && i < 8; i++) {
		if (!backends[i].usable || !strcmp(backends[i].name, "uffd-wp") ||
		    !strcmp(backends[i].name, "soft-dirty"))
			continue;
		try(backends[i].name);
		tried++;
	}
	if (!tried) {
		printf("skip: no backend here that can track its own process\n");
		return 77;
	}
	return verdict();
}
