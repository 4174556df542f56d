/*
 * What is known of the servers goes over to the next program.
 *
 *	pairs      what is known of all
 *	server     one of them; the lines below name it by its place among these
 *	identity   its incarnation
 *	key, all   a key of one of its sets; all of them
 *	endpoint   where it is, if it has a name
 *	zombie     a connection of which it may still carry out something
 *	standing   what it lacks of another one
 *	bond       of two, with what is known of the stamps at each
 *
 * Invariant: what a line says is set when the lines of all servers were read,
 * so that each has its state: what follows from a state is overwritten.
 */

#include "mirror/knowledge.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "carry.h"
#include "histogram.h"
#include "mirror/behind.h"
#include "mirror/bond.h"
#include "mirror/dirty.h"
#include "mirror/flush.h"
#include "mirror/gate.h"
#include "mirror/identity.h"
#include "mirror/operator.h"
#include "mirror/pair.h"
#include "mirror/peer.h"
#include "mirror/repair.h"
#include "mirror/serving.h"
#include "mirror/state.h"
#include "server/address.h"
#include "server/endpoint.h"
#include "server/server.h"
#include "server/zombie.h"

/* While lines are read. */
struct knowledge {
	struct pairs *pairs;
	/* Those of the lines, in their order; NULL: pairs have it not. */
	struct peer **peers;
	size_t count;
};

/*
 * Rest
 */

/* Whether a server has to be known as one that is away. */
static bool
is_to_fail(const struct peer *peer, bool with_repairs)
{
	if (peer->state != PEER_UP)
		return peer->state != PEER_DOWN;
	return with_repairs && peer->away_partners == 0 &&
	    repairs_left(peer->repairs) > 0;
}

void
knowledge_come_to_rest(struct pairs *pairs, bool with_repairs)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		if (is_to_fail(peer, with_repairs))
			server_fail(peer->server,
			    "is left to the program that takes over");
	}
}

bool
knowledge_is_at_rest(struct pairs *pairs)
{
	const struct peer *peer;
	const struct bond *bonds;
	size_t i, n;

	if (gate_holds_peers(pairs_gate(pairs)))
		return false;
	bonds = pairs_bonds(pairs, &n);
	for (i = 0; i < n; i++)
		if (bond_is_rising(&bonds[i]))
			return false;
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		if (peer->state == PEER_UP &&
		    (server_counters(peer->server)->waiting > 0 ||
			repairs_left(peer->repairs) > 0))
			return false;
	}
	return true;
}

/*
 * Servers
 */

/* The numbers of a line of a server.  New ones are added at the end. */
enum {
	SERVER_IS_PRIMARY,
	SERVER_IS_BACKUP,
	SERVER_IS_UP,
	SERVER_MIRROR_SINCE,
	SERVER_HAS_OLD_PART,
	SERVER_CLOCK_AHEAD,
	SERVER_REQUESTS,
	SERVER_FAILURES,
	SERVER_TIMEOUTS,
	SERVER_CONNECTS,
	SERVER_HITS,
	SERVER_MISSES,
	SERVER_IS_HELD,
	SERVER_NUMBERS,
};

static void
carry_server(struct carry *carry, const struct peer *peer)
{
	const struct server_counters *counters = server_counters(peer->server);
	uint64_t numbers[SERVER_NUMBERS] = {
		[SERVER_IS_PRIMARY] = peer->is_primary,
		[SERVER_IS_BACKUP] = peer->is_backup,
		[SERVER_IS_UP] = peer->state == PEER_UP,
		[SERVER_MIRROR_SINCE] = peer->mirror_since,
		[SERVER_HAS_OLD_PART] = peer->has_old_part,
		[SERVER_CLOCK_AHEAD] = (uint64_t)peer->clock_ahead,
		[SERVER_REQUESTS] = counters->requests,
		[SERVER_FAILURES] = counters->failures,
		[SERVER_TIMEOUTS] = counters->timeouts,
		[SERVER_CONNECTS] = counters->connects,
		[SERVER_HITS] = peer->hits,
		[SERVER_MISSES] = peer->misses,
		[SERVER_IS_HELD] = server_is_held(peer->server),
	};

	carry_add(carry, "server", numbers, SERVER_NUMBERS, peer_name(peer),
	    strlen(peer_name(peer)));
	histogram_carry(server_reply_times(peer->server), carry, "replies",
	    peer_name(peer));
}

