// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what the kernel and other processes write is reported like a store.
 *
 * read(2), process_vm_writev and /proc/PID/mem write through the kernel's direct
 * map, another process writes through a mapping of its own. No page fault and no
 * access of the tracked process shows that. The log names the frame, whoever wrote it.
 */
#include <sys/uio.h>
#include <sys/wait.h>

#include "tracker.h"

#define NR 64UL

int main(void)
{
	char *p = touched(NR), *shared = pages_of(NR, MAP_SHARED), name[64];
	struct round r = { 0 };
	int fd, pipefd[2], mem, go[2], done[2];
	pid_t pid;
	char c = 0;

	memset(shared, 1, NR * PAGE);
	if (pipe(pipefd) || pipe(go) || pipe(done))
		error("pipe");
	pid = fork();
	if (pid == 0) {
		struct iovec here = { "x", 1 }, there = { p + 20 * PAGE + 9, 1 };

		if (read(go[0], &c, 1) != 1)
			_exit(1);
		shared[11 * PAGE]++;
		if (process_vm_writev(getppid(), &here, 1, &there, 1, 0) != 1)
			_exit(2);
		snprintf(name, sizeof(name), "/proc/%d/mem", getppid());
		mem = open(name, O_RDWR);
		if (mem < 0 || pwrite(mem, "y", 1, (off_t)(unsigned long)p + 30 * PAGE) != 1)
			_exit(3);
		_exit(write(done[1], "d", 1) == 1 ? 0 : 4);
	}

	fd = tracker_of(getpid());
	if (write(pipefd[1], "data", 4) != 4 || read(pipefd[0], p + 5 * PAGE, 4) != 4)
		error("pipe");
	collect(fd, &r);
	check(reported(&r, p + 5 * PAGE) && !reported(&r, p + 6 * PAGE), "read(2)");

	if (write(go[1], "g", 1) != 1 || read(done[0], &c, 1) != 1)
		error("the other process");
	collect(fd, &r);
	check(reported(&r, shared + 11 * PAGE) && !reported(&r, shared + 12 * PAGE),
	      "shared memory, written by another process");
	check(reported(&r, p + 20 * PAGE) && !reported(&r, p + 21 * PAGE), "process_vm_writev");
	check(reported(&r, p + 30 * PAGE) && !reported(&r, p + 31 * PAGE), "/proc/PID/mem");
	waitpid(pid, NULL, 0);
	check(reported_in(&r, p, NR) == 2, "and nothing else (%lu pages)", reported_in(&r, p, NR));
	return verdict();
}
