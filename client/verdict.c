/*
 * Say in sentences whether all is well, or what is not, and what to do.
 *
 * What comes first is what matters most:
 *
 *	1. keys that no server is up for
 *	2. a server that is down
 *	3. a server that is on its way back, or is being filled; and copies that
 *	   are compared because a magent has not ended well
 *	4. keys that the scrub has found to be different, in ten minutes
 *	5. memory: the buffers are near -m
 *	6. clients: there are nearly -n
 *	7. magent starts, or was told to stop
 *
 * All is well if nothing of this is so.
 *
 * Invariant: what is to be done is what doc/operations.md says under "What to
 * do when ...".
 */

#include "client/verdict.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "client/history.h"
#include "client/metrics.h"
#include "client/progress.h"
#include "client/report.h"
#include "client/stats.h"
#include "mirror/pair.h"
#include "mirror/peer.h"

enum {
	NAMES_SHOWN = 3, /* servers that are named; others are counted */
	NAMES_BYTES = 320,
	/* Per cent of a limit that are near it. */
	MEMORY_NEAR = 80,
	CLIENTS_NEAR = 90,
};

/* The verdicts that are being found. */
struct findings {
	const struct verdict_source *source;
	struct verdict *verdicts; /* borrowed */
	size_t count;
	/* Of the servers that were listed last. */
	char names[NAMES_BYTES];
	size_t name_count;
	size_t last_at; /* where what separates the last one begins */
};

