// SPDX-License-Identifier: GPL-2.0-only
/* Memory that runs short, because the process is limited, and memory that is plugged in. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hard.h"

#define ROOM	      (64 * PAGE) /* below the limit, for what others need meanwhile */
#define PLUGGED_PAGES 64

static unsigned long plugged_frame; /* the first above the memory of the start */

static int put(const char *file, const char *text)
{
	char path[256];
	int fd, rc = DONE;

	snprintf(path, sizeof(path), "%s/%s", opt.cgroup, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

static unsigned long in_use(void)
{
	unsigned long bytes = 0;
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.current", opt.cgroup);
	f = fopen(path, "re");
	if (f && fscanf(f, "%lu", &bytes) != 1)
		bytes = 0;
	if (f)
		fclose(f);
	return bytes;
}

/* Before anything is allocated: what is charged to another group stays there. */
void machine_prepare(void)
{
	unsigned long start, end;
	char line[128];
	FILE *f;
	int rc;

	rc = opt.cgroup ? put("cgroup.procs", "0") : DONE;
	if (rc)
		broken("%s: %s", opt.cgroup, strerror(-rc));
	f = fopen("/proc/iomem", "re");
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, " : System RAM") && sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    start == 1UL << 20)
			plugged_frame = end / PAGE + 1;
	if (f)
		fclose(f);
}

static size_t present_in_all(struct worker *w)
{
	size_t i, n = 0;

	for (i = 0; i < PLACES; i++)
		if (w->region[i].at)
			n += present_in(w, &w->region[i]);
	return n;
}

/*
 * Cuts the group's memory, whichever pages go. Then pages are needed at the limit, and each
 * takes the place of another.
 */
static int op_squeeze(struct worker *w, struct rng *r)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct region *reg = &w->region[ANON];
	char text[32];
	size_t before;
	int rc;

	if (!opt.cgroup)
		return -EPERM;
	pthread_mutex_lock(&lock);
	sweep(reg, draw(r));
	before = present_in_all(w);
	snprintf(text, sizeof(text), "%lu", (1 + below(r, 4)) << 20);
	rc = put("memory.reclaim", text);
	/* not as much as that, or a tracker stopped us meanwhile */
	if (rc == -EAGAIN || rc == -EINTR)
		rc = DONE;
	if (!rc && present_in_all(w) >= before)
		rc = VAIN;
	snprintf(text, sizeof(text), "%lu", in_use() + ROOM);
	if (!put("memory.max", text)) {
		sweep(reg, draw(r));
		store(w, page_in(w, MEMFD, r), r);
		put("memory.max", "max");
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

/* Pages in memory that the machine did not have when it started. */
static int op_plugged(struct worker *w, struct rng *r)
{
	struct region *old = &w->plugged;
	size_t i, n = 0;

	if (old->at)
		munmap(old->at, old->pages * PAGE);
	*old = (struct region){ map(PLUGGED_PAGES * PAGE, MAP_PRIVATE, -1), PLUGGED_PAGES };
	sweep(old, draw(r));
	for (i = 0; i < old->pages; i++)
		n += frame_of(w, old->at + i * PAGE) >= plugged_frame;
	return n ? DONE : VAIN;
}

/* They are written on and on. */
static int op_plugged_store(struct worker *w, struct rng *r)
{
	if (!w->plugged.at)
		return VAIN;
	store(w, w->plugged.at + below(r, w->plugged.pages) * PAGE, r);
	return DONE;
}

const struct kind machine_kinds[] = {
	{ "squeeze", 40, op_squeeze },
	{ "plugged", 0, op_plugged },
	{ "plugged-store", 0, op_plugged_store },
	{ 0 },
};
