#ifndef EXEC_H
#define EXEC_H

/*
 * The execution of one request: what it takes from its command to its reply.
 * Shared by request.c (commands about one key, and the life of a request) and
 * multiget.c (gets of many keys).
 *
 *	exec ----> subrequest ----> subrequest     one per server and link
 *	  |           |  ^
 *	  v           v  |
 *	get_keys[]  get_key --> get_key            the keys that it asks for
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client/request.h"
#include "mirror/gate.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "proto.h"
#include "server/server.h"

enum {
	/* Servers that a key is asked of: its authority, and the authority
	   after the failure of that one. */
	EXEC_TRIES_MAX = 2,
	/* Bytes of a command, or of a reply of ours, that need no block. */
	EXEC_SMALL = 256,
};

/* A length that no value has. */
#define EXEC_LATER UINT32_MAX

struct subrequest;
struct exec;

/* One key of a get, and where its VALUE is. */
struct get_key {
	struct proto_span name; /* in the command, exec->bytes */
	/* In the reply to sub.  Length 0: a miss; EXEC_LATER: there was no room
	   for it, a later round asks again. */
	struct proto_span value;
	struct subrequest *sub; /* it asks for the key; NULL: none does */
	struct get_key *next;   /* the next key of sub, in command order */
};

/*
 * What one server is asked for a request.  It is open from
 * exec_open_subrequest() to exec_close_subrequest().
 */
struct subrequest {
	struct call call;
	STAILQ_ENTRY(subrequest) entry; /* of exec->subrequests */
	struct exec *exec;              /* borrowed: it is of this one */
	struct peer *peer;              /* borrowed: the server */
	uint32_t link;      /* multiget.c: which link of the server */
	unsigned int tries; /* servers that failed before this one was asked */
	bool is_sent;       /* multiget.c: submitted, takes no more keys */
	size_t line_length; /* multiget.c: bytes of its command, with CRLF */
	/* Values that the reply may bring; the budget expects them while the
	   subrequest is open. */
	unsigned int key_count;
	struct get_key *first_key; /* multiget.c: the keys; NULL: none */
	struct get_key *last_key;  /* valid while first_key is not NULL */
	/* The first key whose VALUE may come next: servers leave misses out,
	   but keep the order.  NULL: no more VALUE may come. */
	struct get_key *next_key;
	unsigned int hits;    /* multiget.c: VALUEs that have come */
	unsigned int dropped; /* the same: VALUEs that were thrown away */

	/* The reply is kept here if it cannot be written at once.  NULL: there
	   is no reply yet, it was written in place, or it was lost. */
	struct block *reply;
	size_t reply_at;     /* where the reply begins in its block */
	size_t reply_length; /* bytes of the reply, if it is kept */

	/* exec_add_subrequest() sets all above to zero.  What is below is set
	   when a reply has come, and not valid before. */
	struct proto_reply end; /* the last element of the reply */
	size_t end_at;          /* offset of that element in the reply */
	uint64_t tag;           /* cas tag of the server that has replied */
};

STAILQ_HEAD(subrequest_list, subrequest);

/*
 *	WAITING --- nothing is owed ---> READY --- request_write() ---> WRITTEN
 *	   ^                                                               |
 *	   '------------- request_continue(): the next round --------------'
 *
 * If no server can be asked, request_start() and request_continue() leave the
 * exec READY.
 */
enum exec_state {
	EXEC_WAITING, /* a server, or somebody else, owes an answer */
	EXEC_READY,   /* the owner may call request_write() */
	EXEC_WRITTEN, /* written, but for the keys of later rounds */
};

struct exec {
	struct request request;
	struct request_env *env; /* borrowed */
	enum exec_state state;
	bool in_answered; /* env->answered() is running for this exec */
	bool is_freed;    /* request_free() was called inside answered() */
	bool inline_sub_is_used; /* inline_sub is in subrequests */
	bool round_is_written;   /* at least one round has been written */
	bool is_held; /* request_hold() was called, and it is not finished */
	bool round_is_cut; /* some key of the round is, or was, EXEC_LATER */
	bool is_doubtful;  /* request.c: of effect_lost() */
	bool has_missed;   /* request.c: of effect_send(), of some step */
	bool is_in_steps;  /* step, and not r, is sent to servers */
	unsigned char step_count; /* steps that servers have replied to */
	/* What the client gets in place of END, because a key was not asked
	   for, or its reply was lost.  Static, with its CRLF; NULL: END. */
	const char *error_line;
	/* Answers that are owed: one by each open subrequest, or one by the
	   caller of request_new(). */
	unsigned int owed;
	/* Those of this round, open or closed. */
	struct subrequest_list subrequests;
	/* A reference to the block with the command; NULL: it is in small. */
	struct block *message;
	struct block *get_keys_block; /* owned: get_keys, if they are many */
	/* The reply, if it is not a server's: static, or in small or
	   text_block.  NULL: the reply is made of those to subrequests. */
	const char *text;
	size_t text_length;
	struct block *text_block; /* owned; NULL: text needs none */
	/* Inside answered(): the reply to in_place_sub, in the input of its
	   server.  NULL: each reply that there is has been kept. */
	const struct answer *in_place;
	unsigned int keys_left; /* keys of later rounds; 0: none is to come */
	/* The most keys that the next round may have.  0: the request is not
	   carried out in rounds, or the first one has not begun. */
	unsigned int round_max;

