// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: /dev/ooh as linux/ooh.h describes it: errors, partial reads,
 * limits of the range, permissions.
 */
#include <sys/stat.h>
#include <sys/wait.h>

#include "tracker.h"

#define NR 64UL

static int err(int ret)
{
	return ret ? errno : 0;
}

int main(void)
{
	struct ooh_attach a = { .pid = getpid() };
	struct ooh_range v[4] = { { 0 } };
	struct ooh_collect c = { .vec = (unsigned long)v, .vec_len = 4 };
	struct round r = { 0 };
	struct ooh_stats s;
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
	a.pid = getpid();
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == 0, "attach");
	check(err(ioctl(fd, OOH_IOC_ATTACH, &a)) == EBUSY, "twice: EBUSY");

	/* another user, through a file that was opened for it */
	pid = fork();
	if (pid == 0) {
		int f = tracker_open();

		a.pid = getppid();
		if (setgid(1000) || setuid(1000))
			_exit(1);
		_exit(err(ioctl(f, OOH_IOC_ATTACH, &a)) == EACCES ? 0 : 2);
	}
	waitpid(pid, &status, 0);
	check(status == 0, "a process of another user: EACCES");
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

	/* only a part is asked for, the rest stays pending */
	p[0]++;
	p[40 * PAGE]++;
	c = (struct ooh_collect){ .vec = (unsigned long)v,
				  .vec_len = 4,
				  .start = (unsigned long)p + 32 * PAGE,
				  .end = (unsigned long)p + NR * PAGE };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == 0 && c.vec_len == 1 &&
		      v[0].start == (unsigned long)p + 40 * PAGE,
	      "a part of the address space");
	collect(fd, &r);
	check(reported(&r, p) && !reported(&r, p + 40 * PAGE), "the other part later");

	c = (struct ooh_collect){ .start = 1 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "misaligned start: EINVAL");
	c = (struct ooh_collect){ .flags = 0x80 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "unknown collect flag: EINVAL");
	c = (struct ooh_collect){ .pad = 1 };
	check(err(ioctl(fd, OOH_IOC_COLLECT, &c)) == EINVAL, "reserved field: EINVAL");

	if (ioctl(fd, OOH_IOC_STATS, &s))
		error("OOH_IOC_STATS");
	check(s.rounds == 6 && s.mapped > NR && s.records > 0 && s.tables > 0 &&
		      s.hypercalls > (mechanism() == OOH_MECH_EPML ? 0 : 6) && !s.all_dirty,
	      "stats: %llu rounds, %llu mapped, %llu records, %llu tables",
	      (unsigned long long)s.rounds, (unsigned long long)s.mapped,
	      (unsigned long long)s.records, (unsigned long long)s.tables);
	other = tracker_open();
	close(other);
	close(fd);
	return verdict();
}
