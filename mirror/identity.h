#ifndef IDENTITY_H
#define IDENTITY_H

/* Who a server is: what tells one life of a memcached from another. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity {
	bool known; /* it was asked and has answered */
	unsigned int version[3];
	uint64_t pid, time, uptime; /* seconds; time - uptime: its start */
	uint64_t connections, gets, sets, items; /* only ever grow */
	uint64_t stored;                         /* items in it now */
	uint64_t item_size_max;                  /* 0: not told */
	bool restartable; /* keeps items over a restart */
};

/* Take up the text behind VERSION. */
void identity_version(struct identity *identity, const char *text, size_t n);

/* Take up one line of stats, or of stats settings. */
void identity_stat(struct identity *identity, const char *name, size_t n,
    const char *value, size_t length);

enum identity_change {
	IDENTITY_SAME,   /* the same life */
	IDENTITY_NEW,    /* another one */
	IDENTITY_UNSURE, /* neither can be ruled out */
};

enum identity_change identity_compare(const struct identity *before,
    const struct identity *now);

/* 15 bits that tell lives apart, the same for every magent. */
uint64_t identity_tag(const struct identity *identity, unsigned int role);

/* Whether the server has at least this version. */
bool identity_is_since(const struct identity *identity, unsigned int major,
    unsigned int minor, unsigned int patch);

#endif
