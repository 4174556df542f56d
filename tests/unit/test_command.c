/*
 * The command that a server gets for a request of a client, one line of a table
 * each: the request is parsed by proto.c, and the command must be these bytes.
 */

#include "mirror/command.h"
#include "unit.h"

enum { VALUE_MAX = 1048576 };

#define TEN(x) x x x x x x x x x x
#define K250 TEN("abcdefghijklmnopqrstuvwxy")
#define B64_248 TEN("QUJDREVGR0hJSktM") TEN("QUJDREVG") "QUJDREUg"
#define O31 "O" TEN("123")
#define CAS_MAX UINT64_C(18446744073709551615)

/* A request that is parsed; bytes is a copy that a sanitizer guards. */
struct parsed {
	struct proto_request r;
	char *bytes;
	const char *text;
};

static struct parsed
parse(const char *text)
{
	size_t n = strlen(text);
	struct parsed parsed = { .bytes = malloc(n), .text = text };
	enum proto_status status;

	unit_need(parsed.bytes != NULL, "malloc");
	memcpy(parsed.bytes, text, n);
	status = proto_request(parsed.bytes, n, VALUE_MAX, &parsed.r);
	check_case(status == PROTO_OK &&
		(parsed.r.error == NULL || parsed.r.too_large),
	    "parse %s", text);
	return parsed;
}

/* The line, its kind of reply, and whether the data follows. */
static void
check_command(const struct parsed *parsed, const struct command *command,
    const char *want, enum proto_expect expect, bool data)
{
	bool good = command->length == strlen(want) &&
	    memcmp(command->line, want, command->length) == 0;

	check_case(good, "%s  is \"%.*s\",  not \"%s\"", parsed->text,
	    (int)command->length, command->line, want);
	check_case(command->expect == expect, "%s  expects %u", parsed->text,
	    command->expect);
	check_case(command->has_data == data, "%s  has data: %d", parsed->text,
	    command->has_data);
}

struct forward_case {
	const char *request;
	const char *line;
	enum proto_expect expect;
	bool data;
};

#define STORE(request, line) \
	{ \
		request, line "\r\n", PROTO_EXPECT_STORED, true \
	}
#define TELL(expect, request, line) \
	{ \
		request, line "\r\n", PROTO_EXPECT_##expect, false \
	}
#define META_SET(request, line) \
	{ \
		request, line "\r\n", PROTO_EXPECT_META_SET, true \
	}

