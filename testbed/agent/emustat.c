// SPDX-License-Identifier: GPL-2.0-only
/*
 * emustat: the emulated processor's event counters
 *
 *	emustat [-j] [-o FILE]			since power on
 *	emustat [-j] [-o FILE] -- CMD...	while CMD ran; ends with its status
 *	emustat --costs PERCENT [EVENT]		charge that much of the table of costs, for all
 *						events or for one; 0: nothing
 *	emustat --save				ask for a snapshot of the machine
 *
 * -j: JSON, a number for each event. The counters are those of the whole
 * machine, all domains. ticks is the time stamp counter's, without costs that of instructions
 * and idle time.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "simcall.h"

#define NAME_OF(event) [SIMCALL_CNT_COSTLY + SIMCALL_COST_##event] = #event,

static const char *const names[SIMCALL_CNT_MAX] = {
	[SIMCALL_CNT_TICKS] = "ticks",
	[SIMCALL_CNT_EXITS] = "vm_exits",
	[SIMCALL_CNT_ENTRIES] = "vm_entries",
	[SIMCALL_CNT_PML_RECORDS] = "pml_records",
	[SIMCALL_CNT_PML_FULL] = "pml_full_exits",
	[SIMCALL_CNT_EPT_VIOLATION] = "ept_violation_exits",
	[SIMCALL_CNT_EPT_MISCONFIG] = "ept_misconfig_exits",
	[SIMCALL_CNT_INVEPT] = "invept",
	[SIMCALL_CNT_INVVPID] = "invvpid",
	[SIMCALL_CNT_GUEST_PF] = "guest_page_faults",
	[SIMCALL_CNT_VMCALL] = "vmcall_exits",
	[SIMCALL_CNT_EXTINT] = "external_interrupt_exits",
	[SIMCALL_CNT_EPT_AD] = "ept_ad_updates",
	[SIMCALL_CNT_EPML_RECORDS] = "epml_records",
	[SIMCALL_CNT_EPML_FULL] = "epml_full_exits",
	[SIMCALL_CNT_EPML_NOTIFY] = "epml_notifications",
	[SIMCALL_CNT_CHARGED] = "charged_ticks",
	[SIMCALL_CNT_EXECUTED] = "instructions",
	SIMCALL_COSTLY_EVENTS(NAME_OF)
};

static int number(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 1000) {
		fprintf(stderr, "emustat: %s: not a percentage, 0 to 1000\n", text);
		exit(2);
	}
	return n;
}

/* NULL: all */
static int set_costs(int percent, const char *event)
{
	uint64_t n = event ? 0 : SIMCALL_COST_ALL;

	if (event) {
		while (n < SIMCALL_COST_EVENTS && strcmp(event, names[SIMCALL_CNT_COSTLY + n]))
			n++;
		/* the one behind those that are counted */
		if (n == SIMCALL_COST_vmexit && strcmp(event, "vmexit")) {
			fprintf(stderr, "emustat: %s: no event of the table of costs\n", event);
			return 2;
		}
	}
	if (simcall_costs(percent, n) < 0) {
		fprintf(stderr, "emustat: this machine has no table of costs (testbed/configs)\n");
		return 1;
	}
	return 0;
}

static void no_emulator(int sig)
{
	static const char text[] = "emustat: this is not the emulated machine\n";

	(void)sig;
	if (write(2, text, sizeof(text) - 1) < 0)
		_exit(125);
	_exit(125);
}

/* some costly events are among the first counters, too, under a name of theirs */
static int named_before(int i)
{
	switch (i - SIMCALL_CNT_COSTLY) {
	case SIMCALL_COST_vmentry:
	case SIMCALL_COST_invept:
	case SIMCALL_COST_invvpid:
	case SIMCALL_COST_pml_record:
	case SIMCALL_COST_epml_record:
		return 1;
	default:
		return 0;
	}
}

static void print(FILE *f, int json, const uint64_t *a, const uint64_t *b)
{
	const char *sep = json ? "{" : "";

	for (int i = 0; i < SIMCALL_CNT_MAX; i++) {
		uint64_t n = b[i] - a[i];

		if (names[i] && !named_before(i))
			fprintf(f, json ? "%s\"%s\": %llu" : "%s%-26s %llu\n", sep, names[i],
				(unsigned long long)n);
		else if (i >= SIMCALL_CNT_EXIT_REASON && i < SIMCALL_CNT_CHARGED && n)
			fprintf(f, json ? "%s\"exit_%d\": %llu" : "%sexit_%-21d %llu\n", sep,
				i - SIMCALL_CNT_EXIT_REASON, (unsigned long long)n);
		else
			continue;
		sep = json ? ", " : "";
	}
	if (json)
		fprintf(f, "}\n");
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = { { "costs", required_argument, NULL, 'c' },
						  { "json", no_argument, NULL, 'j' },
						  { "output", required_argument, NULL, 'o' },
						  { "save", no_argument, NULL, 's' },
						  { NULL, 0, NULL, 0 } };
	static uint64_t a[SIMCALL_CNT_MAX], b[SIMCALL_CNT_MAX];
	int json = 0, save = 0, status = 0, percent = -1, opt;
	FILE *f = stdout;

	while ((opt = getopt_long(argc, argv, "+jo:", longopts, NULL)) != -1) {
		switch (opt) {
		case 'j':
			json = 1;
			break;
		case 'o':
			f = fopen(optarg, "w");
			if (!f) {
				fprintf(stderr, "emustat: %s: %s\n", optarg, strerror(errno));
				return 125;
			}
			break;
		case 's':
			save = 1;
			break;
		case 'c':
			percent = number(optarg);
			break;
		default:
			fprintf(stderr, "usage: emustat [-j] [-o FILE] [-- CMD...] | --costs "
					"PERCENT [EVENT] | --save\n");
			return 2;
		}
	}
	signal(SIGILL, no_emulator);
	if (save)
		return simcall_save() ? 1 : 0;
	if (percent >= 0)
		return set_costs(percent, argv[optind]);
	/* the tables must be there: a page fault in the call is not an event of CMD */
	memset(b, 0, sizeof(b));
	if (optind < argc) {
		pid_t pid;

		memset(a, 0, sizeof(a));
		simcall_counters(a, SIMCALL_CNT_MAX);
		pid = fork();
		if (pid == 0) {
			signal(SIGILL, SIG_DFL);
			execvp(argv[optind], argv + optind);
			fprintf(stderr, "emustat: %s: %s\n", argv[optind], strerror(errno));
			_exit(errno == ENOENT ? 127 : 126);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			fprintf(stderr, "emustat: %s\n", strerror(errno));
			return 125;
		}
		status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	simcall_counters(b, SIMCALL_CNT_MAX);
	print(f, json, a, b);
	if (fclose(f)) {
		fprintf(stderr, "emustat: cannot write the counters: %s\n", strerror(errno));
		return 125;
	}
	return status;
}
