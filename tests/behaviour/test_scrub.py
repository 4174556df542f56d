"""The scrub: each key is read on both of its servers; what was planted is found
and mended, and nothing else is taken for different."""
import re
import signal
import threading
import time

import pytest

from faults import Plain, Scene
from lib.held_list import HeldList
from lib.net import wait_for
from lib.servers import sanitized
from lib.way import states, wait_for_states
from old import Old

NAMES = ("compared", "different", "repaired", "only_on_mirror")
BINARY = b"AAEgDQo="    # base64 of bytes that a line cannot have
PATIENCE = "-t", "2000"     # a front, or a busy machine, takes its time


def counters(proxy):
    stats = proxy.stats()
    return {name: int(stats["scrub_keys_" + name]) for name in NAMES}


def passes(proxy):
    return int(proxy.stats()["scrub_passes"])


def scrub(proxy, timeout=60):
    """Have one pass done; what it has counted."""
    wait_for(lambda: proxy.stats()["scrub_running"] == "0", "the last pass",
             timeout)
    before, done = counters(proxy), passes(proxy)
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: passes(proxy) > done, "the pass", timeout)
    after = counters(proxy)
    return {name: after[name] - before[name] for name in NAMES}


def found(compared, different=0, only=0, repaired=None):
    return {"compared": compared, "different": different,
            "only_on_mirror": only,
            "repaired": different + only if repaired is None else repaired}


def fill(proxy, count, prefix=b"k", value=b"v"):
    with proxy.client() as client:
        client.exchange([b"".join(
            b"set %s%d 5 1000 %d\r\n%s\r\n" % (prefix, i, len(value), value)
            for i in range(count)) + b"mn\r\n"], b"MN\r\n")


def settle(proxy):
    """All effects were carried out."""
    wait_for(lambda: {value for name, value in proxy.stats("servers").items()
                      if name.endswith(":waiting")} == {"0"}, "the effects")


def without_ttl(reply):
    return re.sub(rb" t\d+", b" t", reply)


def assert_same(one, other, *keys):
    """What mg says of the items: this wins what is stale."""
    for key in keys:
        line = b"mg %s v f t\r\n" % key
        held = one.talk(line), other.talk(line)
        assert without_ttl(held[0]) == without_ttl(held[1]), key


def up(stage, primaries, backups, *options):
    proxy = stage.magent(primaries, backups, *PATIENCE, *options)
    wait_for(lambda: set(states(proxy)) == {"up"}, "the servers", 20)
    return proxy


@pytest.fixture
def three(stage):
    """A primary, its backup, and a magent with 100 keys on them."""
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "-v")
    fill(proxy, 100)
    settle(proxy)
    return primary, backup, proxy


# Equal copies

def test_equal_copies_are_all_compared_and_none_differs(three):
    primary, backup, proxy = three
    proxy.talk(b"ms %s 1 b\r\nx\r\nset large 0 0 300000\r\n%s\r\n"
               b"set empty 0 0 0\r\n\r\nset stale 0 0 1\r\ns\r\nmd stale I\r\n"
               b"set won 0 0 1\r\ns\r\nmd won I\r\nmg won\r\nmg made N300\r\n"
               b"set early 0 60 1\r\ne\r\nmg early R100\r\n" % (
                   BINARY, b"x" * 300000))
    settle(proxy)
    assert scrub(proxy) == found(107)
    assert scrub(proxy) == found(107)
    # Nobody has won by that, and nobody has hit.
    for server in backup, proxy:
        assert server.talk(b"mg stale v\r\n") == b"VA 1 X W\r\ns\r\n"
        assert server.talk(b"mg won v\r\n") == b"VA 1 Z X\r\ns\r\n"
    for server in primary, backup:
        assert b"fetch=no" in server.talk(b"me k7\r\n")
    assert "scrub_last_pass" in proxy.stats()
    assert abs(int(proxy.stats()["scrub_last_pass"]) - time.time()) < 60


