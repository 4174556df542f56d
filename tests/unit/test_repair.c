/*
 * Who waits for repairs, and for how many; what becomes of them when the mirror
 * fails.  The copies are played by the test.
 */

#include <stdio.h>
#include <string.h>

#include "mirror/copies.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "unit.h"

enum { WAITING_MAX = 1000, PATIENCE = 2000 };

static struct peer peer;
static struct repairs *repairs;
static unsigned int done_count, lost_count;

/*
 * What repairs stand on
 */

struct copies {
	const struct copies_handler *handler;
	void *owner;
	size_t left;
	bool is_in_hurry;
	unsigned int goes;
};

static struct copies copies;

struct copies *
copies_new(struct pairs *pairs, struct peer *to, bool replaces, size_t *held,
    const struct copies_handler *handler, void *owner)
{
	(void)pairs;
	check(to == &peer && replaces && held != NULL);
	copies = (struct copies){ .handler = handler, .owner = owner };
	return &copies;
}

void
copies_free(struct copies *of)
{
	check(of == NULL || of == &copies);
}

bool
copies_add(struct copies *of, const char *key, size_t length, bool base64)
{
	check(key[0] == 'k' && length == 1 && !base64);
	of->left++;
	return true;
}

void
copies_go(struct copies *of)
{
	of->goes++;
}

void
copies_set_hurry(struct copies *of, bool is_in_hurry)
{
	of->is_in_hurry = is_in_hurry;
}

size_t
copies_left(const struct copies *of)
{
	return of->left;
}

bool
copies_pop(struct copies *of, char *key, size_t *length, bool *base64)
{
	if (of->left == 0)
		return false;
	of->left--;
	key[0] = 'k';
	*length = 1;
	*base64 = false;
	return true;
}

void
copies_make_dirty(struct copies *of)
{
	check(of->left == 0);
}

bool
peer_is_mirror(const struct peer *of)
{
	return of == &peer;
}

void
pairs_lose_effect(const struct pairs *pairs, struct peer *of, const char *key,
    size_t length, bool base64)
{
	(void)pairs;
	check(of == &peer && key[0] == 'k' && length == 1 && !base64);
	lost_count++;
}

/* Copies of n keys end. */
static void
end_copies(size_t n)
{
	while (n-- > 0) {
		copies.left--;
		copies.handler->ended(copies.owner, NULL, COPY_ADDED);
	}
	copies.handler->moved(copies.owner);
}

static void
add(size_t n)
{
	while (n-- > 0)
		check(repairs_add(repairs, "k", 1, false));
}

static void
on_done(void *owner)
{
	check(owner == &done_count);
	done_count++;
}

static void
begin(void)
{
	done_count = lost_count = 0;
	repairs = repairs_new(NULL, &peer);
	unit_need(repairs != NULL, "repairs_new");
}

static void
test_nobody_waits_if_few_are_left(void)
{
	begin();
	check(!repairs_await(repairs, 0, on_done, &done_count));
	check(!repairs_finish(repairs, on_done, &done_count));
	add(3);
	check(copies.goes == 3);
	check(!repairs_await(repairs, 3, on_done, &done_count));
	end_copies(3);
	check(done_count == 0);
	repairs_free(repairs);
}

static void
test_who_waits_is_told_when_few_are_left(void)
{
	begin();
	add(5);
	check(repairs_await(repairs, 2, on_done, &done_count));
	end_copies(2);
	check(done_count == 0);
	end_copies(1);
	check(done_count == 1);
	end_copies(1);
	check(done_count == 1);
	repairs_free(repairs);
}

static void
test_who_waits_is_told_when_many_were_dealt_with(void)
{
	size_t i;

	begin();
	add(WAITING_MAX);
	check(!repairs_add(repairs, "k", 1, false));
	check(repairs_await(repairs, 16, on_done, &done_count));
	for (i = 0; i < PATIENCE; i++) {
		check(done_count == 0);
		end_copies(1);
		add(1);
	}
	copies.handler->moved(copies.owner);
	check(done_count == 1);
	repairs_free(repairs);
}

static void
test_last_ones_are_in_a_hurry(void)
{
	begin();
	add(2);
	check(!copies.is_in_hurry);
	check(repairs_finish(repairs, on_done, &done_count));
	check(copies.is_in_hurry && copies.goes == 3);
	end_copies(2);
	check(done_count == 1 && !copies.is_in_hurry);
	repairs_free(repairs);
}

static void
test_mirror_that_fails_has_them_dirty(void)
{
	begin();
	repairs_stop(repairs);
	add(4);
	check(repairs_finish(repairs, on_done, &done_count));
	repairs_stop(repairs);
	check(lost_count == 4 && !copies.is_in_hurry);
	copies.handler->moved(copies.owner);
	check(done_count == 0);
	repairs_free(repairs);
}

int
main(void)
{
	RUN(test_nobody_waits_if_few_are_left);
	RUN(test_who_waits_is_told_when_few_are_left);
	RUN(test_who_waits_is_told_when_many_were_dealt_with);
	RUN(test_last_ones_are_in_a_hurry);
	RUN(test_mirror_that_fails_has_them_dirty);
	return unit_end();
}
