#ifndef ADMIN_H
#define ADMIN_H

/* Carry out the words of an operator: server ADDRESS WORD, and scrub. */

#include <stdbool.h>

struct pairs;
struct proto_request;
struct request;

/* Whether r, which was parsed from bytes, is what memcached does not know, and
   an operator may say here. */
bool admin_is_word(const struct proto_request *r, const char *bytes);

/*
 * Do what such an r says, and give request, which is from request_new(), the
 * reply: in here, or when it is done.  What follows in the input of the client
 * waits for that.  answered() may run in here, and the request may end.
 */
void admin_answer(struct pairs *pairs, struct request *request,
    const struct proto_request *r, const char *bytes);

#endif
