/*
 * Who rebuilds a server, for each answer to a claim, and what is left of one
 * that is given up.  The server is played by the test.
 */

#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/claim.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/stamp.h"
#include "unit.h"

static struct peer peers[2]; /* the one that is rebuilt, and its source */
static struct bond bond;
static struct claim claim;
static struct call *asked; /* NULL: none has no answer */
static enum behind lacks;
static unsigned int dones, drops, renewals;
static bool was_taken;
static uint64_t said; /* how far the rebuild is */

/*
 * Stand-ins
 */

size_t
pairs_peer_count(const struct pairs *pairs)
{
	(void)pairs;
	return 2;
}

struct peer *
pairs_peer(struct pairs *pairs, size_t i)
{
	(void)pairs;
	return &peers[i];
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

enum behind
behind_of(const struct peer *peer, const struct peer *other)
{
	check(peer == &peers[0] && other == &peers[1]);
	return lacks;
}

struct bond *
bond_of(const struct peer *peer, const struct peer *partner)
{
	check(peer == &peers[0] && partner == &peers[1]);
	return &bond;
}

void
stamp_add_claim(const struct bond *of, struct peer *peer, struct call *call)
{
	check(of == &bond && peer == &peers[1] && asked == NULL);
	asked = call;
}

void
stamp_renew_claim(const struct bond *of, struct peer *peer, uint64_t keys_done)
{
	check(of == &bond && peer == &peers[1]);
	said = keys_done;
	renewals++;
}

void
stamp_drop_claim(const struct bond *of, struct peer *peer)
{
	check(of == &bond && peer == &peers[1]);
	drops++;
}

static void
on_done(void *owner, bool is_taken)
{
	check(owner == &claim);
	was_taken = is_taken;
	dones++;
}

/* The source answers; NOTHING: it has failed. */
static void
reply(enum proto_result result)
{
	struct answer answer = { .last = { .result = result } };
	struct call *call = asked;

	unit_need(call != NULL, "a call");
	asked = NULL;
	call->done(call, result == PROTO_ERROR ? NULL : &answer);
}

static void
begin(void)
{
	memset(peers, 0, sizeof(peers));
	memset(&claim, 0, sizeof(claim));
	peers[1].state = PEER_UP;
	peers[0].standings = peers[1].standings = NULL;
	lacks = BEHIND_ALL;
	dones = drops = renewals = 0;
	claim_init(&claim, &peers[0], on_done, &claim);
}

static void
test_claim_is_taken_renewed_and_dropped(void)
{
	begin();
	check(claim_take(&claim, 1000) && dones == 0);
	claim_renew(&claim, 5);
	check(renewals == 0);
	reply(PROTO_STORED);
	check(dones == 1 && was_taken);
	claim_renew(&claim, 5);
	check(renewals == 1 && said == 5);
	claim_drop(&claim);
	check(drops == 1);
	claim_renew(&claim, 6);
	check(renewals == 1);
}

static void
test_claim_of_somebody_else_is_left_alone(void)
{
	begin();
	check(claim_take(&claim, 1000));
	reply(PROTO_NOT_STORED);
	check(dones == 1 && !was_taken);
	claim_renew(&claim, 5);
	claim_drop(&claim);
	check(renewals == 0 && drops == 0);
}

static void
test_without_a_source_nothing_is_claimed(void)
{
	begin();
	peers[1].state = PEER_DOWN;
	check(!claim_take(&claim, 1000));
	peers[1].state = PEER_UP;
	lacks = BEHIND_NOT;
	check(!claim_take(&claim, 1000));
	check(asked == NULL && dones == 0);
}

static void
test_source_that_fails_hinders_nobody(void)
{
	begin();
	check(claim_take(&claim, 1000));
	peers[1].state = PEER_DOWN;
	reply(PROTO_ERROR);
	check(dones == 1 && was_taken);
	claim_renew(&claim, 5);
	claim_drop(&claim);
	check(renewals == 0 && drops == 0);
}

/* The peer has failed before the answer came. */
static void
test_claim_that_is_given_up_is_dropped_only_if_it_is_ours(void)
{
	begin();
	check(claim_take(&claim, 1000));
	claim_drop(&claim);
	check(drops == 0);
	reply(PROTO_NOT_STORED);
	check(drops == 0 && dones == 0);

	check(claim_take(&claim, 1000));
	claim_drop(&claim);
	reply(PROTO_STORED);
	check(drops == 1 && dones == 0);
}

static void
test_claim_is_asked_for_again_behind_the_old_answer(void)
{
	begin();
	check(claim_take(&claim, 1000));
	claim_drop(&claim);
	check(claim_take(&claim, 1100));
	reply(PROTO_STORED);
	check(drops == 1 && dones == 0);
	reply(PROTO_STORED);
	check(dones == 1 && was_taken);
}

static void
test_claim_that_is_kept_need_not_be_taken_again(void)
{
	begin();
	check(claim_take(&claim, 1000));
	reply(PROTO_STORED);
	claim_keep(&claim, 2000);
	claim_renew(&claim, 7);
	check(renewals == 0);
	check(!claim_take(&claim, 2500));
	check(renewals == 1 && drops == 0 && asked == NULL);
	claim_keep(&claim, 3000);
	check(claim_take(&claim, 9000) && asked != NULL);
	reply(PROTO_NOT_STORED);
	check(dones == 2 && !was_taken);
}

int
main(void)
{
	RUN(test_claim_is_taken_renewed_and_dropped);
	RUN(test_claim_of_somebody_else_is_left_alone);
	RUN(test_without_a_source_nothing_is_claimed);
	RUN(test_source_that_fails_hinders_nobody);
	RUN(test_claim_that_is_given_up_is_dropped_only_if_it_is_ours);
	RUN(test_claim_is_asked_for_again_behind_the_old_answer);
	RUN(test_claim_that_is_kept_need_not_be_taken_again);
	return unit_end();
}
