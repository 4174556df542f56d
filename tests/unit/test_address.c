/* What address_parse() makes of good texts, and that it refuses bad ones. */

#include "server/address.h"
#include "unit.h"

static void
good(const char *text, const char *name, const char *host, unsigned int port,
    unsigned int weight)
{
	struct address address;
	const char *problem = address_parse(&address, text);

	check_case(problem == NULL, "\"%.60s\" is refused: %s", text, problem);
	if (problem != NULL)
		return;
	check_case(strcmp(address.name, name) == 0, "\"%.60s\": name %s", text,
	    address.name);
	check_case(strcmp(address.host, host) == 0, "\"%.60s\": host %s", text,
	    address.host);
	check_case(address.port == port && address.weight == weight,
	    "\"%.60s\": port %u, weight %u", text, address.port,
	    address.weight);
	address_free(&address);
}

/* The problem must contain word, and nothing is left to free. */
static void
bad(const char *text, const char *word)
{
	struct address address;
	const char *problem = address_parse(&address, text);

	check_case(problem != NULL, "\"%.60s\" is accepted", text);
	if (problem == NULL) {
		address_free(&address);
		return;
	}
	check_case(strstr(problem, word) != NULL &&
		strchr(problem, '\n') == NULL,
	    "\"%.60s\": %s", text, problem);
	check_case(address.name == NULL && address.host == NULL,
	    "\"%.60s\": something is left to free", text);
}

static void
test_address_with_ipv4_or_name_is_parsed_or_refused(void)
{
	good("10.0.0.1", "10.0.0.1:11211", "10.0.0.1", 11211, 1);
	good("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1", 1, 1);
	good("10.0.0.1:65535:7", "10.0.0.1:65535", "10.0.0.1", 65535, 7);
	good("cache-1.example_a", "cache-1.example_a:11211",
	    "cache-1.example_a", 11211, 1);
	/* The ring uses the host as written; the name is the same server. */
	good("Cache:1:65535", "cache:1", "Cache", 1, 65535);
	good("localhost:00080", "localhost:80", "localhost", 80, 1);

	bad("", "host is empty");
	bad(":", "host is empty");
	bad(":11211", "host is empty");
	bad("a b", "host name");
	bad("a\nb", "host name");
	bad("a\xff", "host name");
	bad("/tmp/socket", "host name");
	bad("10.0.0.256", "IPv4");
	bad("10.1", "IPv4");
	bad("010.0.0.1", "IPv4");
	bad("11211", "IPv4");
}

static void
test_address_with_bad_port_or_weight_is_refused(void)
{
	bad("a:", "port");
	bad("a:0", "port");
	bad("a:65536", "port");
	bad("a:-1", "port");
	bad("a:+1", "port");
	bad("a: 1", "port");
	bad("a:0x10", "port");
	bad("a:1x", "port");
	bad("a:18446744073709551617", "port");
	bad("a:99999999999999999999999999", "port");
	bad("a::1", "brackets"); /* this is IPv6 */
	bad("z::1", "port");
	bad("a:1:", "weight");
	bad("a:1:0", "weight");
	bad("a:1:-1", "weight");
	bad("a:1:65536", "weight");
	bad("a:1:1:1", "weight");
	bad("z:1:2:3:4", "weight");
}

static void
test_address_with_ipv6_in_brackets_is_parsed_or_refused(void)
{
	good("[::1]", "[::1]:11211", "::1", 11211, 1);
	good("[::1]:5", "[::1]:5", "::1", 5, 1);
	good("[2001:DB8:0:0::1]:11211:3", "[2001:db8::1]:11211",
	    "2001:DB8:0:0::1", 11211, 3);
	good("[fe80::1%eth0]:1", "[fe80::1%eth0]:1", "fe80::1%eth0", 1, 1);
	good("[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:11211", "::ffff:10.0.0.1",
	    11211, 1);
	good("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%interface-15-by]",
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%interface-15-by]:11211",
	    "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%interface-15-by",
	    11211, 1);

	bad("::1", "brackets");
	bad("::", "brackets");
	bad("2001:db8::1", "brackets");
	bad("fe80::1%eth0", "brackets");
	bad("[", "]");
	bad("[]", "IPv6");
	bad("[]:1", "IPv6");
	bad("[::1", "]");
	bad("[::1]1", "port");
	bad("[::1]:", "port");
	bad("[::1]:x", "port");
	bad("[::1]:1:x", "weight");
	bad("[::1]]:1", "port");
	bad("[[::1]]:1", "IPv6");
	bad("[10.0.0.1]:1", "IPv6");
	bad("[localhost]:1", "IPv6");
	bad("[::1%]:1", "IPv6");
	bad("[::1%a b]:1", "IPv6");
	bad("[::1%interface-16-byt]:1", "IPv6");
}

/* A unix path of n bytes is good, or is not. */
static void
check_path(size_t n, bool fits)
{
	char text[5 + 200 + 1] = "unix:/", name[sizeof(text)];

	memset(text + 6, 'p', n - 1);
	text[5 + n] = '\0';
	memcpy(name, text, sizeof(text));
	if (fits)
		good(text, name, name + 5, 0, 1);
	else
		bad(text, "107");
	memcpy(text + 5 + n, ":2", sizeof(":2"));
	if (fits)
		good(text, name, name + 5, 0, 2);
	else
		bad(text, "107");
}

static void
test_address_of_unix_socket_is_parsed_or_refused(void)
{
	good("unix:/tmp/a", "unix:/tmp/a", "/tmp/a", 0, 1);
	good("unix:/tmp/a:9", "unix:/tmp/a", "/tmp/a", 0, 9);
	good("unix:/tmp/a:b:9", "unix:/tmp/a:b", "/tmp/a:b", 0, 9);
	check_path(1, true);
	check_path(106, true);
	check_path(107, true);
	check_path(108, false);
	check_path(190, false);

	bad("unix:", "start with /");
	bad("unix:tmp", "start with /");
	bad("unix:@abstract", "start with /");
	bad("unix:/tmp/a:", "weight");
	bad("unix:/tmp/a:b", "weight");
	bad("unix:/tmp/a:0", "weight");
	bad("unix:/tmp/a b", "space");
	bad("unix:/tmp/a\r\nEND", "space");
}

/* Texts of any length are refused, not copied past an end. */
static void
test_address_of_5000_bytes_is_refused(void)
{
	size_t n = 5000;
	char *text = malloc(n + 4);

	if (text == NULL)
		abort();
	memset(text, 'a', n);
	text[n] = '\0';
	bad(text, "253");
	text[0] = '[';
	memcpy(text + n, "]:1", sizeof("]:1"));
	bad(text, "IPv6");
	memset(text + 1, ':', n - 1);
	bad(text, "IPv6");
	free(text);
}

static void
test_host_of_253_bytes_is_taken_and_of_254_refused(void)
{
	char text[255], name[300];

	memset(text, 'h', sizeof(text) - 1);
	text[254] = '\0';
	bad(text, "253");
	text[253] = '\0';
	snprintf(name, sizeof(name), "%s:11211", text);
	good(text, name, text, 11211, 1);
}

int
main(void)
{
	RUN(test_address_with_ipv4_or_name_is_parsed_or_refused);
	RUN(test_address_with_bad_port_or_weight_is_refused);
	RUN(test_address_with_ipv6_in_brackets_is_parsed_or_refused);
	RUN(test_address_of_unix_socket_is_parsed_or_refused);
	RUN(test_address_of_5000_bytes_is_refused);
	RUN(test_host_of_253_bytes_is_taken_and_of_254_refused);
	return unit_end();
}
