// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: /dev/ooh as ooh/uapi.h describes it: errors, partial reads,
 * limits of the range, permissions, structs of other sizes, 32-bit callers.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tracker.h"

#define NR 64UL

static int err(int ret)
{
	return ret ? errno : 0;
}

static void sizes(int fd)
{
	struct {
		struct ooh_info known;
		__u64 later;
	} info = { .known.size = sizeof(info) };
	struct ooh_info i = { .size = 8 };
	__u32 r32, *low;

	check(err(ioctl(fd, OOH_IOC_INFO, &i)) == EINVAL, "a size below the first one: EINVAL");
	check(err(ioctl(fd, OOH_IOC_INFO, &info)) == 0 && info.known.size == sizeof(i) &&
		      info.known.version == OOH_ABI_VERSION && !info.later,
	      "a longer struct: what the module has, and that it has not more (%u)",
	      info.known.size);
	info.known.size = sizeof(info);
	info.later = 1;
	check(err(ioctl(fd, OOH_IOC_INFO, &info)) == E2BIG, "something it does not know: E2BIG");

	low = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	*low = sizeof(i);
	__asm__ volatile("int $0x80"
			 : "=a"(r32)
			 : "a"(54), "b"(fd), "c"(OOH_IOC_INFO), "d"(low)
			 : "memory", "r8", "r9", "r10", "r11");
	if (r32 == (__u32)-ENOSYS)
		printf("no 32-bit system calls here\n");
	else
		check(!r32 && low[1] == OOH_ABI_VERSION, "a 32-bit caller: %d", (int)r32);
	munmap(low, PAGE);
}

/* The next call reports a round whose struct could not be written back. */
static void lost_answer(int fd, char *p)
{
	struct ooh_range *v = (void *)touched(1);
	struct ooh_collect *c = (void *)touched(1), init = {
		.size = sizeof(*c),
		.start = (unsigned long)p,
		.end = (unsigned long)p + NR * PAGE,
		.vec = (unsigned long)v,
		.vec_len = 4,
	};
	int e;

	*c = init;
	ioctl(fd, OOH_IOC_COLLECT, c);
	p[7 * PAGE]++;
	*c = init;
	mprotect(c, PAGE, PROT_READ);
	e = err(ioctl(fd, OOH_IOC_COLLECT, c));
	mprotect(c, PAGE, PROT_READ | PROT_WRITE);
	check(e == EFAULT, "a struct that is read-only: EFAULT");
	*c = init;
	e = err(ioctl(fd, OOH_IOC_COLLECT, c));
	check(!e && c->vec_len == 1 && v[0].start == (unsigned long)p + 7 * PAGE && c->pages == 1,
	      "told by the next collect: %u ranges", c->vec_len);
	munmap(c, PAGE);
	munmap(v, PAGE);
}

/*
 * A process of the same user, which was given the device, asks for the memory of a process
 * that is not its child: with scope 1 the security module Yama refuses.
 */
static void security_module(void)
{
	FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "r+");
	int fd = tracker_open(), scope, was, status;
	pid_t target, pid;

	if (!f || fscanf(f, "%d", &was) != 1)
		error("yama");
	target = fork();
	if (!target) {
		if (setgid(1000) || setuid(1000) || prctl(PR_SET_DUMPABLE, 1))
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	usleep(100000);
	for (scope = 0; scope < 2; scope++) {
		rewind(f);
		if (fprintf(f, "%d", scope) < 0 || fflush(f))
			error("ptrace_scope");
		pid = fork();
		if (!pid) {
			if (setgid(1000) || setuid(1000))
				_exit(1);
			_exit(try_attach(fd, target));
		}
		waitpid(pid, &status, 0);
		check(WIFEXITED(status) && WEXITSTATUS(status) == (scope ? EACCES : 0),
		      "Yama, scope %d: %s", scope, strerror(WEXITSTATUS(status)));
		close(fd);
		fd = tracker_open();
	}
	rewind(f);
	fprintf(f, "%d", was);
	fclose(f);
	close(fd);
	kill(target, SIGKILL);
	waitpid(target, NULL, 0);
}

