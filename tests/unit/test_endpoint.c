/* Where a server is to be found: the addresses of its name are tried in turn,
   and one that was silent is not the first of the next round.  The resolver is
   one of this test's own. */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <unistd.h>

#include "log.h"
#include "server/address.h"
#include "server/endpoint.h"
#include "server/resolver.h"
#include "unit.h"

enum { ADDRESSES = 3 };

struct lookup {
	void (*found)(void *owner, int error, const struct addrinfo *list);
	void *owner;
};

static struct lookup the_lookup;
static unsigned int lookups, founds;
static struct address address;
static int listeners[ADDRESSES];
static unsigned int port;
static struct endpoints *endpoints;

struct lookup *
resolver_look_up(struct resolver *resolver, const char *host,
    unsigned int the_port,
    void (*found)(void *owner, int error, const struct addrinfo *list),
    void *owner)
{
	(void)resolver;
	check(strcmp(host, "name.test") == 0 && the_port == port);
	check(the_lookup.found == NULL);
	the_lookup.found = found;
	the_lookup.owner = owner;
	lookups++;
	return &the_lookup;
}

void
lookup_cancel(struct lookup *lookup)
{
	lookup->found = NULL;
}

static void
on_found(void *owner)
{
	check(owner == &address);
	founds++;
}

/* Answer the lookup with 127.0.0.N for each digit N. */
static void
answer(const char *digits)
{
	struct addrinfo list[ADDRESSES + 1];
	struct sockaddr_in to[ADDRESSES + 1];
	size_t n = strlen(digits), i;
	char text[32];

	memset(list, 0, sizeof(list));
	memset(to, 0, sizeof(to));
	for (i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "127.0.0.%c", digits[i]);
		to[i].sin_family = AF_INET;
		to[i].sin_port = htons((uint16_t)port);
		inet_pton(AF_INET, text, &to[i].sin_addr);
		list[i].ai_addr = (struct sockaddr *)&to[i];
		list[i].ai_addrlen = sizeof(to[i]);
		list[i].ai_next = i + 1 < n ? &list[i + 1] : NULL;
	}
	unit_need(the_lookup.found != NULL, "a lookup");
	struct lookup lookup = the_lookup;
	the_lookup.found = NULL;
	lookup.found(lookup.owner, n > 0 ? 0 : EAI_NONAME, n > 0 ? list : NULL);
}

/* The last digit of the address that was connected to; '-': to none. */
static char
digit_of(int fd)
{
	struct sockaddr_in remote;
	socklen_t length = sizeof(remote);
	char text[INET_ADDRSTRLEN] = "-";

	if (fd == -1)
		return '-';
	if (getpeername(fd, (struct sockaddr *)&remote, &length) == 0)
		inet_ntop(AF_INET, &remote.sin_addr, text, sizeof(text));
	close(fd);
	return text[strlen(text) - 1];
}

static char
next_digit(void)
{
	return digit_of(endpoints_connect_next(endpoints));
}

/* A socket that listens on 127.0.0.N, N from 1 on, all on the same port. */
static void
listen_on_all(void)
{
	struct sockaddr_in here;
	socklen_t length = sizeof(here);
	char text[32];
	int i;

	for (i = 0; i < ADDRESSES; i++) {
		memset(&here, 0, sizeof(here));
		here.sin_family = AF_INET;
		here.sin_port = htons((uint16_t)port);
		snprintf(text, sizeof(text), "127.0.0.%d", i + 1);
		inet_pton(AF_INET, text, &here.sin_addr);
		listeners[i] = socket(AF_INET, SOCK_STREAM, 0);
		unit_need(bind(listeners[i], (struct sockaddr *)&here,
			      sizeof(here)) == 0 &&
			listen(listeners[i], 10) == 0 &&
			getsockname(listeners[i], (struct sockaddr *)&here,
			    &length) == 0,
		    "listen");
		port = ntohs(here.sin_port);
	}
}

