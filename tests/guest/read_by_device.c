// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: what a device puts into a process's memory is reported: exactly those pages,
 * round after round. The argument is a file or a disk, read with O_DIRECT where that
 * can be done, or HOST:PORT, where somebody sends without end.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tracker.h"

#define NR     64UL
#define ROUNDS 8

static int connected(char *where)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	char *port = strchr(where, ':');
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*port = '\0';
	to.sin_port = htons(atoi(port + 1));
	if (fd < 0 || inet_pton(AF_INET, where, &to.sin_addr) != 1)
		error(where);
	/* the other side may not be there yet */
	for (int i = 0; connect(fd, (struct sockaddr *)&to, sizeof(to)); i++) {
		if (i == 100)
			error("connect");
		usleep(100000);
	}
	return fd;
}

/* Whatever there is comes once, so that two pages of the same content are rare. */
static void read_page(int fd, bool stream, char *p)
{
	static off_t at;
	size_t have = 0;
	ssize_t n;

	while (have < PAGE) {
		n = stream ? recv(fd, p + have, PAGE - have, MSG_WAITALL)
			   : pread(fd, p + have, PAGE - have, at + have);
		if (n <= 0)
			error("read");
		have += n;
	}
	at += PAGE;
}

int main(int argc, char **argv)
{
	static char was[PAGE];
	struct round r = { 0 };
	bool stream;
	char *p;
	int fd, t;

	if (argc != 2) {
		printf("error: usage: read_by_device FILE|HOST:PORT\n");
		return 2;
	}
	stream = strchr(argv[1], ':');
	fd = stream ? connected(argv[1]) : open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && errno == EINVAL)
		fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		error(argv[1]);
	p = touched(NR);
	t = tracker_of(getpid());
	collect(t, &r);
	for (unsigned long k = 1; k <= ROUNDS; k++) {
		unsigned long read = 0, changed = 0, told = 0, extra = 0;

		collect(t, &r);
		for (unsigned long i = 0; i < NR; i += k) {
			memcpy(was, p + i * PAGE, PAGE);
			read_page(fd, stream, p + i * PAGE);
			changed += !!memcmp(was, p + i * PAGE, PAGE);
			read++;
		}
		collect(t, &r);
		for (unsigned long i = 0; i < NR; i++) {
			told += i % k == 0 && reported(&r, p + i * PAGE);
			extra += i % k && reported(&r, p + i * PAGE);
		}
		check(changed == read && told == read && !extra && !r.flags,
		      "round %lu: %lu pages read, %lu changed, %lu reported, %lu others", k, read,
		      changed, told, extra);
	}
	return verdict();
}
