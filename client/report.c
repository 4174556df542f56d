/*
 * Write the replies to the stats commands.
 *
 * Invariant: memcached's own names come first and mean what they mean there,
 * so that a program that reads the stats of a memcached can read ours.
 */

#include "client/report.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "block.h"
#include "client/client.h"
#include "client/hotkeys.h"
#include "client/page.h"
#include "client/request.h"
#include "client/stats.h"
#include "conn.h"
#include "histogram.h"
#include "mirror/behind.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rebuild.h"
#include "mirror/recovery.h"
#include "mirror/serving.h"
#include "server/server.h"

enum {
	/* Clients that stats conns lists: more would hold up others. */
	CONNS_MAX = 1000,
};

static void
say_version(struct page *page, const struct pairs *pairs)
{
	char version[32];

	pairs_version(pairs, version, sizeof(version));
	page_say(page, "STAT version %s-magent-%s", version, MAGENT_VERSION);
}

static void
say_process(struct page *page, const struct pairs *pairs, int64_t uptime)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	page_say(page, "STAT pid %ld", (long)getpid());
	page_say(page, "STAT uptime %lld", (long long)uptime);
	page_say(page, "STAT time %lld", (long long)time(NULL));
	say_version(page, pairs);
	page_word(page, "libevent", event_get_version());
	page_number(page, "pointer_size", 8 * sizeof(void *));
	page_say(page, "STAT rusage_user %ld.%06ld",
	    (long)usage.ru_utime.tv_sec, (long)usage.ru_utime.tv_usec);
	page_say(page, "STAT rusage_system %ld.%06ld",
	    (long)usage.ru_stime.tv_sec, (long)usage.ru_stime.tv_usec);
}

static void
say_connections(struct page *page, const struct stats *stats,
    const struct report_settings *settings)
{
	page_number(page, "max_connections", settings->max_clients);
	page_number(page, "curr_connections", stats->connections);
	page_number(page, "total_connections", stats->total_connections);
	page_number(page, "rejected_connections", stats->rejected_connections);
	page_number(page, "connection_structures", stats->connections);
	page_number(page, "accepting_conns", stats->paused_listeners == 0);
	page_number(page, "listen_disabled_num", stats->listen_disabled);
	page_number(page, "time_in_listen_disabled_us",
	    stats->listen_disabled_us);
	page_number(page, "conn_yields", stats->yields);
	page_number(page, "threads", 1);
}

static void
say_commands(struct page *page, const struct stats *stats)
{
	const struct {
		const char *name;
		uint64_t number;
	} counters[] = {
		{ "cmd_get", stats->cmd_get },
		{ "cmd_set", stats->cmd_set },
		{ "cmd_flush", stats->cmd_flush },
		{ "cmd_touch", stats->cmd_touch },
		{ "cmd_meta", stats->cmd_meta },
		{ "get_hits", stats->get_hits },
		{ "get_misses", stats->get_misses },
		{ "delete_misses", stats->delete_misses },
		{ "delete_hits", stats->delete_hits },
		{ "incr_misses", stats->incr_misses },
		{ "incr_hits", stats->incr_hits },
		{ "decr_misses", stats->decr_misses },
		{ "decr_hits", stats->decr_hits },
		{ "cas_misses", stats->cas_misses },
		{ "cas_hits", stats->cas_hits },
		{ "cas_badval", stats->cas_badval },
		{ "touch_hits", stats->touch_hits },
		{ "touch_misses", stats->touch_misses },
		{ "bytes_read", stats->bytes_read },
		{ "bytes_written", stats->bytes_written },
	};
	size_t i;

	for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		page_number(page, counters[i].name, counters[i].number);
}

static void
say_servers_sum(struct page *page, const struct stats_of_servers *sum)
{
	page_number(page, "limit_maxbytes", sum->limit_maxbytes);
	page_number(page, "bytes", sum->bytes);
	page_number(page, "curr_items", sum->curr_items);
	page_number(page, "total_items", sum->total_items);
	page_number(page, "evictions", sum->evictions);
}

