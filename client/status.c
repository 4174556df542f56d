/*
 * Write what the page of magent shows, as JSON.
 *
 *   verdict.c   what is to be said, the first one on top
 *   history.c   the last ten minutes
 *   usage.c     memory of the servers, while somebody looks
 *   pair.c      the ring
 *   log.c       the last lines of the log
 *
 * Invariant: a server is named by its place in "servers", which does not change
 * while magent runs.  A number that is not known is null.
 */

#include "client/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "block.h"
#include "client/history.h"
#include "client/json.h"
#include "client/metrics.h"
#include "client/progress.h"
#include "client/report.h"
#include "client/share.h"
#include "client/stats.h"
#include "client/usage.h"
#include "client/verdict.h"
#include "log.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

enum {
	/* Seconds of one number in the chart of a server. */
	CHART_SECONDS = 5,
};

struct status {
	struct metrics_source source;
	struct usage *usage;     /* borrowed */
	struct history *history; /* owned */
	double *shares;          /* owned: of pairs_measure() */
};

/* What is written once. */
struct sheet_of_status {
	const struct status *status;
	struct pairs *pairs;
	int64_t now_ms;
	struct json json;
};

static void
put_named(struct sheet_of_status *sheet, const char *name, uint64_t number)
{
	json_name(&sheet->json, name);
	json_number(&sheet->json, (int64_t)number);
}

static void
put_named_text(struct sheet_of_status *sheet, const char *name,
    const char *text)
{
	json_name(&sheet->json, name);
	json_text(&sheet->json, text);
}

static void
put_named_fraction(struct sheet_of_status *sheet, const char *name,
    double fraction)
{
	json_name(&sheet->json, name);
	json_fraction(&sheet->json, fraction);
}

static void
put_named_null(struct sheet_of_status *sheet, const char *name)
{
	json_name(&sheet->json, name);
	json_null(&sheet->json);
}

/* 0 is null. */
static void
put_time(struct sheet_of_status *sheet, const char *name, uint64_t us)
{
	if (us > 0)
		put_named(sheet, name, us);
	else
		put_named_null(sheet, name);
}

/* Of magent, or of a server. */
static void
put_rates(struct sheet_of_status *sheet, const struct peer *peer)
{
	struct history_rates rates = history_rates(sheet->status->history,
	    peer);
	uint64_t reads = rates.hits + rates.misses;

	put_named_fraction(sheet, "requests_per_second", rates.requests);
	if (reads > 0)
		put_named_fraction(sheet, "hit_rate",
		    (double)rates.hits / (double)reads);
	else
		put_named_null(sheet, "hit_rate");
	put_time(sheet, "p50_us", rates.p50_us);
	put_time(sheet, "p99_us", rates.p99_us);
}

static void
put_progress(struct sheet_of_status *sheet, const struct progress *progress)
{
	put_named(sheet, "keys_done", progress->done);
	if (progress->all > 0)
		put_named(sheet, "keys", progress->all);
	else
		put_named_null(sheet, "keys");
	json_name(&sheet->json, "is_estimate");
	json_bool(&sheet->json, progress->is_about);
	put_named(sheet, "keys_per_second", progress->per_second);
	if (progress->seconds >= 0)
		put_named(sheet, "seconds_left", (uint64_t)progress->seconds);
	else
		put_named_null(sheet, "seconds_left");
}

/*
 * On top
 */

static void
put_verdicts(struct sheet_of_status *sheet)
{
	const struct status *status = sheet->status;
	const struct verdict_source source = {
		.metrics = &status->source,
		.shares = status->shares,
		.usage = status->usage,
		.history = status->history,
		.now_ms = sheet->now_ms,
	};
	struct verdict verdicts[VERDICTS_MAX];
	size_t n = verdicts_find(&source, verdicts), i;

	json_name(&sheet->json, "verdicts");
	json_open(&sheet->json, '[');
	for (i = 0; i < n; i++) {
		json_open(&sheet->json, '{');
		put_named_text(sheet, "level",
		    verdict_level_name(verdicts[i].level));
		put_named_text(sheet, "text", verdicts[i].text);
		put_named_text(sheet, "to_do", verdicts[i].to_do);
		json_close(&sheet->json, '}');
	}
	json_close(&sheet->json, ']');
}

