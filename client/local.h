#ifndef LOCAL_H
#define LOCAL_H

/* Answer the commands that are about no key: version, stats and flush_all. */

#include <stdbool.h>

struct client_list;
struct conn_loop;
struct proto_request;
struct request;
struct request_env;
struct report_settings;

/* What these answers are made of; all borrowed. */
struct local {
	struct conn_loop *loop;
	struct request_env *env;
	const struct report_settings *settings;
	struct client_list *clients;
	bool refuse_flush;
};

/* Answer r, which was parsed from bytes, by request, which is from
   request_new(): now, or when the servers have answered. */
void local_answer(struct local *local, struct request *request,
    const struct proto_request *r, const char *bytes);

#endif