/* How many servers may not answer for keys now. */
static size_t
servers_down(struct pairs *pairs)
{
	size_t i, down = 0;

	for (i = 0; i < pairs_peer_count(pairs); i++)
		down += !peer_is_trusted(pairs_peer(pairs, i));
	return down;
}

static void
say_scrub(struct page *page, const struct scrub_counters *scrub)
{
	page_number(page, "scrub_running", scrub->is_running);
	page_number(page, "scrub_keys_compared", scrub->compared);
	page_number(page, "scrub_keys_different", scrub->different);
	page_number(page, "scrub_keys_repaired", scrub->repaired);
	page_number(page, "scrub_keys_only_on_mirror", scrub->only_on_mirror);
	page_number(page, "scrub_passes", scrub->passes);
	page_number(page, "scrub_last_pass", scrub->last_pass);
}

/* Of a get, each key counts.  To count them as they come would cost each of
   them something. */
uint64_t
report_commands(const struct stats *stats)
{
	return stats->cmd_get + stats->cmd_set + stats->cmd_touch +
	    stats->delete_hits + stats->delete_misses + stats->incr_hits +
	    stats->incr_misses + stats->decr_hits + stats->decr_misses;
}

/* The names that memcached has when it is a proxy.  Exporters show the last two
   as times that a server was found to be bad, and as servers that are bad
   now. */
static void
say_as_proxy(struct page *page, const struct stats *stats, struct pairs *pairs)
{
	page_number(page, "proxy_conn_requests", report_commands(stats));
	page_number(page, "proxy_conn_errors", stats->line_errors);
	page_number(page, "proxy_conn_oom", stats->memory_errors);
	/* But for the one that is answered with this. */
	page_number(page, "proxy_req_active", requests_under_way() - 1);
	page_number(page, "proxy_config_reloads",
	    stats->replacements + stats->refused_replacements);
	page_number(page, "proxy_config_reload_fails",
	    stats->refused_replacements);
	page_number(page, "proxy_backend_total", pairs_peer_count(pairs));
	page_number(page, "proxy_backend_marked_bad",
	    pairs_counters(pairs)->failovers);
	page_number(page, "proxy_backend_failed", servers_down(pairs));
}

/* The statistics that no memcached has. */
static void
say_own(struct page *page, const struct stats *stats, struct pairs *pairs,
    const struct report_settings *settings)
{
	const struct pairs_counters *counters = pairs_counters(pairs);
	const struct server_counters *server;
	uint64_t failures = 0, timeouts = 0;
	size_t dirty = 0;
	const struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		server = server_counters(peer->server);
		failures += server->failures;
		timeouts += server->timeouts;
		dirty += dirty_count(peer->dirty);
	}
	page_number(page, "servers", pairs_peer_count(pairs));
	page_number(page, "servers_down", servers_down(pairs));
	page_number(page, "uncovered_pairs", pairs_uncovered(pairs));
	page_number(page, "failovers", counters->failovers);
	page_number(page, "mirror_effects", counters->effects);
	page_number(page, "mirror_mismatches", counters->mismatches);
	page_number(page, "mirror_repairs", counters->repairs);
	page_number(page, "dirty_keys", dirty);
	page_number(page, "zombies_waited_for", counters->zombies);
	page_number(page, "keys_copied", counters->copied);
	page_number(page, "keys_overtaken", counters->overtaken);
	say_scrub(page, &counters->scrub);
	page_number(page, "server_failures", failures);
	page_number(page, "server_timeouts", timeouts);
	page_number(page, "unserved_keys", stats->no_server_errors);
	page_number(page, "out_of_memory", stats->memory_errors);
	page_number(page, "buffer_bytes", block_total());
	page_number(page, "buffer_limit", settings->memory_limit);
	page_number(page, "stopping", settings->is_stopping);
}

struct block *
report_general(const struct stats *stats, struct pairs *pairs,
    const struct stats_of_servers *sum, const struct report_settings *settings,
    int64_t now_ms, size_t *length)
{
	struct page page = page_new();
	int64_t uptime = (now_ms - settings->started_ms) / 1000;

	/* Programs that read this divide by the uptime. */
	say_process(&page, pairs, uptime > 0 ? uptime : 1);
	say_connections(&page, stats, settings);
	say_commands(&page, stats);
	say_servers_sum(&page, sum);
	say_as_proxy(&page, stats, pairs);
	say_own(&page, stats, pairs, settings);
	return page_end(&page, length);
}

