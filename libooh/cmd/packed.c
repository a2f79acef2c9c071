// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crimage.h"
#include "images.h"
#include "packed.h"

#define NEW ".new"

static const struct packer {
	const char *suffix, *program;
} packers[] = { { ".zst", "zstd" }, { ".gz", "gzip" }, { ".xz", "xz" }, { ".lz4", "lz4" } };

#define PACKERS (sizeof(packers) / sizeof(packers[0]))

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n > m && !strcmp(name + n - m, suffix);
}

/* Of a compressed image, also of one that is not finished */
bool packed_name(const char *name)
{
	char text[NAME_MAX + 1];
	size_t i;

	snprintf(text, sizeof(text), "%s", name);
	if (ends_in(text, NEW))
		text[strlen(text) - strlen(NEW)] = '\0';
	for (i = 0; i < PACKERS && is_pages(text); i++)
		if (ends_in(text, packers[i].suffix)) {
			text[strlen(text) - strlen(packers[i].suffix)] = '\0';
			return is_image(text);
		}
	return false;
}

/* By which program name is compressed; NULL: it is not */
static const struct packer *packer_of(int at, const char *name, char path[static PATH_MAX])
{
	size_t i;

	for (i = 0; i < PACKERS; i++) {
		snprintf(path, PATH_MAX, "%s%s", name, packers[i].suffix);
		if (!faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW))
			return &packers[i];
	}
	return NULL;
}

bool packed_there(int at, const char *name)
{
	char path[PATH_MAX];

	return packer_of(at, name, path);
}

static bool in_path(const char *program)
{
	const char *path = getenv("PATH") ?: "/usr/bin:/bin";
	char file[PATH_MAX];

	while (*path) {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program);
		if (!access(file, X_OK))
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

/* The one of that name; NULL: the best there is. NULL: there is none. */
const char *packer_choose(const char *name)
{
	size_t i;

	for (i = 0; i < PACKERS; i++)
		if (name ? !strcmp(packers[i].program, name) : in_path(packers[i].program))
			return packers[i].program;
	return NULL;
}

static pid_t start(const char *program, const char *what, int in, int out)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	setpgid(0, 0);
	dup2(in, 0);
	dup2(out, 1);
	execlp(program, program, "-q", what, (char *)NULL);
	_exit(127);
}

static int end(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBADMSG;
}

static int open_packed(int at, const char *path, const char *program, pid_t *child)
{
	int in = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), fds[2];

	if (in < 0)
		return -errno;
	if (pipe2(fds, O_CLOEXEC)) {
		close(in);
		return -EMFILE;
	}
	*child = start(program, "-dc", in, fds[1]);
	close(in);
	close(fds[1]);
	if (*child < 0) {
		close(fds[0]);
		return -EAGAIN;
	}
	return fds[0];
}

/* What name was, from its compressed form: a descriptor, or -errno. */
int packed_open(int at, const char *name, pid_t *child)
{
	char path[PATH_MAX];
	const struct packer *p = packer_of(at, name, path);

	return p ? open_packed(at, path, p->program, child) : -ENOENT;
}

/* 0, or -EBADMSG: what was read is not all, or not right. */
int packed_close(int fd, pid_t child)
{
	close(fd);
	return end(child);
}

/* Does the new file bring back what is in the old one? */
static bool same(int at, const char *name, const char *fresh, const char *program)
{
	unsigned long long bytes, bytes_again;
	unsigned int sum, sum_again;
	pid_t child;
	bool ok;
	int fd;

	if (images_sum_file(at, name, &sum, &bytes))
		return false;
	fd = open_packed(at, fresh, program, &child);
	if (fd < 0)
		return false;
	ok = !images_sum_fd(fd, &sum_again, &bytes_again);
	return !packed_close(fd, child) && ok && sum == sum_again && bytes == bytes_again;
}

