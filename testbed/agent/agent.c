// SPDX-License-Identifier: GPL-2.0-only
/*
 * ooh-agent CHANNEL: runs commands in the emulated machine for testbed/vm
 *
 * One session at a time over a channel of the simulator call (simcall.h). Both
 * directions carry frames: a type byte, the length as 4 bytes little endian,
 * the payload.
 *
 * To the agent
 *	'P'	ping; answered by 'P'
 *	'T'	a piece of a tar archive, unpacked in the session's folder;
 *		a piece of length 0 ends the archive
 *	'U'	like 'T', unpacked over the root folder
 *	'E'	execute: flags (bit 0: on a pseudo-terminal), then the arguments,
 *		each ended by a NUL
 *	'I'	input for the command; a piece of length 0 is its end
 *	'W'	rows and columns of the terminal, 2 bytes each
 * From the agent
 *	'O' 'R'	pieces of the command's standard output and standard error
 *	'X'	the end: exit status (127: no such command, 126: cannot be
 *		executed, 128 + N: killed by signal N), 4 bytes
 *	'F'	the session failed: text
 *
 * A session begins with the first frame and ends with 'X', 'F' or the peer's
 * going away. Then whatever is left of the command is killed and the folder,
 * in which it ran, removed. A command that ends while others hold its output
 * open is not waited for longer than GRACE_MS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "simcall.h"

#define IDLE_MS	  20
#define POLL_MS	  4
#define GRACE_MS  200
#define MAX_FRAME (16 << 20)

static unsigned int chan;
static bool gone; /* the peer of this session hung up */

#define NO_FDS .in = -1, .out = -1, .err = -1, .unpack_fd = -1, .unpack_err = -1

static struct session {
	char dir[32];
	pid_t unpack; /* tar, 0: none */
	int unpack_fd, unpack_err;
	pid_t child; /* the command, 0: none yet */
	bool exited;
	int status;
	unsigned long exited_ms;
	int in, out, err; /* our ends, -1: closed */
	bool pty;
	char *pending; /* input the command did not take yet */
	size_t pending_len;
	bool in_eof;
} s = { NO_FDS };

static unsigned char *rx; /* frames being received */
static size_t rx_len, rx_size;

static unsigned long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000UL + t.tv_nsec / 1000000;
}

static void sleep_ms(unsigned int ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000L };

	nanosleep(&t, NULL);
}

static bool send_all(const void *buf, size_t len)
{
	while (len) {
		int64_t n = simcall_write(chan, buf, len);

		if (n < 0) {
			gone = true;
			return false;
		}
		buf = (const char *)buf + n;
		len -= n;
	}
	return true;
}