static void
put_magent(struct sheet_of_status *sheet)
{
	const struct metrics_source *source = &sheet->status->source;
	const struct report_settings *settings = source->settings;

	put_named_text(sheet, "version", MAGENT_VERSION);
	put_named(sheet, "time", (uint64_t)time(NULL));
	put_named(sheet, "uptime",
	    (uint64_t)(sheet->now_ms - settings->started_ms) / 1000);
	put_rates(sheet, NULL);
	put_named(sheet, "clients", source->stats->connections);
	put_named(sheet, "clients_limit", settings->max_clients);
	put_named(sheet, "buffer_bytes", block_total());
	put_named(sheet, "buffer_limit_bytes", settings->memory_limit);
	put_named(sheet, "uncovered_pairs", pairs_uncovered(sheet->pairs));
}

/*
 * Servers
 */

static void
put_usage(struct sheet_of_status *sheet, const struct peer *peer)
{
	const struct usage_of_server *usage = usage_of(sheet->status->usage,
	    peer);

	json_name(&sheet->json, "memory");
	if (usage == NULL) {
		json_null(&sheet->json);
		return;
	}
	json_open(&sheet->json, '{');
	put_named(sheet, "bytes", usage->bytes);
	put_named(sheet, "limit_bytes", usage->limit);
	put_named(sheet, "items", usage->items);
	put_named(sheet, "evictions", usage->evictions);
	put_named_fraction(sheet, "evictions_per_second", usage->evicts);
	json_close(&sheet->json, '}');
}

static void
put_rebuild(struct sheet_of_status *sheet, const struct peer *peer)
{
	struct progress progress;

	json_name(&sheet->json, "rebuild");
	if (!progress_of_rebuild(sheet->pairs, sheet->status->shares,
		sheet->status->usage, peer, &progress)) {
		json_null(&sheet->json);
		return;
	}
	json_open(&sheet->json, '{');
	put_progress(sheet, &progress);
	json_close(&sheet->json, '}');
}

/* Requests per second, a number for each CHART_SECONDS, of which those on both
   ends may have fewer. */
static void
put_chart(struct sheet_of_status *sheet, const struct peer *peer)
{
	const struct history *history = sheet->status->history;
	size_t n = history_length(history), i = 0;
	const struct history_sample *sample;
	uint64_t sum, count;

	if (n > 0 && history_sample(history, peer, 0) == NULL)
		n = 0;
	json_name(&sheet->json, "chart");
	json_open(&sheet->json, '[');
	while (i < n) {
		sum = count = 0;
		do {
			sample = history_sample(history, peer, i++);
			sum += sample->requests;
			count++;
		} while (i < n &&
		    (history_first(history) + i) % CHART_SECONDS != 0);
		json_number(&sheet->json, (int64_t)((sum + count / 2) / count));
	}
	json_close(&sheet->json, ']');
}

