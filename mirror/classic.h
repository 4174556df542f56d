#ifndef CLASSIC_H
#define CLASSIC_H

/*
 * Carry out a meta command by a classic one, on a server that would not
 * understand it.  A classic command is any that is not a meta one.
 */

#include <stdbool.h>
#include <stddef.h>

#include "mirror/abilities.h"
#include "mirror/command.h"
#include "proto.h"

/* A classic command in the place of another one. */
struct classic {
	/* Its command, key and numbers; and where the data is in the bytes of
	   the other one.  As of proto_request() otherwise. */
	struct proto_request r;
	/* What r.key is in. */
	const char *bytes;
	char key[PROTO_KEY_MAX];
};

/* What becomes of a command of a client. */
enum classic_way {
	CLASSIC_NONE,    /* the server understands the command itself */
	CLASSIC_INSTEAD, /* a classic command means the same there */
	CLASSIC_MISS,    /* a mg: such a key cannot be there */
	CLASSIC_TOO_OLD, /* refused: the server cannot do it */
	CLASSIC_NO_CAS,  /* refused: it compares no cas tokens */
};

/* How a server with these abilities carries out r, which was parsed from bytes,
   is about one key, and is not of the get family. */
enum classic_way classic_way(const struct abilities *abilities,
    const struct proto_request *r, const char *bytes);

/* The same for a meta command alone; with CLASSIC_INSTEAD, *classic is the
   command.  It is of the get family, or one for command_forward(). */
enum classic_way classic_make(struct classic *classic,
    const struct abilities *abilities, const struct proto_request *r,
    const char *bytes);

/*
 * Write the effect of r for a mirror with these abilities: as command_mirror(),
 * or a classic command that does the same, or else a delete.  Returns what was
 * written; COMMAND_NOTHING if the mirror cannot have the key.
 */
enum command_effect classic_mirror(struct command *command,
    const struct abilities *abilities, const struct proto_request *r,
    const char *bytes, enum command_effect effect);

/* Whether a key, as it is on a command line, can be on a server with these
   abilities. */
bool classic_can_hold(const struct abilities *abilities, const char *key,
    size_t length, bool base64);

#endif
