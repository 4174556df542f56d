#ifndef EXEC_H
#define EXEC_H

/*
 * What a request takes to be carried out, shared by request.c (commands about
 * one key, and the life of a request) and multiget.c (gets of many keys).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/request.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	EXEC_TRIES_MAX = 2, /* the authority, and who followed it */
	EXEC_SMALL = 256,   /* bytes of a message that are kept in place */
};

struct subrequest;
struct exec;

/* One key of a get, and where its VALUE is in the reply to its part. */
struct get_key {
	struct proto_span key;
	struct proto_span value; /* length 0: a miss */
	struct subrequest *sub;  /* NULL: nobody can be asked */
	struct get_key *next;    /* of the same part */
};

/* What one server is asked for a work. */
struct subrequest {
	struct call call;
	STAILQ_ENTRY(subrequest) entry;
	struct exec *exec;
	struct peer *peer;
	uint32_t link; /* to the peer */
	unsigned int tries;
	bool sent;
	unsigned int keys;            /* whose values are asked for */
	struct get_key *first, *last; /* many keys: these */
	struct get_key *next;         /* the first that may come next */
	unsigned int hits;
	struct block *reply; /* the reply, if it had to be kept */
	size_t offset, length;
	/* Set when the reply has come: */
	struct proto_reply end; /* its last element, */
	size_t end_at;          /* which is at this offset */
	uint64_t tag;           /* of the cas tokens in it */
};

STAILQ_HEAD(subrequest_list, subrequest);

enum exec_state { EXEC_WAITING, EXEC_READY, EXEC_WRITTEN };

struct exec {
	struct request request;
	struct request_env *env;
	enum exec_state state;
	bool in_answered, is_freed; /* in answered(); freed in there */
	bool inline_sub_is_used;
	bool round_is_written;  /* a round has been written */
	const char *error_line; /* why a key was not asked for: text in
					   place of END; NULL: none */
	unsigned int owed;
	struct subrequest_list subrequests;
	struct block *message; /* what r was parsed from, if large */
	struct block *get_keys_block;
	const char *text; /* the reply, if we make it */
	size_t text_length;
	struct block *text_block;
	const struct answer *in_place; /* the reply to in_place_sub, in place */
	unsigned int keys_left;        /* for the rounds to come */
	unsigned int round;            /* keys in one at most; 0: not set */
	/* All above begins as zero. */
	struct proto_request r;
	const char *bytes;        /* of r: in message or small */
	struct pair pair;         /* a command about one key */
	struct get_key *get_keys; /* of this round */
	unsigned int get_key_count;
	size_t key_at; /* where the next round begins */
	struct get_key inline_key;
	struct subrequest *in_place_sub;
	struct subrequest inline_sub; /* most works need one part only */
	struct exec *next_spare;
	char small[EXEC_SMALL];
};

/* The reply when nobody can be asked for a key, with its CRLF. */
extern const char exec_no_server[];

/* The reply when the system has no memory. */
extern const char exec_no_memory[];

/* Returns NULL when out of memory; what is said of it above is zero. */
struct exec *exec_new(struct request_env *env, void *owner);
void exec_end(struct exec *exec); /* no part is open */

/* A part that is in the list of its work.  The first one never fails; NULL when
   out of memory. */
struct subrequest *exec_add_subrequest(struct exec *exec);
void exec_free_subrequests(struct exec *exec);

/* Make the reply a static text. */
void exec_set_text(struct exec *exec, const char *text);

/* A server owes an answer to this part from now on. */
void exec_open_subrequest(struct subrequest *sub);

/*
 * A part has been dealt with: answer is its reply, or NULL if what followed
 * from it (another part, a text) is all that there is.  If it was the last one
 * the owner is told.  The part and the work may end in here.
 */
void exec_close_subrequest(struct subrequest *sub, const struct answer *answer);

/* All there is to the reply of a work without parts is there. */
void exec_become_ready(struct exec *exec);

/* The bytes of the reply to part: in place, or kept. */
const char *exec_reply(const struct exec *exec, const struct subrequest *sub,
    size_t *length);

/* Write n bytes of that, from at on. */
void exec_put(struct exec *exec, struct conn *conn,
    const struct subrequest *sub, size_t at, size_t n);

/* The same, with the cas token that stands in them, if any, tagged. */
void exec_put_tagged(struct exec *exec, struct conn *conn,
    const struct subrequest *sub, size_t at, size_t n, struct proto_span cas);

/* Give unused memory back to the system. */
void exec_pool_free(void);

#endif
