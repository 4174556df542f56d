"""A copy of a key: what it carries, what it leaves alone, what asks for it.

Both servers are asked directly, the copy first: a read of a stale item takes
its token, on each of them once.
"""
import re
import threading
import time

import pytest

from faults import Front, Fronted, old
from lib.net import wait_for

STALE = b"md %s%s I T300\r\n"
# How an item is made: what one server is asked about a key, and its flag b.
MAKE = {
    "plain": b"ms %s%s 2\r\nab\r\n",
    "flags and time": b"ms %s%s 2 F77 T300\r\nab\r\n",
    "largest flags": b"ms %s%s 1 F4294967295\r\nx\r\n",
    "days": b"ms %%s%%s 2 T%d\r\nab\r\n" % (time.time() + 5000000),
    "empty": b"ms %s%s 0 T300\r\n\r\n",
    "stale": b"ms %s%s 2 F5 T300\r\nab\r\n" + STALE,
    "stale without end": b"ms %s%s 2\r\nab\r\nmd %s%s I\r\n",
    "stale and won": b"ms %s%s 2 F5 T300\r\nab\r\n" + STALE + b"mg %s%s v\r\n",
    "stale and empty": b"ms %s%s 0\r\n\r\n" + STALE,
    "stale, won and empty": b"ms %s%s 0\r\n\r\n" + STALE + b"mg %s%s v\r\n",
    "won once more": (b"ms %s%s 2\r\nab\r\n" + STALE + b"mg %s%s v\r\n" +
                      STALE),
    "set anew": b"ms %s%s 2\r\nab\r\n" + STALE + b"ms %s%s 1 T300\r\nx\r\n",
    "placeholder": b"mg %s%s N300 v\r\n",
    "placeholder without end": b"mg %s%s N0 v\r\n",
    "placeholder that was read": b"mg %s%s N300 v\r\nmg %s%s v\r\n",
    "stale placeholder": b"mg %s%s N300 v\r\n" + STALE,
    "filled placeholder": b"mg %s%s N300 v\r\nms %s%s 2 T300\r\nab\r\n",
    "soon to expire and won": b"ms %s%s 2 F6 T300\r\nab\r\nmg %s%s R400\r\n",
    "empty, soon to expire and won": (b"ms %s%s 0 F6 T300\r\n\r\n"
                                      b"mg %s%s R400\r\n"),
}
KEYS = {"text": (b"key", b""), "base64": (b"AAEgDQo=", b" b"),
        "text in base64": (b"a2V5cw==", b" b")}
LOOK = b"mg %s%s s f t v\r\n"


def states(proxy):
    found = proxy.stats("servers")
    return [found[name] for name in found if name.endswith(":state")]


def wait_up(proxy, timeout=30):
    wait_for(lambda: set(states(proxy)) == {"up"}, "all servers to be up",
             timeout, pause=0.02)


def bring_back(proxy, server):
    wait_up(proxy)
    server.restart()
    wait_for(lambda: set(states(proxy)) != {"up"}, "it to be missed")
    wait_up(proxy)


def quiet(line):
    """A line about a key without its time, which passes."""
    return sorted(re.sub(rb"^t\d+$", b"t", word) for word in line.split())


def look(server, key, flag):
    """Two answers about an item and the seconds that it lives."""
    answers = [server.talk(LOOK % (key, flag)) for _ in range(2)]
    ttl = re.search(rb" t(-?\d+)", answers[0])
    return ([[quiet(line) for line in answer.split(b"\r\n")]
             for answer in answers], int(ttl[1]) if ttl else None)


