#ifndef WORK_H
#define WORK_H

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
#include "proto.h"
#include "server/server.h"

enum {
	WORK_TRIES_MAX = 2, /* the authority, and who followed it */
	WORK_SMALL = 256,   /* bytes of a message that are kept in place */
};

struct part;
struct work;

/* One key of a get, and where its VALUE is in the reply to its part. */
struct slot {
	struct proto_span key;
	struct proto_span value; /* length 0: a miss */
	struct part *part;       /* NULL: nobody can be asked */
	struct slot *next;       /* of the same part */
};

/* What one server is asked for a work. */
struct part {
	struct call call;
	STAILQ_ENTRY(part) entry;
	struct work *work;
	struct peer *peer;
	uint32_t link; /* to the peer */
	unsigned int tries;
	bool told;
	unsigned int keys;         /* whose values are asked for */
	struct slot *first, *last; /* many keys: these */
	struct slot *next;         /* the first that may come next */
	unsigned int hits;
	struct block *reply; /* the reply, if it had to be kept */
	size_t offset, length;
	/* Set when the reply has come: */
	struct proto_reply end; /* its last element, */
	size_t end_at;          /* which is at this offset */
	uint64_t tag;           /* of the cas tokens in it */
};

STAILQ_HEAD(part_list, part);

enum work_state { WORK_WAITING, WORK_READY, WORK_WRITTEN };

struct work {
	struct request request;
	struct request_world *world;
	enum work_state state;
	bool telling, over; /* in answered(); freed in there */
	bool own_used;
	bool begun;       /* a round has been written */
	const char *lack; /* why a key was not asked for: text in
					   place of END; NULL: none */
	unsigned int open;
	struct part_list parts;
	struct block *message; /* what r was parsed from, if large */
	struct block *slot_block;
	const char *text; /* the reply, if we make it */
	size_t text_length;
	struct block *text_block;
	const struct answer *live; /* the reply to live_part, in place */
	unsigned int keys_left;    /* for the rounds to come */
	unsigned int round;        /* keys in one at most; 0: not set */
	/* All above begins as zero. */
	struct proto_request r;
	const char *bytes;  /* of r: in message or small */
	struct pair pair;   /* a command about one key */
	struct slot *slots; /* of this round */
	unsigned int slot_count;
	size_t key_at; /* where the next round begins */
	struct slot one;
	struct part *live_part;
	struct part own; /* most works need one part only */
	struct work *next_spare;
	char small[WORK_SMALL];
};

/* The reply when nobody can be asked for a key, with its CRLF. */
extern const char work_no_server[];

/* The reply when the system has no memory. */
extern const char work_no_memory[];

/* Returns NULL when out of memory; what is said of it above is zero. */
struct work *work_new(struct request_world *world, void *owner);
void work_end(struct work *work); /* no part is open */

/* A part that is in the list of its work.  The first one never fails; NULL when
   out of memory. */
struct part *work_add_part(struct work *work);
void work_free_parts(struct work *work);

/* Make the reply a static text. */
void work_set_text(struct work *work, const char *text);

/* A server owes an answer to this part from now on. */
void work_open_part(struct part *part);

/*
 * A part has been dealt with: answer is its reply, or NULL if what followed
 * from it (another part, a text) is all that there is.  If it was the last one
 * the owner is told.  The part and the work may end in here.
 */
void work_close_part(struct part *part, const struct answer *answer);

/* All there is to the reply of a work without parts is there. */
void work_become_ready(struct work *work);

/* The bytes of the reply to part: in place, or kept. */
const char *work_reply(const struct work *work, const struct part *part,
    size_t *length);

/* Write n bytes of that, from at on. */
void work_put(struct work *work, struct conn *conn, const struct part *part,
    size_t at, size_t n);

/* The same, with the cas token that stands in them, if any, tagged. */
void work_put_tagged(struct work *work, struct conn *conn,
    const struct part *part, size_t at, size_t n, struct proto_span cas);

/* Give unused memory back to the system. */
void work_pool_free(void);

#endif
