// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mapping that is made anew beside an old one, for criu to merge. After a pre-dump, SIGUSR1 has it
 * mapped and its second page written to. SIGUSR2 has the file "verdict" say what the first one
 * holds: "new", or "old" if a restore has brought back what was at its address before.
 *
 * While it dumps, criu reads the first page of what may be a vDSO, which brings the zero page. It
 * also makes all mappings readable, by which the old one joins the new one, and the mark that made
 * all of the new one soft-dirty is gone.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

int main(void)
{
	const char *told = "new";
	sigset_t set;
	char *p;
	int sig;

	/* nothing else is beside them */
	p = mmap(NULL, 5 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + PAGE, 3 * PAGE, PROT_WRITE | PROT_EXEC))
		return 2;
	memset(p + PAGE, 'x', 3 * PAGE);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (!sigwait(&set, &sig) && sig == SIGUSR1) {
		if (mmap(p + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			return 2;
		p[2 * PAGE] = 'y';
	}
	for (int i = PAGE; i < 2 * PAGE; i++)
		if (p[i])
			told = "old";
	sig = open("verdict", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	return sig < 0 || write(sig, told, strlen(told)) < 0 ? 2 : 0;
}