/* With 77 as the cas token of the server. */
static const struct forward_case forwards[] = {
	STORE("set k 0 0 1\r\nx\r\n", "set k 0 0 1"),
	STORE("  set   k  1   2  1  \nx\r\n", "set k 1 2 1"),
	STORE("set k 1 2 1 noreply\r\nx\r\n", "set k 1 2 1"),
	STORE("set k 1 2 1 foo\r\nx\r\n", "set k 1 2 1"),
	STORE("set k +7 +8 +1\r\nx\r\n", "set k 7 8 1"),
	STORE("set k 007 -1 0001\r\nx\r\n", "set k 7 -1 1"),
	STORE("set k 0 0 \t1\tz\r\nx\r\n", "set k 0 0 1"),
	STORE("set k 4294967295 2147483647 0\r\n\r\n",
	    "set k 4294967295 2147483647 0"),
	STORE("set k 4294967297 4294967295 0\r\n\r\n", "set k 1 -1 0"),
	STORE("set k 0 -2147483648 0\r\n\r\n", "set k 0 -2147483648 0"),
	STORE("set k -18446744073709551615 0 0\r\n\r\n", "set k 1 0 0"),
	STORE("set k 0 0 -0\r\n\r\n", "set k 0 0 0"),
	STORE("set " K250 " 0 0 0\r\n\r\n", "set " K250 " 0 0 0"),
	STORE("set \x01\t\x7f\xff 0 0 0\n\r\n", "set \x01\t\x7f\xff 0 0 0"),
	STORE("set noreply 0 0 0\r\n\r\n", "set noreply 0 0 0"),
	STORE("add k 1 2 2\n\r\n\r\n", "add k 1 2 2"),
	STORE("replace k 1 2 1 noreply \r\nx\r\n", "replace k 1 2 1"),
	STORE("append k 1 2 1\r\nx\r\n", "append k 1 2 1"),
	STORE("prepend k 1 2 1\r\nx\r\n", "prepend k 1 2 1"),
	STORE("cas k 1 2 1 5\r\nx\r\n", "cas k 1 2 1 77"),
	STORE(" cas k 1 2 1 18446744073709551615 noreply\nx\r\n",
	    "cas k 1 2 1 77"),
	TELL(NUMBER, "incr k 1\r\n", "incr k 1"),
	TELL(NUMBER, " incr  k  +01 noreply\n", "incr k 1"),
	TELL(NUMBER, "decr k 18446744073709551615 foo\r\n",
	    "decr k 18446744073709551615"),
	TELL(TOUCHED, "touch k 10\r\n", "touch k 10"),
	TELL(TOUCHED, "touch  k -010 noreply\n", "touch k -10"),
	TELL(TOUCHED, "touch k 4294967295\r\n", "touch k -1"),
	TELL(DELETED, "delete k\r\n", "delete k"),
	TELL(DELETED, "delete noreply\r\n", "delete noreply 0"),
	TELL(DELETED, "delete noreply 0 noreply\r\n", "delete noreply 0"),
	TELL(DELETED, "delete k 0 noreply\n", "delete k"),
	TELL(DELETED, "  delete  k  0  \r\n", "delete k"),

	TELL(META_GET, "mg k\r\n", "mg k"),
	TELL(META_GET, "mg  k  v   f \n", "mg k v f"),
	TELL(META_GET, "mg k q v\r\n", "mg k v"),
	TELL(META_GET, "mg k qq vv kx\r\n", "mg k v k"),
	TELL(META_GET, "mg k Pfoo v Lbar q\r\n", "mg k v"),
	TELL(META_GET, "mg k q\r\n", "mg k"),
	TELL(META_GET, "mg k " O31 " v\r\n", "mg k " O31 " v"),
	TELL(META_GET, "mg k O\r\n", "mg k O"),
	TELL(META_GET, "mg k N30 c R10 T0 I\r\n", "mg k N30 c R10 T0 I"),
	TELL(META_GET, "mg k s t h l u k f c v\r\n", "mg k s t h l u k f c v"),
	TELL(META_GET, "mg k C5\r\n", "mg k C77"),
	TELL(META_GET, "mg Zm9v b k v\r\n", "mg Zm9v b k v"),
	TELL(META_GET, "mg AAEC b k v\r\n", "mg AAEC b v"),
	TELL(META_GET, "mg Zg== v b5 q\r\n", "mg Zg== v b"),
	TELL(META_GET, "mg " B64_248 " b\r\n", "mg " B64_248 " b"),
	META_SET("ms k 2\r\nhi\r\n", "ms k 2"),
	META_SET("ms  k +2  c q F1 T10 MS\nhi\r\n", "ms k 2 c F1 MS T10"),
	META_SET("ms k 2 C18446744073709551615 I\r\nhi\r\n", "ms k 2 C77 I"),
	META_SET("ms Zm9v 002 bx ME T-1\r\nhi\r\n", "ms Zm9v 2 b ME T-1"),
	META_SET("ms k 0 MA Oab q k\r\n\r\n", "ms k 0 MA Oab k"),
	TELL(META_DELETE, "md k\r\n", "md k"),
	TELL(META_DELETE, "md k q I T30 C9 Oabc\r\n", "md k I T30 C77 Oabc"),
	TELL(META_DELETE, "md Zm8= b q\r\n", "md Zm8= b"),
	TELL(META_ARITHMETIC, "ma k\r\n", "ma k v"),
	TELL(META_ARITHMETIC, "ma k v q\r\n", "ma k v"),
	TELL(META_ARITHMETIC, "ma k vx t\r\n", "ma k v t"),
	TELL(META_ARITHMETIC, "ma Zm8= q b N60 J10 D5 MD T9 t c\r\n",
	    "ma Zm8= b N60 J10 D5 MD T9 t c v"),
	TELL(META_ARITHMETIC, "ma k C5\r\n", "ma k C77 v"),
	TELL(META_DEBUG, "me k\r\n", "me k"),
	TELL(META_DEBUG, "me k Z x y\r\n", "me k"),
	TELL(META_DEBUG, "me Zm9v b\r\n", "me Zm9v b"),
	TELL(META_DEBUG, "me k x b\r\n", "me k"),

	/* Too large: memcached drops what was there. */
	TELL(DELETED, "set k 0 0 1048577\r\n", "delete k"),
	TELL(DELETED, "  set  k 0 0 2147483645 noreply\n", "delete k"),
	TELL(DELETED, "ms k 1048577 q T5\r\n", "delete k"),
	TELL(META_DELETE, "ms ZiA= 1048577 q b\r\n", "md ZiA= b"),
	TELL(DELETED, "ms Zm9v 1048577 q b\r\n", "delete foo"),
};

