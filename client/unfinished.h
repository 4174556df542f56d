#ifndef UNFINISHED_H
#define UNFINISHED_H

/*
 * The commands of clients of which a part has come.  Each holds memory until
 * the rest comes, which may be never: so the one that was begun first is given
 * up when memory is short.  budget.h has the rule.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct budget;

enum unfinished_state {
	UNFINISHED_NONE,    /* the client has no such command */
	UNFINISHED_HELD,    /* its bytes are kept, and more may come */
	UNFINISHED_LEAVING, /* it is given up; its bytes are still kept */
};

/* Embedded in its client, zero at first. */
struct unfinished {
	TAILQ_ENTRY(unfinished) entry; /* of the list, if it is held */
	size_t bytes;                  /* that it holds; 0 if there is none */
	int64_t since_ms;              /* when its first bytes had come */
	enum unfinished_state state;
};

/* Those of all clients. */
struct unfinished_list {
	TAILQ_HEAD(, unfinished) held; /* the one that was begun first, first */
	size_t bytes;                  /* of those that are held */
	size_t leaving;                /* bytes of those that are given up */
};

void unfinished_list_init(struct unfinished_list *list);

/* The command is not whole, and holds this many bytes now, bytes > 0.  It is
   not leaving. */
void unfinished_note(struct unfinished_list *list, struct unfinished *command,
    size_t bytes, int64_t now_ms);

/* Give the command up.  It is held. */
void unfinished_give_up(struct unfinished_list *list,
    struct unfinished *command);

/* Its bytes are not kept any more: it is whole, or thrown away, or there was
   none. */
void unfinished_end(struct unfinished_list *list, struct unfinished *command);

/* The one that is to be given up now; NULL: none is. */
struct unfinished *unfinished_to_give_up(const struct unfinished_list *list,
    const struct budget *budget, int64_t now_ms);

#endif