/* The peer of a line of a server; NULL: there is none. */
static struct peer *
find_peer(struct pairs *pairs, const struct carry_line *line)
{
	struct peer *peer;
	size_t i;

	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		if (strlen(peer_name(peer)) == line->length &&
		    memcmp(peer_name(peer), line->bytes, line->length) == 0)
			return peer;
	}
	return NULL;
}

static void
take_server(struct knowledge *knowledge, const struct carry_line *line)
{
	const uint64_t *numbers = line->numbers;
	struct peer *peer = find_peer(knowledge->pairs, line);
	struct server_counters counters = {
		.requests = numbers[SERVER_REQUESTS],
		.failures = numbers[SERVER_FAILURES],
		.timeouts = numbers[SERVER_TIMEOUTS],
		.connects = numbers[SERVER_CONNECTS],
	};

	if (knowledge->count == pairs_peer_count(knowledge->pairs))
		return;
	knowledge->peers[knowledge->count++] = peer;
	if (peer == NULL)
		return;
	server_set_counters(peer->server, &counters);
	peer->hits = numbers[SERVER_HITS];
	peer->misses = numbers[SERVER_MISSES];
	if (!numbers[SERVER_IS_UP]) {
		gate_hold(peer->gate, peer);
		state_set(peer, PEER_DOWN, server_now(peer->server));
	}
	if (numbers[SERVER_IS_HELD] && !numbers[SERVER_IS_UP])
		operator_hold(peer);
	peer->mirror_since = numbers[SERVER_MIRROR_SINCE];
	peer->has_old_part = numbers[SERVER_HAS_OLD_PART];
	peer->clock_ahead = (int64_t)numbers[SERVER_CLOCK_AHEAD];
}

static void
take_reply_times(struct pairs *pairs, const struct carry_line *line)
{
	struct peer *peer = find_peer(pairs, line);

	if (peer != NULL)
		histogram_take(server_reply_times(peer->server), line,
		    "replies", peer_name(peer));
}

/* The peer at this place among the lines; NULL: pairs have it not. */
static struct peer *
peer_in_place(const struct knowledge *knowledge, uint64_t place)
{
	return place < knowledge->count ? knowledge->peers[place] : NULL;
}

/* In the order of the numbers of a line, behind the place of the server. */
static void
list_identity(struct identity *identity, uint64_t **fields)
{
	uint64_t *all[] = { &identity->pid, &identity->time, &identity->uptime,
		&identity->connections, &identity->gets, &identity->sets,
		&identity->items, &identity->stored, &identity->port,
		&identity->item_size_max };

	memcpy(fields, all, sizeof(all));
}

enum {
	IDENTITY_PLACE,
	IDENTITY_VERSION,
	IDENTITY_FLAGS = IDENTITY_VERSION + 3,
	IDENTITY_FIELDS = IDENTITY_FLAGS + 3,
	IDENTITY_NUMBERS = IDENTITY_FIELDS + 10,
};

static void
carry_identity(struct carry *carry, const struct peer *peer)
{
	struct identity identity = peer->identity;
	uint64_t numbers[IDENTITY_NUMBERS] = {
		[IDENTITY_PLACE] = peer->index,
		[IDENTITY_VERSION] = identity.version[0],
		[IDENTITY_VERSION + 1] = identity.version[1],
		[IDENTITY_VERSION + 2] = identity.version[2],
		[IDENTITY_FLAGS] = identity.restartable,
		[IDENTITY_FLAGS + 1] = identity.refuses_flush,
		[IDENTITY_FLAGS + 2] = identity.has_no_cas,
	};
	uint64_t *fields[IDENTITY_NUMBERS - IDENTITY_FIELDS];
	size_t i;

	if (!identity.known)
		return;
	list_identity(&identity, fields);
	for (i = IDENTITY_FIELDS; i < IDENTITY_NUMBERS; i++)
		numbers[i] = *fields[i - IDENTITY_FIELDS];
	carry_numbers(carry, "identity", numbers, IDENTITY_NUMBERS);
}

static void
take_identity(struct peer *peer, const uint64_t *numbers)
{
	struct identity *identity = &peer->identity;
	uint64_t *fields[IDENTITY_NUMBERS - IDENTITY_FIELDS];
	size_t i;

	identity->known = true;
	for (i = 0; i < 3; i++)
		identity->version[i] = (unsigned int)
		    numbers[IDENTITY_VERSION + i];
	identity->restartable = numbers[IDENTITY_FLAGS];
	identity->refuses_flush = numbers[IDENTITY_FLAGS + 1];
	identity->has_no_cas = numbers[IDENTITY_FLAGS + 2];
	list_identity(identity, fields);
	for (i = IDENTITY_FIELDS; i < IDENTITY_NUMBERS; i++)
		*fields[i - IDENTITY_FIELDS] = numbers[i];
}