static void
test_request_is_forwarded_in_its_canonical_form(void)
{
	const struct forward_case *i;
	struct command command;
	struct parsed parsed;

	for (i = forwards; i < forwards + COUNT(forwards); i++) {
		parsed = parse(i->request);
		memset(&command, 0xff, sizeof(command));
		command_forward(&command, &parsed.r, parsed.bytes, 77);
		check_command(&parsed, &command, i->line, i->expect, i->data);
		free(parsed.bytes);
	}
}

static void
check_cas(const char *request, uint64_t cas, const char *want,
    enum proto_expect expect)
{
	struct parsed parsed = parse(request);
	struct command command;

	command_forward(&command, &parsed.r, parsed.bytes, cas);
	check_command(&parsed, &command, want, expect, true);
	free(parsed.bytes);
}

static void
test_cas_is_forwarded_with_the_servers_own_token(void)
{
	check_cas("cas k 0 0 0 5\r\n\r\n", 0, "cas k 0 0 0 0\r\n",
	    PROTO_EXPECT_STORED);
	check_cas("cas k 0 0 0 5\r\n\r\n", CAS_MAX,
	    "cas k 0 0 0 18446744073709551615\r\n", PROTO_EXPECT_STORED);
	check_cas("ms k 0 C5\r\n\r\n", 0, "ms k 0 C0\r\n",
	    PROTO_EXPECT_META_SET);
	check_cas("ms k 0 C5\r\n\r\n", CAS_MAX,
	    "ms k 0 C18446744073709551615\r\n", PROTO_EXPECT_META_SET);
}

struct mirror_case {
	enum command_effect effect;
	struct forward_case command;
};

