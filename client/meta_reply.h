#ifndef META_REPLY_H
#define META_REPLY_H

/*
 * Write replies to meta commands: in place of a server that was not asked, or
 * that has carried out another command instead; or what a server has said, with
 * what it was not asked for.
 */

#include "proto.h"

struct answer;
struct call;
struct conn;
struct exec;
struct peer;
struct subrequest;

/* Make the text of exec, which carries out a meta command: word, which has two
   letters, and what memcached adds there for the flags O, k and c. */
void meta_reply_set(struct exec *exec, const char *word);

/* A server has replied to an ms that has made the item of an ma.  Make the text
   that the ma would have got; it is empty if q leaves it out. */
void meta_reply_set_made(struct exec *exec, const struct peer *peer,
    const struct answer *answer);

/*
 * The server of sub has replied to the classic command that mirror/classic.h
 * has made of the meta command of exec.  Make the text of exec, which the meta
 * command would have got; it is empty if q leaves it out.  Returns the reply as
 * that of the meta command: its result and its number, no spans.
 */
struct proto_reply meta_reply_translate(struct exec *exec,
    const struct subrequest *sub, const struct answer *answer);

/*
 * Write what the server of sub has said to a meta command that it was sent
 * itself.  The cas token is tagged.  A key that it was not asked for is added,
 * and the number of an ma that only we asked for is left out.
 */
void meta_reply_write(struct exec *exec, struct conn *conn,
    const struct subrequest *sub);

/* For struct call: an element of the reply to a classic command. */
bool meta_reply_element(struct call *call, const struct proto_reply *element,
    const char *bytes, size_t at);

#endif
