#ifndef WEB_H
#define WEB_H

/*
 * Answer HTTP requests about magent itself: /, /status.json, /metrics, /healthz
 * and /readyz.
 *
 * What a slow or hostile reader can cost is bounded: how many are connected,
 * and for how long, how many come in a second, and how often what they
 * read is written.
 */

struct conn_loop;
struct metrics_source;
struct sockets;
struct usage;
struct web;

/* Answer on all of sockets, which are borrowed, as are usage and what source
   points to.  Returns NULL when out of memory. */
struct web *web_new(struct conn_loop *loop, const struct sockets *sockets,
    const struct metrics_source *source, struct usage *usage);

/* Close all at once.  NULL is fine. */
void web_free(struct web *web);

#endif