static const struct mirror_case mirrors[] = {
	{ COMMAND_SET, STORE("  set  k 1 2 1 noreply\nx\r\n", "set k 1 2 1") },
	{ COMMAND_SET, STORE("add k 1 -1 1\r\nx\r\n", "set k 1 -1 1") },
	{ COMMAND_SET, STORE("replace k 1 2 1\r\nx\r\n", "set k 1 2 1") },
	{ COMMAND_SET, STORE("cas k 1 2 1 5\r\nx\r\n", "set k 1 2 1") },
	{ COMMAND_SET,
	    STORE("ms k 2 c q F9 T10 ME O1\r\nhi\r\n", "set k 9 10 2") },
	{ COMMAND_SET, STORE("ms k 2 T-1\r\nhi\r\n", "set k 0 -1 2") },
	{ COMMAND_SET, STORE("ms k 0 C5 I MR\r\n\r\n", "set k 0 0 0") },
	{ COMMAND_SET,
	    META_SET("ms Zm9v 2 b F4294967295 T10 k q\r\nhi\r\n",
		"ms Zm9v 2 b F4294967295 T10") },
	{ COMMAND_SET,
	    META_SET("ms Zm9v +2 MR b\nhi\r\n", "ms Zm9v 2 b F0 T0") },
	{ COMMAND_SET,
	    META_SET("ms Zm9v 0 T-2147483648 C1 b\r\n\r\n",
		"ms Zm9v 0 b F0 T-2147483648") },

	{ COMMAND_SAME,
	    STORE("append k 1 2 1 noreply\r\nx\r\n", "append k 1 2 1") },
	{ COMMAND_SAME, STORE(" prepend  k 1 2 1\nx\r\n", "prepend k 1 2 1") },
	{ COMMAND_SAME, TELL(NUMBER, "incr k +5 noreply\n", "incr k 5") },
	{ COMMAND_SAME, TELL(NUMBER, "decr k 5\r\n", "decr k 5") },
	{ COMMAND_SAME,
	    META_SET("ms k 2 MA c F5 T6 q k O1\r\nhi\r\n", "ms k 2 MA") },
	{ COMMAND_SAME,
	    META_SET("ms Zm8= 2 q MP b C5\r\nhi\r\n", "ms Zm8= 2 MP b") },
	{ COMMAND_SAME, TELL(META_ARITHMETIC, "ma k\r\n", "ma k v") },
	{ COMMAND_SAME,
	    TELL(META_ARITHMETIC,
		"ma Zm8= v t c q k b N60 J10 D5 MD T9 C5 O1\r\n",
		"ma Zm8= b D5 MD T9 v") },

	{ COMMAND_SET_STALE,
	    META_SET("ms k 2 C5 I F9 T10 MR k\r\nhi\r\n", "ms k 2 C1 I F9") },
	{ COMMAND_SET_STALE,
	    META_SET("ms Zm9v 0 I b C5\r\n\r\n", "ms Zm9v 0 b C1 I F0") },
	{ COMMAND_WIN, TELL(META_GET, "mg k v q\r\n", "mg k") },
	{ COMMAND_WIN,
	    TELL(META_GET, "mg Zm8= T9 k R30 b\r\n", "mg Zm8= T9 R35 b") },
	{ COMMAND_WIN, TELL(META_GET, "mg k R-1 N5\r\n", "mg k R-1") },
	{ COMMAND_WIN, TELL(META_GET, "mg k R0 T0\r\n", "mg k R0 T0") },
	{ COMMAND_WIN,
	    TELL(META_GET, "mg k R2591998 T1\r\n", "mg k R2592000 T1") },
	{ COMMAND_WIN,
	    TELL(META_GET, "mg k R2592001 T1\r\n", "mg k R2592006 T1") },
	{ COMMAND_WIN,
	    TELL(META_GET, "mg k R2147483647\r\n", "mg k R2147483647") },
	{ COMMAND_MAKE,
	    TELL(META_GET, "mg Zm8= v N30 b O1 T9 q\r\n", "mg Zm8= N30 b T9") },
	{ COMMAND_STALE,
	    TELL(META_DELETE, "md k q C5 I T9 k\r\n", "md k I T9") },
	{ COMMAND_STALE, TELL(META_DELETE, "md Zg== I b\r\n", "md Zg== I b") },
	{ COMMAND_MARK, TELL(META_DELETE, "mg f v T30\r\n", "md f I") },
	{ COMMAND_MARK, TELL(META_DELETE, "mg Zg== k b\r\n", "md Zg== b I") },
	{ COMMAND_STRIP, TELL(META_SET, "mg f v R30\r\n", "ms f 0 MA\r\n") },
	{ COMMAND_STRIP,
	    TELL(META_SET, "mg Zg== b v\r\n", "ms Zg== 0 b MA\r\n") },
	{ COMMAND_UNKNOWN, TELL(DELETED, "ma k N5\r\n", "delete k") },

	{ COMMAND_TOUCH,
	    TELL(TOUCHED, "touch k -1 noreply\r\n", "touch k -1") },
	{ COMMAND_TOUCH, TELL(TOUCHED, "gat 10 k\r\n", "touch k 10") },
	{ COMMAND_TOUCH, TELL(TOUCHED, "gats  -5  k\n", "touch k -5") },
	{ COMMAND_TOUCH, TELL(TOUCHED, "mg k v T30 q\r\n", "touch k 30") },
	{ COMMAND_TOUCH,
	    TELL(META_GET, "mg Zm9v v T-1 b q\r\n", "mg Zm9v b T-1") },

	{ COMMAND_DELETE, TELL(DELETED, "delete k 0 noreply\r\n", "delete k") },
	{ COMMAND_DELETE, TELL(DELETED, "md k q O1 C5\r\n", "delete k") },
	{ COMMAND_DELETE, TELL(META_DELETE, "md ZiA= q b k\r\n", "md ZiA= b") },
	{ COMMAND_DELETE, TELL(DELETED, "set k 1 2 1\r\nx\r\n", "delete k") },
	{ COMMAND_DELETE, TELL(DELETED, "incr k 1\r\n", "delete k") },
	{ COMMAND_DELETE, TELL(DELETED, "set k 0 0 1048577\r\n", "delete k") },
	{ COMMAND_DELETE,
	    TELL(DELETED, "ms Zm9v 2 b\r\nhi\r\n", "delete foo") },
	{ COMMAND_DELETE, TELL(META_DELETE, "ma ZgA= b\r\n", "md ZgA= b") },
};

static void
test_effect_of_request_becomes_command_for_the_mirror(void)
{
	const struct forward_case *want;
	struct command command;
	struct parsed parsed;
	size_t i;

	for (i = 0; i < COUNT(mirrors); i++) {
		want = &mirrors[i].command;
		parsed = parse(want->request);
		memset(&command, 0xff, sizeof(command));
		command_mirror(&command, &parsed.r, parsed.bytes,
		    mirrors[i].effect);
		check_command(&parsed, &command, want->line, want->expect,
		    want->data);
		free(parsed.bytes);
	}
}

