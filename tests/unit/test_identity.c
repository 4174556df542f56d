/* The identity of a server: what is read of it, and how its incarnations are
   distinguished. */

#include "mirror/identity.h"
#include "unit.h"

/* A copy of exactly these bytes, so that a sanitizer sees a read too far. */
static char *
exactly(const char *text, size_t n)
{
	char *copy = malloc(n > 0 ? n : 1);

	unit_need(copy != NULL, "malloc");
	memcpy(copy, text, n);
	return copy;
}

static void
check_version(const char *text, unsigned int major, unsigned int minor,
    unsigned int patch)
{
	struct identity identity = { .version = { 7, 7, 7 } };
	char *copy = exactly(text, strlen(text));

	identity_version(&identity, copy, strlen(text));
	free(copy);
	check_case(identity.version[0] == major &&
		identity.version[1] == minor && identity.version[2] == patch,
	    "version \"%s\": %u.%u.%u", text, identity.version[0],
	    identity.version[1], identity.version[2]);
	check(identity_is_since(&identity, major, minor, patch));
	check(!identity_is_since(&identity, major, minor, patch + 1));
}

static void
test_version_text_of_any_kind_gives_three_numbers(void)
{
	check_version("1.6.18", 1, 6, 18);
	check_version("1.4.31", 1, 4, 31);
	check_version("1.6.45-17-gabcdef", 1, 6, 45);
	check_version("1.6.0-rc1", 1, 6, 0);
	check_version("1.5.22 (Ubuntu)", 1, 5, 22);
	check_version("1.4.4-14-g9c660c0", 1, 4, 4);
	check_version("1.6.9.1", 1, 6, 9);
	check_version("10.20.300", 10, 20, 300);
	check_version("1.6", 1, 6, 0);
	check_version("1.6.", 1, 6, 0);
	check_version("1", 1, 0, 0);
	check_version("1..5", 1, 0, 5);
	check_version("unknown", 0, 0, 0);
	check_version("", 0, 0, 0);
	check_version(".", 0, 0, 0);
	check_version("...", 0, 0, 0);
	check_version("-1.-6", 0, 0, 0);
}

/* What cannot be right must not wrap around to something else: it may be any
   number, but the others stay as they are. */
static void
test_huge_patch_number_leaves_major_and_minor_alone(void)
{
	static const char text[] =
	    "1.6.99999999999999999999999999999999999999999";
	struct identity identity = { .known = false };

	identity_version(&identity, text, sizeof(text) - 1);
	check(identity.version[0] == 1 && identity.version[1] == 6);
}

static void
test_version_is_since_all_that_are_not_later(void)
{
	static const struct identity identity = { .version = { 1, 6, 18 } };

	check(identity_is_since(&identity, 0, 0, 0));
	check(identity_is_since(&identity, 0, 99, 99));
	check(identity_is_since(&identity, 1, 5, 99));
	check(identity_is_since(&identity, 1, 6, 9));
	check(identity_is_since(&identity, 1, 6, 18));
	check(!identity_is_since(&identity, 1, 6, 19));
	check(!identity_is_since(&identity, 1, 7, 0));
	check(!identity_is_since(&identity, 2, 0, 0));
}

static void
stat(struct identity *identity, const char *name, const char *value)
{
	char *n = exactly(name, strlen(name));
	char *v = exactly(value, strlen(value));

	identity_stat(identity, n, strlen(name), v, strlen(value));
	free(n);
	free(v);
}

static void
test_stats_fill_in_the_identity(void)
{
	struct identity identity = { .known = false };

	stat(&identity, "pid", "4711");
	stat(&identity, "uptime", "12");
	stat(&identity, "time", "1700000000");
	stat(&identity, "version", "1.6.18");
	stat(&identity, "libevent", "2.1.12-stable");
	stat(&identity, "pointer_size", "64");
	stat(&identity, "rusage_user", "0.123456");
	stat(&identity, "max_connections", "1024");
	stat(&identity, "curr_connections", "2");
	stat(&identity, "total_connections", "3");
	stat(&identity, "cmd_get", "1");
	stat(&identity, "cmd_set", "2");
	stat(&identity, "cmd_touch", "99");
	stat(&identity, "get_hits", "98");
	stat(&identity, "limit_maxbytes", "67108864");
	stat(&identity, "bytes", "97");
	stat(&identity, "curr_items", "5");
	stat(&identity, "total_items", "6");
	stat(&identity, "item_size_max", "1048576");
	stat(&identity, "", "1");
	check(!identity.known);
	check(identity.pid == 4711 && identity.uptime == 12);
	check(identity.time == 1700000000);
	check(identity.connections == 3);
	check(identity.gets == 1 && identity.sets == 2);
	check(identity.items == 6 && identity.stored == 5);
	check(identity.item_size_max == 1048576);
	check(!identity.restartable);
}

