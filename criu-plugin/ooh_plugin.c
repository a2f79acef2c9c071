// SPDX-License-Identifier: GPL-2.0-only
/*
 * Feeds CRIU's incremental dumps with what libooh's trackers say, in place of the
 * kernel's soft-dirty bits. The trackers are kept by ooh-holder. Which round of a
 * tracker an image directory belongs to is written there, in the file "ooh-marks",
 * when all images are complete; a dump whose parent directory has no (good) mark
 * of a process takes all of it for dirty. ooh-criu(7) tells the whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "criu-log.h"
#include "criu-plugin.h"
#include "cr_options.h"
#include "pid.h"
#include "pstree.h"

#include "client.h"

#ifdef LOG_PREFIX
#undef LOG_PREFIX
#endif
#define LOG_PREFIX "ooh_plugin: "

#define MARKS	   "ooh-marks"
#define MARKS_HEAD "ooh-marks 2\n"
#define MARKS_END  "end\n"
#define ALL	   "all "
#define MAX_DEPTH  64

struct task {
	struct task *next;
	int pid;
	bool all; /* everything is dirty, why says why */
	char why[OOH_REASON_LEN];
	bool marked;
	struct hold_mark mark; /* of the round that this dump has ended */
	struct ooh_range *ranges;
	size_t n;
};

struct parent_mark {
	int pid;
	struct hold_mark mark;
};

static bool disabled = true;
static bool goes_on; /* the processes run on afterwards */
static char backend[32];
static struct hold_client holder = { .fd = -1 };
static struct task *tasks;
static struct parent_mark *parent;
static size_t nparent;

/* ---- marks */

static void write_token(FILE *f, const uint8_t *token)
{
	unsigned int i;

	for (i = 0; i < TOKEN_LEN; i++)
		fprintf(f, "%02x", token[i]);
}

/* PID TRACKER ROUND TOKEN, and for people and ooh checkpoint: everything of PID is here, why */
static void write_mark(FILE *f, const struct task *t)
{
	if (t->marked) {
		fprintf(f, "%d ", t->pid);
		write_token(f, t->mark.tracker);
		fprintf(f, " %llu ", (unsigned long long)t->mark.round);
		write_token(f, t->mark.token);
		fputc('\n', f);
	}
	if (t->all && nparent)
		fprintf(f, ALL "%d %.160s\n", t->pid, t->why);
}

static void forget_marks(void)
{
	if (unlinkat(criu_get_image_dir(), MARKS, 0) && errno != ENOENT)
		pr_perror("Can't remove the old %s", MARKS);
}

/* Only a whole file has its last line; without it the next dump takes everything. */
static void write_marks(void)
{
	int fd =
		openat(criu_get_image_dir(), MARKS, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	struct task *t;
	bool bad;

	if (!f) {
		if (fd >= 0)
			close(fd);
		pr_pwarn("Can't create %s, the next dump will take everything", MARKS);
		return;
	}
	fputs(MARKS_HEAD, f);
	for (t = tasks; t; t = t->next)
		write_mark(f, t);
	fputs(MARKS_END, f);
	bad = ferror(f);
	if (fclose(f) || bad) {
		pr_pwarn("Can't write %s, the next dump will take everything", MARKS);
		forget_marks();
	}
}

static bool parse_token(const char *hex, uint8_t *token)
{
	int i;

	if (strlen(hex) != 2 * TOKEN_LEN)
		return false;
	for (i = 0; i < TOKEN_LEN; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &token[i]) != 1)
			return false;
	return true;
}

static bool parse_mark(const char *line, struct parent_mark *m)
{
	char tracker[2 * TOKEN_LEN + 1], token[2 * TOKEN_LEN + 1];
	unsigned long long round;
	int end = 0;

	if (sscanf(line, "%d %32[0-9a-f] %llu %32[0-9a-f]%n", &m->pid, tracker, &round, token,
		   &end) != 4 ||
	    strcmp(line + end, "\n"))
		return false;
	m->mark.round = round;
	return parse_token(tracker, m->mark.tracker) && parse_token(token, m->mark.token);
}

static bool read_lines(FILE *f)
{
	char line[256];

	if (!fgets(line, sizeof(line), f) || strcmp(line, MARKS_HEAD))
		return false;
	while (fgets(line, sizeof(line), f)) {
		struct parent_mark m, *v;

		if (!strcmp(line, MARKS_END))
			return true;
		if (!strncmp(line, ALL, strlen(ALL)))
			continue;
		v = realloc(parent, (nparent + 1) * sizeof(*v));
		if (!v)
			return false;
		parent = v;
		if (!parse_mark(line, &m))
			return false;
		parent[nparent++] = m;
	}
	return false;
}

