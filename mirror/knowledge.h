#ifndef KNOWLEDGE_H
#define KNOWLEDGE_H

/*
 * What this magent knows of its servers goes over to the program that takes its
 * place: which are trusted, what each lacks of the others, and what may still
 * be carried out.  That one goes on as if it had known it itself.
 */

#include <stdbool.h>

struct carry;
struct pairs;
struct pairs_servers;
struct serving;

/* The gate is closed for a job.  Have servers that are being brought back fail,
   so that it is known what they lack, and may still carry out; with_repairs:
   also a mirror that is up, whose repairs do not end. */
void knowledge_come_to_rest(struct pairs *pairs, bool with_repairs);

/* Whether no server that is up owes an answer, or is to be sent anything for
   what was carried out, and nothing is held because a server has failed. */
bool knowledge_is_at_rest(struct pairs *pairs);

/* Write to carry which servers these are: see knowledge_fits(). */
void knowledge_carry_servers(const struct pairs_servers *servers,
    struct carry *carry);

/* Write all that is known to carry: it is at rest. */
void knowledge_carry(struct pairs *pairs, const struct serving *serving,
    struct carry *carry);

/*
 * Take over what carry says; what is about something else, or about a server
 * that pairs have not, is left out.  A server that was not up is DOWN after
 * this.  Nothing has been started.  Returns false when out of memory.
 */
bool knowledge_take(struct pairs *pairs, struct serving *serving,
    struct carry *carry);

/*
 * Whether these servers are those of the carry: the same ones in the same
 * roles, with the same weights, on the same kind of ring; and in the same
 * order, if that decides where a key is.
 */
bool knowledge_fits(const struct pairs_servers *servers, struct carry *carry);

#endif
