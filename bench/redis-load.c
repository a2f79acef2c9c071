// SPDX-License-Identifier: GPL-2.0-only
/*
 * redis-load PORT KEYS SIZE RATE STATE: fills a redis-server, then changes RATE values a second,
 * chosen at random, until the server hangs up or SIGTERM comes. Writes to the file STATE
 * which version of each value the server has acknowledged.
 * redis-load -c PORT KEYS SIZE STATE: compares every key and value with that.
 * A key whose change was under way, and not acknowledged, may have either.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

static volatile sig_atomic_t enough;
static long keys, size;
static uint32_t *acked, *sent;
static char in[1 << 16];
static size_t have, at;
static int sock = -1;

static void on_term(int sig)
{
	enough = sig;
}

static bool dial(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	have = at = 0;
	if (sock < 0 || connect(sock, (struct sockaddr *)&a, sizeof(a)))
		return false;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return true;
}

static bool put(const char *p, size_t n)
{
	while (n) {
		ssize_t w = send(sock, p, n, MSG_NOSIGNAL);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		p += w;
		n -= w;
	}
	return true;
}

/* Something to read is in the buffer. */
static bool more(void)
{
	while (at == have) {
		ssize_t n = recv(sock, in, sizeof(in), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		have = n;
		at = 0;
	}
	return true;
}

static bool get(char *p, size_t n)
{
	while (n) {
		size_t part;

		if (!more())
			return false;
		part = have - at < n ? have - at : n;
		memcpy(p, in + at, part);
		at += part;
		p += part;
		n -= part;
	}
	return true;
}

static bool line(char *out, size_t max)
{
	size_t n = 0;
	char c = 0;

	while (c != '\n') {
		if (!more())
			return false;
		c = in[at++];
		if (c != '\n' && c != '\r' && n + 1 < max)
			out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

/* What version v of key k is: bytes of any value, the server takes all. */
static void value(char *p, long k, uint32_t v)
{
	uint64_t x = k * 0x9e3779b97f4a7c15u + v * 0xbf58476d1ce4e5b9u + 1;
	long i;

	for (i = 0; i < size; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, size - i < (long)sizeof(x) ? (size_t)(size - i) : sizeof(x));
	}
}

static char *out;
static size_t pending;

static bool flush(void)
{
	size_t n = pending;

	pending = 0;
	return put(out, n);
}

/* Puts the command behind those that wait for flush(), of which a batch has room. */
static void set(long k, uint32_t v)
{
	char *cmd = out + pending, key[32];
	int n;

	snprintf(key, sizeof(key), "key:%ld", k);
	n = sprintf(cmd, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%ld\r\n", strlen(key), key, size);
	value(cmd + n, k, v);
	memcpy(cmd + n + size, "\r\n", 2);
	sent[k] = v;
	pending += n + size + 2;
}

static bool set_acked(long k)
{
	char reply[64];

	if (!line(reply, sizeof(reply)) || strcmp(reply, "+OK"))
		return false;
	acked[k] = sent[k];
	return true;
}

static bool fill(void)
{
	long k, i;

	for (k = 0; k < keys; k += BATCH) {
		for (i = k; i < k + BATCH && i < keys; i++)
			set(i, acked[i] + 1);
		if (!flush())
			return false;
		for (i = k; i < k + BATCH && i < keys; i++)
			if (!set_acked(i))
				return false;
	}
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* In steps of 10 ms; what a pause has left undone is not made up for. */
static void run(long rate)
{
	uint64_t x = 88172645463325252u + getpid(), began = now_ns();
	double due = 0;

	while (!enough) {
		uint64_t t = now_ns();

		due += (t - began) * 1e-9 * rate;
		began = t;
		if (due > rate / 10.0 + 1)
			due = rate / 10.0 + 1;
		while (due >= 1 && !enough) {
			long k;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			k = x % keys;
			set(k, acked[k] + 1);
			if (!flush() || !set_acked(k))
				return;
			due--;
		}
		usleep(10000);
	}
}

static bool check_one(long k, char *got, char *want)
{
	char reply[64];

	if (!line(reply, sizeof(reply)) || reply[0] != '$' || atol(reply + 1) != size ||
	    !get(got, size + 2))
		return false;
	value(want, k, acked[k]);
	if (!memcmp(got, want, size))
		return true;
	value(want, k, sent[k]);
	return sent[k] != acked[k] && !memcmp(got, want, size);
}

static int check(void)
{
	char *got = malloc(size + 2), *want = malloc(size), key[32], reply[64];
	long k, i, wrong = 0, changes = 0;

	for (k = 0; k < keys; k += BATCH) {
		for (i = k; i < k + BATCH && i < keys; i++) {
			snprintf(key, sizeof(key), "key:%ld", i);
			pending += sprintf(out + pending, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n",
					   strlen(key), key);
		}
		if (!flush())
			return 3;
		for (i = k; i < k + BATCH && i < keys; i++) {
			changes += acked[i];
			if (check_one(i, got, want))
				continue;
			if (!wrong++)
				printf("key:%ld is not what was acknowledged\n", i);
		}
	}
	if (!put("DBSIZE\r\n", 8) || !line(reply, sizeof(reply)))
		return 3;
	printf("%ld keys, %ld acknowledged changes, %ld wrong, the server has %s keys\n", keys,
	       changes, wrong, reply + 1);
	return wrong || atol(reply + 1) != keys;
}

static bool state(const char *path, bool save)
{
	FILE *f = fopen(path, save ? "w" : "r");
	bool ok;

	if (!f)
		return false;
	if (save)
		ok = fwrite(acked, sizeof(*acked), keys, f) == (size_t)keys &&
		     fwrite(sent, sizeof(*sent), keys, f) == (size_t)keys;
	else
		ok = fread(acked, sizeof(*acked), keys, f) == (size_t)keys &&
		     fread(sent, sizeof(*sent), keys, f) == (size_t)keys;
	return !fclose(f) && ok;
}

int main(int argc, char **argv)
{
	bool checking = argc > 1 && !strcmp(argv[1], "-c");
	char **a = argv + checking;

	if (argc != 6) {
		fputs("usage: redis-load [-c] PORT KEYS SIZE [RATE] STATE\n", stderr);
		return 2;
	}
	keys = atol(a[2]);
	size = atol(a[3]);
	acked = calloc(keys, sizeof(*acked));
	sent = calloc(keys, sizeof(*sent));
	out = malloc(BATCH * (size + 128));
	signal(SIGTERM, on_term);
	if (!out || !acked || !sent || !dial(atoi(a[1]))) {
		perror("redis-load");
		return 3;
	}
	if (checking)
		return state(a[4], false) ? check() : 3;
	/* what is there from a run before is gone on with */
	if (access(a[5], R_OK) || !state(a[5], false)) {
		if (!fill())
			return 3;
		puts("filled");
		fflush(stdout);
	}
	run(atol(a[4]));
	return state(a[5], true) ? 0 : 3;
}
