/*
 * Write what is counted, and how the servers are, for Prometheus.
 *
 * Invariant: the samples of a family follow its head, and each family has one
 * head.  A family of counters has the suffix _total in the older format, and in
 * the newer one its samples alone have it.
 */

#include "client/metrics.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <event2/buffer.h>

#include "block.h"
#include "client/report.h"
#include "client/share.h"
#include "client/stats.h"
#include "digits.h"
#include "histogram.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/rebuild.h"
#include "mirror/recovery.h"
#include "server/server.h"

/* A counter beside a gauge has its name, with the suffix.  Two families of
   OpenMetrics may not share a name: there it is of a type that is not known. */
enum {
	/* Bytes of the labels of a server. */
	LABELS_MAX = 1024,
	/* Bytes that are added to what is written at a time. */
	PIECES_MAX = 4096,
	/* Bytes of a bound of a histogram. */
	BOUND_MAX = 16,
};

enum kind { COUNTER, COUNTER_BESIDE, GAUGE, HISTOGRAM };

struct sheet {
	struct evbuffer *out; /* borrowed */
	const struct metrics_source *source;
	int64_t now_ms;
	bool is_open;     /* in the format of OpenMetrics */
	bool is_complete; /* memory was enough so far */
	/* Of the present family. */
	const char *family;
	enum kind kind;
	/* The ends of the buckets of histograms. */
	char bounds[HISTOGRAM_BOUNDS][BOUND_MAX];
	size_t length; /* of bytes that are not in out yet */
	char bytes[PIECES_MAX];
};

static void
flush_pieces(struct sheet *sheet)
{
	if (evbuffer_add(sheet->out, sheet->bytes, sheet->length) == -1)
		sheet->is_complete = false;
	sheet->length = 0;
}

/* There are thousands of pieces, so this is not done by printf() alone. */
static void
add_text(struct sheet *sheet, const char *text)
{
	size_t n = strlen(text);

	assert(n <= sizeof(sheet->bytes));
	if (sheet->length + n > sizeof(sheet->bytes))
		flush_pieces(sheet);
	memcpy(sheet->bytes + sheet->length, text, n);
	sheet->length += n;
}

/* The end of a sample. */
static void
put_value(struct sheet *sheet, uint64_t number)
{
	char value[1 + DIGITS_MAX + sizeof("\n")] = " ";

	memcpy(value + 1 + digits_write(value + 1, number), "\n", sizeof("\n"));
	add_text(sheet, value);
}

static void print(struct sheet *sheet, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
print(struct sheet *sheet, const char *format, ...)
{
	char text[LABELS_MAX];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	assert(n >= 0 && (size_t)n < sizeof(text));
	add_text(sheet, text);
}

/* Begin a family; help is one line. */
static void
begin(struct sheet *sheet, enum kind kind, const char *name, const char *help)
{
	static const char *const types[] = { "counter", "counter", "gauge",
		"histogram" };
	bool is_bare = kind >= GAUGE || (kind == COUNTER && sheet->is_open);
	const char *suffix = is_bare ? "" : "_total";

	sheet->family = name;
	sheet->kind = kind;
	print(sheet, "# HELP magent_%s%s %s\n", name, suffix, help);
	print(sheet, "# TYPE magent_%s%s %s\n", name, suffix,
	    kind == COUNTER_BESIDE && sheet->is_open ? "unknown" : types[kind]);
}

static void
put_name(struct sheet *sheet)
{
	add_text(sheet, "magent_");
	add_text(sheet, sheet->family);
	if (sheet->kind != GAUGE)
		add_text(sheet, "_total");
}

/* A sample without labels. */
static void
put_sample(struct sheet *sheet, uint64_t number)
{
	put_name(sheet);
	put_value(sheet, number);
}

/* A family of one sample. */
static void
put_single(struct sheet *sheet, enum kind kind, const char *name,
    const char *help, uint64_t number)
{
	begin(sheet, kind, name, help);
	put_sample(sheet, number);
}

/* A whole number of OpenMetrics has a point here. */
static void
write_bounds(struct sheet *sheet)
{
	double seconds;
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BOUNDS; i++) {
		seconds = histogram_bounds[i] / 1e6;
		snprintf(sheet->bounds[i], BOUND_MAX, "%g%s", seconds,
		    seconds >= 1 && sheet->is_open ? ".0" : "");
	}
}

