/*
 * The table of effects: what the mirror gets, for each command about a key,
 * each set of its flags, and each reply.
 *
 * The requests are made here and parsed by proto.c.  A reply that the table
 * does not name for a command is one that proto_reply() does not let through.
 */

#include "mirror/command.h"
#include "mirror/outcome.h"
#include "unit.h"

enum { VALUE_MAX = 4, TEXT_MAX = 128 };

/* The flags, one letter each: those of the meta commands as they are written,
   L for a value that is too large, and q also for noreply. */
#define META "TCINRvbq"

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

	{ "mg", " ", "", "TN",
	    "VA HD VA-W:win HD-W:win VA-XW:win HD-XW:win HD-X HD-Z EN" },
	{ "mg", " ", "T", "N",
	    "VA:touch HD:touch VA-W:win HD-W:win VA-XW:win HD-XW:win "
	    "HD-X:touch HD-Z:touch EN" },
	{ "mg", " ", "N", "TR",
	    "VA HD VA-W:make HD-W:make VA-XW:win HD-XW:win HD-X HD-Z EN" },
	{ "mg", " ", "TN", "R",
	    "VA:touch HD:touch VA-W:make HD-W:make VA-XW:win HD-XW:win "
	    "HD-X:touch HD-Z:touch EN" },
	{ "mg", " ", "NR", "T",
	    "VA HD VA-W:unknown HD-W:unknown VA-XW:win HD-XW:win HD-X HD-Z "
	    "EN" },
	{ "mg", " ", "TNR", "",
	    "VA:touch HD:touch VA-W:unknown HD-W:unknown VA-XW:win HD-XW:win "
	    "HD-X:touch HD-Z:touch EN" },
	{ "ms", " SER", "", "LC", "HD:set NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SER", "C", "LI", "HD:set NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SR", "CI", "L", "HD:unknown NS EX NF SERVER_ERROR:delete" },
	{ "ms", "E", "CI", "L", "HD:set NS EX NF SERVER_ERROR:delete" },
	{ "ms", "AP", "", "LN", "HD:same NS EX NF SERVER_ERROR:delete" },
	{ "ms", "AP", "N", "L", "HD:unknown NS EX NF SERVER_ERROR:delete" },
	{ "ms", " SERAP", "L", "b",
	    "DELETED:delete NOT_FOUND:delete SERVER_ERROR:delete" },
	{ "ms", " SERAP", "Lb", "",
	    "HD:delete NF:delete EX SERVER_ERROR:delete" },
	{ "md", " ", "", "I", "HD:delete NF:delete EX" },
	{ "md", " ", "I", "", "HD:stale NF:delete EX" },
	{ "ma", " ID", "", "N", "VA:same HD:any NF NS EX" },
	{ "ma", " ID", "N", "", "VA:unknown HD:any NF NS EX" },
	{ "me", " ", "", "", "ME EN" },
};

static bool is_used[COUNT(rules)];

/* Each result once, as some server writes it; and then some with the flags W,
   X and Z, which count for mg only. */
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
	{ PROTO_META_VALUE, "VA-W", "VA 1 f0 W\r\n5\r\n", NULL },
	{ PROTO_META_VALUE, "VA-XW", "VA 1 OW X W\r\n5\r\n", NULL },
	{ PROTO_META_HD, "HD-W", "HD W\r\n", NULL },
	{ PROTO_META_HD, "HD-XW", "HD kX X W t-1\r\n", NULL },
	{ PROTO_META_HD, "HD-X", "HD X OW kW\r\n", NULL },
	{ PROTO_META_HD, "HD-Z", "HD Z X\r\n", NULL },
};

