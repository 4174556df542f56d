/*
 * Count what clients ask and what they are answered.
 *
 * Invariant: a name that memcached has means here what it means there.  The one
 * exception is N of ma and mg: no reply to ma says whether the item was made.
 */

#include "client/stats.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "carry.h"

const unsigned char stats_latency_classes[PROTO_ME + 1] = {
	[PROTO_GET] = LATENCY_GET,
	[PROTO_GETS] = LATENCY_GET,
	[PROTO_GAT] = LATENCY_TOUCH,
	[PROTO_GATS] = LATENCY_TOUCH,
	[PROTO_SET] = LATENCY_SET,
	[PROTO_ADD] = LATENCY_SET,
	[PROTO_REPLACE] = LATENCY_SET,
	[PROTO_APPEND] = LATENCY_SET,
	[PROTO_PREPEND] = LATENCY_SET,
	[PROTO_CAS] = LATENCY_SET,
	[PROTO_INCR] = LATENCY_COUNTER,
	[PROTO_DECR] = LATENCY_COUNTER,
	[PROTO_TOUCH] = LATENCY_TOUCH,
	[PROTO_DELETE] = LATENCY_DELETE,
	[PROTO_MG] = LATENCY_META,
	[PROTO_MS] = LATENCY_META,
	[PROTO_MD] = LATENCY_META,
	[PROTO_MA] = LATENCY_META,
	[PROTO_MN] = LATENCY_META,
	[PROTO_ME] = LATENCY_META,
};

const char *stats_latency_name(enum latency_class class)
{
	static const char *const names[LATENCY_CLASSES] = {
		[LATENCY_GET] = "get",
		[LATENCY_SET] = "set",
		[LATENCY_DELETE] = "delete",
		[LATENCY_COUNTER] = "counter",
		[LATENCY_TOUCH] = "touch",
		[LATENCY_META] = "meta",
	};

	assert(class < LATENCY_CLASSES);
	return names[class];
}

/* What a reply says of an item. */
enum finding {
	THERE,
	NOT_THERE,
	REFUSED, /* nothing: the command was not carried out */
};

static enum finding
finding_of(enum proto_result result)
{
	switch (result) {
	case PROTO_NOT_FOUND:
	case PROTO_META_NF:
	case PROTO_META_EN:
		return NOT_THERE;
	case PROTO_EXISTS:
	case PROTO_META_EX:
	case PROTO_ERROR:
	case PROTO_CLIENT_ERROR:
	case PROTO_SERVER_ERROR:
		return REFUSED;
	default:
		return THERE;
	}
}

static void
count_one(uint64_t *hits, uint64_t *misses, enum finding finding)
{
	*hits += finding == THERE;
	*misses += finding == NOT_THERE;
}

static void
count_touches(struct stats *stats, unsigned int keys, unsigned int hits)
{
	stats->cmd_touch += keys;
	stats->touch_hits += hits;
	stats->touch_misses += keys - hits;
}

/* Count a command that compares a cas unique. */
static void
count_cas(struct stats *stats, enum proto_result result)
{
	stats->cas_hits += result == PROTO_STORED || result == PROTO_META_HD;
	stats->cas_badval += result == PROTO_EXISTS || result == PROTO_META_EX;
	stats->cas_misses += result == PROTO_NOT_FOUND ||
	    result == PROTO_META_NF;
}

/* Whether memcached counts that a cas unique is compared.  Of ms it does so
   where the mode is that of set or replace. */
static bool
is_counted_cas(const struct proto_request *r)
{
	return r->command == PROTO_CAS ||
	    (r->has_cas && (r->mode == 'S' || r->mode == 'R'));
}

static void
count_storage(struct stats *stats, const struct proto_request *r,
    enum proto_result result)
{
	/* memcached does not count a value that it refuses at the line.  Its
	   key is deleted, and the result is that of the delete. */
	if (r->too_large || result == PROTO_CLIENT_ERROR ||
	    result == PROTO_SERVER_ERROR)
		return;
	stats->cmd_set++;
	if (is_counted_cas(r))
		count_cas(stats, result);
}

void
stats_count(struct stats *stats, const struct proto_request *r,
    enum proto_result result)
{
	enum proto_command command = r->command;
	enum finding finding = finding_of(result);

