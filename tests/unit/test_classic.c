/*
 * The classic command that takes the place of a meta command, one line of a
 * table each: for the authority, and for the mirror.
 */

#include "mirror/classic.h"
#include "mirror/identity.h"
#include "unit.h"

enum { VALUE_MAX = 1048576 };

/* Versions of memcached, as numbers of three digits. */
enum {
	V1_4_5 = 405,
	V1_4_15 = 415,
	V1_5_6 = 506,
	V1_6_9 = 609,
	V1_6_10 = 610,
	V1_6_18 = 618
};

static struct abilities
abilities_at(int version, bool cas_is_off)
{
	const struct identity identity = {
		.known = true,
		.version = { 1, (unsigned int)version / 100,
		    (unsigned int)version % 100 },
		.has_no_cas = cas_is_off,
	};

	return abilities_of(&identity);
}

static struct proto_request
parse(const char *text)
{
	struct proto_request r;

	check_case(proto_request(text, strlen(text), VALUE_MAX, &r) ==
		    PROTO_OK &&
		(r.error == NULL || r.too_large),
	    "parse %s", text);
	return r;
}

static const struct authority_case {
	const char *request;
	/* What a server of this version gets; NULL: see way. */
	int version;
	const char *line;
	enum classic_way way;
} authorities[] = {
	{ "ms k 1\r\nx\r\n", V1_6_9, "set k 0 0 1", CLASSIC_INSTEAD },
	{ "ms k 1 T30 F7 Oa q k\r\nx\r\n", V1_4_15, "set k 7 30 1",
	    CLASSIC_INSTEAD },
	{ "ms k 1 T-1 I\r\nx\r\n", V1_4_15, "set k 0 -1 1", CLASSIC_INSTEAD },
	{ "ms azA= 1 b ME\r\nx\r\n", V1_4_15, "add k0 0 0 1", CLASSIC_INSTEAD },
	{ "ms k 1 MA\r\nx\r\n", V1_4_15, "append k 0 0 1", CLASSIC_INSTEAD },
	{ "ms k 1 MP\r\nx\r\n", V1_4_15, "prepend k 0 0 1", CLASSIC_INSTEAD },
	{ "ms k 1 MR\r\nx\r\n", V1_4_15, "replace k 0 0 1", CLASSIC_INSTEAD },
	{ "ms k 1 C5\r\nx\r\n", V1_4_15, "cas k 0 0 1 77", CLASSIC_INSTEAD },
	{ "ms k 1 C5 MR\r\nx\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ms k 1 C5 I\r\nx\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ms k 1 c\r\nx\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ms k 1 MA N30\r\nx\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ms ZiA= 1 b\r\nx\r\n", V1_6_9, NULL, CLASSIC_TOO_OLD },
	{ "ms ZiA= 1 b\r\nx\r\n", V1_6_10, NULL, CLASSIC_NONE },
	{ "ms k 1\r\nx\r\n", V1_6_10, NULL, CLASSIC_NONE },
	{ "ms k 1048577\r\n", V1_4_15, NULL, CLASSIC_NONE },
	{ "ms ZiA= 1048577 b\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "md k q T30\r\n", V1_4_15, "delete k", CLASSIC_INSTEAD },
	{ "md azA= b\r\n", V1_4_15, "delete k0", CLASSIC_INSTEAD },
	{ "md k C1\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "md k C1\r\n", V1_6_10, NULL, CLASSIC_TOO_OLD },
	{ "md k C1\r\n", V1_6_18, NULL, CLASSIC_NONE },
	{ "md k I\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "md k I\r\n", V1_6_10, NULL, CLASSIC_NONE },
	{ "md ZiA= b\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ma k\r\n", V1_4_15, "incr k 1", CLASSIC_INSTEAD },
	{ "ma k MD D5 J3 v\r\n", V1_4_15, "decr k 5", CLASSIC_INSTEAD },
	{ "ma k N30\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ma k T30\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ma k t\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "ma k c\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "mg k\r\n", V1_6_10, "get k", CLASSIC_INSTEAD },
	{ "mg k t\r\n", V1_6_10, NULL, CLASSIC_NONE },
	{ "mg k\r\n", V1_6_18, NULL, CLASSIC_NONE },
	{ "mg k s v f k O1 q\r\n", V1_4_15, "get k", CLASSIC_INSTEAD },
	{ "mg azA= b c\r\n", V1_4_15, "gets k0", CLASSIC_INSTEAD },
	{ "mg k T30 k\r\n", V1_4_15, "touch k 30", CLASSIC_INSTEAD },
	{ "mg k T30 k\r\n", V1_4_5, NULL, CLASSIC_TOO_OLD },
	{ "mg k T30 v\r\n", V1_4_15, NULL, CLASSIC_TOO_OLD },
	{ "mg k T30 v\r\n", V1_5_6, "gat 30 k", CLASSIC_INSTEAD },
	{ "mg k T-1 c\r\n", V1_6_9, "gats -1 k", CLASSIC_INSTEAD },
	{ "mg k t\r\n", V1_6_9, NULL, CLASSIC_TOO_OLD },
	{ "mg k N30\r\n", V1_6_9, NULL, CLASSIC_TOO_OLD },
	{ "mg ZiA= b v\r\n", V1_6_9, NULL, CLASSIC_MISS },
	{ "mg ZiA= b N30\r\n", V1_6_9, NULL, CLASSIC_TOO_OLD },
	{ "me k\r\n", V1_6_9, NULL, CLASSIC_TOO_OLD },
	{ "me k\r\n", V1_6_10, NULL, CLASSIC_NONE },
};

static void
test_meta_command_becomes_a_classic_one_for_the_authority(void)
{
	const struct authority_case *want;
	struct abilities abilities;
	struct proto_request r;
	struct command command;
	struct classic classic;
	char line[64];
	size_t i;

	for (i = 0; i < COUNT(authorities); i++) {
		want = &authorities[i];
		abilities = abilities_at(want->version, false);
		r = parse(want->request);
		check_case(classic_way(&abilities, &r, want->request) ==
			want->way,
		    "%s", want->request);
		if (want->line == NULL ||
		    classic_make(&classic, &abilities, &r, want->request) !=
			CLASSIC_INSTEAD)
			continue;
		command_forward(&command, &classic.r, classic.bytes, 77);
		snprintf(line, sizeof(line), "%s\r\n", want->line);
		check_bytes(command.line, command.length, line);
	}
}

static void
test_touch_and_cas_depend_on_the_server(void)
{
	struct abilities old = abilities_at(V1_4_5, false);
	struct abilities plain = abilities_at(V1_6_18, true);
	const char *touch = "touch k 1\r\n", *cas = "cas k 0 0 1 1\r\nx\r\n";
	const char *meta = "md k C1\r\n";
	struct proto_request r = parse(touch);

	check(classic_way(&old, &r, touch) == CLASSIC_TOO_OLD);
	check(classic_way(&plain, &r, touch) == CLASSIC_NONE);
	r = parse(cas);
	check(classic_way(&old, &r, cas) == CLASSIC_NONE);
	check(classic_way(&plain, &r, cas) == CLASSIC_NO_CAS);
	r = parse(meta);
	check(classic_way(&plain, &r, meta) == CLASSIC_NO_CAS);
}

static const struct mirror_case {
	const char *request;
	enum command_effect effect;
	int version;
	const char *line; /* NULL: the mirror cannot have the key */
} mirrors[] = {
	{ "ms k 1 T9 F2 C3\r\nx\r\n", COMMAND_SET, V1_6_9, "set k 2 9 1" },
	{ "ms azA= 1 b\r\nx\r\n", COMMAND_SET, V1_6_9, "set k0 0 0 1" },
	{ "ms azA= 1 b\r\nx\r\n", COMMAND_SET, V1_6_10, "ms azA= 1 b F0 T0" },
	{ "ms ZiA= 1 b\r\nx\r\n", COMMAND_SET, V1_6_9, NULL },
	{ "ms k 1 MA C5\r\nx\r\n", COMMAND_SAME, V1_6_9, "append k 0 0 1" },
	{ "ms k 1 MA N5\r\nx\r\n", COMMAND_SAME, V1_6_9, "delete k" },
	{ "ma azA= b D3 c\r\n", COMMAND_SAME, V1_6_9, "incr k0 3" },
	{ "ma k MD v\r\n", COMMAND_SAME, V1_6_10, "ma k MD v" },
	{ "ma k N5\r\n", COMMAND_SAME, V1_6_9, "delete k" },
	{ "ma k T5\r\n", COMMAND_SAME, V1_6_9, "delete k" },
	{ "ma ZiA= b\r\n", COMMAND_SAME, V1_6_9, NULL },
	{ "incr k 2\r\n", COMMAND_SAME, V1_4_5, "incr k 2" },
	{ "append k 0 0 1\r\nx\r\n", COMMAND_SAME, V1_4_5, "append k 0 0 1" },
	{ "mg azA= b T5 v\r\n", COMMAND_TOUCH, V1_6_9, "touch k0 5" },
	{ "gat 5 k\r\n", COMMAND_TOUCH, V1_4_5, "delete k" },
	{ "md azA= b\r\n", COMMAND_DELETE, V1_6_9, "delete k0" },
	{ "md ZiA= b\r\n", COMMAND_DELETE, V1_6_9, NULL },
	{ "md ZiA= b\r\n", COMMAND_DELETE, V1_6_18, "md ZiA= b" },
	{ "ms k 1048577\r\n", COMMAND_DELETE, V1_4_15, "delete k" },
};

static void
test_effect_is_a_classic_command_or_a_delete_for_an_old_mirror(void)
{
	const struct mirror_case *want;
	struct abilities abilities;
	struct command command;
	struct proto_request r;
	char line[64];
	enum command_effect written;
	size_t i;

	for (i = 0; i < COUNT(mirrors); i++) {
		want = &mirrors[i];
		abilities = abilities_at(want->version, false);
		r = parse(want->request);
		written = classic_mirror(&command, &abilities, &r,
		    want->request, want->effect);
		check_case((written == COMMAND_NOTHING) == (want->line == NULL),
		    "%s", want->request);
		if (written == COMMAND_NOTHING || want->line == NULL)
			continue;
		check_case(written == want->effect ||
			strncmp(want->line, "delete ", 7) == 0,
		    "%s", want->request);
		snprintf(line, sizeof(line), "%s\r\n", want->line);
		check_bytes(command.line, command.length, line);
	}
}

int
main(void)
{
	RUN(test_meta_command_becomes_a_classic_one_for_the_authority);
	RUN(test_touch_and_cas_depend_on_the_server);
	RUN(test_effect_is_a_classic_command_or_a_delete_for_an_old_mirror);
	return unit_end();
}