/* The name of a sample of a histogram; labels are without braces. */
static void
put_sample_part(struct sheet *sheet, const char *part, const char *labels)
{
	add_text(sheet, "magent_");
	add_text(sheet, sheet->family);
	add_text(sheet, part);
	add_text(sheet, "{");
	add_text(sheet, labels);
}

static void
put_bucket(struct sheet *sheet, const char *labels, const char *bound,
    uint64_t count)
{
	put_sample_part(sheet, "_bucket", labels);
	add_text(sheet, ",le=\"");
	add_text(sheet, bound);
	add_text(sheet, "\"}");
	put_value(sheet, count);
}

/* The samples of one histogram. */
static void
put_histogram(struct sheet *sheet, const char *labels,
    const struct histogram *histogram)
{
	uint64_t count = 0;
	unsigned int i;

	for (i = 0; i < HISTOGRAM_BOUNDS; i++) {
		count += histogram->counts[i];
		put_bucket(sheet, labels, sheet->bounds[i], count);
	}
	count += histogram->counts[HISTOGRAM_BOUNDS];
	put_bucket(sheet, labels, "+Inf", count);
	put_sample_part(sheet, "_sum", labels);
	print(sheet, "} %llu.%06llu\n",
	    (unsigned long long)histogram->sum_us / 1000000,
	    (unsigned long long)histogram->sum_us % 1000000);
	put_sample_part(sheet, "_count", labels);
	add_text(sheet, "}");
	put_value(sheet, count);
}

/*
 * The process
 */

static void
put_process(struct sheet *sheet)
{
	const struct report_settings *settings = sheet->source->settings;
	struct rusage usage;

	begin(sheet, GAUGE, "build_info", "The version, as a label.");
	put_name(sheet);
	print(sheet, "{version=\"%s\"} 1\n", MAGENT_VERSION);
	put_single(sheet, GAUGE, "uptime_seconds",
	    "Seconds since the start; a replacement in place is none.",
	    (uint64_t)(sheet->now_ms - settings->started_ms) / 1000);
	getrusage(RUSAGE_SELF, &usage);
	begin(sheet, COUNTER, "cpu_seconds", "Processor time of the process.");
	put_name(sheet);
	print(sheet, "{mode=\"user\"} %ld.%06ld\n", (long)usage.ru_utime.tv_sec,
	    (long)usage.ru_utime.tv_usec);
	put_name(sheet);
	print(sheet, "{mode=\"system\"} %ld.%06ld\n",
	    (long)usage.ru_stime.tv_sec, (long)usage.ru_stime.tv_usec);
	put_single(sheet, GAUGE, "buffer_bytes",
	    "Memory of all that is kept for clients and servers.",
	    block_total());
	put_single(sheet, GAUGE, "buffer_limit_bytes", "The limit of -m.",
	    settings->memory_limit);
	put_single(sheet, COUNTER, "out_of_memory",
	    "Commands or replies for which there was no memory.",
	    sheet->source->stats->memory_errors);
	begin(sheet, COUNTER, "replacements",
	    "Times that SIGHUP has put another program in place.");
	put_name(sheet);
	print(sheet, "{result=\"done\"} %llu\n",
	    (unsigned long long)sheet->source->stats->replacements);
	put_name(sheet);
	print(sheet, "{result=\"refused\"} %llu\n",
	    (unsigned long long)sheet->source->stats->refused_replacements);
	put_single(sheet, GAUGE, "stopping", "1 after a signal to stop.",
	    settings->is_stopping);
}

/*
 * Clients
 */