static void
put_server_card(struct sheet_of_status *sheet, const struct peer *peer)
{
	const struct server_counters *counters = server_counters(peer->server);
	const unsigned int *version = peer->identity.version;
	struct share share = share_of(sheet->status->shares, peer);
	char text[40];

	json_open(&sheet->json, '{');
	put_named_text(sheet, "name", peer_name(peer));
	put_named_text(sheet, "role", peer_role(peer));
	put_named_text(sheet, "state", peer_state_name(report_state(peer)));
	put_named(sheet, "seconds_in_state",
	    (uint64_t)(sheet->now_ms - peer->changed_ms) / 1000);
	snprintf(text, sizeof(text), "%u.%u.%u", version[0], version[1],
	    version[2]);
	put_named_text(sheet, "version", text);
	put_named_fraction(sheet, "primary_part", share.primary);
	put_named_fraction(sheet, "backup_part", share.backup);
	put_named_fraction(sheet, "answers_part", share.answers);
	put_rates(sheet, peer);
	put_named(sheet, "waiting", counters->waiting);
	put_named(sheet, "connects", counters->connects);
	put_named(sheet, "failures", counters->failures);
	put_named(sheet, "timeouts", counters->timeouts);
	if (dirty_is_all(peer->dirty))
		put_named_null(sheet, "dirty_keys");
	else
		put_named(sheet, "dirty_keys", dirty_count(peer->dirty));
	put_usage(sheet, peer);
	put_rebuild(sheet, peer);
	put_chart(sheet, peer);
	json_close(&sheet->json, '}');
}

static void
put_servers(struct sheet_of_status *sheet)
{
	size_t i;

	json_name(&sheet->json, "servers");
	json_open(&sheet->json, '[');
	for (i = 0; i < pairs_peer_count(sheet->pairs); i++)
		put_server_card(sheet, pairs_peer(sheet->pairs, i));
	json_close(&sheet->json, ']');
}

/* Of the keys of one primary: the part for which it answers itself, that for
   which its backups do, and that for which nobody does. */
static void
put_arc(struct sheet_of_status *sheet, size_t primary)
{
	size_t n = pairs_peer_count(sheet->pairs), i;
	double own = 0, backups = 0, nobody = 0, share;
	const struct peer *peer;

	for (i = 0; i < n; i++) {
		share = sheet->status->shares[primary * n + i];
		peer = share_answered_by(sheet->pairs, primary, i);
		if (peer == NULL)
			nobody += share;
		else if (peer->index == primary)
			own += share;
		else
			backups += share;
	}
	if (own + backups + nobody == 0)
		return;
	json_open(&sheet->json, '{');
	put_named(sheet, "primary", primary);
	put_named_fraction(sheet, "own", own);
	put_named_fraction(sheet, "backups", backups);
	put_named_fraction(sheet, "nobody", nobody);
	json_close(&sheet->json, '}');
}

static void
put_ring(struct sheet_of_status *sheet)
{
	size_t i;

	put_named_text(sheet, "ring_kind",
	    sheet->status->source.settings->ring);
	json_name(&sheet->json, "ring");
	json_open(&sheet->json, '[');
	for (i = 0; i < pairs_peer_count(sheet->pairs); i++)
		put_arc(sheet, i);
	json_close(&sheet->json, ']');
}

static void
put_scrub_pass(struct sheet_of_status *sheet)
{
	const struct scrub_counters *scrub =
	    &pairs_counters(sheet->pairs)->scrub;
	struct progress progress;

	json_name(&sheet->json, "scrub");
	json_open(&sheet->json, '{');
	put_named(sheet, "passes", scrub->passes);
	put_named(sheet, "keys_compared", scrub->compared);
	put_named(sheet, "keys_different", scrub->different);
	put_named(sheet, "keys_repaired", scrub->repaired);
	if (scrub->last_pass > 0)
		put_named(sheet, "last_pass", scrub->last_pass);
	else
		put_named_null(sheet, "last_pass");
	json_name(&sheet->json, "pass");
	if (progress_of_scrub(sheet->pairs, sheet->status->usage, sheet->now_ms,
		&progress)) {
		json_open(&sheet->json, '{');
		put_progress(sheet, &progress);
		json_close(&sheet->json, '}');
	} else {
		json_null(&sheet->json);
	}
	json_close(&sheet->json, '}');
}

/*
 * The last ten minutes, and the log
 */

static uint32_t
requests_in(const struct history_sample *sample)
{
	return sample->requests;
}

static uint32_t
hits_in(const struct history_sample *sample)
{
	return sample->hits;
}