/* The dirty keys of a peer, and how far its rebuild is. */
static void
say_return(struct page *page, unsigned int n, const struct peer *peer)
{
	struct rebuild_progress progress = { .copied = 0 };
	uint64_t done;

	if (dirty_is_all(peer->dirty))
		page_say(page, "STAT %u:dirty_keys all", n);
	else
		page_say(page, "STAT %u:dirty_keys %zu", n,
		    dirty_count(peer->dirty));
	if (!recovery_progress(peer, &progress))
		return;
	done = progress.copied + progress.overtaken + progress.gone +
	    progress.refused;
	page_say(page, "STAT %u:rebuild_keys_done %llu", n,
	    (unsigned long long)done);
	page_say(page, "STAT %u:rebuild_keys_left %llu%s", n,
	    (unsigned long long)progress.left, progress.searching ? "+" : "");
	page_say(page, "STAT %u:rebuild_keys_per_second %llu", n,
	    (unsigned long long)progress.per_second);
	if (progress.per_second > 0)
		page_say(page, "STAT %u:rebuild_seconds_left %llu", n,
		    (unsigned long long)(progress.left / progress.per_second));
}

enum peer_state
report_state(const struct peer *peer)
{
	return peer->state == PEER_UP && serving_is_unproved(peer) ?
	    PEER_REBUILD :
	    peer->state;
}

static void
say_peer(struct page *page, unsigned int n, const struct peer *peer,
    int64_t now_ms)
{
	const struct server_counters *counters = server_counters(peer->server);
	const struct identity *identity = &peer->identity;

	page_say(page, "STAT %u:address %s", n, peer_name(peer));
	page_say(page, "STAT %u:role %s", n, peer_role(peer));
	page_say(page, "STAT %u:state %s", n,
	    peer_state_name(report_state(peer)));
	page_say(page, "STAT %u:held %s", n,
	    server_is_held(peer->server) ? "yes" : "no");
	page_say(page, "STAT %u:seconds_in_state %lld", n,
	    (long long)(now_ms - peer->changed_ms) / 1000);
	page_say(page, "STAT %u:version %u.%u.%u", n, identity->version[0],
	    identity->version[1], identity->version[2]);
	page_say(page, "STAT %u:incarnation %llu/%llu", n,
	    (unsigned long long)identity->pid,
	    (unsigned long long)(identity->time - identity->uptime));
	say_return(page, n, peer);
	page_say(page, "STAT %u:requests %llu", n,
	    (unsigned long long)counters->requests);
	page_say(page, "STAT %u:hits %llu", n, (unsigned long long)peer->hits);
	page_say(page, "STAT %u:misses %llu", n,
	    (unsigned long long)peer->misses);
	page_say(page, "STAT %u:waiting %zu", n, counters->waiting);
	page_say(page, "STAT %u:connects %llu", n,
	    (unsigned long long)counters->connects);
	page_say(page, "STAT %u:failures %llu", n,
	    (unsigned long long)counters->failures);
	page_say(page, "STAT %u:timeouts %llu", n,
	    (unsigned long long)counters->timeouts);
}

struct block *
report_servers(struct pairs *pairs, int64_t now_ms, size_t *length)
{
	struct page page = page_new();
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++)
		say_peer(&page, (unsigned int)i, pairs_peer(pairs, i), now_ms);
	return page_end(&page, length);
}