/* The plain one goes when the compressed one is on the disk and was read again. */
static int pack(int at, const char *name, const struct packer *p, char *why, size_t size)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	int in = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out, rc;
	pid_t child;

	snprintf(path, sizeof(path), "%s%s", name, p->suffix);
	snprintf(fresh, sizeof(fresh), "%s%s" NEW, name, p->suffix);
	unlinkat(at, fresh, 0);
	out = openat(at, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	rc = in < 0 || out < 0 ? -errno : 0;
	if (!rc) {
		child = start(p->program, "-c", in, out);
		rc = child < 0 ? -EAGAIN : end(child);
		if (!rc && fsync(out))
			rc = -errno;
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (!rc && !same(at, name, fresh, p->program))
		rc = -EBADMSG;
	if (!rc && (renameat(at, fresh, at, path) || fsync(at) || unlinkat(at, name, 0)))
		rc = -errno;
	if (rc) {
		snprintf(why, size, "%s: %s", name, rc == -EBADMSG ? p->program : strerror(-rc));
		unlinkat(at, fresh, 0);
	}
	return rc;
}

static int unpack(int at, int out, const char *name, char *why, size_t size)
{
	static char buf[1 << 16];
	char fresh[PATH_MAX];
	int fd, to, rc = 0;
	ssize_t n;
	pid_t child;

	fd = packed_open(at, name, &child);
	if (fd < 0) {
		snprintf(why, size, "%s: %s", name, strerror(-fd));
		return fd;
	}
	snprintf(fresh, sizeof(fresh), "%s.zst" NEW, name);
	unlinkat(out, fresh, 0);
	to = openat(out, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	while (to >= 0 && !rc && (n = read(fd, buf, sizeof(buf))) > 0)
		if (write(to, buf, n) != n)
			rc = -ENOSPC;
	if (to < 0)
		rc = -errno;
	if (packed_close(fd, child) && !rc)
		rc = -EBADMSG;
	if (to >= 0 && ((!rc && fsync(to)) || close(to)) && !rc)
		rc = -errno;
	if (!rc && (renameat(out, fresh, out, name) || fsync(out)))
		rc = -errno;
	if (rc) {
		snprintf(why, size, "%s cannot be made plain: %s", name, strerror(-rc));
		unlinkat(out, fresh, 0);
	}
	return rc;
}

struct job {
	const struct packer *packer;
	int out;
	char *why;
	size_t size;
};

static int for_each_image(int at, int (*visit)(int at, const char *name, struct job *j),
			  struct job *j)
{
	DIR *d = images_list(at);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		rc = -errno;
		snprintf(j->why, j->size, "%s", strerror(-rc));
		return rc;
	}
	while (!rc && (e = readdir(d)))
		if (is_pages(e->d_name))
			rc = visit(at, e->d_name, j);
	closedir(d);
	return rc;
}

static int pack_visit(int at, const char *name, struct job *j)
{
	struct stat st;

	if (!is_image(name) || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISREG(st.st_mode) || !st.st_size)
		return 0;
	return pack(at, name, j->packer, j->why, j->size);
}

/* Compresses the images of memory in the folder. 0, or -errno with the reason in words. */
int pack_folder(int at, const char *packer, char *why, size_t size)
{
	struct job j = { .why = why, .size = size };
	size_t i;

	for (i = 0; i < PACKERS; i++)
		if (!strcmp(packers[i].program, packer))
			j.packer = &packers[i];
	return for_each_image(at, pack_visit, &j);
}

/* Of an image that is compressed, and all of it, the plain one's name */
static bool plain_name(char plain[static NAME_MAX + 1], const char *name)
{
	if (!packed_name(name) || ends_in(name, NEW))
		return false;
	snprintf(plain, NAME_MAX + 1, "%s", name);
	*strrchr(plain, '.') = '\0';
	return true;
}

static int unpack_visit(int at, const char *name, struct job *j)
{
	char plain[NAME_MAX + 1];
	int rc = 0;

	if (!plain_name(plain, name))
		return 0;
	/* a plain one is always whole */
	if (faccessat(at, plain, F_OK, AT_SYMLINK_NOFOLLOW))
		rc = unpack(at, j->out, plain, j->why, j->size);
	if (!rc && at == j->out)
		unlinkat(at, name, 0);
	return rc;
}

/* The plain images of those that are compressed, into out; if that is the same folder, instead. */
int unpack_folder(int at, int out, char *why, size_t size)
{
	struct job j = { .out = out, .why = why, .size = size };

	return for_each_image(at, unpack_visit, &j);
}

static int any_visit(int at, const char *name, struct job *j)
{
	char plain[NAME_MAX + 1];

	(void)j;
	return plain_name(plain, name) && faccessat(at, plain, F_OK, AT_SYMLINK_NOFOLLOW);
}

/* Whether there is an image that is compressed alone */
bool packed_any(int at)
{
	struct job j = { 0 };

	return for_each_image(at, any_visit, &j) > 0;
}
