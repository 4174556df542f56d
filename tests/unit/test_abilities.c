/* What a memcached can do, by its version and its settings. */

#include "mirror/abilities.h"
#include "mirror/identity.h"
#include "unit.h"

static struct abilities
abilities_at(unsigned int major, unsigned int minor, unsigned int patch)
{
	const struct identity identity = {
		.known = true,
		.version = { major, minor, patch },
	};

	return abilities_of(&identity);
}

static void
check_since(enum ability ability, unsigned int major, unsigned int minor,
    unsigned int patch)
{
	struct abilities before = abilities_at(major, minor, patch - 1);
	struct abilities then = abilities_at(major, minor, patch);

	check_case(!abilities_has(&before, ability), "ability %u before",
	    ability);
	check_case(abilities_has(&then, ability), "ability %u then", ability);
}

static void
test_ability_begins_with_its_version(void)
{
	check_since(ABILITY_TOUCH, 1, 4, 8);
	check_since(ABILITY_METADUMP, 1, 4, 31);
	check_since(ABILITY_GAT, 1, 5, 3);
	check_since(ABILITY_METADUMP_HASH, 1, 6, 9);
	check_since(ABILITY_META, 1, 6, 10);
	check_since(ABILITY_BASE64, 1, 6, 10);
	check_since(ABILITY_META_DELETE_CAS, 1, 6, 13);
	check_since(ABILITY_META_TIDY, 1, 6, 18);
	check_since(ABILITY_META_CHOSEN_CAS, 1, 6, 27);
}

static void
test_later_major_version_can_all(void)
{
	struct abilities abilities = abilities_at(2, 0, 0);
	unsigned int i;

	for (i = 0; i < ABILITY_COUNT; i++)
		check_case(abilities_has(&abilities, i), "ability %u", i);
}

static void
test_server_without_a_version_can_what_options_do_not_forbid(void)
{
	struct abilities abilities = abilities_at(0, 0, 0);

	check(abilities_has(&abilities, ABILITY_CAS));
	check(abilities_has(&abilities, ABILITY_FLUSH_ALL));
	check(!abilities_has(&abilities, ABILITY_TOUCH));
}

static void
test_option_switches_an_ability_off(void)
{
	struct identity identity = { .version = { 1, 6, 18 } };
	struct abilities abilities;

	identity_stat(&identity, "cas_enabled", 11, "no", 2);
	identity_stat(&identity, "flush_enabled", 13, "yes", 3);
	identity.known = true;
	abilities = abilities_of(&identity);
	check(!abilities_has(&abilities, ABILITY_CAS));
	check(abilities_has(&abilities, ABILITY_FLUSH_ALL));
	identity_stat(&identity, "cas_enabled", 11, "yes", 3);
	identity_stat(&identity, "flush_enabled", 13, "no", 2);
	abilities = abilities_of(&identity);
	check(abilities_has(&abilities, ABILITY_CAS));
	check(!abilities_has(&abilities, ABILITY_FLUSH_ALL));
}

static void
test_what_is_missing_is_told_in_words(void)
{
	struct abilities abilities = abilities_at(1, 6, 18);
	char text[128];

	check(!abilities_missing(&abilities, text, sizeof(text)));
	check_bytes(text, strlen(text), "");
	abilities = abilities_at(1, 6, 9);
	check(abilities_missing(&abilities, text, sizeof(text)));
	check_bytes(text, strlen(text),
	    "meta commands, keys in base64, md with C, meta replies of today");
	check(abilities_missing(&abilities, text, 10));
	check_bytes(text, strlen(text), "meta comm");
}

int
main(void)
{
	RUN(test_ability_begins_with_its_version);
	RUN(test_later_major_version_can_all);
	RUN(test_server_without_a_version_can_what_options_do_not_forbid);
	RUN(test_option_switches_an_ability_off);
	RUN(test_what_is_missing_is_told_in_words);
	return unit_end();
}
