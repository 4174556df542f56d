/*
 * Count what clients ask and what they are answered.
 *
 * Invariant: a name that memcached has means here what it means there.
 */

#include "client/stats.h"

#include <assert.h>
#include <string.h>

static void
count_touch(struct stats *stats, bool hit)
{
	stats->cmd_touch++;
	if (hit)
		stats->touch_hits++;
	else
		stats->touch_misses++;
}

static void
count_cas(struct stats *stats, enum proto_result result)
{
	if (result == PROTO_STORED)
		stats->cas_hits++;
	else if (result == PROTO_EXISTS)
		stats->cas_badval++;
	else if (result == PROTO_NOT_FOUND)
		stats->cas_misses++;
}

/* Count a command that has hits and misses, but no counter of its own. */
static void
count_one(uint64_t *hits, uint64_t *misses, bool hit)
{
	if (hit)
		++*hits;
	else
		++*misses;
}

void
stats_count(struct stats *stats, const struct proto_request *r,
    enum proto_result result)
{
	enum proto_command command = r->command;
	bool miss = result == PROTO_NOT_FOUND || result == PROTO_META_NF ||
	    result == PROTO_META_EN;

	static_assert(PROTO_ME - PROTO_MG == 5,
	    "mg ms md ma mn me are one range");
	assert(command >= PROTO_SET && command <= PROTO_ME);
	stats->cmd_meta += command >= PROTO_MG && command <= PROTO_ME;
	switch (command) {
	case PROTO_CAS:
		count_cas(stats, result);
		/* FALLTHROUGH */
	case PROTO_SET:
	case PROTO_ADD:
	case PROTO_REPLACE:
	case PROTO_APPEND:
	case PROTO_PREPEND:
	case PROTO_MS:
		stats->cmd_set++;
		break;
	case PROTO_INCR:
	case PROTO_DECR:
	case PROTO_MA:
		if (command == PROTO_DECR || r->mode == 'D')
			count_one(&stats->decr_hits, &stats->decr_misses,
			    !miss);
		else
			count_one(&stats->incr_hits, &stats->incr_misses,
			    !miss);
		break;
	case PROTO_DELETE:
	case PROTO_MD:
		count_one(&stats->delete_hits, &stats->delete_misses, !miss);
		break;
	case PROTO_TOUCH:
		count_touch(stats, !miss);
		break;
	case PROTO_MG:
		stats_count_get(stats, command, 1, !miss);
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
	stats->cmd_get += keys;
	stats->get_hits += hits;
	stats->get_misses += keys - hits;
	if (command == PROTO_GAT || command == PROTO_GATS) {
		stats->cmd_touch += keys;
		stats->touch_hits += hits;
		stats->touch_misses += keys - hits;
	}
}

void
stats_reset(struct stats *stats)
{
	unsigned int connections = stats->connections;
	bool accepting = stats->accepting;

	memset(stats, 0, sizeof(*stats));
	stats->connections = connections;
	stats->accepting = accepting;
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
