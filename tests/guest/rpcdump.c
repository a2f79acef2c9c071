// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: rpcdump PID DIR [PARENT]: one pre-dump the way runc, podman, LXC and libcriu ask
 * for it: "criu swrk", and a request over a socket. The request is protobuf, written by hand:
 * it has a handful of numbers and two strings.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* criu's rpc.proto */
enum { REQ_TYPE = 1, REQ_OPTS = 2, SINGLE_PRE_DUMP = 13, RESP_SUCCESS = 2 };
enum { IMAGES_DIR_FD = 1, PID = 2, LOG_LEVEL = 9, LOG_FILE = 10, PARENT_IMG = 14, TRACK_MEM = 15 };

struct message {
	unsigned char v[512];
	size_t n;
};

static void varint(struct message *m, unsigned long v)
{
	for (; v > 127; v >>= 7)
		m->v[m->n++] = v | 128;
	m->v[m->n++] = v;
}

static void number(struct message *m, int field, unsigned long v)
{
	varint(m, field << 3);
	varint(m, v);
}

static void bytes(struct message *m, int field, const void *data, size_t n)
{
	varint(m, field << 3 | 2);
	varint(m, n);
	memcpy(m->v + m->n, data, n);
	m->n += n;
}

int main(int argc, char **argv)
{
	struct message opts = { .n = 0 }, request = { .n = 0 };
	unsigned char reply[512];
	char fd[16];
	int sk[2], dir, i;
	ssize_t n;

	if (argc < 3)
		return 2;
	dir = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (dir < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sk)) {
		perror(argv[2]);
		return 2;
	}
	snprintf(fd, sizeof(fd), "%d", sk[1]);
	if (!fork()) {
		execlp("criu", "criu", "swrk", fd, (char *)NULL);
		_exit(127);
	}
	close(sk[1]);
	number(&opts, IMAGES_DIR_FD, dir);
	number(&opts, PID, atoi(argv[1]));
	number(&opts, LOG_LEVEL, 4);
	bytes(&opts, LOG_FILE, "log", 3);
	if (argc > 3)
		bytes(&opts, PARENT_IMG, argv[3], strlen(argv[3]));
	number(&opts, TRACK_MEM, 1);
	number(&request, REQ_TYPE, SINGLE_PRE_DUMP);
	bytes(&request, REQ_OPTS, opts.v, opts.n);
	if (send(sk[0], request.v, request.n, 0) != (ssize_t)request.n)
		return 2;
	/* criu ends, and so does its socket, whatever becomes of the request */
	n = recv(sk[0], reply, sizeof(reply), 0);
	for (i = 0; i + 1 < n; i += 2)
		if (reply[i] == RESP_SUCCESS << 3)
			return !reply[i + 1];
	return 2;
}