static void
put_clients(struct sheet *sheet)
{
	const struct stats *stats = sheet->source->stats;

	put_single(sheet, GAUGE, "client_connections",
	    "Clients that are connected.", stats->connections);
	put_single(sheet, GAUGE, "client_connections_limit",
	    "As many as there may be: -n, or fewer for lack of descriptors.",
	    sheet->source->settings->max_clients);
	put_single(sheet, COUNTER_BESIDE, "client_connections",
	    "Clients that were accepted.", stats->total_connections);
	put_single(sheet, COUNTER, "client_connections_rejected",
	    "Clients that were refused, because there were too many.",
	    stats->rejected_connections);
	put_single(sheet, COUNTER, "accept_pauses",
	    "Pauses in which no client is accepted.", stats->listen_disabled);
	put_single(sheet, COUNTER, "read_bytes", "Bytes from clients.",
	    stats->bytes_read);
	put_single(sheet, COUNTER, "written_bytes", "Bytes to clients.",
	    stats->bytes_written);
}

static void
put_commands(struct sheet *sheet)
{
	const struct stats *stats = sheet->source->stats;
	const struct {
		const char *command, *result;
		uint64_t number;
	} counters[] = {
		{ "get", "hit", stats->get_hits },
		{ "get", "miss", stats->get_misses },
		{ "set", "any", stats->cmd_set },
		{ "cas", "hit", stats->cas_hits },
		{ "cas", "miss", stats->cas_misses },
		{ "cas", "badval", stats->cas_badval },
		{ "touch", "hit", stats->touch_hits },
		{ "touch", "miss", stats->touch_misses },
		{ "delete", "hit", stats->delete_hits },
		{ "delete", "miss", stats->delete_misses },
		{ "incr", "hit", stats->incr_hits },
		{ "incr", "miss", stats->incr_misses },
		{ "decr", "hit", stats->decr_hits },
		{ "decr", "miss", stats->decr_misses },
		{ "flush", "any", stats->cmd_flush },
		{ "meta", "any", stats->cmd_meta },
	};
	char label[64];
	size_t i;

	begin(sheet, COUNTER, "commands",
	    "Keys of gets, and other commands, as memcached counts them.");
	for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		put_name(sheet);
		print(sheet, "{command=\"%s\",result=\"%s\"} %llu\n",
		    counters[i].command, counters[i].result,
		    (unsigned long long)counters[i].number);
	}
	begin(sheet, HISTOGRAM, "command_duration_seconds",
	    "From when a command about keys is begun until it is answered.");
	for (i = 0; i < LATENCY_CLASSES; i++) {
		snprintf(label, sizeof(label), "command=\"%s\"",
		    stats_latency_name((enum latency_class)i));
		put_histogram(sheet, label, &stats->latency[i]);
	}
	put_single(sheet, COUNTER, "refused_lines",
	    "Lines that were no command, or not allowed.", stats->line_errors);
	put_single(sheet, COUNTER, "unserved_keys",
	    "Keys for which no server was up.", stats->no_server_errors);
}

/*
 * Both copies
 */

static void
put_copies(struct sheet *sheet)
{
	struct pairs *pairs = sheet->source->pairs;
	const struct pairs_counters *counters = pairs_counters(pairs);

	put_single(sheet, GAUGE, "uncovered_pairs",
	    "Pairs of servers of which none is up.", pairs_uncovered(pairs));
	put_single(sheet, COUNTER, "failovers",
	    "Times that a server was no longer trusted.", counters->failovers);
	put_single(sheet, COUNTER, "mirror_effects",
	    "Commands that make the mirror equal.", counters->effects);
	put_single(sheet, COUNTER, "mirror_divergence",
	    "Effects that did not have the result of their command.",
	    counters->mismatches);
	put_single(sheet, COUNTER, "mirror_repairs",
	    "Keys that were copied again for that reason.", counters->repairs);
	put_single(sheet, COUNTER, "keys_copied",
	    "Keys that were copied to a returned server.", counters->copied);
	put_single(sheet, COUNTER, "keys_overtaken",
	    "Keys that clients had written before they were copied.",
	    counters->overtaken);
}

