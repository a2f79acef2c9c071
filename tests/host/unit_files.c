// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: unit_files CASE FILE: libooh/src/files.c alone, with a file of its own. clock:
 * when the clock was set, two rounds are unknown. closed: if the program closed a descriptor and
 * another file got its number, that file is left alone. signal: the leases send no signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "files.h"
#include "check.h"

static struct files files;
static struct vma vma;
static int set_clock; /* answer the next read as the kernel does after it was set */
static volatile int signals;

ssize_t __real_read(int fd, void *buf, size_t size);
ssize_t __wrap_read(int fd, void *buf, size_t size);

ssize_t __wrap_read(int fd, void *buf, size_t size)
{
	if (!set_clock || fd != files.clock.fd)
		return __real_read(fd, buf, size);
	set_clock = 0;
	errno = ECANCELED;
	return -1;
}

static void begin(const char *path)
{
	int fd = open(path, O_RDONLY);
	void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	struct vmas vmas = { 0 };
	size_t i;

	CHECK(fd >= 0 && at != MAP_FAILED);
	close(fd);
	CHECK(!vmas_read(getpid(), &vmas));
	for (i = 0; i < vmas.n; i++)
		if (vmas.v[i].start == (uintptr_t)at)
			vma = vmas.v[i];
	CHECK(vma.file);
	vmas_free(&vmas);
	CHECK(!files_init(&files, getpid()));
}

static int look(void)
{
	int number;

	files_begin(&files);
	number = files_of(&files, &vma);
	files_look(&files);
	return number;
}

static bool same(void)
{
	return files_same(&files, look());
}

static void clock_case(void)
{
	CHECK(!same());
	CHECK(same() && same());
	set_clock = 1;
	CHECK(!same() && !set_clock);
	CHECK(!same());
	CHECK(same());
}

static void closed_case(const char *path)
{
	int other = open("/dev/null", O_RDWR), number = look(), fd;

	CHECK(same());
	fd = files_fd(&files, number);
	CHECK(dup2(other, fd) == fd);
	CHECK(!same() && !same());
	files_free(&files);
	CHECK(fcntl(fd, F_GETFD) == 0 && !fcntl(fd, F_GETSIG));
	/* and one of the same file that the program opened itself */
	begin(path);
	number = look();
	fd = files_fd(&files, number);
	other = open(path, O_RDONLY);
	CHECK(dup2(other, fd) == fd);
	CHECK(!same());
	files_free(&files);
	CHECK(fcntl(fd, F_GETFD) == 0 && !fcntl(fd, F_GETSIG));
}

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static void signal_case(const char *path)
{
	int sig, i, writers = 0, status;
	pid_t child;

	for (sig = 1; sig < NSIG; sig++)
		if (sig != SIGCHLD)
			signal(sig, on_signal);
	child = fork();
	for (i = 0; !child && i < 30000; i++)
		close(open(path, O_WRONLY));
	if (!child)
		_exit(0);
	while (!waitpid(child, &status, WNOHANG))
		writers += !files_quiet(&files, look());
	/* that it was in the way, or it says nothing */
	CHECK(writers > 10 && !signals);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	begin(argv[2]);
	if (!strcmp(argv[1], "clock"))
		clock_case();
	else if (!strcmp(argv[1], "closed"))
		closed_case(argv[2]);
	else
		signal_case(argv[2]);
	files_free(&files);
	return 0;
}
