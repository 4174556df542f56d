/*
 * What two stamps say, and which stamp comes after another one.
 */

#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "unit.h"

enum { PEERS = 3 };

/* Two primaries and a backup. */
static struct peer peers[PEERS];
static struct standing standings[PEERS][PEERS];
static const char *const names[PEERS] = { "b:1", "a:1", "c:1" };
static struct bond *bonds;
static size_t count;

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

const char *
peer_name(const struct peer *peer)
{
	return names[peer->index];
}

bool
peers_are_partners(const struct peer *one, const struct peer *other)
{
	return one->is_primary != other->is_primary;
}

static void
begin(void)
{
	size_t i;

	memset(peers, 0, sizeof(peers));
	memset(standings, 0, sizeof(standings));
	for (i = 0; i < PEERS; i++) {
		peers[i].index = i;
		peers[i].is_primary = i < 2;
		peers[i].is_backup = i == 2;
		peers[i].standings = standings[i];
	}
	bonds = bonds_new(NULL, &count);
	unit_need(bonds != NULL, "bonds_new");
}

static void
test_partners_have_one_bond(void)
{
	char key[BOND_KEY_MAX], other[BOND_KEY_MAX];
	const struct bond *bond;

	begin();
	check(count == 2);
	bond = bond_of(&peers[0], &peers[2]);
	check(bond == bond_of(&peers[2], &peers[0]));
	check(bond != bond_of(&peers[1], &peers[2]));
	check(bond_partner(bond, &peers[0]) == &peers[2]);
	check(bond_partner(bond, &peers[2]) == &peers[0]);
	check(bond->peers[0] == &peers[0] && bond->peers[1] == &peers[2]);
	check(bond_key(bond, 0, key) == strlen(key));
	check(strncmp(key, "magent:", 7) == 0 && strlen(key) == 25);
	bond_key(bond_of(&peers[1], &peers[2]), 0, other);
	check(strcmp(key, other) != 0);
	bond_key(bond, 1, other);
	check(strncmp(key, other, 24) == 0 && strcmp(key, other) != 0);
	check(bond_claim_key(bond, other) == strlen(other));
	bonds_free(bonds, count);
}

/* The same two have the same key, in whatever order and roles they are given;
   and in each build, because other magents have it, too. */
static void
test_name_is_that_of_every_magent(void)
{
	char key[BOND_KEY_MAX], again[BOND_KEY_MAX];

	begin();
	bond_key(bond_of(&peers[0], &peers[2]), 0, key);
	bonds_free(bonds, count);
	begin();
	peers[0].is_primary = peers[1].is_primary = false;
	peers[0].is_backup = peers[1].is_backup = true;
	peers[2].is_primary = true;
	peers[2].is_backup = false;
	bonds_free(bonds, count);
	bonds = bonds_new(NULL, &count);
	bond_key(bond_of(&peers[2], &peers[0]), 0, again);
	check(strcmp(key, again) == 0);
	bonds_free(bonds, count);
}

static void
test_only_numbers_are_stamps(void)
{
	check(bond_parse("4294967296", 10) == STAMP_FIRST);
	check(bond_parse("x", 1) == STAMP_MISSING);
	check(bond_parse("", 0) == STAMP_MISSING);
}

static void
test_next_stamp_is_higher_than_all_that_are_known(void)
{
	struct bond *bond;
	uint64_t stamp;
	int i;

	begin();
	bond = bond_of(&peers[0], &peers[2]);
	for (stamp = STAMP_FIRST, i = 0; i < 1000; i++) {
		bond->known = stamp;
		check(bond_step(bond, stamp) > 0);
		stamp += bond_step(bond, stamp);
		check(stamp > bond->known);
	}
	/* The clock was set back: what is known is of the future. */
	bond->known = UINT64_C(900000000000000000);
	check(STAMP_FIRST + bond_step(bond, STAMP_FIRST) > bond->known);
	bonds_free(bonds, count);
}

static void
test_server_that_is_being_filled_is_below_all_others(void)
{
	int i;

	for (i = 0; i < 1000; i++)
		check(bond_filling() > STAMP_MISSING &&
		    bond_filling() < STAMP_FIRST);
}

static void
test_stamps_of_others_are_foreign(void)
{
	struct bond *bond;

	begin();
	bond = bond_of(&peers[0], &peers[2]);
	/* The first that is heard of has one: somebody has given it. */
	bond_read(bond, &peers[0], 50, 50);
	check(bond->is_foreign && !bond->is_new);
	bond_become_equal(bond, 50);
	check(!bond->is_foreign && bond->known == 50);
	/* It is the same when it is read again. */
	bond_read(bond, &peers[0], 50, 50);
	check(!bond->is_foreign);
	/* Somebody has raised it. */
	bond_read(bond, &peers[0], 60, 60);
	check(bond->is_foreign);
	bond_become_equal(bond, 60);
	bond_note(bond, 60);
	check(!bond->is_foreign);
	bond_note(bond, 61);
	check(bond->is_foreign && bond->known == 61);
	bonds_free(bonds, count);
}

static void
test_twin_that_was_evicted_is_noticed(void)
{
	struct bond *bond;
	const struct bond_side *side;

	begin();
	bond = bond_of(&peers[0], &peers[2]);
	side = bond_side(bond, &peers[2]);
	bond_read(bond, &peers[2], STAMP_MISSING, 50);
	check(side->stamp == 50 && side->lacks_twin);
	bond_read(bond, &peers[2], 50, 50);
	check(side->stamp == 50 && !side->lacks_twin);
	bond_read(bond, &peers[2], STAMP_MISSING, STAMP_MISSING);
	check(side->stamp == STAMP_MISSING && !side->lacks_twin);
	bonds_free(bonds, count);
}

static void
test_stamp_of_before_a_failure_is_remembered(void)
{
	struct bond *bond;
	const struct bond_side *side;

	begin();
	bond = bond_of(&peers[0], &peers[2]);
	side = bond_side(bond, &peers[0]);
	bond_read(bond, &peers[0], 50, 50);
	bond_become_equal(bond, 50);
	bonds_peer_failed(&peers[0]);
	check(!side->is_read);
	bond_read(bond, &peers[0], STAMP_MISSING, STAMP_MISSING);
	check(side->is_read && side->before == 50 &&
	    side->stamp == STAMP_MISSING && !bond->is_foreign);
	bonds_free(bonds, count);
}

int
main(void)
{
	RUN(test_partners_have_one_bond);
	RUN(test_name_is_that_of_every_magent);
	RUN(test_only_numbers_are_stamps);
	RUN(test_next_stamp_is_higher_than_all_that_are_known);
	RUN(test_server_that_is_being_filled_is_below_all_others);
	RUN(test_stamps_of_others_are_foreign);
	RUN(test_twin_that_was_evicted_is_noticed);
	RUN(test_stamp_of_before_a_failure_is_remembered);
	return unit_end();
}
