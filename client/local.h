#ifndef LOCAL_H
#define LOCAL_H

/* Answer the commands that are about no key: version, stats and flush_all. */

#include <stdbool.h>

struct conn_loop;
struct proto_request;
struct request;
struct request_env;
struct stats_settings;

/* What these answers are made of; all borrowed. */
struct local {
	struct conn_loop *loop;
	struct request_env *env;
	const struct stats_settings *settings;
	bool refuse_flush;
};

/* Answer r, which was parsed from bytes, by request, which is from
   request_new(): now, or when the servers have answered. */
void local_answer(struct local *local, struct request *request,
    const struct proto_request *r, const char *bytes);

#endif
