#ifndef CLIENTS_H
#define CLIENTS_H

/* All connections from applications: accept them, look at each once a second,
   stop them. */

#include <stdbool.h>
#include <stddef.h>

struct carry;
struct clients;
struct conn_loop;
struct pairs;
struct report_settings;
struct stats;

struct clients_settings {
	size_t value_max;    /* bytes of the largest value from a client */
	size_t memory_limit; /* bytes in buffers of all kinds, see budget.h */
	unsigned int max;    /* clients at a time, 1 and up */
	unsigned int links;  /* connections per server, 1 and up */
	bool refuse_flush;   /* flush_all is answered with an error */
	bool error_on_down;  /* a read that no server can answer: an error */
	bool samples_keys;   /* for stats hotkeys */
};

/* All pointers but settings are borrowed.  Returns NULL when out of memory. */
struct clients *clients_new(struct conn_loop *loop, struct pairs *pairs,
    struct stats *stats, const struct report_settings *report_settings,
    const struct clients_settings *settings);

/* To be called when the last client is gone: see clients_stop() and
   clients_count(). */
void clients_free(struct clients *clients);

/* Take over the connected socket fd, which is nonblocking.  One client too many
   gets an error and is closed.  Not to be called after clients_stop(). */
void clients_accept(struct clients *clients, int fd);

/* Begin nothing more: each client is closed when what it has in flight has been
   answered and sent.  To be called once. */
void clients_stop(struct clients *clients);

/* Whether all clients are at rest: see client_is_at_rest(). */
bool clients_are_at_rest(const struct clients *clients);

/* Write all of them, and what was counted, to carry.  Returns false when out of
   memory. */
bool clients_carry(const struct clients *clients, struct carry *carry);

/* Take over those of a carry, and what was counted.  Returns false when out of
   memory. */
bool clients_take(struct clients *clients, struct carry *carry);

/* How many clients are connected. */
size_t clients_count(const struct clients *clients);

#endif
