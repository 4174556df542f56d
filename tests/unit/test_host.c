/*
 * Names that somebody else may have made for this machine.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/host.h"
#include "unit.h"

static void
test_addresses_are_ours(void)
{
	check(host_is_ours("127.0.0.1"));
	check(host_is_ours("10.1.2.3"));
	check(host_is_ours("[::1]"));
	check(host_is_ours("[2001:db8::1]"));
	check(!host_is_ours("1.2.3.4.example.com"));
	check(!host_is_ours("1.2.3.256"));
}

static void
test_names_that_nobody_outside_can_have_are_ours(void)
{
	char own[256] = "", dotted[512];

	check(host_is_ours(NULL));
	check(host_is_ours(""));
	check(host_is_ours("localhost"));
	check(host_is_ours("LocalHost."));
	check(host_is_ours("a.localhost"));
	check(host_is_ours("cache1"));
	check(gethostname(own, sizeof(own) - 1) == 0);
	check(host_is_ours(own));
	snprintf(dotted, sizeof(dotted), "%s.example.com", own);
	check(!host_is_ours(dotted));
}

static void
test_names_of_others_are_not(void)
{
	char many[300];

	check(!host_is_ours("example.com"));
	check(!host_is_ours("example.com."));
	check(!host_is_ours("localhost.example.com"));
	check(!host_is_ours("mylocalhost.com"));
	check(!host_is_ours(".localhost"));
	check(!host_is_ours("..."));
	memset(many, 'x', sizeof(many));
	many[sizeof(many) - 1] = '\0';
	check(!host_is_ours(many));
}

static bool
is_alone(int family, const void *address, socklen_t length)
{
	int fd = socket(family, SOCK_STREAM, 0);
	bool is_so;

	check(fd != -1 && bind(fd, address, length) == 0);
	is_so = host_is_alone(fd);
	close(fd);
	return is_so;
}

static bool
is_alone_at(const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	check(inet_pton(AF_INET, text, &address.sin_addr) == 1);
	return is_alone(AF_INET, &address, sizeof(address));
}

static void
test_loopback_is_alone(void)
{
	check(is_alone_at("127.0.0.1"));
	check(is_alone_at("127.1.2.3"));
	check(!is_alone_at("0.0.0.0"));
	check(!host_is_alone(-1));
}

int
main(void)
{
	RUN(test_addresses_are_ours);
	RUN(test_names_that_nobody_outside_can_have_are_ours);
	RUN(test_names_of_others_are_not);
	RUN(test_loopback_is_alone);
	return unit_end();
}
