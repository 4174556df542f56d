#ifndef STATS_H
#define STATS_H

/* Count what clients ask and what they are answered, for report.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "proto.h"

struct carry;
struct carry_line;

/* Of commands about keys, for how long they take. */
enum latency_class {
	LATENCY_GET,     /* get, gets */
	LATENCY_SET,     /* set, add, replace, append, prepend, cas */
	LATENCY_DELETE,  /* delete */
	LATENCY_COUNTER, /* incr, decr */
	LATENCY_TOUCH,   /* touch, gat, gats */
	LATENCY_META,    /* mg, ms, md, ma, me */
	LATENCY_CLASSES,
};

struct stats {
	/* Counters, since the start or the last stats reset.  A name that
	   memcached has means what it means there. */
	uint64_t total_connections, rejected_connections;
	uint64_t cmd_get, get_hits, get_misses;
	uint64_t cmd_set;
	uint64_t cmd_touch, touch_hits, touch_misses;
	uint64_t cmd_flush, cmd_meta;
	uint64_t delete_hits, delete_misses;
	uint64_t incr_hits, incr_misses, decr_hits, decr_misses;
	uint64_t cas_hits, cas_misses, cas_badval;
	uint64_t bytes_read, bytes_written; /* from and to clients */
	uint64_t listen_disabled;    /* pauses in which no client is accepted */
	uint64_t listen_disabled_us; /* microseconds in those that are over */
	uint64_t yields;             /* pauses in which a client is not read */
	uint64_t no_server_errors;   /* keys for which no server was up */
	uint64_t memory_errors;      /* commands or replies without memory */
	uint64_t line_errors; /* lines that are no command, or not allowed */
	/* Times that this program was replaced, and that this was refused; a
	   reset does not change them. */
	uint64_t replacements, refused_replacements;

	/* From when a command was begun until its reply was queued, behind
	   those before it.  A reset sets them to zero. */
	struct histogram latency[LATENCY_CLASSES];

	/* What is now; a reset does not change it. */
	unsigned int connections;      /* clients that are connected */
	unsigned int paused_listeners; /* of which none accepts clients */
};

/* Sums of what servers say of themselves, in their stats. */
struct stats_of_servers {
	uint64_t bytes, curr_items, total_items, evictions, limit_maxbytes;
};

/* Count a command about one key, which is no get, by its reply. */
void stats_count(struct stats *stats, const struct proto_request *r,
    enum proto_result result);

/* Count the keys of a get, or of an mg, and how many of them are hits. */
void stats_count_get(struct stats *stats, enum proto_command command,
    unsigned int keys, unsigned int hits);

/* Count a command that is answered with the error of its line, or of its data,
   and is not carried out. */
void stats_count_error(struct stats *stats, const struct proto_request *r);

/* A class of each command about keys. */
extern const unsigned char stats_latency_classes[PROTO_ME + 1];

/* Count what a command about keys has taken, in microseconds. */
static inline void
stats_count_time(struct stats *stats, enum proto_command command, uint32_t us)
{
	histogram_add(&stats->latency[stats_latency_classes[command]], us);
}

/* The name of a class, a word. */
const char *stats_latency_name(enum latency_class class);

/* Write the counters to carry; and take them over from such a line, unless it
   is about something else. */
void stats_carry(const struct stats *stats, struct carry *carry);
void stats_take(struct stats *stats, const struct carry_line *line);

/* Set the counters to zero. */
void stats_reset(struct stats *stats);

/* Add one STAT line of a server to the sums: the value, of length bytes, of the
   name, of n bytes.  A name that is not summed up is ignored. */
void stats_add(struct stats_of_servers *sum, const char *name, size_t n,
    const char *value, size_t length);

#endif