/* Names are whole names, and the last one counts. */
static void
test_stat_with_whole_name_counts_and_last_one_wins(void)
{
	struct identity identity = { .known = false };

	stat(&identity, "pid", "1");
	stat(&identity, "pi", "2");
	stat(&identity, "pidx", "3");
	stat(&identity, "PID", "4");
	stat(&identity, "xpid", "5");
	check(identity.pid == 1);
	stat(&identity, "pid", "6");
	check(identity.pid == 6);
	stat(&identity, "pid", "");
	check(identity.pid == 0);
	stat(&identity, "pid", "12x");
	check(identity.pid == 12);
	stat(&identity, "pid", "x");
	check(identity.pid == 0);
}

static void
test_server_with_memory_file_is_restartable(void)
{
	struct identity identity = { .known = false };

	check(!identity.restartable);
	stat(&identity, "memory_file", "(null)");
	check(!identity.restartable);
	stat(&identity, "memory_file", "/dev/shm/cache");
	check(identity.restartable);
	stat(&identity, "memory_file", "(null)");
	check(!identity.restartable);
	stat(&identity, "memory_file", "(null");
	check(identity.restartable);
	stat(&identity, "memory_file", "(null)");
	stat(&identity, "memory_fil", "/x");
	stat(&identity, "memory_files", "/x");
	check(!identity.restartable);
}

static void
test_settings_say_what_flush_all_does(void)
{
	struct identity identity = { .known = false };

	stat(&identity, "flush_enabled", "yes");
	stat(&identity, "cas_enabled", "yes");
	check(!identity.refuses_flush && !identity.has_no_cas);
	stat(&identity, "flush_enabled", "no");
	check(identity.refuses_flush && !identity.has_no_cas);
	stat(&identity, "cas_enabled", "no");
	check(identity.refuses_flush && identity.has_no_cas);
	stat(&identity, "flush_enabled", "yes");
	stat(&identity, "cas_enabled", "yes");
	stat(&identity, "cas_enable", "no");
	stat(&identity, "flush_enabled_", "no");
	check(!identity.refuses_flush && !identity.has_no_cas);
}

static const struct identity before = {
	.known = true,
	.version = { 1, 6, 18 },
	.pid = 1,
	.time = 1000100,
	.uptime = 100,
	.connections = 10,
	.gets = 20,
	.sets = 30,
	.items = 40,
	.stored = 50,
	.item_size_max = 1024,
};

static void
check_change(const struct identity *now, enum identity_change want,
    const char *what)
{
	check_case(identity_compare(&before, now) == want, "%s", what);
}

static void
test_identity_with_counters_grown_is_the_same(void)
{
	struct identity now = before;

	check_change(&now, IDENTITY_SAME, "nothing has changed");
	now.time += 5;
	now.uptime += 5;
	now.connections++;
	now.gets += 1000;
	now.sets += 1000;
	now.items += 1000;
	check_change(&now, IDENTITY_SAME, "a while later");
	now.stored = 0;
	check_change(&now, IDENTITY_SAME, "what may go down has");
}

static void
test_identity_with_another_pid_or_start_is_new(void)
{
	struct identity now = before;

	now.pid = 2;
	check_change(&now, IDENTITY_NEW, "another pid");
	now = before;
	now.time++;
	check_change(&now, IDENTITY_NEW, "started a second later");
	now = before;
	now.uptime = 0;
	check_change(&now, IDENTITY_NEW, "started now");
	now = before;
	now.time--;
	check_change(&now, IDENTITY_NEW, "started before");
	now = before;
	now.pid = 2;
	now.gets = 0;
	check_change(&now, IDENTITY_NEW, "another pid, and a counter");
}

