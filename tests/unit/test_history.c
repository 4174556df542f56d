/*
 * What is kept of each second.
 *
 * The servers are stand-ins, whose counters the tests set.
 */

#include "client/history.h"
#include "client/report.h"
#include "client/stats.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"
#include "unit.h"

enum { PEERS = HISTORY_SERVERS + 2, BEGIN_MS = 5000 };

/*
 * Stand-ins for pair.c, server.c and report.c
 */

static struct peer peers[PEERS];
static struct pairs_counters counters;
static struct server_counters server;
static struct histogram reply_times;
static struct stats stats;

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return PEERS;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	(void)pairs;
	return &peers[i];
}

struct pairs_counters *
pairs_counters(struct pairs *pairs)
{
	(void)pairs;
	return &counters;
}

const struct server_counters *
server_counters(struct server *one)
{
	(void)one;
	return &server;
}

struct histogram *
server_reply_times(struct server *one)
{
	(void)one;
	return &reply_times;
}

uint64_t
report_commands(const struct stats *now)
{
	return now->cmd_get;
}

enum peer_state
report_state(const struct peer *peer)
{
	return peer->state;
}

/*
 * Tests
 */

static struct history *
begin(void)
{
	struct history *history;
	size_t i;

	memset(&stats, 0, sizeof(stats));
	memset(&server, 0, sizeof(server));
	memset(&counters, 0, sizeof(counters));
	memset(&reply_times, 0, sizeof(reply_times));
	for (i = 0; i < PEERS; i++)
		peers[i].index = i;
	stats.cmd_get = 1000; /* of a program before */
	history = history_new(&stats, NULL);
	unit_need(history != NULL, "history_new");
	history_tick(history, BEGIN_MS);
	return history;
}

/* Let seconds go by, in each of which n commands come. */
static void
go_on(struct history *history, int64_t *now, unsigned int seconds,
    unsigned int n)
{
	unsigned int i;

	for (i = 0; i < seconds * 4; i++) {
		*now += 250;
		if (i % 4 == 0) {
			stats.cmd_get += n;
			stats.get_hits += n;
			server.requests += n;
		}
		history_tick(history, *now);
	}
}

static void
test_each_second_has_a_sample_and_there_are_600_at_most(void)
{
	struct history *history = begin();
	int64_t now = BEGIN_MS;

	check(history_length(history) == 0);
	history_tick(history, now + 999);
	check(history_length(history) == 0);
	go_on(history, &now, 5, 7);
	check(history_length(history) == 5 && history_first(history) == 0);
	check(history_sample(history, NULL, 0)->requests == 7);
	check(history_sample(history, NULL, 4)->hits == 7);
	go_on(history, &now, 700, 9);
	check(history_length(history) == HISTORY_SECONDS);
	check(history_first(history) == 105);
	check(history_sample(history, NULL, 0)->requests == 9);
	go_on(history, &now, 1, 11);
	check(history_sample(history, NULL, 598)->requests == 9);
	check(history_sample(history, NULL, 599)->requests == 11);
	history_free(history);
}

static void
test_numbers_of_now_are_of_ten_to_twenty_seconds(void)
{
	struct history *history = begin();
	struct history_rates rates;
	int64_t now = BEGIN_MS;

	rates = history_rates(history, NULL);
	check(rates.requests == 0 && rates.p50_us == 0);
	go_on(history, &now, 40, 5);
	rates = history_rates(history, NULL);
	check(rates.requests == 5 && rates.hits >= 50 && rates.hits <= 100);
	go_on(history, &now, 20, 0);
	rates = history_rates(history, &peers[0]);
	check(rates.requests == 0);
	history_free(history);
}

static void
test_counters_that_were_reset_do_no_harm(void)
{
	struct history *history = begin();
	int64_t now = BEGIN_MS;

	go_on(history, &now, 3, 5);
	stats.cmd_get = stats.get_hits = 0;
	go_on(history, &now, 1, 4);
	check(history_sample(history, NULL, 3)->requests == 4);
	check(history_rates(history, NULL).requests < 5);
	history_free(history);
}

/* What was counted meanwhile is spread. */
static void
test_process_that_stood_still_has_a_sample_of_each_second(void)
{
	struct history *history = begin();
	int64_t now = BEGIN_MS;

	go_on(history, &now, 2, 5);
	stats.cmd_get += 100;
	counters.scrub.different = 3;
	history_tick(history, now + 10400);
	check(history_length(history) == 12);
	check(history_sample(history, NULL, 2)->requests == 10);
	check(history_sample(history, NULL, 11)->requests == 10);
	check(history_differences(history) == 3);
	history_tick(history, now + 10999);
	check(history_length(history) == 12);
	history_tick(history, now + 11000);
	check(history_length(history) == 13);
	history_tick(history, now + 10000000);
	check(history_length(history) == HISTORY_SECONDS);
	check(history_differences(history) == 0);
	history_free(history);
}

static void
test_servers_have_samples_but_for_those_that_are_too_many(void)
{
	struct history *history = begin();
	const struct history_sample *sample;
	int64_t now = BEGIN_MS;

	peers[1].state = PEER_UP;
	server.waiting = 3;
	histogram_add(&reply_times, 1000);
	go_on(history, &now, 2, 6);
	sample = history_sample(history, &peers[1], 0);
	check(sample->requests == 6 && sample->open == 3);
	check(sample->state == PEER_UP && sample->p99_us >= 500);
	sample = history_sample(history, &peers[HISTORY_SERVERS - 1], 1);
	check(sample != NULL && sample->p99_us == 0);
	check(history_sample(history, &peers[HISTORY_SERVERS], 0) == NULL);
	check(history_rates(history, &peers[HISTORY_SERVERS]).requests == 6);
	history_free(history);
}

int
main(void)
{
	RUN(test_each_second_has_a_sample_and_there_are_600_at_most);
	RUN(test_numbers_of_now_are_of_ten_to_twenty_seconds);
	RUN(test_counters_that_were_reset_do_no_harm);
	RUN(test_process_that_stood_still_has_a_sample_of_each_second);
	RUN(test_servers_have_samples_but_for_those_that_are_too_many);
	history_free(NULL);
	return unit_end();
}