static void
put_scrub(struct sheet *sheet)
{
	const struct scrub_counters *scrub =
	    &pairs_counters(sheet->source->pairs)->scrub;

	put_single(sheet, GAUGE, "scrub_running",
	    "1 while a pass is under way.", scrub->is_running);
	put_single(sheet, COUNTER, "scrub_keys_compared",
	    "Keys that were compared on both servers.", scrub->compared);
	put_single(sheet, COUNTER, "scrub_keys_different",
	    "Keys that were different.", scrub->different);
	put_single(sheet, COUNTER, "scrub_keys_repaired",
	    "Keys that were made equal.", scrub->repaired);
	put_single(sheet, COUNTER, "scrub_keys_only_on_mirror",
	    "Keys that only the mirror had.", scrub->only_on_mirror);
	put_single(sheet, COUNTER, "scrub_passes", "Passes that are done.",
	    scrub->passes);
	put_single(sheet, GAUGE, "scrub_last_pass_timestamp_seconds",
	    "When a pass ended that has left out nothing; 0: none has.",
	    scrub->last_pass);
}

/*
 * Servers
 */

/* Write the labels of a server, without braces: the path of a socket may have
   any character. */
static void
write_labels(char labels[LABELS_MAX], const struct peer *peer)
{
	static const char first[] = "server=\"";
	char *to = mempcpy(labels, first, sizeof(first) - 1);
	const char *end = labels + LABELS_MAX -
	    sizeof("\\n\",role=\"primary\"");
	const char *text;

	for (text = peer_name(peer); *text != '\0' && to < end; text++) {
		if (*text == '\n' || *text == '"' || *text == '\\')
			*to++ = '\\';
		*to++ = (char)(*text == '\n' ? 'n' : *text);
	}
	snprintf(to, (size_t)(labels + LABELS_MAX - to), "\",role=\"%s\"",
	    peer_role(peer));
}

/* The name of a sample of a server; more: labels behind those of the server. */
static void
put_labels(struct sheet *sheet, const struct peer *peer, const char *more)
{
	char labels[LABELS_MAX];

	write_labels(labels, peer);
	put_name(sheet);
	add_text(sheet, "{");
	add_text(sheet, labels);
	add_text(sheet, more);
	add_text(sheet, "}");
}

/* -1 stands for all keys. */
static int64_t
dirty_keys(const struct peer *peer)
{
	return dirty_is_all(peer->dirty) ?
	    -1 :
	    (int64_t)dirty_count(peer->dirty);
}

static void
put_backend_numbers(struct sheet *sheet, enum kind kind, const char *name,
    const char *help, int64_t (*number)(const struct peer *peer))
{
	struct pairs *pairs = sheet->source->pairs;
	const struct peer *peer;
	size_t i;

	begin(sheet, kind, name, help);
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		put_labels(sheet, peer, "");
		print(sheet, " %lld\n", (long long)number(peer));
	}
}

static int64_t
up_of(const struct peer *peer)
{
	return report_state(peer) == PEER_UP;
}

static int64_t
requests_of(const struct peer *peer)
{
	return (int64_t)server_counters(peer->server)->requests;
}

static int64_t
waiting_of(const struct peer *peer)
{
	return (int64_t)server_counters(peer->server)->waiting;
}

static int64_t
connects_of(const struct peer *peer)
{
	return (int64_t)server_counters(peer->server)->connects;
}

static int64_t
rebuild_left_of(const struct peer *peer)
{
	struct rebuild_progress progress;

	return recovery_progress(peer, &progress) ? (int64_t)progress.left : 0;
}

static void
put_key_shares(struct sheet *sheet)
{
	struct pairs *pairs = sheet->source->pairs;
	const struct peer *peer;
	size_t i;

	begin(sheet, GAUGE, "backend_key_share",
	    "Part of all keys that the server answers for now, 0 to 1.");
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		put_labels(sheet, peer, "");
		print(sheet, " %.6f\n",
		    share_of(sheet->source->shares, peer).answers);
	}
}

