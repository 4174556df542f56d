#ifndef ABILITIES_H
#define ABILITIES_H

/*
 * What a memcached can do, by its version and its settings.  A server is never
 * sent what it cannot: it may answer anything to that, and read data as
 * commands.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity;

/* The table in abilities.c says what each of them means. */
enum ability {
	ABILITY_TOUCH,
	ABILITY_GAT,
	ABILITY_METADUMP,
	ABILITY_METADUMP_HASH,
	ABILITY_META_READ,
	ABILITY_META,
	ABILITY_BASE64,
	ABILITY_META_DELETE_CAS,
	ABILITY_META_TIDY,
	ABILITY_META_APPEND_MAKES,
	ABILITY_META_CHOSEN_CAS,
	ABILITY_CAS,
	ABILITY_FLUSH_ALL,
	ABILITY_COUNT,
};

/* A set of them.  All zero: none, as of a server that was not identified. */
struct abilities {
	uint32_t set;
};

/* Those of a server, which has answered all questions. */
struct abilities abilities_of(const struct identity *identity);

bool abilities_has(const struct abilities *abilities, enum ability ability);

/* Write what is lacking, in words with commas between them, to out of size
   bytes, as much as there is room for.  Returns false if nothing is lacking;
   then out is empty.  What came after 1.6.18 is not missed. */
bool abilities_missing(const struct abilities *abilities, char *out,
    size_t size);

#endif
