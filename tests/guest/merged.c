// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mapping that is made beside an old one, which criu merges with it. After a pre-dump, SIGUSR1
 * makes the process map it and write to its second page. SIGUSR2 makes it write to the file
 * "verdict" what the first page holds: "new", or "old" if a restore has brought back what was at
 * that address before.
 *
 * During a dump, criu reads the first page of each mapping that may be a vDSO; here the read maps
 * the zero page. It also makes all mappings readable. That merges the old mapping with the new one,
 * and the mark that made all of the new one soft-dirty is gone.
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
