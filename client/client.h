#ifndef CLIENT_H
#define CLIENT_H

/*
 * The connections from applications: read commands, keep their requests in
 * order, write their replies in order.
 */

#include <stdbool.h>
#include <stddef.h>

struct clients;
struct conn_loop;
struct pairs;
struct stats;
struct stats_settings;

struct clients_settings {
	size_t value_max;    /* bytes of a value from a client */
	size_t memory_limit; /* bytes in buffers of all kinds */
	unsigned int max;    /* clients at a time */
	unsigned int links;  /* connections per server */
	bool refuse_flush;
	bool error_on_down;
};

/* All pointers but settings are borrowed.  Returns NULL when out of memory. */
struct clients *clients_new(struct conn_loop *loop, struct pairs *pairs,
    struct stats *stats, const struct stats_settings *stats_settings,
    const struct clients_settings *settings);

/* After the last client is gone (clients_stop(), clients_count()). */
void clients_free(struct clients *clients);

/* Take over a connected socket; one too many is told so and closed. */
void clients_accept(struct clients *clients, int fd);

/* Finish what is in flight and close. */
void clients_stop(struct clients *clients);
size_t clients_count(const struct clients *clients);

#endif
