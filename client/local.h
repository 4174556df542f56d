#ifndef LOCAL_H
#define LOCAL_H

/* Answer the commands that are about no key: version, stats, flush_all, and the
   words of an operator. */

#include <stdbool.h>

struct client_list;
struct conn_loop;
struct proto_request;
struct request;
struct request_env;
struct report_settings;

/* What these answers are made of; all borrowed. */
struct local {
	struct conn_loop *loop;                 /* for the time */
	struct request_env *env;                /* pairs and stats */
	const struct report_settings *settings; /* for stats */
	struct client_list *clients;            /* for stats conns */
	bool refuse_flush; /* flush_all is answered with an error */
};

/*
 * Give request, which is from request_new(), the reply to r, which was parsed
 * from bytes and has no error: a version, stats or flush_all; or that is a word
 * of an operator: see admin.h.  In here, or when the servers have answered.
 * answered() may run in here, and the request may end.
 */
void local_answer(struct local *local, struct request *request,
    const struct proto_request *r, const char *bytes);

#endif