/* The rounds that the parent images belong to. None is known if anything is odd. */
static void read_marks(void)
{
	int fd = openat(criu_get_image_dir(), "parent/" MARKS, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f) {
		if (fd >= 0)
			close(fd);
		pr_info("The parent images have no %s, everything is dirty\n", MARKS);
		return;
	}
	if (!read_lines(f)) {
		pr_warn("%s of the parent images is not whole, everything is dirty\n", MARKS);
		nparent = 0;
	}
	fclose(f);
}

static const struct hold_mark *parent_mark(int pid)
{
	size_t i;

	for (i = 0; i < nparent; i++)
		if (parent[i].pid == pid)
			return &parent[i].mark;
	return NULL;
}

/* ---- tasks */

static void collect(struct task *t)
{
	const struct hold_mark *since = parent_mark(t->pid);
	struct hold_reply reply;
	int rc;

	t->all = true;
	/* What is dumped for the last time needs no tracker that it does not have. */
	if (!since && !goes_on) {
		pr_info("No mark of %d, everything is dirty\n", t->pid);
		snprintf(t->why, sizeof(t->why), "there is no mark to start from");
		return;
	}
	rc = hold_call(&holder, HOLD_COLLECT, t->pid, backend, since, &reply, &t->ranges);
	t->n = rc ? 0 : reply.ranges;
	t->all = rc || reply.all;
	t->marked = !rc;
	t->mark = reply.mark;
	memcpy(t->why, reply.reason, sizeof(t->why));
	if (rc)
		pr_warn("%d is not tracked, everything is dirty: %s\n", t->pid, reply.reason);
	else if (reply.all)
		pr_info("Everything of %d is dirty: %s\n", t->pid, reply.reason);
	else
		pr_info("%d has written to %zu ranges since round %llu\n", t->pid, t->n,
			(unsigned long long)since->round);
}

/*
 * The first use ends the round of a process. It is frozen by then and stays so until its
 * pages have been taken: what is written from now on belongs to the next round.
 */
static struct task *get_task(int pid)
{
	struct task *t;

	for (t = tasks; t; t = t->next)
		if (t->pid == pid)
			return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->pid = pid;
	t->next = tasks;
	tasks = t;
	collect(t);
	return t;
}

static int ooh_reset_dirty_track(int pid)
{
	if (disabled)
		return -ENOTSUP;
	return get_task(pid) ? 0 : -ENOMEM;
}

static int ooh_next_dirty(int pid, uint64_t start, uint64_t end, uint64_t *from, uint64_t *to)
{
	size_t low = 0, high;
	struct task *t;

	if (disabled)
		return -ENOTSUP;
	*from = *to = end;
	if (start == end)
		return 0;
	t = get_task(pid);
	if (!t || t->all) {
		*from = start;
		return 0;
	}
	/* the first range that ends behind start */
	for (high = t->n; low < high;) {
		size_t mid = low + (high - low) / 2;

		if (t->ranges[mid].end <= start)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < t->n && t->ranges[low].start < end) {
		*from = t->ranges[low].start < start ? start : t->ranges[low].start;
		*to = t->ranges[low].end > end ? end : t->ranges[low].end;
	}
	return 0;
}
CR_PLUGIN_REGISTER_MEM_TRACK(ooh_reset_dirty_track, ooh_next_dirty)

/* ---- a process that tracks itself by the device, as a garbage collector does */

#define DEVICE	    "/dev/ooh"
#define DEVICE_MARK "ooh-device-%d"
#define UFFD	    "anon_inode:[userfaultfd]"

/* Nothing is kept of what the device knew: libooh takes everything for dirty afterwards. */
static int ooh_dump_file(int fd, int id)
{
	struct stat st, device;
	char path[64], target[32];
	ssize_t n;
	int mark;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n > 0 && (size_t)n == strlen(UFFD) && !memcmp(target, UFFD, n)) {
		pr_err("A process has a userfaultfd, as those have that track themselves by "
		       "pagemap-scan. It cannot be dumped; start it with GC_USE_OOH=0 if it is "
		       "libgc's\n");
		return -ENOTSUP;
	}
	if (fstat(fd, &st) || stat(DEVICE, &device) || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != device.st_rdev)
		return -ENOTSUP;
	snprintf(path, sizeof(path), DEVICE_MARK, id);
	mark = openat(criu_get_image_dir(), path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (mark < 0) {
		pr_perror("Can't create %s", path);
		return -1;
	}
	close(mark);
	return 0;
}
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__DUMP_EXT_FILE, ooh_dump_file)