static void phrase(char text[VERDICT_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
phrase(char text[VERDICT_BYTES], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, VERDICT_BYTES, format, arguments);
	va_end(arguments);
}

/* A further verdict, whose texts are empty. */
static struct verdict *
add_verdict(struct findings *findings, enum verdict_level level)
{
	struct verdict *verdict = &findings->verdicts[findings->count++];

	assert(findings->count <= VERDICTS_MAX);
	verdict->level = level;
	verdict->text[0] = verdict->to_do[0] = '\0';
	return verdict;
}

/*
 * Servers
 */

static struct pairs *
pairs_judged(const struct findings *findings)
{
	return findings->source->metrics->pairs;
}

/* Add a name to the list; a long one, of a socket, is cut. */
static void
add_name(struct findings *findings, const struct peer *peer)
{
	size_t n = findings->name_count++, length = strlen(findings->names);

	if (n >= NAMES_SHOWN)
		return;
	findings->last_at = length;
	snprintf(findings->names + length, sizeof(findings->names) - length,
	    "%s%.80s", n == 0 ? "" : ", ", peer_name(peer));
}

/* Have "and" in the place of the last comma, or behind the last name. */
static void
end_names(struct findings *findings)
{
	char *last = findings->names + findings->last_at;
	size_t n = findings->name_count;
	char name[NAMES_BYTES];

	if (n > NAMES_SHOWN) {
		last = findings->names + strlen(findings->names);
		snprintf(last,
		    sizeof(findings->names) - (size_t)(last - findings->names),
		    " and %zu others", n - NAMES_SHOWN);
	} else if (n > 1) {
		snprintf(name, sizeof(name), "%s", last + strlen(", "));
		snprintf(last, sizeof(findings->names) - findings->last_at,
		    " and %s", name);
	}
}

/* List the servers that are meant.  Returns how many. */
static size_t
list_servers(struct findings *findings, bool (*is_meant)(const struct peer *))
{
	struct pairs *pairs = pairs_judged(findings);
	size_t i;

	findings->names[0] = '\0';
	findings->name_count = findings->last_at = 0;
	for (i = 0; i < pairs_peer_count(pairs); i++)
		if (is_meant(pairs_peer(pairs, i)))
			add_name(findings, pairs_peer(pairs, i));
	end_names(findings);
	return findings->name_count;
}

/* "is" or "are", as many as were listed. */
static const char *
are(const struct findings *findings)
{
	return findings->name_count == 1 ? "is" : "are";
}

/* Who answers in place of those that were listed: they have partners. */
static const char *
partners(const struct findings *findings)
{
	return findings->name_count == 1 &&
		pairs_peer_count(pairs_judged(findings)) == 2 ?
	    "its partner answers" :
	    findings->name_count == 1 ?
	    "its partners answer" :
	    "their partners answer";
}

static bool
is_any(const struct peer *peer)
{
	(void)peer;
	return true;
}

static bool
is_mirror_not(const struct peer *peer)
{
	return !peer_is_mirror(peer);
}

static bool
is_uncovered(const struct peer *peer)
{
	return peer->is_uncovered;
}

static bool
is_down(const struct peer *peer)
{
	return peer->state == PEER_DOWN && !peer->is_uncovered;
}

static bool
is_coming_back(const struct peer *peer)
{
	return !peer_is_mirror(peer) && peer->state != PEER_DOWN &&
	    !peer->is_uncovered;
}

static bool
is_filled(const struct peer *peer)
{
	return peer->state == PEER_REBUILD || peer->state == PEER_HANDBACK;
}

static bool
is_unproved(const struct peer *peer)
{
	return report_state(peer) != peer->state;
}

/*
 * Parts and times
 */

/* The part of all keys that nobody answers for. */
static double
uncovered_part(const struct findings *findings)
{
	struct pairs *pairs = pairs_judged(findings);
	size_t n = pairs_peer_count(pairs), i, j;
	double part = 0;

	for (i = 0; i < n; i++)
		for (j = 0; j < n && !peer_is_mirror(pairs_peer(pairs, i)); j++)
			if (!peer_is_mirror(pairs_peer(pairs, j)))
				part += findings->source->shares[i * n + j];
	return part;
}

/* The part of all keys that have one server. */
static double
single_part(const struct findings *findings)
{
	size_t n = pairs_peer_count(pairs_judged(findings)), i;
	double part = 0;

	for (i = 0; i < n; i++)
		part += findings->source->shares[i * n + i];
	return part;
}

/* A part in words; text has room for 32 bytes. */
static const char *
per_cent(double part, char text[32])
{
	if (part < 0.01)
		return "less than 1 %";
	snprintf(text, 32, "%.0f %%", part > 0.99 ? 99 : part * 100);
	return text;
}

/* How far something is, as the end of a sentence; text has room for 96
   bytes. */
static const char *
how_far(const struct progress *progress, char text[96])
{
	char time[48] = "";

	text[0] = '\0';
	if (progress->all == 0)
		return text;
	if (progress->seconds >= 120)
		snprintf(time, sizeof(time), ", about %lld min left",
		    (long long)(progress->seconds + 59) / 60);
	else if (progress->seconds >= 0)
		snprintf(time, sizeof(time), ", about %lld s left",
		    (long long)progress->seconds);
	snprintf(text, 96, ": %.0f %% done%s",
	    (double)progress->done * 100 / (double)progress->all, time);
	return text;
}

/*
 * The rules, in their order
 */

static void
say_all_down(struct findings *findings)
{
	bool is_error = findings->source->metrics->settings->error_on_down;
	struct verdict *verdict = add_verdict(findings, VERDICT_BAD);

	if (list_servers(findings, is_any) == 1)
		phrase(verdict->text,
		    "%s is down, and there is no other server: ",
		    findings->names);
	else
		phrase(verdict->text,
		    "All %zu servers are down: ", findings->name_count);
	strncat(verdict->text,
	    is_error ? "each read and each write is an error." :
		       "each read is a miss, and each write is an error.",
	    sizeof(verdict->text) - strlen(verdict->text) - 1);
	phrase(verdict->to_do,
	    "If the memcacheds run, look at the network of magent's own host. "
	    "Otherwise start them: first those that only hang or are cut off, "
	    "because they still have their items. Do not restart magent.");
}

static void
say_uncovered(struct findings *findings)
{
	bool is_error = findings->source->metrics->settings->error_on_down;
	struct verdict *verdict;
	char part[32];

	if (pairs_uncovered(pairs_judged(findings)) == 0)
		return;
	if (list_servers(findings, is_mirror_not) ==
	    pairs_peer_count(pairs_judged(findings))) {
		say_all_down(findings);
		return;
	}
	verdict = add_verdict(findings, VERDICT_BAD);
	list_servers(findings, is_uncovered);
	phrase(verdict->text,
	    "No server is up for %s of the keys, because %s %s down: their "
	    "reads are %s, and their writes are errors.",
	    per_cent(uncovered_part(findings), part), findings->names,
	    are(findings), is_error ? "errors" : "misses");
	phrase(verdict->to_do,
	    findings->name_count == 1 ?
		"Start it again if it has ended. If it runs, look at its host, "
		"and at the network between. Do not restart magent." :
		"First get the one back that still has its items, because it "
		"only hangs or is cut off. If all have ended, start any of "
		"them. Do not restart magent.");
}

static void
say_down(struct findings *findings)
{
	struct verdict *verdict;

	if (list_servers(findings, is_down) == 0)
		return;
	verdict = add_verdict(findings, VERDICT_WARNING);
	phrase(verdict->text, "%s %s down; %s.", findings->names, are(findings),
	    partners(findings));
	phrase(verdict->to_do,
	    "Start %s again: magent finds %s within 5 seconds and fills %s. "
	    "If the memcached runs, look at its host, and at the network "
	    "between. Do not restart magent.",
	    findings->name_count == 1 ? "it" : "them",
	    findings->name_count == 1 ? "it" : "them",
	    findings->name_count == 1 ? "it" : "them");
}

static void
say_returning(struct findings *findings)
{
	struct verdict *verdict;

	if (list_servers(findings, is_coming_back) == 0)
		return;
	verdict = add_verdict(findings, VERDICT_BUSY);
	phrase(verdict->text,
	    "%s %s back, and magent finds out what was missed; %s.",
	    findings->names, are(findings), partners(findings));
	phrase(verdict->to_do, "Nothing is to be done.");
}

/* It is being filled by some partner, and answers itself for what is of others
   that are away. */
static bool
is_filled_alone(const struct peer *peer)
{
	const struct peer *partner;
	size_t i;

	for (i = 0; is_filled(peer) && i < pairs_peer_count(peer->pairs); i++) {
		partner = pairs_partner(peer, i);
		if (partner != NULL && !peer_is_trusted(partner))
			return true;
	}
	return false;
}

/* What the slowest of the servers that are being filled has left. */
static struct progress
progress_of_all(const struct findings *findings)
{
	const struct verdict_source *source = findings->source;
	struct progress slowest = { .all = 0 }, one;
	struct pairs *pairs = pairs_judged(findings);
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++)
		if (progress_of_rebuild(pairs, source->shares, source->usage,
			pairs_peer(pairs, i), &one) &&
		    (slowest.all == 0 ||
			one.all - one.done > slowest.all - slowest.done))
			slowest = one;
	return slowest;
}

