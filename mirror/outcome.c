/*
 * Say what a command has done, and what its mirror gets for that.
 *
 * The table of effects:
 *
 *   the authority answered                         the mirror gets
 *
 *   STORED to set, add, replace, cas               SET
 *   STORED to append, prepend                      SAME
 *   a number to incr, decr                         SAME
 *   TOUCHED to touch; a hit of gat, gats           TOUCH
 *   DELETED or NOT_FOUND to delete                 DELETE
 *   SERVER_ERROR to set                            DELETE
 *
 *   HD to ms with mode S, E or R                   SET
 *   HD to ms with mode A or P                      SAME
 *   SERVER_ERROR to ms                             DELETE
 *   HD or NF to md                                 DELETE
 *   HD to md with I                                STALE
 *   VA to ma                                       SAME
 *   VA or HD to mg with T                          TOUCH
 *   W, with X                                      WIN
 *   W, without X, to mg with R                     WIN
 *   W, without X, to mg with N                     MAKE
 *
 *   DELETED, NOT_FOUND, HD or NF to the delete
 *     for a set or ms whose value is too large     DELETE
 *   anything else                                  NOTHING
 *
 * W wins over T in the same reply: what the mirror gets then has T, too.  Other
 * flags change nothing.  C is not for the mirror, whose tokens are others; q is
 * not for servers.
 *
 * The table of steps: a command whose reply does not say what was done is
 * carried out by others, each of which does one thing.
 *
 *   the command                first          then
 *
 *   ms, mode A or P, with N    without N      NS: with mode E, and T for N, if
 *                                             the server makes such items
 *   ms, mode S or R, C and I   without I      EX: as it is; HD has SET_STALE
 *   ma with N                  without N      NF: ms with mode E: SET
 *   mg with N and R            without N      EN: without R
 *
 * When somebody else has made the item between the two steps (NS, or a hit
 * without W), it begins again.  A command that is sent as a whole all the same
 * has UNKNOWN where its reply is ambiguous.
 *
 * What the mirror gets depends on nothing but the command and the reply.  In
 * each state of the mirror (it is up, being filled, or warming) the same is
 * right, because its FIFO has the effects in the order of the replies, and a
 * copy is one of the commands in that order.  A mirror that is down gets
 * nothing: the key is dirty.
 */

#include "mirror/outcome.h"

#include <assert.h>

#include "mirror/command.h"

/*
 * Effects
 */

/* Whether an ms may store the value, or may store it as stale. */
static bool
may_be_stale(const struct proto_request *r)
{
	return r->has_cas && r->has_invalidate &&
	    (r->mode == 'S' || r->mode == 'R');
}

static enum command_effect
effect_of_hit(const struct proto_request *r, unsigned int marks)
{
	if ((marks & PROTO_WON) == 0)
		return r->has_ttl ? COMMAND_TOUCH : COMMAND_NOTHING;
	if ((marks & PROTO_STALE) != 0 || !r->has_vivify)
		return COMMAND_WIN;
	return r->has_recache ? COMMAND_UNKNOWN : COMMAND_MAKE;
}

static enum command_effect
effect_of_ms(const struct proto_request *r)
{
	if (command_appends(r))
		return r->has_vivify ? COMMAND_UNKNOWN : COMMAND_SAME;
	if (r->mode == COMMAND_IS_STALE)
		return COMMAND_SET_STALE;
	return may_be_stale(r) ? COMMAND_UNKNOWN : COMMAND_SET;
}

/* The effect of HD, or of VA, which says the same and more. */
static enum command_effect
effect_of_meta(const struct proto_request *r, unsigned int marks)
{
	if (r->too_large)
		return COMMAND_DELETE;
	switch (r->command) {
	case PROTO_MG:
		return effect_of_hit(r, marks);
	case PROTO_MS:
		return effect_of_ms(r);
	case PROTO_MD:
		return r->has_invalidate ? COMMAND_STALE : COMMAND_DELETE;
	default:
		assert(r->command == PROTO_MA);
		if (command_makes_number(r))
			return COMMAND_SET;
		return r->has_vivify ? COMMAND_UNKNOWN : COMMAND_SAME;
	}
}

