/*
 * Keep what was counted in each of the last 600 seconds.
 *
 *   counters - last  ->  a sample, each second
 *   counters - edges ->  the numbers of now, which do not jump
 *
 * Invariant: all memory is taken at the start: for each of HISTORY_SERVERS
 * servers, and for magent, 600 samples of 28 bytes and less than a kilobyte
 * besides; so with 64 servers some 1.1 MB.  The n-th sample is at
 * n % HISTORY_SECONDS.  If this process has stood still for some seconds, what
 * was counted is spread over their samples.
 */

#include "client/history.h"

#include <assert.h>
#include <stdlib.h>

#include "client/report.h"
#include "client/stats.h"
#include "histogram.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "server/server.h"

enum {
	/* From one edge to the next. */
	EDGE_SECONDS = 10,
};

/* The counters at one moment. */
struct tallies {
	uint64_t requests, hits, misses;
	struct histogram times;
};

/* What is kept of magent, or of a server. */
struct track {
	/* At the last sample. */
	struct tallies last;
	/* At the last multiple of EDGE_SECONDS, and at the one before. */
	struct tallies edges[2];
	/* HISTORY_SECONDS of them, owned; NULL: none are kept. */
	struct history_sample *samples;
};

struct history {
	const struct stats *stats; /* borrowed */
	struct pairs *pairs;       /* borrowed */
	int64_t sampled_ms;        /* when the last sample was due; 0: begin */
	uint64_t count;            /* samples since the start */
	uint64_t edge_counts[2];   /* count at the edges */
	/* Keys that the scrub has found in each second, and before. */
	uint32_t differences[HISTORY_SECONDS];
	uint64_t different;
	struct history_sample *samples; /* owned: those of all tracks */
	/* The first one is of magent, the others are of the peers. */
	struct track tracks[];
};

/* What a counter has grown by; it may have been reset. */
static uint64_t
growth(uint64_t now, uint64_t before)
{
	return now >= before ? now - before : now;
}

static struct tallies
tallies_of_magent(const struct stats *stats)
{
	struct tallies now = {
		.requests = report_commands(stats),
		.hits = stats->get_hits,
		.misses = stats->get_misses,
	};
	size_t i, j;

	for (i = 0; i < LATENCY_CLASSES; i++) {
		for (j = 0; j < HISTOGRAM_BUCKETS; j++)
			now.times.counts[j] += stats->latency[i].counts[j];
		now.times.sum_us += stats->latency[i].sum_us;
	}
	return now;
}

static struct tallies
tallies_of_server(const struct peer *peer)
{
	return (struct tallies){
		.requests = server_counters(peer->server)->requests,
		.hits = peer->hits,
		.misses = peer->misses,
		.times = *server_reply_times(peer->server),
	};
}

/*
 * Samples
 */

/* Take samples of so many seconds. */
static void
take_samples(const struct history *history, struct track *track,
    const struct tallies *now, struct history_sample sample, unsigned int n)
{
	struct histogram times = histogram_since(&now->times,
	    &track->last.times);
	unsigned int i;

	sample.requests =
	    (uint32_t)(growth(now->requests, track->last.requests) / n);
	sample.hits = (uint32_t)(growth(now->hits, track->last.hits) / n);
	sample.misses = (uint32_t)(growth(now->misses, track->last.misses) / n);
	sample.p50_us = histogram_quantile(&times, 500);
	sample.p99_us = histogram_quantile(&times, 990);
	track->last = *now;
	for (i = 0; i < n && track->samples != NULL; i++)
		track->samples[(history->count + i) % HISTORY_SECONDS] = sample;
}

static void
sample_magent(struct history *history, unsigned int n)
{
	uint64_t different = pairs_counters(history->pairs)->scrub.different;
	struct tallies now = tallies_of_magent(history->stats);
	struct history_sample sample = { .open = history->stats->connections };
	unsigned int i;

	take_samples(history, &history->tracks[0], &now, sample, n);
	for (i = 0; i < n; i++)
		history->differences[(history->count + i) % HISTORY_SECONDS] =
		    i > 0 ? 0 : (uint32_t)(different - history->different);
	history->different = different;
}

static void
sample_server(struct history *history, const struct peer *peer, unsigned int n)
{
	struct tallies now = tallies_of_server(peer);
	struct history_sample sample = {
		.open = (uint32_t)server_counters(peer->server)->waiting,
		.state = (uint8_t)report_state(peer),
	};

	take_samples(history, &history->tracks[1 + peer->index], &now, sample,
	    n);
}