/*
 * Keys
 */

enum { SETS = 4 };

/* A set of keys of a peer, by its number in a line. */
static struct dirty *
set_of(const struct peer *peer, uint64_t number)
{
	struct dirty *sets[SETS] = { peer->dirty, peer->missing,
		peer->undecided, peer->taken };

	return number < SETS ? sets[number] : NULL;
}

struct key_writer {
	struct carry *carry;
	uint64_t place, set;
};

static void
carry_key(void *owner, const char *key, size_t length, bool base64)
{
	const struct key_writer *writer = owner;
	uint64_t numbers[] = { writer->place, writer->set, base64 };

	carry_add(writer->carry, "key", numbers, 3, key, length);
}

static void
carry_sets(struct carry *carry, const struct peer *peer)
{
	struct key_writer writer = { .carry = carry, .place = peer->index };
	uint64_t numbers[2] = { peer->index };
	uint64_t set;

	for (set = 0; set < SETS; set++) {
		writer.set = numbers[1] = set;
		if (dirty_is_all(set_of(peer, set)))
			carry_numbers(carry, "all", numbers, 2);
		else
			dirty_each(set_of(peer, set), carry_key, &writer);
	}
}

static void
take_key(struct peer *peer, const struct carry_line *line)
{
	struct dirty *set = set_of(peer, line->numbers[1]);

	if (set != NULL && line->length > 0)
		dirty_add(set, line->bytes, line->length, line->numbers[2]);
}

static void
take_all_keys(struct peer *peer, const uint64_t *numbers)
{
	if (set_of(peer, numbers[1]) != NULL)
		dirty_add_all(set_of(peer, numbers[1]));
}

/*
 * Connections
 */

static void
carry_zombies(struct carry *carry, const struct peer *peer)
{
	struct zombies *zombies = server_zombies(peer->server);
	uint64_t numbers[2] = { peer->index };
	size_t i;

	for (i = 0; i < zombies_count(zombies); i++) {
		numbers[1] = carry_descriptor(carry, zombies_fd(zombies, i));
		carry_numbers(carry, "zombie", numbers, 2);
	}
}

/* Where it was found by its name: who looks that up may be slow. */
static void
carry_endpoint(struct carry *carry, const struct peer *peer)
{
	struct sockaddr_storage address;
	socklen_t length = endpoints_known(server_endpoints(peer->server),
	    &address);
	uint64_t place = peer->index;

	if (length > 0)
		carry_add(carry, "endpoint", &place, 1, (const char *)&address,
		    length);
}

static void
take_endpoint(struct peer *peer, const struct carry_line *line)
{
	if (line->bytes != NULL)
		endpoints_give(server_endpoints(peer->server), line->bytes,
		    (socklen_t)line->length);
}

static void
take_zombie(struct peer *peer, int fd)
{
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	zombies_add(server_zombies(peer->server), fd);
}

/*
 * Partners
 */

static void
carry_standing(struct carry *carry, const struct peer *peer,
    const struct peer *other)
{
	const struct standing *standing = &peer->standings[other->index];
	uint64_t numbers[] = { peer->index, other->index, standing->behind,
		standing->is_old, standing->is_unproved };

	carry_numbers(carry, "standing", numbers, 5);
}

static void
take_standing(struct peer *peer, const struct peer *other,
    const uint64_t *numbers)
{
	struct standing *standing = &peer->standings[other->index];

	standing->behind = numbers[2] == BEHIND_NOT ? BEHIND_NOT :
	    numbers[2] == BEHIND_KEYS               ? BEHIND_KEYS :
						      BEHIND_ALL;
	standing->is_old = numbers[3];
	standing->is_unproved = numbers[4];
}

/* Of a bond, and of each of its sides. */
enum {
	BOND_PEER,
	BOND_PARTNER,
	BOND_KNOWN,
	BOND_IS_FOREIGN,
	BOND_IS_NEW,
	BOND_IS_HEARD_OF,
	BOND_SIDES,
	SIDE_STAMP = 0,
	SIDE_BEFORE,
	SIDE_UNANSWERED,
	SIDE_IS_REFUSED,
	SIDE_NUMBERS,
	BOND_NUMBERS = BOND_SIDES + 2 * SIDE_NUMBERS,
};