static void
begin(void)
{
	char text[40];

	lookups = founds = 0;
	snprintf(text, sizeof(text), "name.test:%u", port);
	unit_need(address_parse(&address, text) == NULL, "address_parse");
	endpoints = endpoints_new((struct resolver *)&lookups, &address,
	    on_found, &address);
	unit_need(endpoints != NULL, "endpoints_new");
}

static void
end(void)
{
	endpoints_free(endpoints);
	address_free(&address);
	the_lookup.found = NULL;
}

static void
test_addresses_of_a_name_are_tried_in_their_order(void)
{
	begin();
	check(!endpoints_rewind(endpoints));
	endpoints_look_up(endpoints);
	endpoints_look_up(endpoints);
	check(lookups == 1 && founds == 0);
	answer("123");
	check(founds == 1);
	check(next_digit() == '1' && next_digit() == '2');
	check(digit_of(endpoints_connect_again(endpoints)) == '2');
	check(next_digit() == '3' && next_digit() == '-');
	check(errno == 0);
	check(endpoints_rewind(endpoints) && next_digit() == '1');
	end();
}

static void
test_round_after_a_silent_address_begins_with_the_next(void)
{
	begin();
	endpoints_look_up(endpoints);
	answer("123");
	check(next_digit() == '1');
	endpoints_skip(endpoints);
	endpoints_look_up(endpoints);
	answer("123");
	check(endpoints_rewind(endpoints));
	check(next_digit() == '2' && next_digit() == '3');
	check(next_digit() == '1' && next_digit() == '-');
	check(endpoints_rewind(endpoints) && next_digit() == '2');
	endpoints_skip(endpoints);
	check(endpoints_rewind(endpoints) && next_digit() == '3');
	endpoints_skip(endpoints);
	check(endpoints_rewind(endpoints) && next_digit() == '1');
	end();
}

static void
test_new_addresses_of_a_name_are_tried_from_their_first(void)
{
	begin();
	endpoints_look_up(endpoints);
	answer("12");
	check(next_digit() == '1');
	endpoints_skip(endpoints);
	endpoints_look_up(endpoints);
	answer("32");
	check(next_digit() == '2'); /* the old list is still in use */
	check(endpoints_rewind(endpoints));
	check(next_digit() == '3' && next_digit() == '2');
	end();
}

static void
test_name_that_is_not_found_leaves_the_addresses_there_were(void)
{
	begin();
	endpoints_look_up(endpoints);
	answer("");
	check(founds == 0 && !endpoints_rewind(endpoints));
	endpoints_skip(endpoints);
	endpoints_look_up(endpoints);
	answer("2");
	endpoints_look_up(endpoints);
	answer("");
	check(founds == 1 && endpoints_rewind(endpoints));
	check(next_digit() == '2');
	end();
}

/* Another program goes on with the one that was connected to. */
static void
test_address_that_is_given_needs_no_lookup(void)
{
	struct sockaddr_storage known;
	socklen_t length;

	begin();
	check(endpoints_known(endpoints, &known) == 0);
	endpoints_look_up(endpoints);
	answer("123");
	check(next_digit() == '1' && next_digit() == '2');
	length = endpoints_known(endpoints, &known);
	check(length == sizeof(struct sockaddr_in));
	end();
	begin();
	endpoints_give(endpoints, &known, length);
	check(endpoints_rewind(endpoints) && next_digit() == '2');
	endpoints_look_up(endpoints);
	answer("3");
	check(founds == 0);
	check(endpoints_rewind(endpoints) && next_digit() == '3');
	end();
}

static void
test_free_cancels_the_lookup(void)
{
	begin();
	endpoints_look_up(endpoints);
	check(the_lookup.found != NULL);
	endpoints_free(endpoints);
	check(the_lookup.found == NULL);
	address_free(&address);
}

int
main(void)
{
	listen_on_all();
	RUN(test_addresses_of_a_name_are_tried_in_their_order);
	RUN(test_round_after_a_silent_address_begins_with_the_next);
	RUN(test_new_addresses_of_a_name_are_tried_from_their_first);
	RUN(test_name_that_is_not_found_leaves_the_addresses_there_were);
	RUN(test_address_that_is_given_needs_no_lookup);
	RUN(test_free_cancels_the_lookup);
	return unit_end();
}
