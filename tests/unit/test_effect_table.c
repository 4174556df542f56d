/*
 * The table of effects: what the mirror gets, for each command about a key,
 * each set of its flags, and each reply.
 *
 * The requests are made here and parsed by proto.c.  A reply that the table
 * does not name for a command is one that proto_reply() does not let through.
 */

#include "mirror/command.h"
#include "unit.h"

enum { VALUE_MAX = 4, TEXT_MAX = 128 };

/* The flags, one letter each: those of the meta commands as they are written,
   L for a value that is too large, and q also for noreply. */
#define META "TCINvbq"

/* How each command is written. */
static const struct source {
	enum proto_command command;
	const char *name;
	const char *modes;  /* those of M; a space: none is given */
	const char *flags;  /* those that it may have */
	const char *start;  /* the line up to its flags or its length */
	const char *behind; /* what follows the length; NULL: it has no data */
} sources[] = {
	{ PROTO_GAT, "gat", " ", "", "gat 9 ZiA=", NULL },
	{ PROTO_GATS, "gats", " ", "", "gats 9 ZiA=", NULL },
	{ PROTO_SET, "set", " ", "Lq", "set ZiA= 0 0 ", "" },
	{ PROTO_ADD, "add", " ", "q", "add ZiA= 0 0 ", "" },
	{ PROTO_REPLACE, "replace", " ", "q", "replace ZiA= 0 0 ", "" },
	{ PROTO_APPEND, "append", " ", "q", "append ZiA= 0 0 ", "" },
	{ PROTO_PREPEND, "prepend", " ", "q", "prepend ZiA= 0 0 ", "" },
	{ PROTO_CAS, "cas", " ", "q", "cas ZiA= 0 0 ", " 5" },
	{ PROTO_INCR, "incr", " ", "q", "incr ZiA= 1", NULL },
	{ PROTO_DECR, "decr", " ", "q", "decr ZiA= 1", NULL },
	{ PROTO_TOUCH, "touch", " ", "q", "touch ZiA= 9", NULL },
	{ PROTO_DELETE, "delete", " ", "q", "delete ZiA=", NULL },
	{ PROTO_MG, "mg", " ", META, "mg ZiA=", NULL },
	{ PROTO_MS, "ms", " SERAP", META "L", "ms ZiA= ", "" },
	{ PROTO_MD, "md", " ", META, "md ZiA=", NULL },
	{ PROTO_MA, "ma", " ID", META, "ma ZiA=", NULL },
	{ PROTO_ME, "me", " ", "b", "me ZiA=", NULL },
};

/*
 * For these commands, with one of these modes, with all of the flags with and
 * none of the flags without: each reply that may come, and behind a colon its
 * effect, if it has one.  All other flags are tried both ways, and change
 * nothing.  "any" is for a reply that memcached does not give.
 *
 * The three errors may come for each command.  Where they are not named they
 * have no effect.
 */
static const struct rule {
	const char *commands, *modes, *with, *without, *replies;
} rules[] = {
	{ "gat gats", " ", "", "", "VALUE:touch END" },
	{ "set", " ", "", "L",
	    "STORED:set NOT_STORED EXISTS NOT_FOUND SERVER_ERROR:delete" },
	{ "set", " ", "L", "",
	    "DELETED:delete NOT_FOUND:delete SERVER_ERROR:delete" },
	{ "add replace cas", " ", "", "",
	    "STORED:set NOT_STORED EXISTS NOT_FOUND" },
	{ "append prepend", " ", "", "",
	    "STORED:same NOT_STORED EXISTS NOT_FOUND" },
	{ "incr decr", " ", "", "", "NUMBER:same NOT_FOUND" },
	{ "touch", " ", "", "", "TOUCHED:touch NOT_FOUND" },
	{ "delete", " ", "", "", "DELETED:delete NOT_FOUND:delete" },

	{ "mg", " ", "", "T", "VA HD EN" },
	{ "mg", " ", "T", "", "VA:touch HD:touch EN" },
	{ "ms", " SER", "", "LC", "HD:set NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SER", "C", "LI", "HD:set NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SER", "CI", "L", "HD:delete NS EX NF SERVER_ERROR:delete" },
	{ "ms", "AP", "", "LN", "HD:same NS EX NF SERVER_ERROR:delete" },
	{ "ms", "AP", "N", "L", "HD:delete NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SERAP", "L", "b",
	    "DELETED:delete NOT_FOUND:delete SERVER_ERROR:delete" },
	{ "ms", " SERAP", "Lb", "",
	    "HD:delete NF:delete EX SERVER_ERROR:delete" },
	{ "md", " ", "", "", "HD:delete NF:delete EX" },
	{ "ma", " ID", "", "", "VA:same HD:any NF NS EX" },
	{ "me", " ", "", "", "ME EN" },
};

