#ifndef TWEMPROXY_H
#define TWEMPROXY_H

/*
 * Write the statistics as twemproxy does, for what reads those: to each
 * connection one object of JSON, in one line, and the end.
 *
 * What a slow or hostile reader can cost is bounded: how many are connected,
 * and for how long, and how many come in a second.
 */

struct conn_loop;
struct metrics_source;
struct sockets;
struct twemproxy;

/* Answer on all of sockets, which are borrowed, as is what source points to.
   Returns NULL when out of memory. */
struct twemproxy *twemproxy_new(struct conn_loop *loop,
    const struct sockets *sockets, const struct metrics_source *source);

/* Close all at once.  NULL is fine. */
void twemproxy_free(struct twemproxy *twemproxy);

#endif
