#ifndef OUTCOME_H
#define OUTCOME_H

/*
 * What a command has done, as far as its reply tells, and what its mirror gets
 * for that.  Pure: these functions know nothing but the command and the reply.
 */

#include <stdbool.h>

#include "mirror/command.h"
#include "proto.h"

/* What follows from the reply to a step. */
enum outcome {
	OUTCOME_IS_REPLY, /* it is the reply to the command */
	OUTCOME_HAS_STEP, /* another step is to be sent */
	OUTCOME_IS_WHOLE, /* the command is to be sent as it is */
};

/*
 * Some commands do one of two things, and the reply does not say which: see
 * the table of steps in outcome.c.  For such an r, make *step the first
 * request of those that r is carried out by one after another.  Returns false
 * if r is none.
 */
bool outcome_begin_steps(struct proto_request *step,
    const struct proto_request *r);

/* A server has replied to this step of r: make *step the next one.  can_vivify:
   the server makes an item for an ms with mode A or P, and N. */
enum outcome outcome_next_step(struct proto_request *step,
    const struct proto_request *r, const char *bytes,
    const struct proto_reply *reply, bool can_vivify);

/*
 * What the mirror gets after the authority has replied to request r, or to this
 * step: see the table in outcome.c.  r is about a key and is not a get or gets,
 * which have no effect.  reply is one that proto_reply() lets through for the
 * command that command_forward() has made of r, or PROTO_VALUE for each hit of
 * a gat or gats.  Of reply, the result and the marks are read.
 */
enum command_effect outcome_effect(const struct proto_request *r,
    const struct proto_reply *reply);

#endif