int main(void)
{
	struct ooh_attach a = { .size = sizeof(a), .pid = getpid() };
	struct ooh_range v[4] = { { 0 } };
	struct ooh_collect c = { .size = sizeof(c), .vec = (unsigned long)v, .vec_len = 4 };
	struct round r = { 0 };
	struct ooh_dev_stats s = { .size = sizeof(s) };
	char *p = touched(NR);
	struct stat st;
	int fd = tracker_open(), other, status;
	pid_t pid;

	if (stat("/dev/ooh", &st))
		error("stat");
	check((st.st_mode & 07777) == 0600, "/dev/ooh has mode 0600 (%o)", st.st_mode & 07777);
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == ENOTCONN, "collect before attach: ENOTCONN");
	check(err(ioctl(fd, OOH_IOC_STATS, &s)) == ENOTCONN, "stats before attach: ENOTCONN");
	check(err(ioctl(fd, 0x1234, &s)) == ENOTTY, "unknown call: ENOTTY");
	check(err(ioctl(fd, OOH_IOC_ATTACH, NULL)) == EFAULT, "bad pointer: EFAULT");
	sizes(fd);
	a.mem = open_mem(getpid());
	a.flags = 1;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EINVAL, "unknown flag: EINVAL");
	a.flags = 0;
	a.mechanism = 77;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EOPNOTSUPP, "unknown mechanism: EOPNOTSUPP");
	a.mechanism = mechanism();
	a.pid = 4000000;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == ESRCH, "no such process: ESRCH");
	a.pid = -1;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == ESRCH, "pid -1: ESRCH");
	a.pid = 2;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == ESRCH, "a kernel thread: ESRCH");
	a.pid = 1;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == ESRCH, "memory of another process: ESRCH");
	a.pid = getpid();
	other = a.mem;
	a.mem = open("/proc/self/maps", O_RDONLY);
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EBADF, "another file of /proc: EBADF");
	close(a.mem);
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EBADF, "a closed descriptor: EBADF");
	a.mem = other;
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == 0, "attach");
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EBUSY, "twice: EBUSY");

	/* another user, who was given the device: /proc/PID/mem cannot be opened */
	pid = fork();
	if (pid == 0) {
		if (setgid(1000) || setuid(1000))
			_exit(1);
		_exit(open_mem(getppid()) < 0 && errno == EACCES ? 0 : 2);
	}
	waitpid(pid, &status, 0);
	check(status == 0, "a process of another user: no /proc/PID/mem");
	security_module();
	collect(fd, &r);
	lost_answer(fd, p);
	collect(fd, &r);

	/* every second page: more ranges than the vector holds */
	for (unsigned long i = 0; i < NR; i += 2)
		p[i * PAGE]++;
	c.start = (unsigned long)p;
	c.end = (unsigned long)p + NR * PAGE;
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == 0 && c.vec_len == 4 && c.pages == 4 &&
		      c.flags == OOH_F_MORE,
	      "a full vector: %u ranges, flags %#x", c.vec_len, c.flags);
	check(v[0].start == (unsigned long)p && v[0].end == v[0].start + PAGE &&
		      v[3].start == v[0].start + 6 * PAGE,
	      "ascending, page by page");
	/* a bad vector loses nothing */
	c.flags = OOH_COLLECT_CONTINUE;
	c.vec = 8;
	c.vec_len = 4;
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EFAULT, "bad vector: EFAULT");
	c.vec = (unsigned long)v;
	c.flags = OOH_COLLECT_CONTINUE;
	c.vec_len = 0;
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == 0 && c.vec_len == 0 && c.flags == OOH_F_MORE,
	      "empty vector: more");
	p[PAGE]++;
	collect(fd, &r);
	check(reported_in(&r, p, NR) == NR / 2 - 4 + 1, "what was left and what is new: %lu",
	      reported_in(&r, p, NR));
	collect(fd, &r);
	check(reported_in(&r, p, NR) == 0, "given out once");

	/* only a part is asked for: the rest stays pending */
	p[0]++;
	p[40 * PAGE]++;
	c = (struct ooh_collect){ .size = sizeof(c),
				  .vec = (unsigned long)v,
				  .vec_len = 4,
				  .start = (unsigned long)p + 32 * PAGE,
				  .end = (unsigned long)p + NR * PAGE };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == 0 && c.vec_len == 1 &&
		      v[0].start == (unsigned long)p + 40 * PAGE,
	      "a part of the address space");
	collect(fd, &r);
	check(reported(&r, p) && !reported(&r, p + 40 * PAGE), "the other part later");

	c = (struct ooh_collect){ .size = sizeof(c), .start = 1 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "misaligned start: EINVAL");
	c = (struct ooh_collect){ .size = sizeof(c), .flags = 0x80 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "unknown collect flag: EINVAL");
	c = (struct ooh_collect){ .size = sizeof(c), .reason = 1 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "reserved field: EINVAL");

	s = stats_of(fd);
	check(s.rounds == 10 && s.mapped > NR && s.records > 0 && s.tables > 0 &&
		      s.hypercalls > (mechanism() == OOH_MECH_EPML ? 0 : 6) && !s.all_dirty,
	      "stats: %llu rounds, %llu mapped, %llu records, %llu tables",
	      (unsigned long long)s.rounds, (unsigned long long)s.mapped,
	      (unsigned long long)s.records, (unsigned long long)s.tables);
	other = tracker_open();
	close(other);
	close(fd);
	return verdict();
}
