/* Names are looked up beside the loop: each lookup is answered once, in the
   loop, however many there are; a cancelled one is not; the resolver may go
   while threads are still at work. */

#include <netdb.h>
#include <netinet/in.h>
#include <time.h>

#include <event2/event.h>

#include "server/resolver.h"
#include "unit.h"

enum { MANY = 200, LONGEST_SECONDS = 20 };

struct question {
	struct lookup *lookup;
	unsigned int answers;
	int error;
	unsigned int addresses, port;
};

static struct event_base *base;
static struct resolver *resolver;

static void
on_found(void *owner, int error, const struct addrinfo *list)
{
	struct question *question = owner;

	question->lookup = NULL;
	question->answers++;
	question->error = error;
	check((error == 0) == (list != NULL));
	for (; list != NULL; list = list->ai_next) {
		question->addresses++;
		check(list->ai_socktype == SOCK_STREAM);
		if (list->ai_family == AF_INET)
			question->port =
			    ntohs(((const struct sockaddr_in *)(const void *)
				       list->ai_addr)
				      ->sin_port);
	}
}

static void
ask(struct question *question, const char *host, unsigned int port)
{
	memset(question, 0, sizeof(*question));
	question->lookup = resolver_look_up(resolver, host, port, on_found,
	    question);
	unit_need(question->lookup != NULL, "resolver_look_up");
	check(question->answers == 0);
}

/* Turn the loop until all of n questions are answered. */
static void
wait_for_answers(const struct question *questions, size_t n)
{
	time_t end = time(NULL) + LONGEST_SECONDS;
	size_t answered = 0, i;

	while (answered < n && time(NULL) < end) {
		event_base_loop(base, EVLOOP_ONCE);
		for (i = answered = 0; i < n; i++)
			answered += questions[i].answers > 0;
	}
	check(answered == n);
}

static void
test_name_of_the_hosts_file_is_found_with_its_port(void)
{
	struct question question;

	ask(&question, "localhost", 11211);
	wait_for_answers(&question, 1);
	check(question.error == 0 && question.addresses > 0);
	check(question.port == 11211 || question.port == 0);
	check(question.answers == 1);
}

static void
test_name_that_cannot_be_is_an_error(void)
{
	struct question question;

	ask(&question, "a..b", 1);
	wait_for_answers(&question, 1);
	check(question.error != 0 && question.addresses == 0);
}

static void
test_more_lookups_than_threads_are_each_answered_once(void)
{
	static struct question questions[MANY];
	size_t i;

	for (i = 0; i < MANY; i++)
		ask(&questions[i], i % 2 ? "127.0.0.1" : "localhost", 80);
	wait_for_answers(questions, MANY);
	event_base_loop(base, EVLOOP_NONBLOCK);
	for (i = 0; i < MANY; i++)
		check(questions[i].answers == 1 && questions[i].error == 0);
}

static void
test_cancelled_lookup_is_not_answered(void)
{
	struct question cancelled, other;

	ask(&cancelled, "localhost", 1);
	lookup_cancel(cancelled.lookup);
	ask(&other, "localhost", 1);
	wait_for_answers(&other, 1);
	check(cancelled.answers == 0);
}

static void
test_resolver_with_lookups_under_way_is_freed(void)
{
	static struct question questions[MANY];
	size_t i;

	for (i = 0; i < MANY; i++)
		ask(&questions[i], "localhost", 80);
	for (i = 0; i < MANY; i++)
		lookup_cancel(questions[i].lookup);
	resolver_free(resolver);
	resolver = resolver_new(base);
	unit_need(resolver != NULL, "resolver_new");
	for (i = 0; i < MANY; i++)
		check(questions[i].answers == 0);
}

int
main(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	resolver = resolver_new(base);
	unit_need(resolver != NULL, "resolver_new");
	RUN(test_name_of_the_hosts_file_is_found_with_its_port);
	RUN(test_name_that_cannot_be_is_an_error);
	RUN(test_more_lookups_than_threads_are_each_answered_once);
	RUN(test_cancelled_lookup_is_not_answered);
	RUN(test_resolver_with_lookups_under_way_is_freed);
	resolver_free(resolver);
	event_base_free(base);
	return unit_end();
}
