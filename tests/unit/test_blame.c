/* Keys at which servers fail: when one is to blame, and how many are known. */

#include "mirror/blame.h"
#include "unit.h"

enum { KNOWN = 32 };

/* The i-th key of a test. */
static size_t
make_key(char *key, unsigned int i)
{
	return (size_t)sprintf(key, "key:%u", i);
}

static void
blame_number(struct blame *blame, unsigned int i)
{
	char key[32];

	blame_key(blame, BLAME_COPY, key, make_key(key, i));
}

static bool
is_blamed(const struct blame *blame, unsigned int i)
{
	char key[32];

	return blame_is_clear(blame, BLAME_COPY, key, make_key(key, i));
}

static void
test_two_failures_are_chance(void)
{
	struct blame *blame = blame_new();

	unit_need(blame != NULL, "blame_new");
	check(!is_blamed(blame, 1));
	blame_number(blame, 1);
	check(!is_blamed(blame, 1));
	blame_number(blame, 2);
	blame_number(blame, 1);
	check(!is_blamed(blame, 1) && !is_blamed(blame, 2));
	blame_number(blame, 1);
	check(is_blamed(blame, 1) && !is_blamed(blame, 2));
	blame_free(blame);
}

/* What was carried out is blamed anew; a copy is no delete. */
static void
test_what_was_carried_out_is_acquitted(void)
{
	struct blame *blame = blame_new();
	int i;

	unit_need(blame != NULL, "blame_new");
	blame_acquit(blame, BLAME_COPY, "k", 1);
	for (i = 0; i < 3; i++) {
		check(!blame_is_clear(blame, BLAME_COPY, "k", 1));
		check(!blame_is_clear(blame, BLAME_DELETE, "k", 1));
		blame_key(blame, BLAME_COPY, "k", 1);
		blame_key(blame, BLAME_DELETE, "k", 1);
		if (i < 2)
			blame_acquit(blame, BLAME_DELETE, "k", 1);
	}
	check(blame_is_clear(blame, BLAME_COPY, "k", 1));
	check(!blame_is_clear(blame, BLAME_DELETE, "k", 1));
	blame_acquit(blame, BLAME_COPY, "k", 1);
	check(!blame_is_clear(blame, BLAME_COPY, "k", 1));
	blame_free(blame);
}

/* Keys with the same beginning, and the longest one, are told apart. */
static void
test_keys_are_compared_whole(void)
{
	struct blame *blame = blame_new();
	char key[250];

	unit_need(blame != NULL, "blame_new");
	memset(key, 'k', sizeof(key));
	blame_key(blame, BLAME_COPY, key, sizeof(key));
	blame_key(blame, BLAME_COPY, key, sizeof(key));
	blame_key(blame, BLAME_COPY, key, sizeof(key) - 1);
	check(!blame_is_clear(blame, BLAME_COPY, key, sizeof(key)));
	blame_key(blame, BLAME_COPY, key, sizeof(key));
	check(blame_is_clear(blame, BLAME_COPY, key, sizeof(key)));
	check(!blame_is_clear(blame, BLAME_COPY, key, sizeof(key) - 1));
	check(!blame_is_clear(blame, BLAME_COPY, key, 1));
	blame_free(blame);
}

static void
test_those_blamed_last_are_known(void)
{
	struct blame *blame = blame_new();
	unsigned int i;

	unit_need(blame != NULL, "blame_new");
	for (i = 0; i < 2 * KNOWN; i++) {
		blame_number(blame, i);
		blame_number(blame, i);
		blame_number(blame, i);
	}
	for (i = 0; i < 2 * KNOWN; i++)
		check_case(is_blamed(blame, i) == (i >= KNOWN), "key %u", i);
	blame_free(blame);
}

int
main(void)
{
	blame_free(NULL);
	RUN(test_two_failures_are_chance);
	RUN(test_what_was_carried_out_is_acquitted);
	RUN(test_keys_are_compared_whole);
	RUN(test_those_blamed_last_are_known);
	return unit_end();
}