def test_number_with_spaces_behind_it_is_the_same_number(three):
    """memcached fills it up when it gets shorter, or makes a new item."""
    primary, backup, proxy = three
    proxy.talk(b"set n 0 0 1\r\n9\r\n")
    settle(proxy)
    backup.talk(b"set n 0 0 3\r\n9  \r\n")
    assert scrub(proxy) == found(101)


def test_what_memcached_loses_of_a_number_is_mended_and_not_counted(three):
    """As an ma that makes a longer number does."""
    primary, backup, proxy = three
    proxy.talk(b"set n 0 1000 1\r\n9\r\nset m 0 0 1\r\n9\r\nmd m I\r\n")
    settle(proxy)
    backup.talk(b"touch n 5000\r\nset m 0 0 1\r\n9\r\n")
    assert scrub(proxy) == found(102, repaired=2)
    assert b" t9" in backup.talk(b"mg n v t\r\n")
    assert backup.talk(b"mg m\r\n") == b"HD X W\r\n"


def test_each_key_is_found_behind_several_servers_and_links(stage):
    servers = stage.memcacheds(3)
    proxy = up(stage, servers, servers, "-i", 4, "-v")
    fill(proxy, 500)
    settle(proxy)
    assert scrub(proxy) == found(500)
    for i in range(0, 500, 50):
        for server in servers:
            if server.talk(b"mg k%d\r\n" % i) != b"EN\r\n":
                assert server.talk(b"set k%d 5 1000 1\r\nw\r\n" % i)
                break
    # That was the mirror of some of them, and the authority of others.
    assert scrub(proxy) == found(500, 10)
    assert scrub(proxy) == found(500)


# Planted differences

def test_what_was_planted_on_the_mirror_is_found_and_mended(three):
    primary, backup, proxy = three
    large = b"y" * 500000
    keys = [b"k%d" % i for i in range(6)]
    proxy.talk(b"ms %s 1 b F3 T900\r\nx\r\nset large 0 0 500000\r\n%s\r\n"
               b"ms %s 1 b F3 T900\r\nx\r\n" % (BINARY, large, b"AAEgDQs="))
    settle(proxy)
    backup.talk(b"set k0 5 1000 1\r\nw\r\n"         # value
                b"set k1 6 1000 1\r\nv\r\n"         # client flags
                b"touch k2 500\r\n"                 # time to live
                b"touch k3 0\r\n"                   # the same: it has none
                b"delete k4\r\n"                    # missing
                b"set k5 5 1000 2\r\nvv\r\n"        # length
                b"ms %s 1 b F3 T900\r\nz\r\n"       # value, base64
                b"md %s b\r\n"                      # missing, base64
                b"set large 0 0 500000\r\n%sz\r\n"  # the last byte
                % (BINARY, b"AAEgDQs=", large[:-1]))
    held = [primary.talk(b"mg %s v f\r\n" % key) for key in keys]
    assert scrub(proxy) == found(103, 9)
    assert [primary.talk(b"mg %s v f\r\n" % key) for key in keys] == held
    assert_same(primary, backup, *keys, b"large", BINARY + b" b",
                b"AAEgDQs= b")
    assert backup.talk(b"mg k2 t\r\n") in [b"HD t%d\r\n" % t
                                           for t in range(980, 1001)]
    assert scrub(proxy) == found(103)
    log = proxy.output()
    for what in ("another value: key k0", "other flags: key k1",
                 "another time to live: key k2", "not on the mirror: key k4",
                 "another value: key AAEgDQo= in base64"):
        assert "s %s: differs from s %s: %s" % (
            backup.address, primary.address, what) in log, what
    assert "warning: scrub: 9 keys were different on their servers" in log
    assert "103 keys compared, 9 different, 0 only on a mirror, 9 of these" in (
        log)


def test_marks_that_were_planted_are_found_and_mended(three):
    primary, backup, proxy = three
    primary.talk(b"md k0 I\r\nmd k3 I\r\n")
    backup.talk(b"md k1 I\r\nmd k3 I\r\nmg k3\r\n")
    proxy.talk(b"md k2 I\r\n")
    settle(proxy)
    backup.talk(b"mg k2\r\n")       # it is won there
    assert scrub(proxy) == found(100, 4)
    assert scrub(proxy) == found(100)
    for key in b"k0", b"k2", b"k3":
        for server in primary, backup:
            words = server.talk(b"mg %s v\r\n" % key).split(b"\r\n")[0].split()
            assert set(words) == {b"VA", b"1", b"X", b"W"}, (key, server)
    assert_same(primary, backup, b"k1")
    assert b"X" not in backup.talk(b"mg k1\r\n")


