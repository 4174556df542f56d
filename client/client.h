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

struct client;
struct conn_loop;

TAILQ_HEAD(client_list, client);

/* What all clients share; owned by clients.c. */
struct client_env {
	struct conn_loop *loop;
	struct request_env requests;
	struct local local;
	size_t value_max; /* bytes of the largest value from a client */
	bool are_stopping;
	struct client_list list; /* those that are connected, oldest first */
	uint64_t last_number;    /* given to a client */
};

/* Take over a connected socket.  Returns NULL when out of memory; then fd is
   still the caller's. */
struct client *client_new(struct client_env *env, int fd);

struct client *client_next(struct client *client);

/* answered() of the requests of clients: see struct request_env. */
void client_answered(struct request *request);

/* Read no more commands; close when what is in flight has been answered.  The
   client may end in here. */
void client_stop(struct client *client);

/* To be called once a second: close a client that takes none of its output, or
   does not go on with its input.  The client may end in here. */
void client_check_progress(struct client *client);

/* Why nothing is read from a client. */
enum client_pause {
	CLIENT_READS,         /* it is not paused */
	CLIENT_PAUSED_WINDOW, /* as many requests as it may have are in flight */
	CLIENT_PAUSED_BACKLOG, /* it does not take its replies */
	CLIENT_PAUSED_GATE,    /* the gate is closed */
	CLIENT_PAUSED_MEMORY,  /* the buffers of all hold too much */
	CLIENT_CLOSING,        /* it has ended, or magent stops */
};

/* What there is to be said of a client. */
struct client_report {
	uint64_t number;       /* that of the log: c#NUMBER */
	unsigned int requests; /* in flight */
	size_t backlog;        /* bytes of replies that it has not taken */
	size_t input;          /* bytes of input that are kept */
	bool swallows;         /* the rest of a refused value is thrown away */
	enum client_pause pause;
	int64_t idle_ms; /* since something came from it */
};

struct client_report client_report(const struct client *client);

/* The addresses of both sides: see conn_remote_name(). */
void client_names(const struct client *client, char *remote, char *local);

#endif