static const char *const effects[] = {
	[COMMAND_NOTHING] = "nothing",
	[COMMAND_SET] = "set",
	[COMMAND_SAME] = "same",
	[COMMAND_TOUCH] = "touch",
	[COMMAND_DELETE] = "delete",
	[COMMAND_UNKNOWN] = "unknown",
	[COMMAND_SET_STALE] = "set_stale",
	[COMMAND_WIN] = "win",
	[COMMAND_MAKE] = "make",
	[COMMAND_STALE] = "stale",
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
		['R'] = " R8",
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
		r->has_recache == is_given(variant, 'R') &&
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
may_come(const struct reply *reply, enum proto_expect expect,
    struct proto_reply *parsed)
{
	const char *text = reply->text;

	if (expect == PROTO_EXPECT_VALUES_CAS && reply->text_cas != NULL)
		text = reply->text_cas;
	return proto_reply(text, strlen(text), expect, VALUE_MAX, parsed) ==
	    PROTO_OK &&
	    parsed->result == reply->result;
}

/* The name of a reply; for commands other than mg without what is behind the
   dash. */
static const char *
name_of(const struct reply *reply, const struct variant *variant)
{
	static char name[16];

	snprintf(name, sizeof(name), "%s", reply->name);
	if (variant->r.command != PROTO_MG)
		name[strcspn(name, "-")] = '\0';
	return name;
}

static void
check_reply(const struct variant *variant, const struct rule *rule,
    const struct reply *reply)
{
	char behind[16] = "";
	const char *want = find_word(rule->replies, name_of(reply, variant),
	    behind);
	struct proto_reply parsed;
	const char *got;

	if (want == NULL && reply->result >= PROTO_ERROR)
		want = "";
	check_case((want != NULL) ==
		may_come(reply, expect_of(variant), &parsed),
	    "%s for %s may come: %d", reply->name, variant->text, want == NULL);
	if (want == NULL || strcmp(want, "any") == 0)
		return;
	if (want[0] == '\0')
		want = "nothing";
	got = effects[outcome_effect(&variant->r, &parsed)];
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

	check(COUNT(replies) > PROTO_SERVER_ERROR);
	for (i = 0; i <= PROTO_SERVER_ERROR; i++)
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
	char behind[16], words[512];
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

/*
 * Steps
 */

/* A command, the replies to its steps, and what they are.  A step is written as
   command_forward() writes it, and behind an arrow is its effect.  The last
   line is "done", or "whole", or "step" if another one would follow. */
static const struct steps_case {
	const char *request;
	const char *replies[4];
	bool can_vivify;
	const char *want;
} steps_cases[] = {
	{ "ms k 1 MA N60 T9 F5 c q\r\nx\r\n", { "HD c7\r\n" }, true,
	    "ms k 1 MA F5 c T9 -> same, done" },
	{ "ms k 1 MP N60 F5 k Ox\r\nx\r\n", { "NS\r\n", "HD\r\n" }, true,
	    "ms k 1 MP F5 k Ox -> nothing, "
	    "ms k 1 ME F5 k Ox T60 -> set, done" },
	{ "ms k 1 MA N60\r\nx\r\n", { "NS\r\n", "NS\r\n", "HD\r\n" }, true,
	    "ms k 1 MA -> nothing, ms k 1 ME T60 -> nothing, "
	    "ms k 1 MA -> same, done" },
	{ "ms k 1 MA N60\r\nx\r\n", { "NS\r\n" }, false,
	    "ms k 1 MA -> nothing, done" },
	{ "ms k 1 MA N60\r\nx\r\n", { "SERVER_ERROR x\r\n" }, true,
	    "ms k 1 MA -> delete, done" },
	{ "ms k 1 C5 I T9\r\nx\r\n", { "HD\r\n" }, true,
	    "ms k 1 C77 T9 -> set, done" },
	{ "ms k 1 C5 I T9 MR\r\nx\r\n", { "EX\r\n", "HD\r\n" }, true,
	    "ms k 1 C77 MR T9 -> nothing, "
	    "ms k 1 C77 I T9 -> set_stale, done" },
	{ "ms k 1 C5 I\r\nx\r\n", { "EX\r\n", "EX\r\n" }, true,
	    "ms k 1 C77 -> nothing, ms k 1 C77 I -> nothing, done" },
	{ "ms k 1 C5 I\r\nx\r\n", { "NF\r\n" }, true,
	    "ms k 1 C77 -> nothing, done" },
	{ "ma k N60 J13 D2 MD t\r\n", { "VA 1 t5\r\n8\r\n" }, true,
	    "ma k D2 MD t v -> same, done" },
	{ "ma k N60 J13 D2 q t Ox v\r\n", { "NF\r\n", "HD c1\r\n" }, true,
	    "ma k D2 t Ox v -> nothing, "
	    "ms k 2 ME c T60\r\n13 -> set, done" },
	{ "ma k N60 J0013\r\n", { "NF\r\n", "NS\r\n", "VA 2\r\n14\r\n" }, true,
	    "ma k v -> nothing, ms k 2 ME c T60\r\n13 -> nothing, "
	    "ma k v -> same, done" },
	{ "ma k N60 T5\r\n", { "NF\r\n" }, true,
	    "ma k T5 v -> nothing, step ms k 1 ME c T5\r\n0" },
	{ "ma k T5 N60\r\n", { "NF\r\n" }, true,
	    "ma k T5 v -> nothing, step ms k 1 ME c T60\r\n0" },
	{ "ma Zg== b N0\r\n", { "NF b\r\n", "HD\r\n" }, true,
	    "ma Zg== b v -> nothing, ms f 1 ME c T0\r\n0 -> set, done" },
	{ "ma ZiA= N0 b\r\n", { "NF\r\n", "HD\r\n" }, true,
	    "ma ZiA= b v -> nothing, ms ZiA= 1 b ME c T0\r\n0 -> set, done" },
	{ "ma k N-1 J5\r\n", { "NF\r\n" }, true,
	    "ma k v -> nothing, step ms k 1 ME c T-1\r\n5" },
	{ "ma k N-1 J5 t\r\n", { "NF\r\n" }, true,
	    "ma k t v -> nothing, whole" },
	{ "ma k N2592001 t\r\n", { "NF\r\n" }, true,
	    "ma k t v -> nothing, step ms k 1 ME c T2592001\r\n0" },
	{ "ma k N60 C5\r\n", { "EX\r\n" }, true,
	    "ma k C77 v -> nothing, done" },
	{ "mg k N60 R30 v T9\r\n", { "VA 1 W\r\nx\r\n" }, true,
	    "mg k R30 v T9 -> win, done" },
	{ "mg k N60 R30 T9\r\n", { "HD\r\n" }, true,
	    "mg k R30 T9 -> touch, done" },
	{ "mg k N60 R30\r\n", { "EN\r\n", "HD W\r\n" }, true,
	    "mg k R30 -> nothing, mg k N60 -> make, done" },
	{ "mg k N60 R30\r\n", { "EN\r\n", "HD X W\r\n" }, true,
	    "mg k R30 -> nothing, mg k N60 -> win, done" },
	{ "mg k N60 R30\r\n", { "EN\r\n", "HD Z\r\n", "HD W\r\n" }, true,
	    "mg k R30 -> nothing, mg k N60 -> nothing, mg k R30 -> win, "
	    "done" },
	{ "mg k N60 R30\r\n", { "EN\r\n", "EN\r\n" }, true,
	    "mg k R30 -> nothing, mg k N60 -> nothing, done" },
};

/* Add the step, and its effect if it has a reply.  Returns false if the reply
   is the last one. */
static void
add_step(char *got, const struct proto_request *step, const char *bytes,
    const char *text, struct proto_reply *reply)
{
	struct command command;

	command_forward(&command, step, bytes, 77);
	if (text == NULL) {
		sprintf(got, "step %.*s", (int)command.length - 2,
		    command.line);
		return;
	}
	unit_need(proto_reply(text, strlen(text), command.expect, VALUE_MAX,
		      reply) == PROTO_OK,
	    text);
	sprintf(got, "%.*s -> %s, ", (int)command.length - 2, command.line,
	    effects[outcome_effect(step, reply)]);
}

static void
check_steps(const struct steps_case *i)
{
	static const char *const ends[] = {
		[OUTCOME_IS_REPLY] = "done",
		[OUTCOME_IS_WHOLE] = "whole",
	};
	enum outcome progress = OUTCOME_HAS_STEP;
	struct proto_request r, step;
	struct proto_reply reply;
	char got[512] = "";
	int n;

	unit_need(proto_request(i->request, strlen(i->request), VALUE_MAX,
		      &r) == PROTO_OK &&
		r.error == NULL,
	    i->request);
	check_case(outcome_begin_steps(&step, &r), "%s", i->request);
	for (n = 0; n < 4 && progress == OUTCOME_HAS_STEP; n++) {
		add_step(got + strlen(got), &step, i->request, i->replies[n],
		    &reply);
		if (i->replies[n] == NULL)
			break;
		progress = outcome_next_step(&step, &r, i->request, &reply,
		    i->can_vivify);
	}
	if (progress != OUTCOME_HAS_STEP)
		strcat(got, ends[progress]);
	check_case(strcmp(got, i->want) == 0, "%s  is \"%s\",  not \"%s\"",
	    i->request, got, i->want);
}

static void
test_each_step_does_one_thing_and_has_its_effect(void)
{
	size_t i;

	for (i = 0; i < COUNT(steps_cases); i++)
		check_steps(&steps_cases[i]);
}

/* Those are the requests with a reply of unknown effect, and no others. */
static void
check_variant_steps(struct variant *variant)
{
	struct proto_reply reply = { .result = PROTO_META_VALUE,
		.marks = PROTO_WON };
	struct proto_request step;
	bool has_steps;

	write_variant(variant);
	parse_variant(variant);
	if (variant->r.command == PROTO_ME || variant->r.command < PROTO_MG)
		reply.result = PROTO_CLIENT_ERROR;
	has_steps = outcome_begin_steps(&step, &variant->r);
	check_case(has_steps ==
		(outcome_effect(&variant->r, &reply) == COMMAND_UNKNOWN),
	    "%s has steps: %d", variant->text, has_steps);
	check_case(!has_steps ||
		outcome_effect(&step, &reply) != COMMAND_UNKNOWN,
	    "the first step of %s", variant->text);
}

static void
check_each_variant(void (*look)(struct variant *variant))
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
				look(&variant);
			}
		}
	}
}

static void
test_commands_of_unknown_effect_are_those_with_steps(void)
{
	check_each_variant(check_variant_steps);
}

static void
test_each_reply_to_each_request_has_the_effect_of_its_rule(void)
{
	check_each_variant(check_variant);
}

int
main(void)
{
	RUN(test_each_command_about_a_key_has_requests);
	RUN(test_each_result_has_a_reply);
	RUN(test_each_rule_names_known_flags_and_replies);
	RUN(test_each_reply_to_each_request_has_the_effect_of_its_rule);
	RUN(test_commands_of_unknown_effect_are_those_with_steps);
	RUN(test_each_step_does_one_thing_and_has_its_effect);
	RUN(test_each_rule_was_for_some_request);
	return unit_end();
}