def test_key_that_only_the_mirror_has_is_deleted_there(three):
    primary, backup, proxy = three
    backup.talk(b"set only 0 0 1\r\nx\r\nms %s 1 b\r\nx\r\n"
                b"set soon 0 3 1\r\nx\r\n" % BINARY)
    # What ends soon may have ended on the other one.
    assert scrub(proxy)["only_on_mirror"] == 2
    assert backup.talk(b"mg only\r\nmg %s b\r\n" % BINARY) == b"EN\r\nEN\r\n"
    assert backup.talk(b"mg k1 v\r\n") == b"VA 1\r\nv\r\n"
    assert scrub(proxy) == found(100)


def evict(server):
    """Fill a small memcached until it throws items away."""
    value = b"x" * 100000
    for i in range(1000):
        server.talk(b"set fill%d 0 0 %d\r\n%s\r\n" % (i, len(value), value))
        if i % 20 == 19 and int(server.stats()["evictions"]) > 0:
            break
    assert int(server.stats()["evictions"]) > 0


@pytest.mark.parametrize("is_reset", [False, True])
def test_key_that_the_authority_may_have_evicted_is_left(stage, is_reset):
    """Also when nobody knows any more."""
    primary, backup = stage.memcached("-m", "2"), stage.memcached()
    proxy = up(stage, [primary], [backup])
    evict(primary)
    primary.talk(b"delete fill0\r\n")
    if is_reset:
        primary.talk(b"stats reset\r\n")
        assert primary.stats()["evictions"] == "0"
    backup.talk(b"set only 0 0 1\r\nx\r\n")
    result = scrub(proxy)
    assert result["only_on_mirror"] == 1
    assert backup.talk(b"get only\r\n") == b"VALUE only 0 1\r\nx\r\nEND\r\n"
    assert result["repaired"] == result["different"]
    assert " 1 only on a mirror" in proxy.output()


def test_mirror_that_evicts_is_not_filled_again_and_again(stage):
    """What it is given costs it others."""
    primary, backup = stage.memcached(), stage.memcached("-m", "2")
    proxy = up(stage, [primary], [backup])
    value = b"x" * 20000
    fill(proxy, 2000, value=value)
    settle(proxy)
    lacking = 2000 - int(backup.stats()["curr_items"])
    assert lacking > 1000
    result = scrub(proxy)
    assert result["compared"] == 2000 and result["only_on_mirror"] == 0
    assert result["different"] < lacking - 300
    left = int(re.search(r"(\d+) left as they are", proxy.output()).group(1))
    assert left > 300


# No false alarms

@pytest.mark.parametrize("options", [(), ("-i", 3)])
def test_load_is_never_taken_for_a_difference(stage, options):
    """All that clients do, and flush_all; a pass after the other."""
    seconds = 8 if sanitized() else 12
    scene = Scene(stage, [Plain, Plain], [Plain, Plain], "--scrub=1000000",
                  *options)
    load = scene.start_load(cold=4000, hot_share=50)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scrub(scene.proxy)
    verdict = load.end()
    assert verdict.faultless(), "%s\n%s" % (verdict, verdict.report)
    result = counters(scene.proxy)
    assert result["compared"] > 300
    # memcached may lose something of a number.
    assert result == found(result["compared"], repaired=result["repaired"])
    assert "not compared" in scene.proxy.output()


def assert_mended_while_it_changes(primary, backup, proxy, line, pause):
    """The copies of k1 differ; line leaves that as it is, all the time."""
    backup.talk(b"set k1 5 1000 3\r\nold\r\n")
    ending = threading.Event()

    def write():
        while not ending.is_set():
            proxy.talk(line)
            ending.wait(pause)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert scrub(proxy) == found(100, 1)
        settle(proxy)
    finally:
        ending.set()
        writer.join()
    settle(proxy)
    assert_same(primary, backup, b"k1")