/* Some samples were taken: is an edge among them? */
static void
note_edge(struct history *history, uint64_t count_before)
{
	struct track *track;
	size_t i;

	if (count_before / EDGE_SECONDS == history->count / EDGE_SECONDS)
		return;
	history->edge_counts[1] = history->edge_counts[0];
	history->edge_counts[0] = history->count;
	for (i = 0; i <= pairs_peer_count(history->pairs); i++) {
		track = &history->tracks[i];
		track->edges[1] = track->edges[0];
		track->edges[0] = track->last;
	}
}

static void
begin_track(struct track *track, struct tallies now)
{
	track->last = track->edges[0] = track->edges[1] = now;
}

/* The counters may be those of a program before. */
static void
begin_history(struct history *history, int64_t now_ms)
{
	struct pairs *pairs = history->pairs;
	size_t i;

	history->sampled_ms = now_ms;
	history->different = pairs_counters(pairs)->scrub.different;
	begin_track(&history->tracks[0], tallies_of_magent(history->stats));
	for (i = 0; i < pairs_peer_count(pairs); i++)
		begin_track(&history->tracks[1 + i],
		    tallies_of_server(pairs_peer(pairs, i)));
}

void
history_tick(struct history *history, int64_t now_ms)
{
	int64_t due = (now_ms - history->sampled_ms) / 1000;
	unsigned int n = due < HISTORY_SECONDS ?
	    (unsigned int)due :
	    HISTORY_SECONDS;
	size_t i;

	if (history->sampled_ms == 0)
		begin_history(history, now_ms);
	if (due <= 0 || history->sampled_ms == now_ms)
		return;
	history->sampled_ms += due * 1000;
	sample_magent(history, n);
	for (i = 0; i < pairs_peer_count(history->pairs); i++)
		sample_server(history, pairs_peer(history->pairs, i), n);
	history->count += n;
	note_edge(history, history->count - n);
}

/*
 * Looks
 */

size_t
history_length(const struct history *history)
{
	return history->count < HISTORY_SECONDS ?
	    (size_t)history->count :
	    HISTORY_SECONDS;
}

uint64_t
history_first(const struct history *history)
{
	return history->count - history_length(history);
}

static const struct track *
track_of(const struct history *history, const struct peer *peer)
{
	return &history->tracks[peer == NULL ? 0 : 1 + peer->index];
}

const struct history_sample *
history_sample(const struct history *history, const struct peer *peer, size_t i)
{
	const struct track *track = track_of(history, peer);

	assert(i < history_length(history));
	if (track->samples == NULL)
		return NULL;
	return &track->samples[(history_first(history) + i) % HISTORY_SECONDS];
}

struct history_rates
history_rates(const struct history *history, const struct peer *peer)
{
	const struct track *track = track_of(history, peer);
	const struct tallies *now = &track->last, *before = &track->edges[1];
	struct histogram times = histogram_since(&now->times, &before->times);
	uint64_t seconds = history->count - history->edge_counts[1];

	return (struct history_rates){
		.requests = seconds == 0 ?
		    0 :
		    (double)growth(now->requests, before->requests) /
			(double)seconds,
		.hits = growth(now->hits, before->hits),
		.misses = growth(now->misses, before->misses),
		.p50_us = histogram_quantile(&times, 500),
		.p99_us = histogram_quantile(&times, 990),
	};
}

uint64_t
history_differences(const struct history *history)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < HISTORY_SECONDS; i++)
		sum += history->differences[i];
	return sum;
}

/*
 * Life
 */

struct history *
history_new(const struct stats *stats, struct pairs *pairs)
{
	size_t peers = pairs_peer_count(pairs), i;
	size_t tracks = 1 + (peers < HISTORY_SERVERS ? peers : HISTORY_SERVERS);
	struct history *history = calloc(1,
	    sizeof(*history) + (1 + peers) * sizeof(history->tracks[0]));

	if (history == NULL)
		return NULL;
	history->samples = calloc(tracks * HISTORY_SECONDS,
	    sizeof(*history->samples));
	if (history->samples == NULL) {
		free(history);
		return NULL;
	}
	history->stats = stats;
	history->pairs = pairs;
	for (i = 0; i < tracks; i++)
		history->tracks[i].samples = history->samples +
		    i * HISTORY_SECONDS;
	return history;
}

void
history_free(struct history *history)
{
	if (history == NULL)
		return;
	free(history->samples);
	free(history);
}
