/* Unfinished commands: which one is given up, and when. */

#include <event2/event.h>

#include "block.h"
#include "client/budget.h"
#include "client/unfinished.h"
#include "unit.h"

enum { MB = 1 << 20, LIMIT = 64 * MB };

static struct event_base *base;
static struct budget *budget;
static struct unfinished_list list;
static struct unfinished commands[4];

static void
make(void)
{
	base = event_base_new();
	unit_need(base != NULL, "event_base_new");
	budget = budget_new(base, LIMIT, MB);
	unit_need(budget != NULL, "budget_new");
	unfinished_list_init(&list);
	memset(commands, 0, sizeof(commands));
}

static void
end(void)
{
	size_t i;

	for (i = 0; i < COUNT(commands); i++)
		unfinished_end(&list, &commands[i]);
	check(list.bytes == 0 && list.leaving == 0 && TAILQ_EMPTY(&list.held));
	budget_free(budget);
	event_base_free(base);
}

static struct block *
hold(size_t n)
{
	struct block *block = block_new(n);

	unit_need(block != NULL, "block_new");
	return block;
}

/* The number of the command that is to be given up; -1: none is. */
static int
next_at(int64_t now_ms)
{
	const struct unfinished *next = unfinished_to_give_up(&list, budget,
	    now_ms);

	return next == NULL ? -1 : (int)(next - commands);
}

static void
test_commands_stay_while_memory_is_not_short(void)
{
	make();
	check(next_at(0) == -1);
	unfinished_note(&list, &commands[0], LIMIT / 2, 10);
	check(next_at(10) == -1 && next_at(1000000) == -1);
	end();
}

static void
test_commands_over_their_part_go_in_the_order_of_their_begin(void)
{
	struct block *block = hold(LIMIT + MB);

	make();
	unfinished_note(&list, &commands[2], 10, 10);
	unfinished_note(&list, &commands[0], LIMIT / 8, 20);
	unfinished_note(&list, &commands[1], LIMIT / 8, 30);
	check(next_at(40) == 2);
	/* More of it has come: it is as old as it was. */
	unfinished_note(&list, &commands[2], 20, 40);
	check(list.bytes == LIMIT / 4 + 20 && next_at(40) == 2);
	unfinished_give_up(&list, &commands[2]);
	/* A quarter of the limit is left. */
	check(next_at(40) == -1 && list.leaving == 20);
	unfinished_note(&list, &commands[1], LIMIT / 8 + 1, 50);
	check(next_at(50) == 0);
	unfinished_give_up(&list, &commands[0]);
	check(next_at(50) == -1);
	unfinished_end(&list, &commands[0]);
	check(commands[0].bytes == 0 && list.leaving == 20);
	block_release(block);
	end();
}

static void
test_what_is_leaving_counts_as_if_it_were_gone(void)
{
	struct block *block = hold(LIMIT + MB);

	make();
	unfinished_note(&list, &commands[0], 2 * MB, 0);
	unfinished_note(&list, &commands[1], LIMIT, 0);
	check(next_at(1) == 0);
	unfinished_give_up(&list, &commands[0]);
	check(next_at(1) == -1);
	unfinished_end(&list, &commands[0]);
	check(next_at(1) == 1);
	block_release(block);
	end();
}

static void
test_old_command_goes_whatever_its_size_while_memory_is_short(void)
{
	struct block *block = hold(LIMIT + MB);

	make();
	unfinished_note(&list, &commands[3], 1, 100);
	unfinished_note(&list, &commands[1], 1, 200);
	check(next_at(2099) == -1);
	check(next_at(2100) == 3);
	unfinished_end(&list, &commands[3]);
	check(next_at(2100) == -1);
	check(next_at(2200) == 1);
	block_release(block);
	check(next_at(2200) == -1);
	end();
}

/* Those over their part also go for memory that is only expected. */
static void
test_old_commands_over_their_part_go_when_others_would_wait(void)
{
	make();
	unfinished_note(&list, &commands[0], LIMIT / 4 + 1, 0);
	check(next_at(5000) == -1);
	budget_expect(budget, false, 10000);
	check(next_at(1999) == -1 && next_at(2000) == 0);
	unfinished_note(&list, &commands[0], LIMIT / 4, 0);
	check(next_at(5000) == -1);
	budget_unexpect(budget, false, 10000);
	end();
}

int
main(void)
{
	RUN(test_commands_stay_while_memory_is_not_short);
	RUN(test_commands_over_their_part_go_in_the_order_of_their_begin);
	RUN(test_what_is_leaving_counts_as_if_it_were_gone);
	RUN(test_old_command_goes_whatever_its_size_while_memory_is_short);
	RUN(test_old_commands_over_their_part_go_when_others_would_wait);
	block_free_spare();
	return unit_end();
}
