#ifndef JSON_H
#define JSON_H

/* Write one value of JSON, piece by piece, into an evbuffer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;

struct json {
	struct evbuffer *out; /* borrowed */
	bool is_complete;     /* memory was enough so far */
	bool has_before;      /* a comma comes before the next value */
	size_t length;        /* of bytes that are not in out yet */
	char bytes[4096];
};

/* Begin, on what is empty. */
void json_begin(struct json *json, struct evbuffer *out);

/* All is written.  Returns false when out of memory. */
bool json_end(struct json *json);

/* Begin and end an object, { and }, or an array, [ and ]. */
void json_open(struct json *json, char bracket);
void json_close(struct json *json, char bracket);

/* The name of what comes next in an object: letters and underscores. */
void json_name(struct json *json, const char *name);

/*
 * Values.  A text may have any bytes: those that are no printable ASCII are
 * written as \u00XX.  A fraction is written with three digits behind the point;
 * NaN and what is infinite is null.
 */
void json_text(struct json *json, const char *text);
void json_number(struct json *json, int64_t number);
void json_fraction(struct json *json, double fraction);
void json_bool(struct json *json, bool is_true);
void json_null(struct json *json);

#endif
