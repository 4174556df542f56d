#ifndef CLIENT_H
#define CLIENT_H

/*
 * One connection from an application: read its commands, keep its requests in
 * order, write its replies in order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/local.h"
#include "client/request.h"
#include "client/unfinished.h"

struct carry;
struct carry_line;
struct client;
struct conn_loop;

TAILQ_HEAD(client_list, client);

/* What all clients share; owned by clients.c. */
struct client_env {
	struct conn_loop *loop;      /* borrowed */
	struct request_env requests; /* for request_start() */
	struct local local;          /* for local_answer() */
	size_t value_max; /* bytes of the largest value from a client */
	/* No client is accepted any more; one that is finished is closed. */
	bool are_stopping;
	struct client_list list; /* those that are connected, oldest first */
	/* Those that had output which their socket did not take, or that were
	   told the end: see clients_check_progress(). */
	struct client_list watched;
	struct unfinished_list unfinished; /* commands that are not whole */
	uint64_t last_number; /* the number of the youngest client */
};

/* Take over the connected socket fd, which is nonblocking.  Returns NULL when
   out of memory; then fd is still the caller's. */
struct client *client_new(struct client_env *env, int fd);

/* Whether it has nothing in flight, but for a get that waits for its next
   round. */
bool client_is_at_rest(const struct client *client);

/* Write it to carry; it is at rest.  Returns false when out of memory. */
bool client_carry(const struct client *client, struct carry *carry);

/* Make the client of such a line, which goes on where it was.  Returns false
   when out of memory. */
bool client_take(struct client_env *env, const struct carry_line *line);

/* The next client of the list; NULL: none. */
struct client *client_next(struct client *client);

/* answered() of the requests of clients: see struct request_env. */
void client_answered(struct request *request);

/* Read no more commands; close when what is in flight has been answered and
   sent.  That happens later: the client does not end in here. */
void client_stop(struct client *client);

/* To be called once a second: close clients that do not take their output, and
   give up unfinished commands if memory is short.  Clients may end in here. */
void clients_check_progress(struct client_env *env);

/* Why nothing is read from a client. */
enum client_pause {
	CLIENT_READS, /* it is not paused */
	/* No other request may begin before one in flight is answered. */
	CLIENT_PAUSED_WINDOW,
	CLIENT_PAUSED_BACKLOG, /* it does not take its replies */
	CLIENT_PAUSED_GATE,    /* the gate holds its next command */
	CLIENT_PAUSED_MEMORY,  /* the buffers of all hold too much */
	/* It has ended or quit, its input was refused, or magent stops. */
	CLIENT_CLOSING,
};

/* What stats conns says of a client. */
struct client_report {
	uint64_t number;       /* in the log: c#NUMBER */
	unsigned int requests; /* in flight */
	size_t backlog;        /* bytes of replies that it has not taken */
	size_t input;          /* bytes of input that are kept */
	bool swallows;         /* the rest of a refused value is thrown away */
	enum client_pause pause;
	int64_t idle_ms; /* milliseconds since something came from it */
};

struct client_report client_report(const struct client *client);

/* Write the addresses of both sides; each has room for CONN_NAME_MAX bytes: see
   conn_remote_name(). */
void client_names(const struct client *client, char *remote, char *local);

#endif