static bool is_used[COUNT(rules)];

/* Each result once, as some server writes it. */
static const struct reply {
	enum proto_result result;
	const char *name;
	const char *text;
	const char *text_cas; /* in a reply with cas tokens, if it differs */
} replies[] = {
	{ PROTO_VALUE, "VALUE", "VALUE ZiA= 0 1\r\nx\r\n",
	    "VALUE ZiA= 0 1 7\r\nx\r\n" },
	{ PROTO_STAT, "STAT", "STAT a b\r\n", NULL },
	{ PROTO_END, "END", "END\r\n", NULL },
	{ PROTO_STORED, "STORED", "STORED\r\n", NULL },
	{ PROTO_NOT_STORED, "NOT_STORED", "NOT_STORED\r\n", NULL },
	{ PROTO_EXISTS, "EXISTS", "EXISTS\r\n", NULL },
	{ PROTO_NOT_FOUND, "NOT_FOUND", "NOT_FOUND\r\n", NULL },
	{ PROTO_DELETED, "DELETED", "DELETED\r\n", NULL },
	{ PROTO_TOUCHED, "TOUCHED", "TOUCHED\r\n", NULL },
	{ PROTO_NUMBER, "NUMBER", "5\r\n", NULL },
	{ PROTO_OKAY, "OK", "OK\r\n", NULL },
	{ PROTO_VERSION_LINE, "VERSION", "VERSION 1.6.18\r\n", NULL },
	{ PROTO_META_VALUE, "VA", "VA 1\r\n5\r\n", NULL },
	{ PROTO_META_HD, "HD", "HD\r\n", NULL },
	{ PROTO_META_EN, "EN", "EN\r\n", NULL },
	{ PROTO_META_NS, "NS", "NS\r\n", NULL },
	{ PROTO_META_EX, "EX", "EX\r\n", NULL },
	{ PROTO_META_NF, "NF", "NF\r\n", NULL },
	{ PROTO_META_DEBUG, "ME", "ME ZiA= exp=-1\r\n", NULL },
	{ PROTO_ERROR, "ERROR", "ERROR\r\n", NULL },
	{ PROTO_CLIENT_ERROR, "CLIENT_ERROR", "CLIENT_ERROR x\r\n", NULL },
	{ PROTO_SERVER_ERROR, "SERVER_ERROR", "SERVER_ERROR x\r\n", NULL },
};

static const char *const effects[] = {
	[COMMAND_NOTHING] = "nothing",
	[COMMAND_SET] = "set",
	[COMMAND_SAME] = "same",
	[COMMAND_TOUCH] = "touch",
	[COMMAND_DELETE] = "delete",
};

/* A request of a source: its mode, and which of its flags are given. */
struct variant {
	const struct source *source;
	char mode;
	char given[16];
	char text[TEXT_MAX];
	struct proto_request r;
};

static bool
is_given(const struct variant *variant, char flag)
{
	return strchr(variant->given, flag) != NULL;
}

/* Choose from the flags of the source those whose bits are set. */
static void
choose_flags(struct variant *variant, unsigned int bits)
{
	const char *flags = variant->source->flags;
	size_t i, n = 0;

	for (i = 0; flags[i] != '\0'; i++)
		if (bits >> i & 1)
			variant->given[n++] = flags[i];
	variant->given[n] = '\0';
}