static void
say_filled(struct findings *findings)
{
	struct progress progress;
	struct verdict *verdict;
	char text[96];
	bool is_alone = list_servers(findings, is_filled_alone) > 0;

	if (list_servers(findings, is_filled) == 0)
		return;
	verdict = add_verdict(findings, VERDICT_BUSY);
	progress = progress_of_all(findings);
	phrase(verdict->text, "%s %s back, and %s being filled%s; %s.",
	    findings->names, are(findings), are(findings),
	    how_far(&progress, text),
	    is_alone ? "what it had of partners that are down is missing" :
		       partners(findings));
	phrase(verdict->to_do,
	    "Nothing is to be done. It is all well again when the copies are "
	    "there.");
}

static void
say_unproved(struct findings *findings)
{
	struct progress progress = { .all = 0 };
	struct verdict *verdict;
	char text[96];

	if (list_servers(findings, is_unproved) == 0)
		return;
	progress_of_scrub(pairs_judged(findings), findings->source->usage,
	    findings->source->now_ms, &progress);
	verdict = add_verdict(findings, VERDICT_BUSY);
	phrase(verdict->text,
	    "A magent has not ended well, so the copies of all keys are being "
	    "compared%s.",
	    how_far(&progress, text));
	phrase(verdict->to_do,
	    "Nothing is to be done now. End magent with TERM, and not with "
	    "KILL.");
}