@pytest.mark.parametrize("line", [
    b"append k1 0 0 1\r\nx\r\n", b"touch k1 5000\r\n"])
@pytest.mark.parametrize("pause", [0.05, 2.5])
def test_key_that_is_changed_all_the_time_is_made_equal(three, line, pause):
    """Not each write makes the copies equal."""
    assert_mended_while_it_changes(*three, line, pause)


def test_effect_that_comes_a_moment_late_is_no_difference(three):
    """As one of another magent does."""
    primary, backup, proxy = three
    ending = threading.Event()

    def write():
        n = 0
        while not ending.is_set():
            line = b"set k%d 5 1000 5\r\n%05d\r\n" % (n % 100, n)
            primary.talk(line)
            ending.wait(0.3)
            backup.talk(line)
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            assert scrub(proxy) == found(100)
    finally:
        ending.set()
        writer.join()


# When and how fast

def test_scrub_of_the_option_goes_on_by_itself_and_says_little(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "--scrub=100000")
    fill(proxy, 100)
    settle(proxy)
    backup.talk(b"delete k1\r\n")
    wait_for(lambda: passes(proxy) >= 2, "the second pass", 30)
    assert counters(proxy)["repaired"] <= 1
    assert_same(primary, backup, b"k1")
    assert proxy.stats("settings")["scrub"] == "100000"
    assert "scrub: a pass is under way" not in proxy.output()
    assert proxy.output().count("scrub: done") <= 1


def test_pace_is_that_of_the_option(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "--scrub=500")
    fill(proxy, 1000)
    settle(proxy)
    wait_for(lambda: proxy.stats()["scrub_running"] == "0", "the first pass")
    began = time.monotonic()
    result = scrub(proxy)
    # Each key counts once for each of its servers.
    assert 3.5 < time.monotonic() - began < 12
    assert result == found(1000)


def test_large_values_count_as_several_keys(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "--scrub=1000")
    fill(proxy, 50, value=b"x" * 400000)
    settle(proxy)
    wait_for(lambda: proxy.stats()["scrub_running"] == "0", "the first pass")
    began = time.monotonic()
    assert scrub(proxy) == found(50)
    assert time.monotonic() - began > 1.8


def test_signal_is_logged_and_the_pass_is_seen_in_stats(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup])
    assert proxy.stats()["scrub_last_pass"] == "0"
    fill(proxy, 4000)
    settle(proxy)
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: proxy.stats()["scrub_running"] == "1", "its begin")
    proxy.signal(signal.SIGUSR2)    # it is under way
    wait_for(lambda: proxy.stats()["scrub_running"] == "0", "its end", 30)
    assert passes(proxy) == 1
    assert "scrub: a pass is under way, 2000 keys per second: SIGUSR2" in (
        proxy.output())
    assert ("4000 keys compared, 0 different, 0 only on a mirror, 0 of these "
            "made equal, 0 left as they are, 0 not compared, 0 servers left "
            "out") in proxy.output()
    assert "warning: scrub" not in proxy.output()


def test_without_backups_there_is_nothing_to_compare(stage):
    proxy = up(stage, stage.memcacheds(2), [], "--scrub=1000")
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: "scrub: no key has two servers" in proxy.output(),
             "the line")
    assert proxy.stats()["scrub_running"] == "0"


def test_end_in_the_middle_of_a_pass_is_in_order(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup])
    fill(proxy, 5000)
    backup.talk(b"".join(b"delete k%d\r\n" % i for i in range(1000)))
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: counters(proxy)["compared"] > 100, "its begin")
    assert proxy.terminate() == 0
    assert "Sanitizer" not in proxy.output()
    proxy.process = None


# Servers that fail, return, or cannot

def test_server_that_fails_in_the_middle_ends_its_part_without_harm(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup])
    fill(proxy, 5000)
    settle(proxy)
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: counters(proxy)["compared"] > 100, "its begin")
    backup.kill()
    wait_for(lambda: passes(proxy) == 1, "the end of the pass", 30)
    assert counters(proxy)["different"] == 0
    assert proxy.stats()["scrub_last_pass"] == "0"
    assert not re.search(r" 0 not compared, 0 servers left out",
                         proxy.output())
    backup.start(backup.port)
    wait_for_states(proxy, "up", "up")
    assert scrub(proxy) == found(5000)
    assert proxy.stats()["scrub_last_pass"] != "0"