/* How long something takes, in microseconds. */
static void
say_times(struct page *page, const char *what,
    const struct histogram *histogram)
{
	static const struct {
		const char *name;
		unsigned int per_mille;
	} quantiles[] = {
		{ "p50", 500 },
		{ "p90", 900 },
		{ "p99", 990 },
		{ "p999", 999 },
	};
	unsigned long long count = histogram_count(histogram);
	size_t i;

	page_say(page, "STAT %s:count %llu", what, count);
	page_say(page, "STAT %s:mean_us %llu", what,
	    count > 0 ? (unsigned long long)histogram->sum_us / count : 0);
	for (i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		page_say(page, "STAT %s:%s_us %u", what, quantiles[i].name,
		    histogram_quantile(histogram, quantiles[i].per_mille));
}

struct block *
report_latency(const struct stats *stats, struct pairs *pairs, size_t *length)
{
	struct page page = page_new();
	const struct peer *peer;
	char number[24];
	size_t i;

	for (i = 0; i < LATENCY_CLASSES; i++)
		say_times(&page, stats_latency_name((enum latency_class)i),
		    &stats->latency[i]);
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		snprintf(number, sizeof(number), "%zu", i);
		page_say(&page, "STAT %s:address %s", number, peer_name(peer));
		say_times(&page, number, server_reply_times(peer->server));
	}
	return page_end(&page, length);
}

static void
say_hotkey(struct page *page, size_t n, const struct hotkey *hotkey,
    unsigned int samples)
{
	char name[32], key[PROTO_KEY_MAX + 1];

	assert(hotkey->length <= PROTO_KEY_MAX && samples > 0);
	memcpy(key, hotkey->key, hotkey->length);
	key[hotkey->length] = '\0';
	snprintf(name, sizeof(name), "%zu:key", n);
	page_word(page, name, key);
	page_say(page, "STAT %zu:samples %u", n, hotkey->samples);
	page_say(page, "STAT %zu:percent %.1f", n,
	    100.0 * hotkey->samples / samples);
}

struct block *
report_hotkeys(struct hotkeys *hotkeys, size_t *length)
{
	struct hotkey list[HOTKEYS_LISTED];
	struct page page = page_new();
	unsigned int samples;
	size_t i, n = hotkeys_list(hotkeys, list, &samples);

	page_number(&page, "samples", samples);
	for (i = 0; i < n; i++)
		say_hotkey(&page, i, &list[i], samples);
	return page_end(&page, length);
}

static const char *
address_of(const struct peer *peer)
{
	return peer != NULL ? peer_name(peer) : "NULL";
}

/* A server of a key: where it is, how far it is, and how much it lacks of what
   the other one holds. */
static void
say_holder(struct page *page, const char *role, const struct peer *peer,
    const struct peer *other)
{
	static const char *const lacks[] = {
		[BEHIND_NOT] = "nothing",
		[BEHIND_KEYS] = "keys",
		[BEHIND_ALL] = "all",
	};

	page_say(page, "STAT %s %s", role, address_of(peer));
	if (peer == NULL)
		return;
	page_say(page, "STAT %s_state %s", role,
	    peer_state_name(report_state(peer)));
	if (other != NULL)
		page_say(page, "STAT %s_lacks %s", role,
		    lacks[behind_of(peer, other)]);
}

struct block *
report_route(struct pairs *pairs, const char *key, size_t key_length,
    size_t *length)
{
	struct pair pair = pairs_find(pairs, key, key_length);
	struct page page = page_new();

	page_number(&page, "hash", pairs_hash(pairs, key, key_length));
	say_holder(&page, "primary", pair.primary, pair.backup);
	say_holder(&page, "backup", pair.backup, pair.primary);
	page_say(&page, "STAT authority %s", address_of(pair_authority(&pair)));
	page_say(&page, "STAT reason %s", pair_reason(&pair));
	return page_end(&page, length);
}

/* memcached says NULL for all addresses, too. */
static void
say_hosts(struct page *page, const struct report_settings *settings)
{
	char hosts[400] = "";
	size_t i, n = 0;

	for (i = 0; i < settings->listen_count && n < sizeof(hosts); i++)
		n += (size_t)snprintf(hosts + n, sizeof(hosts) - n, "%s%s",
		    i > 0 ? "," : "", settings->listen_hosts[i]);
	page_word(page, "inter", hosts);
}