static void
put_states(struct sheet *sheet)
{
	struct pairs *pairs = sheet->source->pairs;
	char labels[LABELS_MAX];
	const struct peer *peer;
	enum peer_state state;
	size_t i;

	begin(sheet, GAUGE, "backend_state",
	    "1 for the state that the server is in.");
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		write_labels(labels, peer);
		for (state = PEER_DOWN; state <= PEER_UP; state++) {
			put_name(sheet);
			add_text(sheet, "{");
			add_text(sheet, labels);
			add_text(sheet, ",state=\"");
			add_text(sheet, peer_state_name(state));
			add_text(sheet, "\"}");
			put_value(sheet, report_state(peer) == state);
		}
	}
}

static void
put_errors(struct sheet *sheet)
{
	struct pairs *pairs = sheet->source->pairs;
	const struct server_counters *counters;
	const struct peer *peer;
	size_t i;

	begin(sheet, COUNTER, "backend_errors",
	    "Connections that have failed, and answers that were not in time.");
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		counters = server_counters(peer->server);
		put_labels(sheet, peer, ",reason=\"failure\"");
		put_value(sheet, counters->failures);
		put_labels(sheet, peer, ",reason=\"timeout\"");
		put_value(sheet, counters->timeouts);
	}
}

static int64_t
hits_of(const struct peer *peer)
{
	return (int64_t)peer->hits;
}

static int64_t
misses_of(const struct peer *peer)
{
	return (int64_t)peer->misses;
}

static void
put_reply_times(struct sheet *sheet)
{
	struct pairs *pairs = sheet->source->pairs;
	char labels[LABELS_MAX];
	const struct peer *peer;
	size_t i;

	begin(sheet, HISTOGRAM, "backend_request_duration_seconds",
	    "From sending a command to the server until its answer is read.");
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		write_labels(labels, peer);
		put_histogram(sheet, labels, server_reply_times(peer->server));
	}
}

static void
put_backends(struct sheet *sheet)
{
	put_backend_numbers(sheet, GAUGE, "backend_up",
	    "1 if the server is up and holds all that it should.", up_of);
	put_states(sheet);
	put_key_shares(sheet);
	put_backend_numbers(sheet, COUNTER, "backend_requests",
	    "Commands that the server was sent.", requests_of);
	put_errors(sheet);
	put_backend_numbers(sheet, COUNTER, "backend_connects",
	    "Times that the server was connected to.", connects_of);
	put_backend_numbers(sheet, GAUGE, "backend_waiting_requests",
	    "Commands that have no answer yet.", waiting_of);
	put_backend_numbers(sheet, GAUGE, "dirty_keys",
	    "Keys whose copy on the server may be old; -1: all of them.",
	    dirty_keys);
	put_backend_numbers(sheet, GAUGE, "backend_rebuild_left_keys",
	    "Keys that are to be copied to the server, as far as is known.",
	    rebuild_left_of);
	put_backend_numbers(sheet, COUNTER, "backend_hits",
	    "Keys that clients have read, and the server had.", hits_of);
	put_backend_numbers(sheet, COUNTER, "backend_misses",
	    "Keys that clients have asked for, and the server had not.",
	    misses_of);
	put_reply_times(sheet);
}

bool
metrics_write(struct evbuffer *out, const struct metrics_source *source,
    int64_t now_ms, bool is_open)
{
	struct sheet sheet = {
		.out = out,
		.source = source,
		.now_ms = now_ms,
		.is_open = is_open,
		.is_complete = true,
	};

	write_bounds(&sheet);
	put_process(&sheet);
	put_clients(&sheet);
	put_commands(&sheet);
	put_copies(&sheet);
	put_scrub(&sheet);
	put_backends(&sheet);
	if (is_open)
		print(&sheet, "# EOF\n");
	flush_pieces(&sheet);
	return sheet.is_complete;
}
