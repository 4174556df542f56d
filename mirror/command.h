#ifndef COMMAND_H
#define COMMAND_H

/*
 * Write commands as servers are to get them, in one canonical form, whatever
 * way the client wrote them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

enum {
	/* Bytes of a line that is no get or gets, with its CRLF: up to 1.6.17 a
	   memcached closes the connection at a longer one. */
	COMMAND_LINE_MAX = 1024,
	COMMAND_GET_MAX = 32, /* room for what command_get() writes */
};

/* The bits of a cas token that are the server's; above is the tag. */
#define COMMAND_CAS_MASK (((uint64_t)1 << 48) - 1)

/* What the mirror is told after the authority has answered a write. */
enum command_effect {
	COMMAND_NOTHING,
	COMMAND_SET,  /* the value as it was stored */
	COMMAND_SAME, /* the command again: append, incr, ... */
	COMMAND_TOUCH,
	COMMAND_DELETE,
};

/* A command ready to be sent. */
struct command {
	char line[COMMAND_LINE_MAX]; /* with its CRLF */
	size_t length;
	bool data; /* the data of the request, with its CRLF,
				   follows the line */
	enum proto_expect expect;
};

/*
 * The command for the authority: of a request about one key (but no get), with
 * bytes, what r was parsed from; cas in place of the token that the client
 * gave.  A value that is too large becomes a delete, for memcached drops the old
 * value then.  An ma always asks for the number.
 */
void command_forward(struct command *command, const struct proto_request *r,
    const char *bytes, uint64_t cas);

/*
 * What the mirror gets after the authority has replied with result to request
 * r: see the table in command.c.  r is about a key and is not a get or gets,
 * which have no effect.  result is one that proto_reply() lets through for the
 * command that command_forward() has made of r, or PROTO_VALUE for each hit of
 * a gat or gats.
 */
enum command_effect command_effect_of(const struct proto_request *r,
    enum proto_result result);

/* The command for the mirror; effect is not COMMAND_NOTHING. */
void command_mirror(struct command *command, const struct proto_request *r,
    const char *bytes, enum command_effect effect);

/* "delete" of n bytes of a key as it is on the line of r. */
void command_delete(struct command *command, const struct proto_request *r,
    const char *bytes);

/*
 * The start of a get, gets, gat or gats, up to the space before the first
 * key.  Returns its length; line has room for COMMAND_GET_MAX bytes.
 */
size_t command_get(char *line, const struct proto_request *r);

/* Write the cas token of n digits with tag.  Returns its length; token has room
   for 20 bytes. */
size_t command_tag(char *token, const char *digits, size_t n, uint64_t tag);

#endif
