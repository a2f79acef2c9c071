// SPDX-License-Identifier: GPL-2.0-only
/*
 * changers WAY [PAGES]: a process whose memory keeps changing in one way, given by name. For
 * some ways the number of pages can be given. Prints "ready", and goes on until it is ended.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL

static unsigned long pages = 512;
static char *area;
static unsigned int seed = 1;

static char *map(size_t len, int flags)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(2);
	return p;
}

static char *any_page(void)
{
	return area + rand_r(&seed) % pages * PAGE;
}

static void store(void)
{
	any_page()[rand_r(&seed) % PAGE]++;
}

static void sweep(void)
{
	unsigned long i;

	for (i = 0; i < pages; i++)
		area[i * PAGE]++;
}

static void *writer(void *arg)
{
	unsigned int mine = (uintptr_t)arg;

	for (;;) {
		__atomic_fetch_add(area + rand_r(&mine) % pages * PAGE, 1, __ATOMIC_RELAXED);
		usleep(100);
	}
	return NULL;
}

static void threads(void)
{
	static int started;
	pthread_t t;

	for (; started < 4; started++)
		pthread_create(&t, NULL, writer, (void *)(uintptr_t)(started + 1));
}

static void kernel_write(void)
{
	int p[2];

	if (pipe(p) || write(p[1], &seed, 4) != 4 || read(p[0], any_page() + 8, 4) != 4)
		exit(2);
	close(p[0]);
	close(p[1]);
	seed = seed * 5 + 1;
}

static void map_unmap(void)
{
	static char *last;
	char *p = map(16 * PAGE, MAP_PRIVATE);

	memset(p, rand_r(&seed), 9 * PAGE);
	if (last)
		munmap(last, 16 * PAGE);
	last = p;
}

/* Another mapping at the same address: the old one's registration is gone. */
static void map_over(void)
{
	char *p = mmap(area + 64 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	p[rand_r(&seed) % 16 * PAGE] = rand_r(&seed);
}

static void move(void)
{
	static size_t len = 16 * PAGE;
	static char *p;
	char *q;

	if (!p)
		p = map(len, MAP_PRIVATE);
	p[rand_r(&seed) % len] = rand_r(&seed);
	/* reserves the new place, so that it has to move */
	q = map(32 * PAGE, MAP_PRIVATE);
	p = mremap(p, len, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	munmap(q + 16 * PAGE, 16 * PAGE);
}

static void drop(void)
{
	volatile char *p = any_page();

	p[1] = 1;
	madvise(any_page(), PAGE, MADV_DONTNEED);
	(void)*(volatile char *)any_page();
}

/* Filled, dropped and read again: zeros now, from the zero page. */
static void drop_read(void)
{
	char *p = any_page();

	memset(p, 7, PAGE);
	usleep(30000);
	madvise(p, PAGE, MADV_DONTNEED);
	(void)*(volatile char *)p;
	usleep(30000);
}

/* The same with pages that a child has, too: like the zero page, they have no single owner. */
static void drop_shared(void)
{
	static pid_t child;
	char *p = any_page();

	if (!child) {
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	usleep(3000);
	madvise(p, PAGE, MADV_DONTNEED);
	(void)*(volatile char *)p;
}

static void heap(void)
{
	char *p = sbrk(3 * PAGE);

	p[PAGE + 5] = rand_r(&seed);
	if (rand_r(&seed) % 20 == 0)
		sbrk(-30 * (intptr_t)PAGE);
}

static int deep(int n)
{
	volatile char frame[3 * PAGE];

	frame[PAGE] = n;
	return n ? deep(n - 1) + frame[PAGE] : 0;
}

static void stack(void)
{
	deep(rand_r(&seed) % 200);
}

static void forks(void)
{
	pid_t pid = fork();

	store();
	if (!pid) {
		memset(area, 9, 20 * PAGE);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* Memory shared with a child that writes to it: our page table shows nothing. */
static void shared(void)
{
	static char *common;
	static unsigned int n;

	if (!common) {
		common = map(8 * PAGE, MAP_SHARED);
		memset(common, 1, 8 * PAGE);
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;; usleep(500))
				common[n++ % 8 * PAGE]++;
		}
	}
}

static void protect(void)
{
	char *p = any_page();

	mprotect(p, PAGE, PROT_READ);
	mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	*p += 1;
}

static int new_file(void)
{
	FILE *f = tmpfile();
	int fd = f ? fileno(f) : -1;

	if (fd < 0 || ftruncate(fd, 32 * PAGE))
		exit(2);
	return fd;
}

/*
 * Copies of file pages over and over, each of another content: often the process is
 * stopped when the copy has been made and the instruction has not been tried again.
 */
static void copies(void)
{
	static char *private;
	static int fd;
	int i;

	if (!private) {
		fd = new_file();
		private = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	}
	for (i = 0; i < 500; i++) {
		size_t at = i % 32 * PAGE;

		madvise(private + at, PAGE, MADV_DONTNEED);
		if (pwrite(fd, &seed, 4, at + 8) != 4)
			exit(2);
		private[at] = rand_r(&seed);
	}
}

/* Copies of file pages, dropped again, while the file itself is written. */
static void file(void)
{
	static char *private, *common;
	static int fd;
	char *p;

	if (!private) {
		fd = new_file();
		private = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		common = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	p = private + rand_r(&seed) % 32 * PAGE;
	p[1] = rand_r(&seed);
	common[rand_r(&seed) % 32 * PAGE + 2]++;
	if (pwrite(fd, &seed, 4, rand_r(&seed) % 32 * PAGE + 8) != 4)
		exit(2);
	p = private + rand_r(&seed) % 32 * PAGE;
	madvise(p, PAGE, MADV_DONTNEED);
	(void)*(volatile char *)p;
}

static char *map_library(size_t len, char *over)
{
	char line[512], *path = NULL;
	FILE *maps = fopen("/proc/self/maps", "r");
	void *at = MAP_FAILED;
	int fd;

	while (maps && !path && fgets(line, sizeof(line), maps))
		path = strstr(line, "/libc.so") ? strchr(line, '/') : NULL;
	if (!path)
		exit(2);
	fclose(maps);
	path[strcspn(path, "\n")] = '\0';
	fd = open(path, O_RDONLY);
	if (fd >= 0)
		at = mmap(over, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | (over ? MAP_FIXED : 0),
			  fd, 0);
	if (at == MAP_FAILED)
		exit(2);
	close(fd);
	return at;
}

/* Copies of pages of a file that nobody writes: made, dropped, put back, moved out. */
static void library(void)
{
	static char *private;
	volatile char *p;
	size_t n;

	if (!private)
	private = map_library(64 * PAGE, NULL);
	p = private + rand_r(&seed) % 60 * PAGE;
	n = (1 + rand_r(&seed) % 4) * PAGE;
	switch (rand_r(&seed) % 16) {
	case 0:
		madvise((void *)p, n, MADV_PAGEOUT);
		break;
	case 1:
		mprotect((void *)p, n, PROT_READ);
		mprotect((void *)p, n, PROT_READ | PROT_WRITE);
		break;
	case 2:
		map_library(64 * PAGE, private);
		break;
	case 3:
	case 4:
		p[8] = p[8];
		break;
	case 5:
	case 6:
		madvise((void *)p, n, MADV_DONTNEED);
		p[rand_r(&seed) % n]++;
		break;
	case 7:
	case 8:
		madvise((void *)p, n, MADV_DONTNEED);
		break;
	case 9:
	case 10:
	case 11:
		(void)*p;
		break;
	default:
		p[rand_r(&seed) % n]++;
	}
}

static void huge(void)
{
	static char *p;
	size_t len = 8UL << 20;

	if (!p) {
		p = map(len + (2UL << 20), MAP_PRIVATE);
		p = (char *)(((uintptr_t)p + (2UL << 20) - 1) & ~((2UL << 20) - 1));
		madvise(p, len, MADV_HUGEPAGE);
		memset(p, 3, len);
	}
	p[rand_r(&seed) % len]++;
	if (rand_r(&seed) % 100 == 0) {
		char *q = p + rand_r(&seed) % 4 * (2UL << 20);

		madvise(q, 2UL << 20, MADV_DONTNEED);
		(void)*(volatile char *)q;
		q[PAGE]++;
	}
}

static void on_alarm(int sig)
{
	(void)sig;
	store();
}

static void signals(void)
{
	static const struct itimerval often = { { 0, 500 }, { 0, 500 } };

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	pause();
}

static void *short_lived(void *arg)
{
	__atomic_fetch_add(area + (uintptr_t)arg % pages * PAGE, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void spawn(void)
{
	static uintptr_t n;
	pthread_t t[4];
	int i;

	for (i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, short_lived, (void *)n++))
			exit(2);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static int sibling(void *arg)
{
	unsigned int mine = 3;

	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; usleep(50))
		area[rand_r(&mine) % pages * PAGE + 1]++;
	return 0;
}

/* A process that shares the memory, and goes on while this one is stopped */
static void with_sibling(void)
{
	static bool started;

	if (!started && clone(sibling, map(16 * PAGE, MAP_PRIVATE) + 16 * PAGE, CLONE_VM, NULL) < 0)
		exit(2);
	started = true;
	store();
}

static const struct {
	const char *name;
	void (*fn)(void);
} ways[] = {
	{ "store", store },	{ "threads", threads },	    { "kernel", kernel_write },
	{ "map", map_unmap },	{ "map-over", map_over },   { "move", move },
	{ "drop", drop },	{ "drop-read", drop_read }, { "drop-shared", drop_shared },
	{ "heap", heap },	{ "stack", stack },	    { "fork", forks },
	{ "shared", shared },	{ "protect", protect },	    { "file", file },
	{ "copies", copies },	{ "library", library },	    { "huge", huge },
	{ "signals", signals }, { "spawn", spawn },	    { "sibling", with_sibling },
	{ "sweep", sweep },
};

int main(int argc, char **argv)
{
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc > 2)
		pages = strtoul(argv[2], NULL, 0);
	area = map(pages * PAGE, MAP_PRIVATE);
	memset(area, 1, pages * PAGE);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (argc < 2 || strcmp(ways[i].name, argv[1]))
			continue;
		puts("ready");
		fflush(stdout);
		for (;; usleep(300))
			ways[i].fn();
	}
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		puts(ways[i].name);
	return argc > 1;
}