static void
write_variant(struct variant *variant)
{
	static const char *const texts[] = { ['T'] = " T30",
		['C'] = " C5",
		['I'] = " I",
		['N'] = " N9",
		['v'] = " v",
		['b'] = " b",
		['q'] = " q",
		['L'] = "" };
	const struct source *source = variant->source;
	char flags[64] = "", *to = flags;
	const char *i;

	for (i = variant->given; *i != '\0'; i++)
		to = stpcpy(to,
		    *i == 'q' && source->command < PROTO_MG ?
			" noreply" :
			texts[(unsigned char)*i]);
	if (variant->mode != ' ')
		sprintf(to, " M%c", variant->mode);
	if (source->behind == NULL)
		snprintf(variant->text, TEXT_MAX, "%s%s\r\n", source->start,
		    flags);
	else
		snprintf(variant->text, TEXT_MAX, "%s%d%s%s\r\nx\r\n",
		    source->start, is_given(variant, 'L') ? VALUE_MAX + 1 : 1,
		    source->behind, flags);
}

/* The request is what its letters say. */
static void
parse_variant(struct variant *variant)
{
	struct proto_request *r = &variant->r;
	enum proto_status status = proto_request(variant->text,
	    strlen(variant->text), VALUE_MAX, r);

	check_case(status == PROTO_OK && r->command == variant->source->command,
	    "parse %s", variant->text);
	check_case(r->too_large == is_given(variant, 'L') &&
		(r->error == NULL || r->too_large),
	    "size of %s", variant->text);
	check_case((r->quiet || r->noreply) == is_given(variant, 'q'),
	    "q of %s", variant->text);
	if (r->command < PROTO_MG || r->command == PROTO_ME)
		return;
	check_case(r->has_ttl == is_given(variant, 'T') &&
		r->has_cas ==
		    (is_given(variant, 'C') && r->command != PROTO_MG) &&
		r->has_invalidate == is_given(variant, 'I') &&
		r->has_vivify == is_given(variant, 'N') &&
		r->has_value == is_given(variant, 'v') &&
		r->base64 == is_given(variant, 'b'),
	    "flags of %s", variant->text);
	check_case(variant->mode == ' ' || r->mode == variant->mode,
	    "mode of %s", variant->text);
}

/* The word in a list of words, with spaces between them, and what is behind
   its colon: NULL if it is not there, "" if it has none. */
static const char *
find_word(const char *list, const char *word, char *behind)
{
	size_t n = strlen(word);
	const char *at;

	for (at = list; (at = strstr(at, word)) != NULL; at += n) {
		if ((at > list && at[-1] != ' ') ||
		    (at[n] != '\0' && strchr(" :", at[n]) == NULL))
			continue;
		behind[0] = '\0';
		if (at[n] == ':')
			sscanf(at + n + 1, "%15s", behind);
		return behind;
	}
	return NULL;
}

static bool
applies(const struct rule *rule, const struct variant *variant)
{
	char behind[16];
	const char *i;

	if (find_word(rule->commands, variant->source->name, behind) == NULL ||
	    strchr(rule->modes, variant->mode) == NULL)
		return false;
	for (i = rule->with; *i != '\0'; i++)
		if (!is_given(variant, *i))
			return false;
	for (i = rule->without; *i != '\0'; i++)
		if (is_given(variant, *i))
			return false;
	return true;
}

/* The only rule for a request. */
static const struct rule *
rule_for(const struct variant *variant)
{
	const struct rule *found = NULL;
	unsigned int count = 0;
	size_t i;

	for (i = 0; i < COUNT(rules); i++) {
		if (!applies(&rules[i], variant))
			continue;
		is_used[i] = true;
		found = &rules[i];
		count++;
	}
	check_case(count == 1, "%u rules for %s", count, variant->text);
	unit_need(found != NULL, variant->text);
	return found;
}

/* What the authority is expected to reply to this request. */
static enum proto_expect
expect_of(const struct variant *variant)
{
	struct command command;

	if (variant->r.command == PROTO_GAT)
		return PROTO_EXPECT_VALUES;
	if (variant->r.command == PROTO_GATS)
		return PROTO_EXPECT_VALUES_CAS;
	command_forward(&command, &variant->r, variant->text, 7);
	return command.expect;
}

