/*
 * Clients that come and go: connections that are made and closed at a rate.
 *
 * storm PORT RATE SECONDS
 *
 * Each of them is closed in one of four ways: at once, with FIN or RST; behind
 * a command, without waiting for its reply; or with half a command.  They come
 * from many addresses of the loopback network, so that ports do not run out.
 * Prints how many connections were made in a second; exits with 1 if one could
 * not be made.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ADDRESSES = 64 };

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static int
connect_from(unsigned int n, unsigned int port)
{
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0x7f010101 + n % ADDRESSES),
	};
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons((unsigned short)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int one = 1;

	if (fd == -1)
		die("socket");
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) == -1)
		die("bind");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1)
		die("connect");
	return fd;
}

static void
come_and_go(unsigned int n, unsigned int port)
{
	static const char *const says[] = { "", "", "get k\r\n",
		"set k 0 0 100\r\nabc" };
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
	const char *said = says[n % 4];
	int fd = connect_from(n / 4, port);

	if (said[0] != '\0' && send(fd, said, strlen(said), MSG_NOSIGNAL) == -1)
		die("send");
	if (n % 4 != 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once,
		    sizeof(at_once));
	close(fd);
}

int
main(int argc, char *argv[])
{
	unsigned int port, rate, n = 0;
	double start = now(), end;

	if (argc != 4)
		return 2;
	port = (unsigned int)atoi(argv[1]);
	rate = (unsigned int)atoi(argv[2]);
	end = start + atof(argv[3]);
	while (now() < end) {
		if (n < rate * (now() - start))
			come_and_go(n++, port);
		else
			usleep(1000);
	}
	printf("%.0f\n", n / (now() - start));
	return 0;
}