def test_pass_waits_while_a_server_is_being_rebuilt(stage):
    memcached, backup = stage.memcacheds(2)
    held = stage.add(HeldList(memcached, lambda line: line.startswith(
        b"key=sentinel"), "sentinel"))
    proxy = up(stage, [held], [backup])
    proxy.talk(b"set sentinel 0 0 1\r\nx\r\n")
    fill(proxy, 100)
    settle(proxy)
    backup.restart()
    assert held.is_held.wait(20)
    assert states(proxy) == ["up", "rebuild"]
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: proxy.stats()["scrub_running"] == "1", "its begin")
    time.sleep(1)
    assert counters(proxy)["compared"] == 0
    held.release()
    wait_for(lambda: passes(proxy) == 1, "its end", 30)
    assert counters(proxy) == found(101)
    assert proxy.stats()["scrub_last_pass"] != "0"


def test_rebuild_is_not_held_up_by_a_pass(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "--scrub=1000")
    fill(proxy, 20000)
    settle(proxy)
    wait_for(lambda: counters(proxy)["compared"] > 100, "a pass", 30)
    backup.restart()
    wait_for(lambda: states(proxy) == ["up", "rebuild"] or
             "keys copied" in proxy.output(), "the return", pause=0.01)
    wait_for_states(proxy, "up", "up")
    assert backup.item_count() == 20000
    assert counters(proxy)["different"] == 0


def test_flush_all_during_a_pass_is_no_difference(stage):
    primary, backup = stage.memcacheds(2)
    proxy = up(stage, [primary], [backup], "--scrub=1000000")
    for _ in range(10):
        fill(proxy, 2000)
        proxy.signal(signal.SIGUSR2)
        time.sleep(0.05)
        assert proxy.talk(b"flush_all\r\n") == b"OK\r\n"
    result = scrub(proxy)
    assert result["compared"] == 0
    assert counters(proxy) == found(counters(proxy)["compared"])


def versions(stage, *names):
    servers = [stage.add(Old(name)).start() if name else stage.memcached()
               for name in names]
    return (*servers, up(stage, servers[:1], servers[1:]))


def test_old_mirror_is_compared_as_far_as_it_tells(stage):
    """It has no marks, so a stale item is not compared."""
    primary, backup, proxy = versions(stage, None, "1.6.9")
    fill(proxy, 20)
    proxy.talk(b"set stale 0 0 1\r\ns\r\nset flags 4294967295 0 1\r\nx\r\n")
    proxy.talk(b"ms %s 1 b\r\nx\r\nmd stale I\r\n" % BINARY)
    settle(proxy)
    assert scrub(proxy) == found(21)
    backup.talk(b"set k1 5 1000 1\r\nw\r\nset k2 6 1000 1\r\nv\r\n"
                b"delete k4\r\n")
    assert scrub(proxy) == found(21, 3)
    assert_same(primary, backup, b"k1", b"k2", b"k4")
    assert scrub(proxy) == found(21)
    assert primary.talk(b"mg stale v\r\n") == b"VA 1 X W\r\ns\r\n"
    assert not backup.front.refused_commands()
    assert proxy.stats()["scrub_last_pass"] == "0"


@pytest.mark.parametrize("old", [["1.5.6", None], [None, "1.4.15"]])
def test_server_without_mg_is_left_out(stage, old):
    """It would take each read for a hit, and move the item in its LRU."""
    primary, backup, proxy = versions(stage, *old)
    server = primary if old[0] else backup
    fill(proxy, 20)
    settle(proxy)
    backup.talk(b"set k1 5 1000 1\r\nw\r\n")
    before = server.stats()["cmd_get"]
    assert scrub(proxy) == found(0)
    assert int(server.stats()["cmd_get"]) < int(before) + 20
    assert not server.front.refused_commands()
    assert "s %s: its keys are not compared" % server.address in (
        proxy.output())
    assert " 20 not compared, 1 servers left out" in proxy.output()
    assert proxy.stats()["scrub_last_pass"] == "0"