static bool
may_come(const struct reply *reply, enum proto_expect expect)
{
	const char *text = reply->text;
	struct proto_reply parsed;

	if (expect == PROTO_EXPECT_VALUES_CAS && reply->text_cas != NULL)
		text = reply->text_cas;
	return proto_reply(text, strlen(text), expect, VALUE_MAX, &parsed) ==
	    PROTO_OK &&
	    parsed.result == reply->result;
}

static void
check_reply(const struct variant *variant, const struct rule *rule,
    const struct reply *reply)
{
	char behind[16] = "";
	const char *want = find_word(rule->replies, reply->name, behind);
	const char *got;

	if (want == NULL && reply->result >= PROTO_ERROR)
		want = "";
	check_case((want != NULL) == may_come(reply, expect_of(variant)),
	    "%s for %s may come: %d", reply->name, variant->text, want == NULL);
	if (want == NULL || strcmp(want, "any") == 0)
		return;
	if (want[0] == '\0')
		want = "nothing";
	got = effects[command_effect_of(&variant->r, reply->result)];
	check_case(strcmp(got, want) == 0,
	    "%s for %s  has the effect %s, not %s", reply->name, variant->text,
	    got, want);
}

static void
check_variant(struct variant *variant)
{
	const struct rule *rule;
	size_t i;

	write_variant(variant);
	parse_variant(variant);
	rule = rule_for(variant);
	for (i = 0; i < COUNT(replies); i++)
		check_reply(variant, rule, &replies[i]);
}

static void
test_each_reply_to_each_request_has_the_effect_of_its_rule(void)
{
	struct variant variant;
	const struct source *source;
	const char *mode;
	unsigned int bits;

	for (source = sources; source < sources + COUNT(sources); source++) {
		variant.source = source;
		for (mode = source->modes; *mode != '\0'; mode++) {
			variant.mode = *mode;
			for (bits = 0; bits >> strlen(source->flags) == 0;
			     bits++) {
				choose_flags(&variant, bits);
				check_variant(&variant);
			}
		}
	}
}

/* Each command from gat to me, but for mn, which is about no key. */
static void
test_each_command_about_a_key_has_requests(void)
{
	enum proto_command command;
	size_t i = 0;

	for (command = PROTO_GAT; command <= PROTO_ME; command++)
		if (command != PROTO_MN)
			check(sources[i++].command == command);
	check(i == COUNT(sources));
}

static void
test_each_result_has_a_reply(void)
{
	size_t i;

	check(COUNT(replies) == PROTO_SERVER_ERROR + 1);
	for (i = 0; i < COUNT(replies); i++)
		check(replies[i].result == i);
}

/* A rule that is for no request would prove nothing. */
static void
test_each_rule_was_for_some_request(void)
{
	size_t i;

	for (i = 0; i < COUNT(rules); i++)
		check_case(is_used[i], "rule %zu, for %s", i,
		    rules[i].commands);
}

static void
test_each_rule_names_known_flags_and_replies(void)
{
	char behind[16], words[256];
	const char *word;
	size_t i, j;
	bool known;

	for (i = 0; i < COUNT(rules); i++) {
		snprintf(words, sizeof(words), "%s", rules[i].replies);
		for (word = strtok(words, " "); word != NULL;
		     word = strtok(NULL, " ")) {
			known = false;
			for (j = 0; j < COUNT(replies); j++)
				known |= find_word(word, replies[j].name,
					     behind) != NULL;
			check_case(known, "reply %s", word);
		}
		check(strspn(rules[i].with, META "L") == strlen(rules[i].with));
		check(strspn(rules[i].without, META "L") ==
		    strlen(rules[i].without));
	}
}

int
main(void)
{
	RUN(test_each_command_about_a_key_has_requests);
	RUN(test_each_result_has_a_reply);
	RUN(test_each_rule_names_known_flags_and_replies);
	RUN(test_each_reply_to_each_request_has_the_effect_of_its_rule);
	RUN(test_each_rule_was_for_some_request);
	return unit_end();
}