static void
carry_bond(struct carry *carry, const struct bond *bond)
{
	uint64_t numbers[BOND_NUMBERS] = {
		[BOND_PEER] = bond->peers[0]->index,
		[BOND_PARTNER] = bond->peers[1]->index,
		[BOND_KNOWN] = bond->known,
		[BOND_IS_FOREIGN] = bond->is_foreign,
		[BOND_IS_NEW] = bond->is_new,
		[BOND_IS_HEARD_OF] = bond->is_heard_of,
	};
	uint64_t *numbers_of_side = numbers + BOND_SIDES;
	const struct bond_side *side;

	for (side = bond->sides; side < bond->sides + 2; side++) {
		numbers_of_side[SIDE_STAMP] = side->stamp;
		numbers_of_side[SIDE_BEFORE] = side->before;
		numbers_of_side[SIDE_UNANSWERED] = side->unanswered;
		numbers_of_side[SIDE_IS_REFUSED] = side->is_refused;
		numbers_of_side += SIDE_NUMBERS;
	}
	carry_numbers(carry, "bond", numbers, BOND_NUMBERS);
}

static void
take_side(struct bond_side *side, const uint64_t *numbers)
{
	side->stamp = numbers[SIDE_STAMP];
	side->before = numbers[SIDE_BEFORE];
	side->unanswered = numbers[SIDE_UNANSWERED];
	side->is_refused = numbers[SIDE_IS_REFUSED];
}

static void
take_bond(struct peer *peer, struct peer *partner, const uint64_t *numbers)
{
	struct bond *bond = bond_of(peer, partner);

	bond->known = numbers[BOND_KNOWN];
	bond->is_foreign = numbers[BOND_IS_FOREIGN];
	bond->is_new = numbers[BOND_IS_NEW];
	bond->is_heard_of = numbers[BOND_IS_HEARD_OF];
	take_side(bond_side(bond, peer), numbers + BOND_SIDES);
	take_side(bond_side(bond, partner),
	    numbers + BOND_SIDES + SIDE_NUMBERS);
}

/*
 * All
 */

enum { COUNTERS = 15 };

/* In the order of the numbers of a line. */
static void
list_counters(struct pairs_counters *counters, uint64_t **fields)
{
	struct scrub_counters *scrub = &counters->scrub;
	uint64_t *all[COUNTERS] = { &counters->failovers, &counters->effects,
		&counters->mismatches, &counters->repairs, &counters->zombies,
		&counters->copied, &counters->overtaken, &scrub->compared,
		&scrub->different, &scrub->only_on_mirror, &scrub->repaired,
		&scrub->left, &scrub->not_compared, &scrub->passes,
		&scrub->last_pass };

	memcpy(fields, all, sizeof(all));
}

static void
carry_counters(struct carry *carry, struct pairs *pairs)
{
	uint64_t *fields[COUNTERS], numbers[COUNTERS];
	size_t i;

	list_counters(pairs_counters(pairs), fields);
	for (i = 0; i < COUNTERS; i++)
		numbers[i] = *fields[i];
	carry_numbers(carry, "counters", numbers, COUNTERS);
}

static void
take_counters(struct pairs *pairs, const uint64_t *numbers)
{
	uint64_t *fields[COUNTERS];
	size_t i;

	list_counters(pairs_counters(pairs), fields);
	for (i = 0; i < COUNTERS; i++)
		*fields[i] = numbers[i];
}

void
knowledge_carry(struct pairs *pairs, const struct serving *serving,
    struct carry *carry)
{
	uint64_t id = pairs_magent_id(pairs);
	const struct bond *bonds;
	const struct peer *peer;
	size_t i, j, n;

	assert(knowledge_is_at_rest(pairs));
	carry_numbers(carry, "pairs", &id, 1);
	for (i = 0; i < pairs_peer_count(pairs); i++)
		carry_server(carry, pairs_peer(pairs, i));
	carry_counters(carry, pairs);
	for (i = 0; i < pairs_peer_count(pairs); i++) {
		peer = pairs_peer(pairs, i);
		carry_identity(carry, peer);
		carry_sets(carry, peer);
		carry_zombies(carry, peer);
		carry_endpoint(carry, peer);
		for (j = 0; j < pairs_peer_count(pairs); j++)
			if (pairs_partner(peer, j) != NULL)
				carry_standing(carry, peer,
				    pairs_peer(pairs, j));
	}
	bonds = pairs_bonds(pairs, &n);
	for (i = 0; i < n; i++)
		carry_bond(carry, &bonds[i]);
	serving_carry(serving, carry);
	flushes_carry(pairs_flushes(pairs), carry);
}