static void
say_differences(struct findings *findings)
{
	uint64_t keys = history_differences(findings->source->history);
	struct verdict *verdict;

	if (keys == 0)
		return;
	verdict = add_verdict(findings, VERDICT_WARNING);
	phrase(verdict->text,
	    "The scrub has found %llu %s in the last ten minutes, which it "
	    "mends.",
	    (unsigned long long)keys,
	    keys == 1 ? "key that was different on its two servers" :
			"keys that were different on their two servers");
	phrase(verdict->to_do,
	    "Find out who writes to a memcached past magent, or through two "
	    "magents at once; or whether a magent was killed.");
}

static void
say_memory(struct findings *findings)
{
	size_t limit = findings->source->metrics->settings->memory_limit;
	size_t held = block_total();
	struct verdict *verdict;

	if (held < limit / 100 * MEMORY_NEAR)
		return;
	verdict = add_verdict(findings, VERDICT_WARNING);
	phrase(verdict->text,
	    "The buffers hold %zu %% of what -m allows: clients wait for "
	    "memory.",
	    held / (limit / 100 + 1));
	phrase(verdict->to_do,
	    "In the answer to \"stats conns\" find the clients with a large "
	    "backlog: they ask for much and do not read. Or raise -m.");
}

static void
say_clients(struct findings *findings)
{
	unsigned int most = findings->source->metrics->settings->max_clients;
	unsigned int there = findings->source->metrics->stats->connections;
	struct verdict *verdict;

	if (there < (uint64_t)most * CLIENTS_NEAR / 100)
		return;
	verdict = add_verdict(findings, VERDICT_WARNING);
	phrase(verdict->text,
	    "%u clients are connected, and there may be %u: further ones are "
	    "refused.",
	    there, most);
	phrase(verdict->to_do,
	    "\"stats conns\" shows who they are: find the application that "
	    "opens connections and does not close them. Or raise -n, when no "
	    "server is down.");
}

static void
say_start_or_stop(struct findings *findings)
{
	const struct report_settings *settings =
	    findings->source->metrics->settings;
	struct verdict *verdict;

	if (settings->is_ready && !settings->is_stopping)
		return;
	verdict = add_verdict(findings, VERDICT_BUSY);
	if (settings->is_stopping)
		phrase(verdict->text,
		    "magent was told to stop, and serves clients until it "
		    "does.");
	else
		phrase(verdict->text,
		    "magent has just started, and waits for its servers to "
		    "answer.");
}

static void
say_well(struct findings *findings)
{
	struct verdict *verdict = add_verdict(findings, VERDICT_WELL);
	double single = single_part(findings);
	char part[32];

	if (single == 0)
		phrase(verdict->text,
		    "All is well: each key has two good copies.");
	else if (single > 0.999)
		phrase(verdict->text,
		    "All is well: each key has a server that is up. There are "
		    "no backups.");
	else
		phrase(verdict->text,
		    "All is well: each key has two good copies, but for %s of "
		    "them, which have no backup.",
		    per_cent(single, part));
}

size_t
verdicts_find(const struct verdict_source *source,
    struct verdict verdicts[VERDICTS_MAX])
{
	static void (*const rules[])(struct findings * findings) = {
		say_uncovered,
		say_down,
		say_returning,
		say_filled,
		say_unproved,
		say_differences,
		say_memory,
		say_clients,
		say_start_or_stop,
	};
	struct findings findings = { .source = source, .verdicts = verdicts };
	size_t i;

	static_assert(sizeof(rules) / sizeof(rules[0]) < VERDICTS_MAX,
	    "there is room for all of them");
	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		rules[i](&findings);
	if (findings.count == 0)
		say_well(&findings);
	return findings.count;
}

const char *
verdict_level_name(enum verdict_level level)
{
	static const char *const names[] = {
		[VERDICT_WELL] = "well",
		[VERDICT_BUSY] = "busy",
		[VERDICT_WARNING] = "warning",
		[VERDICT_BAD] = "bad",
	};

	return names[level];
}
