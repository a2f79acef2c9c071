// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: nothing is lost of a log that fills while interrupts are off, nor of one
 * whose index the guest's kernel has corrupted. The guest reaches no other field of the
 * VMCS. Needs burst.ko, which does these things.
 *
 * A record that finds no room is an exit before anything is written; Xen takes the
 * frames as logged. An index out of range counts as no room.
 */
#include <sched.h>

#include "simcall.h"
#include "tracker.h"

#define NR	 1000UL
#define HALF	 50UL
#define LOG_FULL (SIMCALL_CNT_EXIT_REASON + 62)

static int set(const char *name, const char *value)
{
	char path[64];
	int fd, err;

	snprintf(path, sizeof(path), "/sys/module/burst/parameters/%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		error(path);
	err = write(fd, value, strlen(value)) < 0 ? errno : 0;
	close(fd);
	return err;
}

static unsigned long full_exits(void)
{
	static uint64_t v[SIMCALL_CNT_MAX];

	memset(v, 0, sizeof(v));
	simcall_counters(v, SIMCALL_CNT_MAX);
	return v[LOG_FULL];
}

static void interrupts_off(int fd, char *p)
{
	struct round r = { 0 };
	unsigned long exits;
	char text[64];

	snprintf(text, sizeof(text), "%#lx %lu", (unsigned long)p, NR);
	collect(fd, &r);
	collect(fd, &r);
	exits = full_exits();
	errno = set("write", text);
	if (errno)
		error("write");
	exits = full_exits() - exits;
	collect(fd, &r);
	check(reported_in(&r, p, NR) == NR && !r.flags,
	      "%lu pages written with interrupts off: %lu reported, flags %#x", NR,
	      reported_in(&r, p, NR), r.flags);
	check(reported_in(&r, p + NR * PAGE, NR) == 0, "and not their neighbours");
	check(exits >= NR / 256 - 1 && exits <= NR / 256 + 1, "%lu exits for a full log", exits);
	collect(fd, &r);
	check(reported_in(&r, p, 2 * NR) == 0, "not again: %lu", reported_in(&r, p, 2 * NR));
}

static void spoilt(int fd, char *p, const char *index)
{
	struct round r = { 0 };

	collect(fd, &r);
	for (unsigned long i = 0; i < HALF; i++)
		p[i * PAGE]++;
	errno = set("index", index);
	if (errno)
		error("index");
	for (unsigned long i = HALF; i < 2 * HALF; i++)
		p[i * PAGE]++;
	collect(fd, &r);
	check(reported_in(&r, p, 2 * HALF) == 2 * HALF && !(r.flags & OOH_F_ALL_DIRTY),
	      "index %s: %lu of %lu reported, flags %#x", index, reported_in(&r, p, 2 * HALF),
	      2 * HALF, r.flags);
	check(reported_in(&r, p + NR * PAGE, NR) == 0, "and not the others");
	collect(fd, &r);
	check(reported_in(&r, p, 2 * NR) == 0, "quiet again");
	p[3 * PAGE]++;
	collect(fd, &r);
	check(reported(&r, p + 3 * PAGE) && reported_in(&r, p, 2 * NR) == 1, "and it goes on");
}

int main(void)
{
	/* no room; room for a few, less than there are records */
	static const char *const indices[] = { "256", "32768", "65535", "10", "0" };
	static const char *const fields[] = {
		"0x0810",		      /* interrupt status */
		"0x0812",		      /* PML index */
		"0x0814", "0x0818", "0x200e", /* PML address */
		"0x2034", "0x2050",	      /* EPML address */
		"0x2800",		      /* link pointer */
		"0x4402",		      /* exit reason */
		"0x6800", "0x681e",	      /* CR0, RIP */
	};
	char *p = touched(2 * NR);
	cpu_set_t cpus;
	int fd;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		error("sched_setaffinity");
	fd = tracker_of(getpid());
	interrupts_off(fd, p);
	interrupts_off(fd, p);
	for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++)
		spoilt(fd, p, indices[i]);
	check(set("field", "0x0816") == 0, "the index can be got at");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		check(set("field", fields[i]) == EIO, "field %s cannot", fields[i]);
	close(fd);
	check(set("field", "0x0816") == EIO, "without a log neither can the index");
	return verdict();
}
