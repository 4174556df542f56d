#ifndef TOKENS_H
#define TOKENS_H

/*
 * Give back the tokens of stale items that our own reads may have won, when
 * their server has failed before it could be told so: otherwise clients would
 * wait for somebody to set them anew.
 */

#include <stdbool.h>
#include <stddef.h>

#include "proto.h"
#include "server/link.h"

struct peer;

/* Of one server. */
struct tokens {
	struct peer *peer; /* borrowed */
	/* Of tokens.c: */
	void (*done)(void *owner);
	void *owner;
	/* About one key at a time. */
	struct call call;
	char key[PROTO_KEY_MAX];
	size_t length;
	bool base64;
};

/* Make *tokens, which is all zero.  done() is called as tokens_give_back()
   says. */
void tokens_init(struct tokens *tokens, struct peer *peer,
    void (*done)(void *owner), void *owner);

/* The peer has failed, and a read of this key had no answer, or what it had won
   was not given back.  The key is as for peer_add_dirty(). */
void tokens_lost(struct peer *peer, const char *key, size_t length,
    bool base64);

/* The peer is back, in the state INVALIDATE, with its items: give them back,
   and call done() once, from the loop, unless it fails before.  Returns false
   if there are none: then done() is not called. */
bool tokens_give_back(struct tokens *tokens);

#endif
