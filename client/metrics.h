#ifndef METRICS_H
#define METRICS_H

/*
 * Write what is counted, and how the servers are, for Prometheus.
 */

#include <stdbool.h>
#include <stdint.h>

struct evbuffer;
struct pairs;
struct report_settings;
struct stats;

/* What is written; all are borrowed. */
struct metrics_source {
	const struct stats *stats;
	struct pairs *pairs;
	const struct report_settings *settings;
	const double *shares; /* of pairs_measure(); web_new() sets it */
};

/* Add the text format, version 0.0.4, or that of OpenMetrics 1.0.0 to out.
   now_ms is of the monotonic clock.  Returns false when out of memory. */
bool metrics_write(struct evbuffer *out, const struct metrics_source *source,
    int64_t now_ms, bool is_open);

#endif