/* command_delete() takes any command about a key. */
static void
test_delete_is_made_of_any_command_about_a_key(void)
{
	static const struct forward_case deletes[] = {
		TELL(DELETED, " delete " K250 " 0\n", "delete " K250),
		TELL(DELETED, "set k 1 2 1\r\nx\r\n", "delete k"),
		TELL(DELETED, "get k l\r\n", "delete k"),
		TELL(DELETED, "mg noreply v\r\n", "delete noreply 0"),
		TELL(DELETED, "md bm9yZXBseQ== b\r\n", "delete noreply 0"),
		TELL(DELETED, "mg k v q\r\n", "delete k"),
		TELL(META_DELETE, "mg DQ== q v b\r\n", "md DQ== b"),
		TELL(META_DELETE, "ma " B64_248 " b\r\n", "md " B64_248 " b"),
	};
	struct command command;
	struct parsed parsed;
	size_t i;

	for (i = 0; i < COUNT(deletes); i++) {
		parsed = parse(deletes[i].request);
		command_delete(&command, &parsed.r, parsed.bytes);
		check_command(&parsed, &command, deletes[i].line,
		    deletes[i].expect, false);
		free(parsed.bytes);
	}
}

/* The longest lines that a client can make fit. */
static void
test_longest_client_line_fits_when_forwarded(void)
{
	char request[PROTO_LINE_MAX + 1], want[COMMAND_LINE_MAX + 1];
	const size_t end = sizeof("ma ") - 1 + 250 + 1 + 960 - 250;
	struct command command;
	struct parsed parsed;
	int n;

	n = snprintf(want, sizeof(want), "ma " K250 " D0");
	memset(want + n, '0', end - (size_t)n);
	strcpy(want + end, "\r\n");
	strcpy(request, want);
	parsed = parse(request);
	strcpy(want + end, " v\r\n");
	command_forward(&command, &parsed.r, parsed.bytes, CAS_MAX);
	check_command(&parsed, &command, want, PROTO_EXPECT_META_ARITHMETIC,
	    false);
	command_mirror(&command, &parsed.r, parsed.bytes, COMMAND_SAME);
	check_command(&parsed, &command, want, PROTO_EXPECT_META_ARITHMETIC,
	    false);
	free(parsed.bytes);
}

static void
check_get(const char *request, const char *want)
{
	struct parsed parsed = parse(request);
	char *line = malloc(COMMAND_GET_MAX);

	unit_need(line != NULL, "malloc");
	check_bytes(line, command_get(line, &parsed.r), want);
	free(line);
	free(parsed.bytes);
}

static void
test_get_of_each_kind_keeps_its_name_and_time(void)
{
	check_get("get k\r\n", "get");
	check_get("bget k l\r\n", "get");
	check_get("  gets  k \n", "gets");
	check_get("gat 10 k l m\r\n", "gat 10");
	check_get("gat -1 k\r\n", "gat -1");
	check_get("gat +007 k\r\n", "gat 7");
	check_get("gats 0 k\n", "gats 0");
	check_get("gats -2147483648 k\n", "gats -2147483648");
	check_get("gats 2147483647 k\n", "gats 2147483647");
}

static void
check_tag(const char *digits, uint64_t tag, const char *want)
{
	char *token = malloc(20);

	unit_need(token != NULL, "malloc");
	check_bytes(token, command_tag(token, digits, strlen(digits), tag),
	    want);
	free(token);
}

/* The tag stands above the 48 bits of the server; 0 stays 0. */
static void
test_tag_stands_above_the_48_bits_of_the_servers_token(void)
{
	const uint64_t tag = COMMAND_CAS_MASK + 1;

	check_tag("1", 0, "1");
	check_tag("1", tag, "281474976710657");
	check_tag("1", 2 * tag, "562949953421313");
	check_tag("0", tag, "0");
	check_tag("00", tag, "0");
	check_tag("281474976710655", 0, "281474976710655");
	check_tag("281474976710655", 32767 * tag, "9223372036854775807");
	check_tag("281474976710656", tag, "281474976710656");
	check_tag("281474976710657", 0, "1");
	check_tag("999999999999999999", 32767 * tag, "9223291444601815039");
	/* Of more digits than 18, whatever: it fits. */
	check(command_tag((char[20]){ 0 }, "18446744073709551615", 20,
		  32767 * tag) <= 20);
}

int
main(void)
{
	RUN(test_request_is_forwarded_in_its_canonical_form);
	RUN(test_cas_is_forwarded_with_the_servers_own_token);
	RUN(test_effect_of_request_becomes_command_for_the_mirror);
	RUN(test_delete_is_made_of_any_command_about_a_key);
	RUN(test_longest_client_line_fits_when_forwarded);
	RUN(test_get_of_each_kind_keeps_its_name_and_time);
	RUN(test_tag_stands_above_the_48_bits_of_the_servers_token);
	return unit_end();
}
