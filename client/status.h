#ifndef STATUS_H
#define STATUS_H

/*
 * Write what the page of magent shows, as JSON; and the page itself.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;
struct metrics_source;
struct status;
struct usage;

/* The page, in HTML: client/status.html, which make puts into the program. */
extern const unsigned char status_page[];
extern const size_t status_page_bytes;

/* Begin to keep what is to be shown.  What source points to, and usage, are
   borrowed.  Returns NULL when out of memory. */
struct status *status_new(const struct metrics_source *source,
    struct usage *usage);
void status_free(struct status *status); /* NULL is fine */

/* What pairs_measure() has found, which does not change. */
const double *status_shares(const struct status *status);

/* Note what is now.  To be called several times a second, from the loop.
   now_ms is of the monotonic clock. */
void status_tick(struct status *status, int64_t now_ms);

/* Somebody looks: have the servers asked what memory they use. */
void status_want(struct status *status, int64_t now_ms);

/* Add the JSON to out, which is empty.  Returns false when out of memory. */
bool status_write(const struct status *status, struct evbuffer *out,
    int64_t now_ms);

#endif
