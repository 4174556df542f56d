#ifndef CLIENTS_H
#define CLIENTS_H

/* All connections from applications: accept them, look after them once a
   second, stop them. */

#include <stdbool.h>
#include <stddef.h>

struct clients;
struct conn_loop;
struct pairs;
struct report_settings;
struct stats;

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
    struct stats *stats, const struct report_settings *report_settings,
    const struct clients_settings *settings);

/* After the last client is gone: see clients_stop() and clients_count(). */
void clients_free(struct clients *clients);

/* Take over a connected socket.  One too many gets an error and is closed. */
void clients_accept(struct clients *clients, int fd);

/* Finish what is in flight and close. */
void clients_stop(struct clients *clients);
size_t clients_count(const struct clients *clients);

#endif