	/* exec_new() sets all above to zero.  What is below is written before
	   it is read. */
	/* Of request_start(): when it began, the low bits of conn_loop_us(). */
	uint32_t began_us;
	struct proto_request r; /* the command, as proto.c understood it */
	/* Valid if is_in_steps: what is to be sent for r now, see
	   outcome_begin_steps(). */
	struct proto_request step;
	struct gate_waiter step_waiter; /* the next step waits for the gate */
	const char *bytes; /* what r was parsed from: in message or small */
	struct pair pair;  /* request.c: the servers of the one key */
	struct get_key *get_keys; /* the keys of this round, in their order */
	unsigned int get_key_count;
	size_t key_at; /* offset in bytes at which the next round begins */
	struct get_key inline_key; /* get_keys, if the round has one key */
	/* The subrequest that in_place is the reply to; valid if that is. */
	struct subrequest *in_place_sub;
	/* The first subrequest; most requests need no other one. */
	struct subrequest inline_sub;
	char small[EXEC_SMALL];
};

/* The error for a key that no server can be asked for, with its CRLF. */
extern const char exec_no_server[];

/* The error when the system, or the budget, has no memory, with its CRLF. */
extern const char exec_no_memory[];

/* The errors for a command that the memcached of its key cannot carry out: it
   is too old, or was started with -C.  Both with their CRLF. */
extern const char exec_too_old[];
extern const char exec_no_cas[];

/* The reply when a value is larger than magent takes (-I). */
extern const char exec_too_large[];

/* Returns NULL when out of memory; see struct exec for what is zero in it. */
struct exec *exec_new(struct request_env *env, void *owner);

/* Free exec and all that it holds: nothing is owed to it, and answered() does
   not run for it. */
void exec_end(struct exec *exec);

/* Append a subrequest to the list of its exec; not open yet.  Returns NULL when
   out of memory, which cannot happen if the list is empty. */
struct subrequest *exec_add_subrequest(struct exec *exec);

/* Free all subrequests and the replies that they keep.  One that is open may be
   among them only if it is closed after this all the same: see request.c. */
void exec_free_subrequests(struct exec *exec);

/* Make the reply a static text, in place of what servers say. */
void exec_set_text(struct exec *exec, const char *text);

/* A server owes an answer to sub from now on.  To be called before its call is
   submitted. */
void exec_open_subrequest(struct subrequest *sub);

/*
 * The server of sub owes nothing any more.  answer is its reply; or NULL if it
 * has failed, and what follows from that (another subrequest that is open, or a
 * text) is there already.  If nothing else is owed, the exec is ready and
 * answered() runs in here.  The exec, with sub, may end in here.
 */
void exec_close_subrequest(struct subrequest *sub, const struct answer *answer);

/*
 * The reply to exec, whose subrequest to asked is not closed yet, waits until
 * asked has a new stamp, because its partner in the pair has missed the write.
 * If asked fails before that, the reply is the text of error.
 */
void exec_confirm(struct exec *exec, const struct pair *pair,
    struct peer *asked, const char *error);

/* Nothing is owed to exec, which has no subrequests, and its text is set:
   answered() runs in here.  The exec may end in here. */
void exec_become_ready(struct exec *exec);

/* The bytes of the reply to sub, *length of them, in place or kept.  Valid
   until exec_free_subrequests(), and in place only while answered() runs. */
const char *exec_reply(const struct exec *exec, const struct subrequest *sub,
    size_t *length);

/* Write n bytes of the reply to sub, from offset at on, to conn. */
void exec_put(struct exec *exec, struct conn *conn,
    const struct subrequest *sub, size_t at, size_t n);

/* As exec_put(); a cas token in these bytes is replaced by the tagged one, if
   keys are mirrored.  cas: where it is, from offset at; length 0: none. */
void exec_put_tagged(struct exec *exec, struct conn *conn,
    const struct subrequest *sub, size_t at, size_t n, struct proto_span cas);

#endif
