#ifndef COMMAND_H
#define COMMAND_H

/*
 * Write commands in the form in which servers get them, and choose the command
 * that the mirror gets after a write.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

enum {
	/* Bytes of a line that is no get or gets, with its CRLF: up to 1.6.17 a
	   memcached closes the connection at a longer one. */
	COMMAND_LINE_MAX = 1024,
	/* Room for what command_get() writes. */
	COMMAND_GET_MAX = 32,
};

/* The bits of a cas token that come from the server.  The tag is in the bits
   above them. */
#define COMMAND_CAS_MASK (((uint64_t)1 << 48) - 1)

/* What the mirror gets after the authority has answered a command. */
enum command_effect {
	COMMAND_NOTHING,
	COMMAND_SET,     /* a set of the request's data, or of J of ma */
	COMMAND_SAME,    /* the same command */
	COMMAND_TOUCH,   /* a touch with the request's exptime */
	COMMAND_DELETE,  /* a delete of the key */
	COMMAND_UNKNOWN, /* the same, because the reply does not say enough */
	/* From here on they are meta commands for any key. */
	COMMAND_SET_STALE, /* a new value for an item, which is stale then */
	COMMAND_WIN,       /* an mg that wins the item, too */
	COMMAND_MAKE,  /* a delete, and behind it an mg that makes the item */
	COMMAND_STALE, /* an md that invalidates the item */
	/* Of an mg. */
	COMMAND_MARK,  /* an md that invalidates the item, which is stale */
	COMMAND_STRIP, /* an append of nothing: the item is not marked then */
};

/* The mode of a step that is an ms or an ma, besides those of clients.  An ma
   with COMMAND_MAKES adds the item of J; an ms with COMMAND_IS_STALE has C and
   I, and its C does not match. */
enum { COMMAND_MAKES = 'E', COMMAND_IS_STALE = 'I' };

/* A command that is ready to be sent. */
struct command {
	char line[COMMAND_LINE_MAX];
	/* Bytes of the line, with its CRLF. */
	size_t length;
	/* The data of the request, with its CRLF, follows the line. */
	bool has_data;
	/* The kind of reply that the server gives. */
	enum proto_expect expect;
};

/* Whether r is a meta command about a key. */
bool command_is_meta(const struct proto_request *r);

/* Whether r appends or prepends. */
bool command_appends(const struct proto_request *r);

/* Whether r counts an item that there is. */
bool command_counts(const struct proto_request *r);

/* Whether r is the step of an ma that adds the item of J. */
bool command_makes_number(const struct proto_request *r);

/*
 * The key of r, which is at r->key of bytes, without base64 if it can be
 * written so.  It is at key->key of what is returned: bytes, or room, which has
 * room for PROTO_KEY_MAX bytes.  Besides this *key has base64 alone.
 */
const char *command_plain_key(const struct proto_request *r, const char *bytes,
    struct proto_request *key, char *room);

/* Whether the key of r, which is at r->key of bytes, is in base64 and cannot be
   written otherwise.  Then servers are not asked for it by the flag k. */
bool command_needs_base64(const struct proto_request *r, const char *bytes);

/*
 * Write the command for the authority.  r is about one key and was parsed from
 * bytes, or it is a step of such a request.  Its error is NULL, or it is
 * too_large.
 *
 * cas takes the place of the token that the client gave.  A value that is too
 * large becomes a delete, because memcached drops the old value then.  An ma
 * always asks for the number, because the mirror's number is compared with it.
 */
void command_forward(struct command *command, const struct proto_request *r,
    const char *bytes, uint64_t cas);

/* Write the command for the mirror.  effect is what outcome_effect() says of
   r and of a reply to it, and is not COMMAND_NOTHING.  Of COMMAND_MAKE this is
   the mg. */
void command_mirror(struct command *command, const struct proto_request *r,
    const char *bytes, enum command_effect effect);

/* Write a delete of the key of r, which is at r->key of bytes: an md if it is
   base64 and could not be written otherwise.  No other field of r is read. */
void command_delete(struct command *command, const struct proto_request *r,
    const char *bytes);

/* Whether a server that replied so to this delete of the key of r does not have
   the key.  One that knows no base64 refuses the delete of a key that needs it,
   and cannot have such a key. */
bool command_has_deleted(const struct proto_request *r,
    enum proto_result result);

/*
 * Write the start of a command of the get family: its word and, of a gat or
 * gats, the exptime.  No space follows.  Returns the length; line has room for
 * COMMAND_GET_MAX bytes.
 */
size_t command_get(char *line, const struct proto_request *r);

/*
 * Write the cas token of n digits with a tag in its upper bits.  The bits of
 * tag that are in COMMAND_CAS_MASK are 0.  The token 0 stands for none, and
 * stays 0.  Returns the length; token has room for 20 bytes.
 */
size_t command_tag(char *token, const char *digits, size_t n, uint64_t tag);

#endif