	static_assert(PROTO_ME - PROTO_MG == 5,
	    "mg ms md ma mn me are one range");
	assert(command >= PROTO_SET && command <= PROTO_ME);
	stats->cmd_meta += command >= PROTO_MG && command <= PROTO_ME;
	switch (command) {
	case PROTO_SET:
	case PROTO_ADD:
	case PROTO_REPLACE:
	case PROTO_APPEND:
	case PROTO_PREPEND:
	case PROTO_CAS:
	case PROTO_MS:
		count_storage(stats, r, result);
		break;
	case PROTO_INCR:
	case PROTO_DECR:
	case PROTO_MA:
		if (command == PROTO_DECR || r->mode == 'D')
			count_one(&stats->decr_hits, &stats->decr_misses,
			    finding);
		else
			count_one(&stats->incr_hits, &stats->incr_misses,
			    finding);
		break;
	case PROTO_DELETE:
	case PROTO_MD:
		count_one(&stats->delete_hits, &stats->delete_misses, finding);
		break;
	case PROTO_TOUCH:
		if (finding != REFUSED)
			count_touches(stats, 1, finding == THERE);
		break;
	case PROTO_MG:
		if (finding == REFUSED)
			break;
		if (r->has_ttl && finding == THERE)
			count_touches(stats, 1, 1);
		else
			stats_count_get(stats, command, 1, finding == THERE);
		break;
	default:
		break;
	}
}

void
stats_count_get(struct stats *stats, enum proto_command command,
    unsigned int keys, unsigned int hits)
{
	assert(hits <= keys && (command <= PROTO_GATS || command == PROTO_MG));
	if (command == PROTO_GAT || command == PROTO_GATS) {
		count_touches(stats, keys, hits);
		return;
	}
	stats->cmd_get += keys;
	stats->get_hits += hits;
	stats->get_misses += keys - hits;
}

void
stats_count_error(struct stats *stats, const struct proto_request *r)
{
	assert(r->error != NULL);
	/* memcached has made room for data of which only the end is wrong, and
	   counts that. */
	if (r->data.at != 0)
		stats->cmd_set++;
	else if (!r->too_large)
		stats->line_errors++;
}

/* In the order of their numbers in a line; new ones are added at the end. */
static const size_t carried[] = {
	offsetof(struct stats, total_connections),
	offsetof(struct stats, rejected_connections),
	offsetof(struct stats, cmd_get),
	offsetof(struct stats, get_hits),
	offsetof(struct stats, get_misses),
	offsetof(struct stats, cmd_set),
	offsetof(struct stats, cmd_touch),
	offsetof(struct stats, touch_hits),
	offsetof(struct stats, touch_misses),
	offsetof(struct stats, cmd_flush),
	offsetof(struct stats, cmd_meta),
	offsetof(struct stats, delete_hits),
	offsetof(struct stats, delete_misses),
	offsetof(struct stats, incr_hits),
	offsetof(struct stats, incr_misses),
	offsetof(struct stats, decr_hits),
	offsetof(struct stats, decr_misses),
	offsetof(struct stats, cas_hits),
	offsetof(struct stats, cas_misses),
	offsetof(struct stats, cas_badval),
	offsetof(struct stats, bytes_read),
	offsetof(struct stats, bytes_written),
	offsetof(struct stats, listen_disabled),
	offsetof(struct stats, listen_disabled_us),
	offsetof(struct stats, yields),
	offsetof(struct stats, no_server_errors),
	offsetof(struct stats, memory_errors),
	offsetof(struct stats, line_errors),
	offsetof(struct stats, replacements),
	offsetof(struct stats, refused_replacements),
};

enum { CARRIED = sizeof(carried) / sizeof(carried[0]) };

static_assert(CARRIED * sizeof(uint64_t) == offsetof(struct stats, latency),
    "each counter is carried over");

void
stats_carry(const struct stats *stats, struct carry *carry)
{
	uint64_t numbers[CARRIED];
	size_t i;

	for (i = 0; i < CARRIED; i++)
		memcpy(&numbers[i], (const char *)stats + carried[i],
		    sizeof(numbers[i]));
	carry_numbers(carry, "stats", numbers, CARRIED);
	for (i = 0; i < LATENCY_CLASSES; i++)
		histogram_carry(&stats->latency[i], carry, "latency",
		    stats_latency_name((enum latency_class)i));
}

void
stats_take(struct stats *stats, const struct carry_line *line)
{
	size_t i;

	for (i = 0; i < LATENCY_CLASSES; i++)
		histogram_take(&stats->latency[i], line, "latency",
		    stats_latency_name((enum latency_class)i));
	if (!carry_is(line, "stats"))
		return;
	for (i = 0; i < CARRIED; i++)
		memcpy((char *)stats + carried[i], &line->numbers[i],
		    sizeof(line->numbers[i]));
}

void
stats_reset(struct stats *stats)
{
	struct stats before = *stats;

	memset(stats, 0, offsetof(struct stats, connections));
	stats->replacements = before.replacements;
	stats->refused_replacements = before.refused_replacements;
}

void
stats_add(struct stats_of_servers *sum, const char *name, size_t n,
    const char *value, size_t length)
{
	const struct {
		const char *name;
		uint64_t *sum;
	} known[] = {
		{ "bytes", &sum->bytes },
		{ "curr_items", &sum->curr_items },
		{ "total_items", &sum->total_items },
		{ "evictions", &sum->evictions },
		{ "limit_maxbytes", &sum->limit_maxbytes },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == n &&
		    memcmp(known[i].name, name, n) == 0)
			*known[i].sum += proto_number(value, length);
}
