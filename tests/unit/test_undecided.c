/*
 * Who is right about a key whose write both of its servers have lost, for each
 * state of what is known.  There are two servers, A and B.
 */

#include <string.h>

#include "mirror/behind.h"
#include "mirror/dirty.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/undecided.h"
#include "unit.h"

enum { A, B, PEERS };

static struct peer peers[PEERS];
static bool is_behind[PEERS]; /* each is behind the other one, in all */

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return PEERS;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	(void)pairs;
	return &peers[i];
}

struct pair
pairs_find_wire(const struct pairs *pairs, const char *key, size_t length,
    bool base64)
{
	(void)pairs;
	(void)key;
	(void)length;
	(void)base64;
	return (struct pair){ .primary = &peers[A], .backup = &peers[B] };
}

struct peer *
pair_partner(const struct pair *pair, const struct peer *peer)
{
	return peer == pair->primary ? pair->backup : pair->primary;
}

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	check(other != peer);
	return is_behind[peer - peers] ? BEHIND_ALL : BEHIND_KEYS;
}

bool
peers_are_partners(const struct peer *one, const struct peer *other)
{
	return one != other;
}

bool
peer_is_mirror(const struct peer *peer)
{
	return peer->state == PEER_UP;
}

bool
peer_add_dirty(struct peer *peer, const char *key, size_t length, bool base64)
{
	return dirty_add(peer->dirty, key, length, base64);
}

void
peer_add_all_dirty(struct peer *peer)
{
	dirty_clear(peer->undecided);
	dirty_add_all(peer->dirty);
}

static void
begin(void)
{
	int i;

	for (i = 0; i < PEERS; i++) {
		peers[i].state = PEER_DOWN;
		peers[i].dirty = dirty_new();
		peers[i].missing = dirty_new();
		peers[i].undecided = dirty_new();
		is_behind[i] = false;
	}
}

static void
end(void)
{
	int i;

	for (i = 0; i < PEERS; i++) {
		dirty_free(peers[i].dirty);
		dirty_free(peers[i].missing);
		dirty_free(peers[i].undecided);
	}
}

static void
lose(int at)
{
	undecided_add(&peers[at], &peers[!at], "k", 1, false);
}

static void
come_back(int i)
{
	peers[i].state = PEER_INVALIDATE;
	undecided_settle(&peers[i]);
}

static bool
is_dirty(int i)
{
	return dirty_has(peers[i].dirty, "k", 1, false);
}

static void
test_server_that_is_back_first_is_right(void)
{
	int lost_at, first;

	for (lost_at = A; lost_at <= B; lost_at++)
		for (first = A; first <= B; first++) {
			begin();
			lose(lost_at);
			check(!is_dirty(A) && !is_dirty(B));
			come_back(first);
			check(!is_dirty(first) && is_dirty(!first));
			peers[first].state = PEER_UP;
			dirty_clear(peers[!first].dirty);
			come_back(!first);
			check(!is_dirty(A) && !is_dirty(B));
			end();
		}
}

static void
test_server_that_lacks_everything_is_not_right(void)
{
	begin();
	lose(A);
	is_behind[A] = true;
	come_back(A);
	check(is_dirty(A) && !is_dirty(B));
	dirty_clear(peers[A].dirty);
	peers[A].state = PEER_UP;
	come_back(B);
	check(!is_dirty(A) && !is_dirty(B));
	end();
}

/* What is known of one of them decides at once. */
static void
test_key_that_one_lacks_is_not_undecided(void)
{
	int at;

	for (at = A; at <= B; at++) {
		begin();
		dirty_add(peers[at].dirty, "k", 1, false);
		lose(A);
		check(dirty_count(peers[A].undecided) == 0);
		check(dirty_count(peers[B].undecided) == 0);
		end();
		begin();
		dirty_add(peers[at].missing, "k", 1, false);
		lose(A);
		check(dirty_count(peers[A].undecided) == 0);
		check(is_dirty(at) && !is_dirty(!at));
		end();
	}
}

static void
test_server_that_deletes_its_dirty_keys_deletes_this_one(void)
{
	begin();
	come_back(B);
	lose(A);
	check(!is_dirty(A) && is_dirty(B));
	check(dirty_count(peers[A].undecided) == 0);
	end();
}

/* A copy that turned out to be old was taken out of its undecided ones. */
static void
test_key_that_was_decided_meanwhile_stays_so(void)
{
	begin();
	lose(A);
	dirty_remove(peers[A].undecided, "k", 1, false);
	dirty_add(peers[A].dirty, "k", 1, false);
	come_back(B);
	check(is_dirty(A) && !is_dirty(B));
	end();
}

static void
test_too_many_keys_are_all_keys(void)
{
	begin();
	lose(A);
	dirty_add_all(peers[B].undecided);
	come_back(A);
	check(!is_dirty(A) && is_dirty(B));
	end();
	begin();
	dirty_add_all(peers[A].undecided);
	lose(B);
	come_back(A);
	check(dirty_is_all(peers[B].dirty) && !is_dirty(A));
	check(!dirty_is_all(peers[A].undecided));
	end();
}

int
main(void)
{
	RUN(test_server_that_is_back_first_is_right);
	RUN(test_server_that_lacks_everything_is_not_right);
	RUN(test_key_that_one_lacks_is_not_undecided);
	RUN(test_server_that_deletes_its_dirty_keys_deletes_this_one);
	RUN(test_key_that_was_decided_meanwhile_stays_so);
	RUN(test_too_many_keys_are_all_keys);
	return unit_end();
}