/* A line of two servers. */
static void
take_partners(struct peer *peer, struct peer *partner,
    const struct carry_line *line)
{
	if (!peers_are_partners(peer, partner))
		return;
	if (carry_is(line, "standing"))
		take_standing(peer, partner, line->numbers);
	else
		take_bond(peer, partner, line->numbers);
}

static void
take_carried(struct knowledge *knowledge, const struct carry_line *line)
{
	struct peer *peer = peer_in_place(knowledge, line->numbers[0]);
	struct peer *other = peer_in_place(knowledge, line->numbers[1]);

	if (carry_is(line, "pairs"))
		pairs_set_magent_id(knowledge->pairs, line->numbers[0]);
	else if (carry_is(line, "server"))
		take_server(knowledge, line);
	else if (carry_is(line, "replies"))
		take_reply_times(knowledge->pairs, line);
	else if (carry_is(line, "counters"))
		take_counters(knowledge->pairs, line->numbers);
	else if (peer == NULL)
		return;
	else if (carry_is(line, "identity"))
		take_identity(peer, line->numbers);
	else if (carry_is(line, "key"))
		take_key(peer, line);
	else if (carry_is(line, "all"))
		take_all_keys(peer, line->numbers);
	else if (carry_is(line, "endpoint"))
		take_endpoint(peer, line);
	else if (carry_is(line, "zombie"))
		take_zombie(peer, (int)line->numbers[1]);
	else if (other != NULL &&
	    (carry_is(line, "standing") || carry_is(line, "bond")))
		take_partners(peer, other, line);
}

bool
knowledge_take(struct pairs *pairs, struct serving *serving,
    struct carry *carry)
{
	struct knowledge knowledge = { .pairs = pairs };
	struct carry_line line;
	bool is_good;

	knowledge.peers = calloc(pairs_peer_count(pairs),
	    sizeof(struct peer *));
	is_good = knowledge.peers != NULL;
	carry_rewind(carry);
	while (is_good && carry_next(carry, &line)) {
		take_carried(&knowledge, &line);
		serving_take(serving, &line);
		is_good = flushes_take(pairs_flushes(pairs), &line);
	}
	free(knowledge.peers);
	return is_good;
}

/*
 * Fitting
 */

/* The numbers of a line. */
enum { CARRIED_PLACE, CARRIED_WEIGHT, CARRIED_PORT, CARRIED_NUMBERS };

static void
carry_addresses(struct carry *carry, const char *name,
    const struct address *list, size_t count)
{
	uint64_t numbers[CARRIED_NUMBERS];
	size_t i;

	for (i = 0; i < count; i++) {
		numbers[CARRIED_PLACE] = i;
		numbers[CARRIED_WEIGHT] = list[i].weight;
		numbers[CARRIED_PORT] = list[i].port;
		carry_add(carry, name, numbers, CARRIED_NUMBERS, list[i].host,
		    strlen(list[i].host));
	}
}

void
knowledge_carry_servers(const struct pairs_servers *servers,
    struct carry *carry)
{
	uint64_t ring = servers->ring;

	carry_numbers(carry, "ring", &ring, 1);
	carry_addresses(carry, "primary", servers->primaries,
	    servers->primary_count);
	carry_addresses(carry, "backup", servers->backups,
	    servers->backup_count);
}

/* Whether that of a line is in the list; and at its place, if that matters. */
static bool
is_in_list(const struct address *list, size_t count,
    const struct carry_line *line, bool in_order)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (list[i].port == line->numbers[CARRIED_PORT] &&
		    list[i].weight == line->numbers[CARRIED_WEIGHT] &&
		    strlen(list[i].host) == line->length &&
		    memcmp(list[i].host, line->bytes, line->length) == 0 &&
		    (!in_order || i == line->numbers[CARRIED_PLACE]))
			return true;
	return false;
}

bool
knowledge_fits(const struct pairs_servers *servers, struct carry *carry)
{
	bool in_order = servers->ring == KETAMA_MODULA, fits = true;
	size_t primaries = 0, backups = 0;
	struct carry_line line;

	carry_rewind(carry);
	while (fits && carry_next(carry, &line)) {
		if (carry_is(&line, "ring")) {
			fits = line.numbers[0] == servers->ring;
		} else if (carry_is(&line, "primary")) {
			primaries++;
			fits = is_in_list(servers->primaries,
			    servers->primary_count, &line, in_order);
		} else if (carry_is(&line, "backup")) {
			backups++;
			fits = is_in_list(servers->backups,
			    servers->backup_count, &line, in_order);
		}
	}
	return fits && primaries == servers->primary_count &&
	    backups == servers->backup_count;
}
