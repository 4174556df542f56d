/*
 * What is written as JSON.
 */

#include <event2/buffer.h>

#include "client/json.h"
#include "unit.h"

static struct evbuffer *out;

static void
begin(struct json *json)
{
	evbuffer_drain(out, evbuffer_get_length(out));
	json_begin(json, out);
}

static void
check_written(struct json *json, const char *want)
{
	check(json_end(json));
	check_bytes((const char *)evbuffer_pullup(out, -1),
	    evbuffer_get_length(out), want);
}

static void
test_values_are_separated_by_commas(void)
{
	struct json json;

	begin(&json);
	json_open(&json, '{');
	json_name(&json, "list");
	json_open(&json, '[');
	json_number(&json, 1);
	json_open(&json, '[');
	json_close(&json, ']');
	json_bool(&json, true);
	json_null(&json);
	json_close(&json, ']');
	json_name(&json, "other");
	json_open(&json, '{');
	json_name(&json, "a");
	json_text(&json, "");
	json_close(&json, '}');
	json_name(&json, "b");
	json_bool(&json, false);
	json_close(&json, '}');
	check_written(&json,
	    "{\"list\":[1,[],true,null],\"other\":{\"a\":\"\"},\"b\":false}");
}

static void
test_numbers_are_those_of_c(void)
{
	struct json json;

	begin(&json);
	json_open(&json, '[');
	json_number(&json, 0);
	json_number(&json, -1);
	json_number(&json, INT64_MAX);
	json_number(&json, INT64_MIN);
	json_fraction(&json, 0.5);
	json_fraction(&json, -1.0 / 3);
	json_fraction(&json, 1e300);
	json_fraction(&json, strtod("nan", NULL));
	json_close(&json, ']');
	check_written(&json,
	    "[0,-1,9223372036854775807,-9223372036854775808,0.500,-0.333,null,"
	    "null]");
}

static void
test_bytes_that_are_special_are_escaped(void)
{
	struct json json;

	begin(&json);
	json_text(&json, "a\"b\\c\n\x01 \x7f\xff/</&>'");
	check_written(&json,
	    "\"a\\u0022b\\u005cc\\u000a\\u0001 \\u007f\\u00ff/\\u003c/\\u0026"
	    "\\u003e'\"");
}

/* More than json keeps at a time. */
static void
test_text_of_any_length_is_written(void)
{
	static char text[20000], want[sizeof(text) + 2];
	struct json json;

	memset(text, 'x', sizeof(text) - 1);
	snprintf(want, sizeof(want), "\"%s\"", text);
	begin(&json);
	json_text(&json, text);
	check_written(&json, want);
}

int
main(void)
{
	out = evbuffer_new();
	unit_need(out != NULL, "evbuffer_new");
	RUN(test_values_are_separated_by_commas);
	RUN(test_numbers_are_those_of_c);
	RUN(test_bytes_that_are_special_are_escaped);
	RUN(test_text_of_any_length_is_written);
	evbuffer_free(out);
	return unit_end();
}
