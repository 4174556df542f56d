/*
 * The commands of clients of which a part has come.
 *
 *	NONE --- note ---> HELD --- give_up ---> LEAVING
 *	  ^                 |                       |
 *	  '------ end ------'---------- end --------'
 *
 * Invariant: the list has those that are held, in the order in which they were
 * begun; bytes and leaving are the sums of the bytes of the two kinds.
 */

#include "client/unfinished.h"

#include <assert.h>

#include "client/budget.h"

void
unfinished_list_init(struct unfinished_list *list)
{
	TAILQ_INIT(&list->held);
	list->bytes = list->leaving = 0;
}

void
unfinished_note(struct unfinished_list *list, struct unfinished *command,
    size_t bytes, int64_t now_ms)
{
	assert(bytes > 0 && command->state != UNFINISHED_LEAVING);
	assert(list->bytes >= command->bytes);
	if (command->state == UNFINISHED_NONE) {
		assert(command->bytes == 0);
		command->state = UNFINISHED_HELD;
		command->since_ms = now_ms;
		TAILQ_INSERT_TAIL(&list->held, command, entry);
	}
	list->bytes += bytes - command->bytes;
	command->bytes = bytes;
}

void
unfinished_give_up(struct unfinished_list *list, struct unfinished *command)
{
	assert(command->state == UNFINISHED_HELD);
	assert(list->bytes >= command->bytes);
	TAILQ_REMOVE(&list->held, command, entry);
	list->bytes -= command->bytes;
	list->leaving += command->bytes;
	command->state = UNFINISHED_LEAVING;
}

void
unfinished_end(struct unfinished_list *list, struct unfinished *command)
{
	if (command->state == UNFINISHED_HELD)
		unfinished_give_up(list, command);
	assert(list->leaving >= command->bytes);
	list->leaving -= command->bytes;
	command->bytes = 0;
	command->state = UNFINISHED_NONE;
}

struct unfinished *
unfinished_to_give_up(const struct unfinished_list *list,
    const struct budget *budget, int64_t now_ms)
{
	struct unfinished *first = TAILQ_FIRST(&list->held);

	assert((first == NULL) == (list->bytes == 0));
	if (first == NULL ||
	    !budget_gives_up(budget, list->bytes, list->leaving,
		now_ms - first->since_ms))
		return NULL;
	return first;
}