def make(server, how, key, flag):
    command = MAKE[how]
    words = (key, flag) * (command.count(b"%s") // 2)
    server.talk(command % words)


@pytest.mark.parametrize("kind", KEYS)
def test_copy_in_a_rebuild_is_the_item_as_it_was(stage, kind):
    """Value, flags, time, staleness and who sets it anew, as at the survivor:
    of what nobody has read, as well."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    _, flag = KEYS[kind]
    names = {}
    for i, how in enumerate(MAKE):
        if kind == "text":
            names[how] = b"key:%d" % i
        elif kind == "base64":      # of bytes that are no text
            names[how] = b"AAE%cDQo=" % b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i]
        else:
            names[how] = b"a2V5%c2V5" % b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i]
        make(backup, how, names[how], flag)
    bring_back(proxy, primary)
    wrong = {}
    for how, key in names.items():
        (copy, lives), (item, rest) = (look(server, key, flag)
                                       for server in (primary, backup))
        if copy != item or (lives != rest and abs(lives - rest) > 1):
            wrong[how] = copy, lives, item, rest
    assert not wrong, wrong


def test_read_of_a_copy_is_no_hit(stage):
    """The survivor does not know that its items were read."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    for i in range(20):
        backup.talk(b"set key:%d 0 0 1\r\nx\r\n" % i)
    for _ in range(2):
        bring_back(proxy, primary)
    for i in range(20):
        assert b"key:%d" % i in primary.talk(b"mg key:%d k\r\n" % i)
        assert b" fetch=no " in backup.talk(b"me key:%d\r\n" % i)


def test_client_that_was_told_to_set_anew_can_after_copies(stage):
    """Its token is out while copies are made, and it is the only one."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    backup.talk(b"set k 0 0 1\r\nv\r\nmd k I\r\n")
    assert b" W" in backup.talk(b"mg k v\r\n")
    for server in (primary, backup, primary):
        bring_back(proxy, server)
        assert quiet(proxy.talk(b"mg k v\r\n")) == quiet(
            b"VA 1 X Z\r\nv\r\n")
    assert proxy.talk(b"set k 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    bring_back(proxy, primary)
    assert proxy.talk(b"mg k v\r\n") == b"VA 3\r\nnew\r\n"


class Breaks:
    """Ends the connection instead of the first answer to such a command."""

    def __init__(self, start):
        self.start = start
        self.broken = threading.Event()

    def __call__(self, line):
        if line.startswith(self.start) and not self.broken.is_set():
            self.broken.set()
            raise OSError("breaks here")
        return None


def test_token_is_not_lost_when_the_survivor_fails_before_it_has_it_back(
        stage):
    breaks = Breaks(b"md stale I C")
    backup = stage.add(Fronted(breaks)).start()
    primary = stage.memcached()
    proxy = stage.magent([primary], [backup])
    backup.talk(b"set stale 0 0 1\r\nv\r\nmd stale I\r\n")
    wait_up(proxy)
    primary.restart()
    wait_for(breaks.broken.is_set, "the md")
    wait_for(lambda: states(proxy)[1] != "up", "it to be missed")
    wait_up(proxy)
    for server in (backup, primary):
        assert quiet(server.talk(b"mg stale v\r\n")) == quiet(
            b"VA 1 W X\r\nv\r\n")


@pytest.mark.parametrize("start", [b"add ", b"md stale I", b"mg stale"])
def test_mirror_that_fails_in_the_middle_of_a_copy_gets_it_whole(stage, start):
    breaks = Breaks(start)
    primary = stage.add(Fronted(breaks)).start()
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup])
    backup.talk(b"set stale 0 0 1\r\nv\r\nmd stale I\r\nmg stale v\r\n")
    bring_back(proxy, primary)
    wait_up(proxy)
    assert breaks.broken.is_set()
    for server in (primary, backup):
        assert quiet(server.talk(b"mg stale v\r\n")) == quiet(
            b"VA 1 X Z\r\nv\r\n")


def test_old_server_gets_no_copy_of_what_it_does_not_know(stage):
    """It is asked for nothing that it refuses."""
    seen = []

    def look_on(line):
        if line.split()[0] != b"lru_crawler":
            seen.append(line)
        return old(line)

    primary = stage.add(Fronted(look_on)).start()
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup])
    for i, how in enumerate(MAKE):
        make(backup, how, b"key:%d" % i, b"")
        make(backup, how, b"AAE%cDQo=" % b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i],
             b" b")
    bring_back(proxy, primary)
    words = {line.split()[0] for line in seen}
    assert words.isdisjoint({b"mg", b"ms", b"md", b"ma"}), words
    held = {how for i, how in enumerate(MAKE)
            if b"VALUE" in primary.talk(b"get key:%d\r\n" % i)}
    assert held == {how for how in MAKE if "stale" not in how and
                    "won once" not in how and how not in (
                        "placeholder", "placeholder without end",
                        "placeholder that was read")}


# Warming

def unable(line):
    """Has mg, and does not list its keys."""
    return b"ERROR\r\n" if line.startswith(b"lru_crawler") else None


class Counts:
    """Counts the commands that begin so, and refuses what another does."""

    def __init__(self, refuse, start):
        self.refuse = refuse
        self.start = start
        self.times = 0

    def __call__(self, line):
        self.times += line.startswith(self.start)
        return self.refuse(line)


def warming(stage, refuse):
    """A primary that learns from a backup, and its proxy."""
    backup = stage.add(Fronted(refuse)).start()
    primary = stage.memcached()
    proxy = stage.magent([primary], [backup], "-t", 2000)
    wait_up(proxy)
    primary.kill()
    wait_for(lambda: states(proxy)[0] == "down", "it to be missed")
    return primary, backup, proxy


def begin_warming(primary, proxy):
    primary.start(primary.port)
    wait_for(lambda: "it learns from" in proxy.output(), "the warming")


def seconds(server, key):
    """How long a key lives; None: it is not there."""
    found = re.search(rb" t(-?\d+)", server.talk(b"mg %s t\r\n" % key))
    return int(found[1]) if found else None


def test_warming_server_gets_copies_with_their_time_to_live(stage):
    primary, backup, proxy = warming(stage, unable)
    backup.talk(b"set short 5 4 1\r\nx\r\nset long 6 1000 1\r\nx\r\n"
                b"set ever 7 0 1\r\nx\r\nset many 8 900 1\r\nx\r\n"
                b"set stale 0 0 1\r\nx\r\nmd stale I T500\r\n")
    begin_warming(primary, proxy)
    proxy.talk(b"get short\r\nget long\r\ngets ever\r\nget stale many\r\n")
    stored = time.monotonic()
    wait_for(lambda: seconds(primary, b"long"), "the copies")
    assert 990 <= seconds(primary, b"long") <= 1000
    wait_for(lambda: seconds(primary, b"ever"), "the copies")
    wait_for(lambda: seconds(primary, b"many"), "the copies")
    assert seconds(primary, b"ever") == -1
    assert 890 <= seconds(primary, b"many") <= 900
    assert primary.talk(b"mg many f\r\n") == b"HD f8\r\n"
    assert b" X" in primary.talk(b"mg stale v\r\n")
    wait_for(lambda: seconds(backup, b"short") is None, "it to expire")
    wait_for(lambda: seconds(primary, b"short") is None, "it to expire", 2)
    assert time.monotonic() - stored < 8


def test_warming_from_old_servers_goes_on_with_a_limit(stage):
    """Their times to live are not known: what is learned lives 30 seconds."""
    primary, backup, proxy = warming(stage, old)
    backup.talk(b"set k 5 1000 1\r\nx\r\n")
    begin_warming(primary, proxy)
    proxy.talk(b"get k\r\n")
    wait_for(lambda: seconds(primary, b"k"), "the value")
    assert 27 <= seconds(primary, b"k") <= 30
    assert primary.talk(b"mg k f v\r\n") == b"VA 1 f5\r\nx\r\n"


def test_key_that_is_read_often_is_copied_once(stage):
    counts = Counts(unable, b"mg ")
    primary, backup, proxy = warming(stage, counts)
    backup.talk(b"set hot 0 0 1\r\nx\r\nset warm 0 0 1\r\nx\r\n")
    begin_warming(primary, proxy)
    for _ in range(50):
        proxy.talk(b"get hot\r\n" * 10 + b"get warm\r\n")
    wait_for(lambda: seconds(primary, b"hot") == -1 ==
             seconds(primary, b"warm"), "the copies")
    assert counts.times == 2


def test_what_is_read_of_too_many_keys_is_learned_in_part(stage):
    """Clients are answered, and as many keys as may wait are copied."""
    primary, backup, proxy = warming(stage, unable)
    n = 4000
    with backup.client() as client:
        client.exchange([b"".join(b"set k:%d 0 0 1\r\nx\r\n" % i
                                  for i in range(n)) + b"mn\r\n"], b"MN\r\n")
    begin_warming(primary, proxy)
    with proxy.client() as client:
        reply = client.exchange([b"get %s\r\nmn\r\n" % b" ".join(
            b"k:%d" % i for i in range(n))], b"MN\r\n")
    assert reply.count(b"VALUE ") == n
    wait_for(lambda: primary.item_count() >= 500, "copies")


# Repairs

def test_repaired_key_is_copied_again(stage):
    """The mirror holds another number: what it has then is the authority's."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    for key, flag in ((b"k", b""), (b"AAEgDQo=", b" b")):
        name = key + flag
        proxy.talk(b"ms %s 2%s F7 T1000\r\n10\r\n" % (key, flag))
        wait_for(lambda: backup.talk(b"mg %s\r\n" % name) == b"HD\r\n",
                 "the effect")
        backup.talk(b"ms %s 2%s\r\n77\r\n" % (key, flag))
        assert proxy.talk(b"ma %s v\r\n" % name) == b"VA 2\r\n11\r\n"
        wait_for(lambda: backup.talk(b"mg %s f v\r\n" % name) ==
                 b"VA 2 f7\r\n11\r\n", "the copy")
        assert 990 <= seconds(backup, name) <= 1000
    assert proxy.stats()["mirror_repairs"] == "2"


def test_repair_while_the_mirror_is_filled_loses_no_good_copy(stage):
    """What was copied already, and is deleted by the repair, comes again."""
    hold = threading.Event()

    def late(line):
        if line.startswith(b"lru_crawler metadump"):
            assert hold.wait(20)
        return None

    primary = stage.memcached()
    backup = stage.add(Fronted(late)).start()
    proxy = stage.magent([primary], [backup], "-t", 5000)
    wait_up(proxy)
    proxy.talk(b"set n 0 0 1\r\n5\r\n")
    primary.restart()
    wait_for(lambda: states(proxy)[0] == "rebuild", "the rebuild")
    primary.talk(b"set n 0 0 1\r\n7\r\n")
    assert proxy.talk(b"incr n 1\r\n") == b"6\r\n"
    wait_for(lambda: primary.talk(b"get n\r\n") ==
             b"VALUE n 0 1\r\n6\r\nEND\r\n", "the copy")
    hold.set()
    wait_up(proxy)
    assert proxy.talk(b"incr n 1\r\n") == b"7\r\n"


def test_mirror_without_room_is_offered_a_value_once_only(stage):
    """It would refuse a copy, too: nothing begins by itself."""
    seen = []

    def full(line):
        word = line.split()[0]
        if word in (b"set", b"add"):
            seen.append(word)
            return b"SERVER_ERROR out of memory storing object\r\n"
        return None

    primary = stage.memcached()
    backup = stage.add(Fronted(full)).start()
    proxy = stage.magent([primary], [backup])
    for i in range(3):
        assert proxy.talk(b"set k 0 0 1\r\n%d\r\n" % i) == b"STORED\r\n"
        wait_for(lambda: len(seen) == i + 1, "the set")
    proxy.talk(b"get k\r\n")
    assert seen == [b"set"] * 3
    assert proxy.stats()["mirror_repairs"] == "3"
    assert states(proxy) == ["up", "up"]


def test_thousands_of_repairs_at_once_leave_misses_and_no_fault(stage):
    n = 5000
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 2000)
    for server, value in ((primary, b"1"), (backup, b"8")):
        with server.client() as client:
            client.exchange([b"".join(b"set n:%d 0 0 1\r\n%s\r\n" % (i, value)
                                      for i in range(n)) + b"mn\r\n"],
                            b"MN\r\n")
    with proxy.client() as client:
        reply = client.exchange([b"".join(b"incr n:%d 1\r\n" % i
                                          for i in range(n)) + b"mn\r\n"],
                                b"MN\r\n")
    assert reply == b"2\r\n" * n + b"MN\r\n"
    wait_for(lambda: proxy.stats()["mirror_repairs"] == str(n), "the repairs")
    wait_for(lambda: {value for name, value in proxy.stats("servers").items()
                      if name.endswith(":waiting")} == {"0"}, "the copies")
    values = [backup.talk(b"get n:%d\r\n" % i) for i in range(0, n, 50)]
    assert {len(value.split(b"\r\n")) for value in values} <= {2, 4}
    assert not any(b"\r\n8\r\n" in value for value in values)
    assert states(proxy) == ["up", "up"]