/* A descriptor that is not attached. Where there is no such device, libooh finds that out. */
static int ooh_restore_file(int id)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), DEVICE_MARK, id);
	if (faccessat(criu_get_image_dir(), path, F_OK, 0))
		return -ENOTSUP;
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		pr_pwarn("Can't open " DEVICE ", the process gets /dev/null in its place");
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	return fd;
}
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__RESTORE_EXT_FILE, ooh_restore_file)

/* ---- begin and end */

/*
 * Trackers that are there before the processes are frozen cost no frozen time, and
 * the native ones cannot attach to a process that CRIU traces.
 */
static void open_tree(int pid, int depth)
{
	struct hold_reply reply;
	struct dirent *e;
	char path[300];
	int child;
	DIR *d;

	if (hold_call(&holder, HOLD_OPEN, pid, backend, NULL, &reply, NULL))
		pr_info("Can't track %d yet: %s\n", pid, reply.reason);
	if (holder.fd < 0 || depth == MAX_DEPTH)
		return;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", pid, e->d_name);
		f = fopen(path, "re");
		while (f && fscanf(f, "%d", &child) == 1)
			open_tree(child, depth + 1);
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
}

/*
 * A criu that does not know our hooks calls none of them, and one of another build has its
 * options elsewhere: neither is looked into any further.
 */
static bool criu_is_ours(void)
{
	if (!CR_PLUGIN_MEM_TRACK.used) {
		pr_warn("disabled: this criu has no memory tracking by plugins (%s), "
			"it lacks the patches of OoH\n",
			CR_PLUGIN_MEM_TRACK_SYMBOL);
		return false;
	}
	if (CR_PLUGIN_MEM_TRACK.opts_size != sizeof(opts)) {
		pr_warn("disabled: this plugin was built for another version of criu\n");
		return false;
	}
	return true;
}

/*
 * The process at the root of what is dumped; 0: criu check, which dumps nothing, and takes
 * itself for one. Not opts.tree_id: only the command line sets that, and over RPC ("criu
 * swrk", as runc, podman and LXC run it) it is 0.
 */
static int root_pid(void)
{
	int pid = root_item ? root_item->pid->real : 0;

	return pid > 0 && pid != getpid() ? pid : 0;
}

static int ooh_plugin_init(int stage)
{
	char why[OOH_REASON_LEN];
	bool wanted;

	if (stage == CR_PLUGIN_STAGE__RESTORE || !criu_is_ours())
		return 0;
	wanted = stage == CR_PLUGIN_STAGE__PRE_DUMP || opts.track_mem;
	if (hold_backend(getenv("OOH_BACKEND"), backend, sizeof(backend), why, sizeof(why))) {
		if (wanted)
			pr_warn("disabled: %s\n", why);
		else
			pr_info("disabled: %s\n", why);
		return 0;
	}
	disabled = false;
	goes_on = stage == CR_PLUGIN_STAGE__PRE_DUMP || opts.final_state != TASK_DEAD;
	if (!root_pid())
		return 0;
	forget_marks();
	if (!wanted)
		return 0;
	pr_info("backend %s\n", backend);
	if (hold_connect(&holder, why, sizeof(why)))
		pr_warn("There is no holder, everything is dirty: %s\n", why);
	else if (goes_on)
		open_tree(root_pid(), 0);
	if (opts.img_parent)
		read_marks();
	return 0;
}

static void ooh_plugin_fini(int stage, int ret)
{
	struct task *t;

	/* Lazy pages are in no image, so it cannot be anybody's parent. */
	if (!disabled && !ret && tasks && goes_on && !opts.lazy_pages)
		write_marks();
	while ((t = tasks)) {
		tasks = t->next;
		free(t->ranges);
		free(t);
	}
	free(parent);
	parent = NULL;
	nparent = 0;
	hold_close(&holder);
	disabled = true;
}

/*
 * As CR_PLUGIN_REGISTER(), but with no more hooks than are used: what criu calls its later
 * numbers may be something else in the next version, and an older one refuses to dump
 * anything with a plugin that has more of them than itself.
 */
cr_plugin_desc_t CR_PLUGIN_DESC = {
	.name = "ooh_plugin",
	.init = ooh_plugin_init,
	.exit = ooh_plugin_fini,
	.version = CRIU_PLUGIN_VERSION,
	.max_hooks = CR_PLUGIN_HOOK__RESTORE_EXT_FILE + 1,
};