struct block *
report_settings(const struct pairs *pairs,
    const struct report_settings *settings, size_t *length)
{
	struct page page = page_new();

	page_number(&page, "maxconns", settings->max_clients);
	page_number(&page, "tcpport", settings->port);
	page_number(&page, "udpport", 0);
	say_hosts(&page, settings);
	page_number(&page, "verbosity", settings->verbosity);
	page_word(&page, "domain_socket", settings->socket_path);
	page_number(&page, "num_threads", 1);
	page_number(&page, "item_size_max", settings->item_size);
	page_say(&page, "STAT cas_enabled yes");
	page_say(&page, "STAT flush_enabled %s",
	    settings->refuse_flush ? "no" : "yes");
	page_say(&page, "STAT binding_protocol ascii");
	say_version(&page, pairs);
	page_number(&page, "timeout_ms", settings->timeout_ms);
	page_number(&page, "connections_per_server", settings->links);
	page_number(&page, "memory_limit", settings->memory_limit);
	page_say(&page, "STAT ring %s", settings->ring);
	page_say(&page, "STAT on_down %s",
	    settings->error_on_down ? "error" : "miss");
	page_number(&page, "scrub", settings->scrub_pace);
	return page_end(&page, length);
}

/* What memcached calls that which the client is doing. */
static const char *
conn_state_name(const struct client_report *client)
{
	if (client->pause == CLIENT_CLOSING)
		return "conn_closing";
	if (client->backlog > 0)
		return "conn_mwrite";
	if (client->requests > 0)
		return "conn_io_queue";
	if (client->swallows)
		return "conn_swallow";
	return client->input > 0 ? "conn_nread" : "conn_new_cmd";
}

static void
say_client(struct page *page, const struct client *client)
{
	static const char *const pauses[] = {
		[CLIENT_READS] = "no",
		[CLIENT_PAUSED_WINDOW] = "window",
		[CLIENT_PAUSED_BACKLOG] = "backlog",
		[CLIENT_PAUSED_GATE] = "gate",
		[CLIENT_PAUSED_MEMORY] = "memory",
		[CLIENT_CLOSING] = "closing",
	};
	struct client_report report = client_report(client);
	unsigned long long n = report.number;
	char remote[CONN_NAME_MAX], local[CONN_NAME_MAX];
	const char *kind;

	static_assert(sizeof(pauses) / sizeof(pauses[0]) == CLIENT_CLOSING + 1,
	    "each pause has a name");
	assert(report.pause <= CLIENT_CLOSING && pauses[report.pause] != NULL);
	client_names(client, remote, local);
	kind = strcmp(remote, "unix") == 0 ? "" : "tcp:";
	page_say(page, "STAT %llu:addr %s%s", n, kind, remote);
	page_say(page, "STAT %llu:listen_addr %s%s", n, kind, local);
	page_say(page, "STAT %llu:state %s", n, conn_state_name(&report));
	page_say(page, "STAT %llu:secs_since_last_cmd %lld", n,
	    (long long)report.idle_ms / 1000);
	page_say(page, "STAT %llu:requests %u", n, report.requests);
	page_say(page, "STAT %llu:backlog %zu", n, report.backlog);
	page_say(page, "STAT %llu:input_kept %zu", n, report.input);
	page_say(page, "STAT %llu:paused %s", n, pauses[report.pause]);
}

/* Whether something of a client is under way. */
static bool
is_busy_client(const struct client *client)
{
	struct client_report report = client_report(client);

	return report.requests > 0 || report.backlog > 0 || report.input > 0 ||
	    report.swallows || report.pause != CLIENT_READS;
}

struct block *
report_conns(struct client_list *clients, size_t *length)
{
	struct page page = page_new();
	unsigned int said = 0, left_out = 0;
	struct client *client;
	int idle;

	/* Clients of which something is under way come first: they are the
	   last to be left out. */
	for (idle = 0; idle < 2; idle++) {
		for (client = TAILQ_FIRST(clients); client != NULL;
		     client = client_next(client)) {
			if (is_busy_client(client) == (idle == 1))
				continue;
			if (said++ < CONNS_MAX)
				say_client(&page, client);
			else
				left_out++;
		}
	}
	if (left_out > 0)
		page_number(&page, "conns_left_out", left_out);
	return page_end(&page, length);
}
