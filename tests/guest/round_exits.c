// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what a round costs in VM exits when nothing new has to be armed. The process
 * tracks itself, and writes to NR pages in each round. The emulator counts.
 *
 *	round_exits [hypercall]	how frames are armed again with EPML, if not by
 *				VM functions
 *
 * The same work without a tracker shows which exits come from the time that passes.
 */
#include "simcall.h"
#include "tracker.h"

#define NR	 2000UL
#define ROUNDS	 20
#define LOG_FULL (SIMCALL_CNT_EXIT_REASON + 62)

static uint64_t counters[SIMCALL_CNT_MAX];

/* Runs the rounds, and leaves in counters by how much they changed. */
static void rounds(char *p, int fd)
{
	static uint64_t before[SIMCALL_CNT_MAX];
	struct round r = { 0 };

	memset(before, 0, sizeof(before));
	memset(counters, 0, sizeof(counters));
	simcall_counters(before, SIMCALL_CNT_MAX);
	for (int k = 0; k < (fd < 0 ? 200 : 1) * ROUNDS; k++) {
		for (unsigned long i = 0; i < NR; i++)
			p[i * PAGE]++;
		if (fd < 0)
			continue;
		collect(fd, &r);
		if (reported_in(&r, p, NR) != NR || r.flags)
			check(false, "round %d: %lu of %lu reported, flags %#x", k,
			      reported_in(&r, p, NR), NR, r.flags);
	}
	simcall_counters(counters, SIMCALL_CNT_MAX);
	for (int i = 0; i < SIMCALL_CNT_MAX; i++)
		counters[i] -= before[i];
	printf("%s tracker: %llu instructions, %llu exits: %llu log full, %llu hypercalls, %llu "
	       "interrupts, %llu EPT violations\n",
	       fd < 0 ? "without a" : "with a", (unsigned long long)counters[SIMCALL_CNT_TICKS],
	       (unsigned long long)counters[SIMCALL_CNT_EXITS],
	       (unsigned long long)counters[LOG_FULL],
	       (unsigned long long)counters[SIMCALL_CNT_VMCALL],
	       (unsigned long long)counters[SIMCALL_CNT_EXTINT],
	       (unsigned long long)counters[SIMCALL_CNT_EPT_VIOLATION]);
}

int main(int argc, char **argv)
{
	bool hypercall = argc > 1 && !strcmp(argv[1], "hypercall");
	bool epml = mechanism() == OOH_MECH_EPML;
	char *p = touched(NR);
	struct ooh_dev_stats a, b;
	double idle, excess;
	uint64_t records;
	int fd, hypercalls;

	rounds(p, -1);
	idle = (double)counters[SIMCALL_CNT_EXITS] / counters[SIMCALL_CNT_TICKS];
	fd = tracker_of(getpid());
	rounds(p, fd);
	a = stats_of(fd);
	rounds(p, fd);
	b = stats_of(fd);
	records = epml ? b.log_records - a.log_records : b.records - a.records;
	excess = counters[SIMCALL_CNT_EXITS] - idle * counters[SIMCALL_CNT_TICKS];
	printf("%llu records, %llu of page walks; %llu notifications, %llu hypercalls of the "
	       "module; "
	       "%.1f exits a round due to tracking\n",
	       (unsigned long long)records, (unsigned long long)(b.log_walks - a.log_walks),
	       (unsigned long long)(b.notifications - a.notifications),
	       (unsigned long long)(b.hypercalls - a.hypercalls), excess / ROUNDS);
	check(records >= ROUNDS * NR, "a record for each page and round");
	if (!epml) {
		check(counters[LOG_FULL] >= ROUNDS * (NR / 512), "an exit for 512 records");
		return verdict();
	}
	check(counters[LOG_FULL] == 0, "no exit for a full log");
	check(b.notifications - a.notifications >= ROUNDS * NR / 256, "interrupts instead");
	/* a page of the program itself may be new */
	hypercalls = b.hypercalls - a.hypercalls - (hypercall ? ROUNDS : 0);
	check(hypercalls >= 0 && hypercalls <= 3, "%d hypercalls a round, and %d", hypercall,
	      hypercalls);
	/* what comes with time varies */
	check(excess < ROUNDS * (hypercall + 3), "and no other exits");
	return verdict();
}