enum command_effect
outcome_effect(const struct proto_request *r, const struct proto_reply *reply)
{
	bool deletes = r->command == PROTO_DELETE || r->command == PROTO_MD ||
	    r->too_large;
	bool overwrites = r->command == PROTO_SET || r->command == PROTO_MS;

	assert(r->command >= PROTO_GAT && r->command <= PROTO_ME);
	switch (reply->result) {
	case PROTO_STORED:
		return command_appends(r) ? COMMAND_SAME : COMMAND_SET;
	case PROTO_NUMBER:
		return COMMAND_SAME;
	case PROTO_TOUCHED:
	case PROTO_VALUE:
		return COMMAND_TOUCH;
	case PROTO_DELETED:
		return COMMAND_DELETE;
	case PROTO_NOT_FOUND:
	case PROTO_META_NF:
		return deletes ? COMMAND_DELETE : COMMAND_NOTHING;
	case PROTO_META_HD:
	case PROTO_META_VALUE:
		return effect_of_meta(r, reply->marks);
	case PROTO_SERVER_ERROR:
		/* memcached has dropped the value that was to be replaced. */
		return overwrites ? COMMAND_DELETE : COMMAND_NOTHING;
	default:
		return COMMAND_NOTHING;
	}
}

/*
 * Steps
 */

static bool
has_steps(const struct proto_request *r)
{
	switch (r->command) {
	case PROTO_MS:
		return command_appends(r) ? r->has_vivify : may_be_stale(r);
	case PROTO_MA:
		return r->has_vivify;
	case PROTO_MG:
		return r->has_vivify && r->has_recache;
	default:
		return false;
	}
}

bool
outcome_begin_steps(struct proto_request *step, const struct proto_request *r)
{
	if (r->too_large || !has_steps(r))
		return false;
	*step = *r;
	step->has_vivify = false;
	step->has_invalidate = false;
	return true;
}

static enum outcome
begin_again(struct proto_request *step, const struct proto_request *r)
{
	outcome_begin_steps(step, r);
	return OUTCOME_HAS_STEP;
}

/* The exptime of what an ma makes: N and T are carried out in their order.
   Returns false if the reply is to say how long it lives, and it does not live:
   what memcached says then is no number of seconds. */
static bool
find_made_exptime(const struct proto_request *r, const char *bytes,
    int32_t *exptime)
{
	size_t at = r->meta.at, end = r->meta.at + r->meta.length;
	bool asks = false, lives = true;
	struct proto_span token;

	while (proto_token(bytes, end, &at, &token)) {
		asks |= bytes[token.at] == 't';
		if (bytes[token.at] == 'N')
			*exptime = r->vivify;
		else if (bytes[token.at] == 'T')
			*exptime = r->exptime;
		else
			continue;
		lives &= *exptime >= 0;
	}
	return lives || !asks;
}

static enum outcome
next_ma(struct proto_request *step, const struct proto_request *r,
    const char *bytes, enum proto_result result)
{
	if (command_makes_number(step))
		return result == PROTO_META_NS ?
		    begin_again(step, r) :
		    OUTCOME_IS_REPLY;
	if (result != PROTO_META_NF)
		return OUTCOME_IS_REPLY;
	if (!find_made_exptime(r, bytes, &step->exptime))
		return OUTCOME_IS_WHOLE;
	step->mode = COMMAND_MAKES;
	return OUTCOME_HAS_STEP;
}

static enum outcome
next_append(struct proto_request *step, const struct proto_request *r,
    enum proto_result result, bool can_vivify)
{
	if (result != PROTO_META_NS || (command_appends(step) && !can_vivify))
		return OUTCOME_IS_REPLY;
	if (!command_appends(step))
		return begin_again(step, r);
	step->mode = 'E';
	step->has_ttl = true;
	step->exptime = r->vivify;
	return OUTCOME_HAS_STEP;
}

static enum outcome
next_stale(struct proto_request *step, enum proto_result result)
{
	if (step->mode == COMMAND_IS_STALE || result != PROTO_META_EX)
		return OUTCOME_IS_REPLY;
	step->mode = COMMAND_IS_STALE;
	step->has_invalidate = true;
	return OUTCOME_HAS_STEP;
}

static enum outcome
next_mg(struct proto_request *step, const struct proto_request *r,
    const struct proto_reply *reply)
{
	bool is_hit = reply->result == PROTO_META_HD ||
	    reply->result == PROTO_META_VALUE;

	if (step->has_vivify)
		return is_hit && (reply->marks & PROTO_WON) == 0 ?
		    begin_again(step, r) :
		    OUTCOME_IS_REPLY;
	if (reply->result != PROTO_META_EN)
		return OUTCOME_IS_REPLY;
	step->has_vivify = true;
	step->has_recache = false;
	return OUTCOME_HAS_STEP;
}

enum outcome
outcome_next_step(struct proto_request *step, const struct proto_request *r,
    const char *bytes, const struct proto_reply *reply, bool can_vivify)
{
	assert(step->command == r->command && has_steps(r));
	if (r->command == PROTO_MG)
		return next_mg(step, r, reply);
	if (r->command == PROTO_MA)
		return next_ma(step, r, bytes, reply->result);
	return command_appends(r) ?
	    next_append(step, r, reply->result, can_vivify) :
	    next_stale(step, reply->result);
}
