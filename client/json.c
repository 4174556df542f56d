/*
 * Write JSON.
 *
 * Invariant: what is written is a part of one value of JSON, in ASCII, if
 * brackets are closed as they are opened.  In no string is there a bracket of
 * HTML.  So each byte means the same to whoever reads it, whatever is in a
 * text.
 */

#include "client/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>

#include "digits.h"

static void
flush_json(struct json *json)
{
	if (evbuffer_add(json->out, json->bytes, json->length) == -1)
		json->is_complete = false;
	json->length = 0;
}

static void
put_bytes(struct json *json, const char *bytes, size_t n)
{
	assert(n <= sizeof(json->bytes));
	if (json->length + n > sizeof(json->bytes))
		flush_json(json);
	memcpy(json->bytes + json->length, bytes, n);
	json->length += n;
}

/* A value comes. */
static void
put_comma(struct json *json)
{
	if (json->has_before)
		put_bytes(json, ",", 1);
	json->has_before = true;
}

static void
put_word(struct json *json, const char *word)
{
	put_comma(json);
	put_bytes(json, word, strlen(word));
}

void
json_begin(struct json *json, struct evbuffer *out)
{
	json->out = out;
	json->is_complete = true;
	json->has_before = false;
	json->length = 0;
}

bool
json_end(struct json *json)
{
	flush_json(json);
	return json->is_complete;
}

void
json_open(struct json *json, char bracket)
{
	put_comma(json);
	put_bytes(json, &bracket, 1);
	json->has_before = false;
}

void
json_close(struct json *json, char bracket)
{
	put_bytes(json, &bracket, 1);
	json->has_before = true;
}

void
json_name(struct json *json, const char *name)
{
	json_text(json, name);
	put_bytes(json, ":", 1);
	json->has_before = false;
}

void
json_text(struct json *json, const char *text)
{
	char escaped[7];
	int n;

	put_comma(json);
	put_bytes(json, "\"", 1);
	for (; *text != '\0'; text++) {
		if (*text >= ' ' && *text < 0x7f &&
		    strchr("\"\\<>&", *text) == NULL) {
			put_bytes(json, text, 1);
			continue;
		}
		n = snprintf(escaped, sizeof(escaped), "\\u%04x",
		    (unsigned int)(unsigned char)*text);
		put_bytes(json, escaped, (size_t)n);
	}
	put_bytes(json, "\"", 1);
}

void
json_number(struct json *json, int64_t number)
{
	char digits[1 + DIGITS_MAX] = "-";
	uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
	size_t sign = number < 0;

	put_comma(json);
	put_bytes(json, digits, sign + digits_write(digits + sign, rest));
}

void
json_fraction(struct json *json, double fraction)
{
	char text[32];

	if (!isfinite(fraction) || fraction > 1e15 || fraction < -1e15) {
		json_null(json);
		return;
	}
	snprintf(text, sizeof(text), "%.3f", fraction);
	put_word(json, text);
}

void
json_bool(struct json *json, bool is_true)
{
	put_word(json, is_true ? "true" : "false");
}

void
json_null(struct json *json)
{
	put_word(json, "null");
}