static void
test_identity_with_counter_that_fell_is_unsure(void)
{
	struct identity now = before, unknown = { .known = false };

	now.connections--;
	check_change(&now, IDENTITY_UNSURE, "fewer connections");
	now = before;
	now.gets = 0;
	check_change(&now, IDENTITY_UNSURE, "fewer gets");
	now = before;
	now.sets--;
	check_change(&now, IDENTITY_UNSURE, "fewer sets");
	now = before;
	now.items--;
	check_change(&now, IDENTITY_UNSURE, "fewer items");
	check(identity_compare(&unknown, &before) == IDENTITY_UNSURE);
	check(identity_compare(&unknown, &unknown) == IDENTITY_UNSURE);
}

/* Every magent of every version must compute the same tag. */
static void
test_tag_of_known_identities_has_its_fixed_value(void)
{
	static const struct {
		uint64_t pid, time, uptime;
		unsigned int role;
		uint64_t tag;
	} tags[] = {
		{ 1, 1700000000, 0, 0, 15904 },
		{ 1, 1700000000, 0, 1, 13305 },
		{ 1, 1700000100, 100, 0, 15904 },
		{ 4711, 1700000000, 12, 0, 18865 },
		{ 4711, 1700000000, 12, 1, 5852 },
		{ 4194304, 2000000000, 86400, 1, 2534 },
		{ 0, 0, 0, 0, 0 },
	};
	struct identity identity = { .known = true };
	size_t i;

	for (i = 0; i < COUNT(tags); i++) {
		identity.pid = tags[i].pid;
		identity.time = tags[i].time;
		identity.uptime = tags[i].uptime;
		check_case(identity_tag(&identity, tags[i].role) == tags[i].tag,
		    "tag %zu: %llu", i,
		    (unsigned long long)identity_tag(&identity, tags[i].role));
	}
}

/* It depends on pid, start and role, and on nothing else. */
static void
test_tag_depends_on_pid_start_and_role_only(void)
{
	struct identity other = { .pid = 1, .time = 1000000 };

	check(identity_tag(&before, 0) == identity_tag(&other, 0));
	check(identity_tag(&before, 1) == identity_tag(&other, 1));
	check(identity_tag(&before, 0) != identity_tag(&before, 1));
}

/* A restart within minutes never has the tag of the incarnation before, whether
   its pid is the same (in a container) or near. */
static void
test_tag_after_restart_within_minutes_differs(void)
{
	struct identity next = before;
	unsigned int role, seconds, more;

	for (role = 0; role < 2; role++)
		for (seconds = 1; seconds <= 300; seconds++)
			for (more = 0; more <= 10; more++) {
				next.pid = before.pid + more;
				next.time = before.time + seconds;
				check_case(identity_tag(&next, role) !=
					identity_tag(&before, role),
				    "role %u, %u s, pid + %u", role, seconds,
				    more);
			}
}

/* 15 bits, and all of them in use. */
static void
test_tags_use_all_of_15_bits(void)
{
	struct identity identity = before;
	uint64_t tag, all = 0;
	unsigned int i;

	for (i = 0; i < 10000; i++) {
		identity.time += i;
		tag = identity_tag(&identity, i % 2);
		check(tag < 1 << 15);
		all |= tag;
	}
	check(all == (1 << 15) - 1);
}

int
main(void)
{
	RUN(test_version_text_of_any_kind_gives_three_numbers);
	RUN(test_huge_patch_number_leaves_major_and_minor_alone);
	RUN(test_version_is_since_all_that_are_not_later);
	RUN(test_stats_fill_in_the_identity);
	RUN(test_stat_with_whole_name_counts_and_last_one_wins);
	RUN(test_server_with_memory_file_is_restartable);
	RUN(test_settings_say_what_flush_all_does);
	RUN(test_identity_with_counters_grown_is_the_same);
	RUN(test_identity_with_another_pid_or_start_is_new);
	RUN(test_identity_with_counter_that_fell_is_unsure);
	RUN(test_tag_of_known_identities_has_its_fixed_value);
	RUN(test_tag_depends_on_pid_start_and_role_only);
	RUN(test_tag_after_restart_within_minutes_differs);
	RUN(test_tags_use_all_of_15_bits);
	return unit_end();
}