static bool send_frame(char type, const void *buf, uint32_t len)
{
	unsigned char head[5] = { type, len, len >> 8, len >> 16, len >> 24 };

	return send_all(head, sizeof(head)) && send_all(buf, len);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	remove(path);
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void session_end(void)
{
	if (s.unpack) {
		close_fd(&s.unpack_fd);
		close_fd(&s.unpack_err);
		kill(s.unpack, SIGKILL);
		waitpid(s.unpack, NULL, 0);
	}
	if (s.child) {
		/* the command leads a process group of its own */
		kill(-s.child, SIGKILL);
		if (!s.exited)
			waitpid(s.child, NULL, 0);
	}
	close_fd(&s.in);
	close_fd(&s.out);
	close_fd(&s.err);
	free(s.pending);
	if (chdir("/") == 0 && s.dir[0])
		nftw(s.dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	s = (struct session){ NO_FDS };
	rx_len = 0;
}

static bool fail(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	send_frame('F', text, strlen(text));
	return false;
}

static bool session_begin(void)
{
	if (s.dir[0])
		return true;
	strcpy(s.dir, "/tmp/vm.XXXXXX");
	if (!mkdtemp(s.dir)) {
		s.dir[0] = 0;
		return fail("cannot make a working directory: %s", strerror(errno));
	}
	return true;
}

static bool unpack(bool root, const void *buf, size_t len)
{
	char text[160] = "";
	int status, p[2];

	if (!s.unpack) {
		if (pipe2(p, O_CLOEXEC))
			return fail("pipe: %s", strerror(errno));
		s.unpack_err = memfd_create("tar", MFD_CLOEXEC);
		s.unpack = fork();
		if (s.unpack == 0) {
			dup2(p[0], 0);
			dup2(s.unpack_err, 2);
			execlp("tar", "tar", "-xpf", "-", "-C", root ? "/" : s.dir, (char *)NULL);
			_exit(127);
		}
		close(p[0]);
		s.unpack_fd = p[1];
	}
	while (len) {
		ssize_t n = write(s.unpack_fd, buf, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			/* tar does not read the padding behind the archive's end; its status tells */
			if (errno == EPIPE)
				return true;
			return fail("unpacking the files failed: %s", strerror(errno));
		}
		buf = (const char *)buf + n;
		len -= n;
		if (len == 0)
			return true;
	}
	/* an empty piece: the end */
	close_fd(&s.unpack_fd);
	waitpid(s.unpack, &status, 0);
	s.unpack = 0;
	if (pread(s.unpack_err, text, sizeof(text) - 1, 0) < 0)
		text[0] = 0;
	text[strcspn(text, "\n")] = 0;
	close_fd(&s.unpack_err);
	return status == 0 ? true
			   : fail("unpacking the files failed, status %d: %s", WEXITSTATUS(status),
				  text);
}

static void exec_child(char **argv, int exec_err)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	if (chdir(s.dir) == 0)
		execvp(argv[0], argv);
	if (write(exec_err, &errno, sizeof(errno)) < 0)
		_exit(125);
	_exit(127);
}

static bool execute(unsigned char *buf, size_t len)
{
	int in[2], out[2], err[2], ee[2], e = 0;
	char **argv, *p = (char *)buf + 1, *end = (char *)buf + len;
	size_t argc = 0;

	if (s.child || len < 2 || end[-1])
		return fail("malformed request");
	argv = calloc(len, sizeof(*argv));
	if (!argv)
		return fail("no memory");
	for (; p < end; p += strlen(p) + 1)
		argv[argc++] = p;

	s.pty = buf[0] & 1;
	if (pipe2(ee, O_CLOEXEC))
		return fail("pipe: %s", strerror(errno));
	if (s.pty) {
		s.child = forkpty(&s.out, NULL, NULL, NULL);
		if (s.child == 0)
			exec_child(argv, ee[1]);
		s.in = dup(s.out);
	} else {
		if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
			return fail("pipe: %s", strerror(errno));
		s.child = fork();
		if (s.child == 0) {
			setsid();
			dup2(in[0], 0);
			dup2(out[1], 1);
			dup2(err[1], 2);
			exec_child(argv, ee[1]);
		}
		close(in[0]);
		close(out[1]);
		close(err[1]);
		s.in = in[1];
		s.out = out[0];
		s.err = err[0];
	}
	close(ee[1]);
	if (s.child < 0) {
		s.child = 0;
		return fail("fork: %s", strerror(errno));
	}
	if (read(ee[0], &e, sizeof(e)) == sizeof(e)) {
		char text[300];

		/* the shell's statuses, and a message that names the cause */
		snprintf(text, sizeof(text), "vm: %.200s: %s\n", argv[0], strerror(e));
		send_frame('R', text, strlen(text));
		waitpid(s.child, NULL, 0);
		s.exited = true;
		s.exited_ms = now_ms();
		s.status = e == ENOENT ? 127 : 126;
	}
	close(ee[0]);
	free(argv);
	fcntl(s.in, F_SETFL, O_NONBLOCK);
	fcntl(s.out, F_SETFL, O_NONBLOCK);
	if (s.err >= 0)
		fcntl(s.err, F_SETFL, O_NONBLOCK);
	return true;
}

static bool input(const void *buf, size_t len)
{
	char *grown;

	if (len == 0) {
		s.in_eof = true;
		return true;
	}
	grown = realloc(s.pending, s.pending_len + len);
	if (!grown)
		return fail("no memory for input");
	s.pending = grown;
	memcpy(grown + s.pending_len, buf, len);
	s.pending_len += len;
	return true;
}

/* Returns false when the session is over. */
static bool handle(char type, unsigned char *buf, size_t len)
{
	struct winsize ws = { 0 };

	switch (type) {
	case 'P':
		return send_frame('P', NULL, 0);
	case 'T':
	case 'U':
		return session_begin() && unpack(type == 'U', buf, len);
	case 'E':
		return session_begin() && execute(buf, len);
	case 'I':
		return input(buf, len);
	case 'W':
		if (len == 4 && s.pty) {
			ws.ws_row = buf[0] | buf[1] << 8;
			ws.ws_col = buf[2] | buf[3] << 8;
			ioctl(s.out, TIOCSWINSZ, &ws);
		}
		return true;
	default:
		return fail("unknown frame %d", type);
	}
}

/* Everything that has arrived. Returns false when the session is over. */
static bool receive(bool *any)
{
	*any = false;
	/* a command that does not read must not make us hoard its input */
	while (s.pending_len < MAX_FRAME) {
		int64_t n;
		size_t at = 0;

		if (rx_size - rx_len < SIMCALL_CHUNK) {
			unsigned char *grown = realloc(rx, rx_size + SIMCALL_CHUNK);

			if (!grown)
				return fail("no memory");
			/* the emulator writes page by page: have them all */
			memset(grown + rx_size, 0, SIMCALL_CHUNK);
			rx = grown;
			rx_size += SIMCALL_CHUNK;
		}
		n = simcall_read(chan, rx + rx_len, rx_size - rx_len);
		if (n < 0) {
			gone = true;
			return false;
		}
		if (n == 0)
			return true;
		*any = true;
		rx_len += n;
		while (rx_len - at >= 5) {
			uint32_t len = rx[at + 1] | rx[at + 2] << 8 | rx[at + 3] << 16 |
				       (uint32_t)rx[at + 4] << 24;

			if (len > MAX_FRAME)
				return fail("frame too long");
			if (rx_len - at - 5 < len)
				break;
			if (!handle(rx[at], rx + at + 5, len))
				return false;
			at += 5 + len;
		}
		memmove(rx, rx + at, rx_len - at);
		rx_len -= at;
	}
	return true;
}

/* Moves what there is; returns false when the peer is gone. */
static bool forward(int *fd, char type, bool *any)
{
	static char buf[SIMCALL_CHUNK];
	ssize_t n;

	if (*fd < 0)
		return true;
	n = read(*fd, buf, sizeof(buf));
	if (n > 0) {
		*any = true;
		return send_frame(type, buf, n);
	}
	/* a terminal whose last user has gone gives EIO */
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(fd);
	return true;
}

static void feed(void)
{
	if (s.in < 0)
		return;
	if (s.pending_len) {
		ssize_t n = write(s.in, s.pending, s.pending_len);

		if (n > 0) {
			s.pending_len -= n;
			memmove(s.pending, s.pending + n, s.pending_len);
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			s.pending_len = 0;
			close_fd(&s.in);
		}
	}
	if (!s.pending_len && s.in_eof && !s.pty)
		close_fd(&s.in);
}

static void reap(void)
{
	int status;

	if (!s.child || s.exited || waitpid(s.child, &status, WNOHANG) != s.child)
		return;
	s.exited = true;
	s.exited_ms = now_ms();
	s.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Returns false when the session is over. */
static bool step(void)
{
	struct pollfd pfd[2] = { { s.out, POLLIN, 0 }, { s.err, POLLIN, 0 } };
	bool any, moved = false;

	if (!receive(&any))
		return false;
	if (!s.child) {
		if (!any)
			sleep_ms(1);
		return true;
	}
	feed();
	if (!any)
		poll(pfd, 2, POLL_MS);
	reap();
	if (!forward(&s.out, 'O', &moved) || !forward(&s.err, 'R', &moved))
		return false;
	if (s.exited && !moved && ((s.out < 0 && s.err < 0) || now_ms() - s.exited_ms > GRACE_MS)) {
		uint32_t status = s.status;

		send_frame('X', &status, sizeof(status));
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: ooh-agent CHANNEL\n");
		return 2;
	}
	chan = atoi(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	if (simcall_version() < 0) {
		fprintf(stderr, "ooh-agent: the emulator has no BX_SIM_DIR\n");
		return 1;
	}
	/* an init without a console leaves 0 to 2 closed: no pipe of ours may get there */
	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
		;
	close(fd);
	for (;;) {
		/* no bytes wanted: is there a peer? */
		while (simcall_read(chan, NULL, 0) < 0)
			sleep_ms(IDLE_MS);
		gone = false;
		while (step())
			;
		session_end();
		/* the peer hangs up when it has read the end; a hangup is told once */
		while (!gone) {
			int64_t n = simcall_read(chan, rx, rx_size);

			gone = n < 0;
			if (n == 0)
				sleep_ms(1);
		}
	}
}