static uint32_t
misses_in(const struct history_sample *sample)
{
	return sample->misses;
}

static uint32_t
p50_in(const struct history_sample *sample)
{
	return sample->p50_us;
}

static uint32_t
p99_in(const struct history_sample *sample)
{
	return sample->p99_us;
}

static uint32_t
clients_in(const struct history_sample *sample)
{
	return sample->open;
}

/* All samples of magent, the oldest first. */
static void
put_history(struct sheet_of_status *sheet)
{
	static const struct {
		const char *name;
		uint32_t (*number)(const struct history_sample *sample);
	} charts[] = {
		{ "requests", requests_in },
		{ "hits", hits_in },
		{ "misses", misses_in },
		{ "p50_us", p50_in },
		{ "p99_us", p99_in },
		{ "clients", clients_in },
	};
	const struct history *history = sheet->status->history;
	size_t i, j;

	json_name(&sheet->json, "history");
	json_open(&sheet->json, '{');
	put_named(sheet, "seconds", HISTORY_SECONDS);
	put_named(sheet, "chart_seconds", CHART_SECONDS);
	put_named(sheet, "first", history_first(history));
	for (i = 0; i < sizeof(charts) / sizeof(charts[0]); i++) {
		json_name(&sheet->json, charts[i].name);
		json_open(&sheet->json, '[');
		for (j = 0; j < history_length(history); j++)
			json_number(&sheet->json,
			    charts[i].number(history_sample(history, NULL, j)));
		json_close(&sheet->json, ']');
	}
	json_close(&sheet->json, '}');
}

/* The last lines of the log, the newest first. */
static void
put_log(struct sheet_of_status *sheet)
{
	static const char *const levels[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
	};
	const struct log_kept *line;
	size_t i;

	json_name(&sheet->json, "log");
	json_open(&sheet->json, '[');
	for (i = 0; (line = log_kept(i)) != NULL; i++) {
		json_open(&sheet->json, '{');
		put_named(sheet, "time", (uint64_t)line->at);
		put_named_text(sheet, "level", levels[line->level]);
		put_named_text(sheet, "text", line->text);
		json_close(&sheet->json, '}');
	}
	json_close(&sheet->json, ']');
}

bool
status_write(const struct status *status, struct evbuffer *out, int64_t now_ms)
{
	struct sheet_of_status sheet = {
		.status = status,
		.pairs = status->source.pairs,
		.now_ms = now_ms,
	};

	json_begin(&sheet.json, out);
	json_open(&sheet.json, '{');
	put_verdicts(&sheet);
	put_magent(&sheet);
	put_servers(&sheet);
	put_ring(&sheet);
	put_scrub_pass(&sheet);
	put_history(&sheet);
	put_log(&sheet);
	json_close(&sheet.json, '}');
	return json_end(&sheet.json);
}

/*
 * Life
 */

void
status_tick(struct status *status, int64_t now_ms)
{
	history_tick(status->history, now_ms);
	usage_tick(status->usage, now_ms);
}

void
status_want(struct status *status, int64_t now_ms)
{
	usage_want(status->usage, now_ms);
}

struct status *
status_new(const struct metrics_source *source, struct usage *usage)
{
	size_t n = pairs_peer_count(source->pairs);
	struct status *status = calloc(1, sizeof(*status));

	if (status == NULL)
		return NULL;
	status->source = *source;
	status->usage = usage;
	status->history = history_new(source->stats, source->pairs);
	status->shares = calloc(n * n, sizeof(*status->shares));
	if (status->history == NULL || status->shares == NULL) {
		status_free(status);
		return NULL;
	}
	pairs_measure(source->pairs, status->shares);
	log_keep();
	return status;
}

const double *
status_shares(const struct status *status)
{
	return status->shares;
}

void
status_free(struct status *status)
{
	if (status == NULL)
		return;
	history_free(status->history);
	free(status->shares);
	free(status);
}
