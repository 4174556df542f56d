#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

/* A memcached in memory, as 1.6.18 does it, without limits: what a request does
   and what is answered.  Servers of the script are made of it, and clients use
   it to know what their answers must be. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes;
struct item;
struct proto_request;

struct model {
	struct item *items; /* owned: a list */
	size_t count;
	uint64_t cas; /* of the last write */
	uint64_t gets, sets, total;
	int64_t flush_at; /* items that are there at this second go; 0: none */
	/* An ms with mode A or P, and N, makes its item: since 1.6.19. */
	bool makes_by_append;
};

/* Carry out r, whose bytes are given, at this second, and append the answer,
   noreply and q or not. */
void model_execute(struct model *model, const struct proto_request *r,
    const char *bytes, int64_t now, struct bytes *out);

/* Append the lines of lru_crawler metadump. */
void model_dump(struct model *model, int64_t now, struct bytes *out);

/* The key of item i, or NULL if there are no more. */
const char *model_key(const struct model *model, size_t i, size_t *length);

/* Whether one lacks the key, or both have the same value and flags for it. */
bool models_agree(const struct model *one, const struct model *other,
    const char *key, size_t length);

/* Remove all items.  The counters stay. */
void model_clear(struct model *model);

#endif