def test_server_that_lists_no_keys_is_left_out(stage):
    primary, backup = stage.memcached("-X"), stage.memcached()
    proxy = up(stage, [primary], [backup])
    fill(proxy, 20)
    settle(proxy)
    backup.talk(b"set only 0 0 1\r\nw\r\n")
    assert scrub(proxy) == found(0, 0, 1)
    assert "s %s: its keys are not compared" % primary.address in (
        proxy.output())
    assert proxy.stats()["scrub_last_pass"] == "0"


# Other magents

def test_keys_of_magents_are_no_business_of_the_scrub(three):
    """In each encoding.  The stamps of the two servers are there anyway."""
    primary, backup, proxy = three
    keys = b"magent:x", b"bWFnZW50Og== b", b"bWFnZW50OgE= b"
    for key in keys:
        backup.talk(b"ms %s 1%s\r\nx\r\n" % (
            key.split()[0], b" b" if b" b" in key else b""))
    assert scrub(proxy) == found(100)
    for key in keys:
        assert backup.talk(b"mg %s v\r\n" % key).startswith(b"VA 1"), key


@pytest.mark.parametrize("emptied", [0, 1])
def test_server_that_was_emptied_past_magent_takes_nothing_with_it(
        stage, emptied):
    """The stamps tell, but only when they have been read twice."""
    servers = stage.memcacheds(2)
    proxy = stage.magent(servers[:1], servers[1:], "-v")
    wait_for(lambda: set(states(proxy)) == {"up"}, "the servers", 20)
    fill(proxy, 1000)
    settle(proxy)
    for _ in range(2):
        servers[emptied].talk(b"flush_all\r\n")
        scrub(proxy)
        wait_for_states(proxy, "up", "up")
        wait_for(lambda: proxy.talk(b"get k1\r\n") != b"END\r\n",
                 "the values", 20)
        keys = b" ".join(b"k%d" % i for i in range(1000))
        assert proxy.talk(b"get %s\r\n" % keys).count(b"VALUE") == 1000
    assert counters(proxy)["only_on_mirror"] == 0


def test_magent_that_rests_leaves_it_to_the_one_that_serves(stage):
    primary, backup = stage.memcacheds(2)
    active = up(stage, [primary], [backup])
    fill(active, 100)
    settle(active)
    passive = stage.magent([primary], [backup], *PATIENCE)
    wait_for(lambda: set(states(passive)) == {"up"}, "the servers", 20)
    ending = threading.Event()

    def serve():
        while not ending.is_set():
            active.talk(b"get k1\r\n")
            ending.wait(0.1)

    client = threading.Thread(target=serve)
    client.start()
    try:
        time.sleep(3)
        passive.signal(signal.SIGUSR2)
        time.sleep(2)
        assert counters(passive)["compared"] == 0
        assert "scrub: it waits: another magent serves" in passive.output()
    finally:
        ending.set()
        client.join()
    wait_for(lambda: passes(passive) == 1, "the pass", 30)
    assert counters(passive) == found(100)


# Memory

def test_keys_that_do_not_fit_are_listed_in_parts(stage):
    """An eighth of -m is for the keys of the scrub."""
    keys = 30000 if sanitized() else 60000
    primary, backup = stage.memcacheds(2, "-m", "256")
    proxy = up(stage, [primary], [backup], "-m", 8, "--scrub=1000000")
    fill(proxy, keys, prefix=b"p" * 60)
    settle(proxy)
    backup.talk(b"set %s7 5 1000 1\r\nw\r\n" % (b"p" * 60))
    before = proxy.rss()
    result = scrub(proxy, 120)
    if result["different"] == 0:    # the pass before this one has found it
        result = found(result["compared"], counters(proxy)["different"])
    assert result == found(keys, 1)
    assert_same(primary, backup, b"p" * 60 + b"7")
    if not sanitized():
        assert proxy.peak_rss() < before + (4 << 20)
