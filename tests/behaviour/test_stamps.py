"""Stamps, as users see them: keys that are refused, items that magents keep on
the servers, and what a second magent makes of them."""
import base64
import itertools
import pathlib
import re
import sys
import threading
import time

import pytest

from lib import threads
from lib.inject import STOP, InjectedMagent
from lib.net import wait_for
from lib.servers import Magent, Memcached
from lib.stamps import Bond, values
from lib.way import (COUNT, flushes, held, items, put, states, way,
                     wait_for_states)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "faults"))
from faults import Front, Fronted, Slow, fill, old  # noqa: E402
from takeover import Mortal  # noqa: E402

RESERVED = b"CLIENT_ERROR keys that begin with magent: are reserved\r\n"
FIRST = 1 << 32         # the stamp of two servers that had none
MANY = 60000            # keys that take more than a second to copy
FULL = [[b"v"]] * COUNT


# Keys of clients

STORES = [b"set %s 0 0 1", b"add %s 0 0 1", b"replace %s 0 0 1",
          b"append %s 0 0 1", b"prepend %s 0 0 1", b"cas %s 0 0 1 1"]
OTHERS = [b"get %s", b"gets %s", b"gat 9 %s", b"gats 9 %s", b"get a %s",
          b"get %s a", b"gets a %s b", b"gat 9 a %s b", b"incr %s 1",
          b"decr %s 1", b"touch %s 9", b"delete %s", b"mg %s", b"mg %s s v",
          b"md %s", b"ma %s", b"me %s"]
ENCODED = [b"mg %s b v", b"mg %s v b", b"mg %s k b", b"md %s b", b"ma %s b",
           b"me %s b"]


def commands(*lines, data=()):
    return [line + b"\r\n" for line in lines] + [
        line + b"\r\nx\r\n" for line in data]


def in_base64(*keys):
    return [base64.b64encode(key) for key in keys]


def wrong_answers(proxy, asked, wanted):
    """What was not answered as it should be."""
    answers = {line: proxy.talk(line) for line in asked}
    return {line: answer for line, answer in answers.items()
            if answer != wanted}


@pytest.mark.parametrize("key", [b"magent:", b"magent:x", b"magent:xy",
                                 b"magent:active", b"magent::1",
                                 b"magent:0123456789abcdef:1"])
def test_reserved_key_is_refused(proxy, key):
    encoded, = in_base64(key)
    asked = commands(*[line % key for line in OTHERS],
                     *[line % encoded for line in ENCODED],
                     data=[*[line % key for line in STORES],
                           b"ms %s 1" % key, b"ms %s 1 b" % encoded])
    assert wrong_answers(proxy, asked, RESERVED) == {}
    assert b"key=magent%3A" not in proxy.primaries[0].listed()


def test_reserved_key_that_is_no_text_is_refused(proxy):
    for encoded in in_base64(b"magent:\xff", b"magent: x", b"magent:\0\r\n"):
        assert proxy.talk(b"mg %s b v\r\n" % encoded) == RESERVED
        assert proxy.talk(b"ms %s 1 b\r\nx\r\n" % encoded) == RESERVED


def test_get_of_many_keys_one_of_which_is_reserved_is_refused(proxy):
    proxy.talk(b"set k7 0 0 1\r\nx\r\n")
    names = [b"k%d" % i for i in range(3000)]
    for at in 0, 1500, 3000:
        line = b" ".join([b"get", *names[:at], b"magent:x", *names[at:]])
        assert proxy.talk(line + b"\r\nget k7\r\n") == (
            RESERVED + b"VALUE k7 0 1\r\nx\r\nEND\r\n")


def test_data_for_a_reserved_key_is_swallowed(proxy):
    proxy.talk(b"set a 0 0 1\r\n1\r\n")
    for data in b"", b"delete a", b"\r\ndelete a\r\n", b"x" * 3000000:
        for line in (b"set magent:x 0 0 %d\r\n" % len(data),
                     b"ms magent:x %d\r\n" % len(data),
                     b"ms %s %d b\r\n" % (*in_base64(b"magent:x"), len(data))):
            assert proxy.talk(line + data + b"\r\nget a\r\n") == (
                RESERVED + b"VALUE a 0 1\r\n1\r\nEND\r\n")


def test_noreply_for_a_reserved_key_is_as_for_one_that_is_too_long(proxy):
    asked = [b"set %s 0 0 1 noreply\r\nx\r\n",
             b"cas %s 0 0 1 1 noreply\r\nx\r\n",
             b"incr %s 1 noreply\r\n", b"touch %s 9 noreply\r\n",
             b"delete %s noreply\r\n", b"delete %s 0 noreply\r\n"]
    for line in asked:
        # The data of a line whose key is too long is swallowed, too.
        said = proxy.talk(line % (b"k" * 251))
        assert proxy.talk(line % b"magent:x") == (RESERVED if said else b"")
    asked = commands(b"mg magent:x v q", b"md magent:x q", b"ma magent:x q",
                     data=[b"ms magent:x 1 q"])
    assert wrong_answers(proxy, asked, RESERVED) == {}


@pytest.mark.parametrize("key", [
    b"magent", b"magentx:", b"Magent:x", b"MAGENT:x", b"xmagent:", b"magen:t",
    b"magent8", b"magent9", b"magent9x", b"magent;", b"magent;x", b"m"])
def test_key_that_only_looks_like_a_reserved_one_is_fine(proxy, key):
    encoded, = in_base64(key)
    value = b"VALUE %s 0 1\r\nx\r\nEND\r\n" % key
    assert proxy.talk(b"set %s 0 0 1\r\nx\r\nget %s\r\n" % (key, key)) == (
        b"STORED\r\n" + value)
    assert proxy.talk(b"delete %s\r\nms %s 1 b\r\nx\r\nget %s\r\n" % (
        key, encoded, key)) == b"DELETED\r\nHD\r\n" + value
    assert proxy.talk(b"mg %s b v\r\n" % encoded) == b"VA 1\r\nx\r\n"


def test_base64_of_a_reserved_key_is_a_key(proxy):
    """It is in base64 only if the command says so."""
    encoded, = in_base64(b"magent:x")
    assert proxy.talk(b"set %s 0 0 1\r\nx\r\nmg %s v\r\n" % (
        encoded, encoded)) == b"STORED\r\nVA 1\r\nx\r\n"


# What is on the servers

def listed_stamps(server):
    """Names and twins of all stamps that a server lists."""
    return sorted(re.findall(rb"key=magent%3A([0-9a-f]{16})%3A([12]) ",
                             server.listed()))


def failures(*proxies):
    return [int(proxy.stats()["server_failures"]) for proxy in proxies]


def troubles(*proxies):
    """What servers have failed for; but not that this machine is slow."""
    return [line for proxy in proxies for line in proxy.output().splitlines()
            if " warning: s " in line and "held up" not in line]


def nothing(line):
    return None


class WatchedFront(Front):
    """Keeps what it was asked, also what is about stamps, and by which
    connection."""

    def __init__(self, memcached, refusal):
        self.asked = []
        self.refusal = refusal
        super().__init__(memcached, nothing)

    def _pass_on(self, link, line, data):
        self.asked.append((link, line))
        return self.refusal(line) or super()._pass_on(link, line, data)


class Watched(Fronted):
    """A memcached behind a front that sees all commands, and refuses some."""

    def __init__(self, refusal=nothing):
        Memcached.__init__(self)
        self.front = WatchedFront(self, refusal)

    def asked(self, links=None):
        """The commands, of all connections or of these."""
        return [line for link, line in list(self.front.asked)
                if links is None or link in links]

    def links(self):
        return {link for link, _ in list(self.front.asked)}


def looks(lines):
    """How many of them look at stamps."""
    return sum(line.startswith(b"get magent:") for line in lines)


def watched(stage, refusal=nothing):
    return stage.add(Watched(refusal)).start()


def started(stage, primaries, backups, *options, kind=Mortal):
    """A magent, which may be killed, and has found all servers up."""
    proxy = stage.add(kind(primaries, backups, *options)).start()
    wait_for(lambda: set(states(proxy)) == {"up"}, "all servers to be up")
    return proxy


def test_both_servers_of_a_pair_get_one_stamp(stage):
    primary, backup = stage.memcacheds(2)
    started(stage, [primary], [backup])
    bond = Bond(primary, backup).wait()
    for server in primary, backup:
        assert bond.twins(server) == [FIRST, FIRST]
        assert listed_stamps(server) == [(bond.name, b"1"), (bond.name, b"2")]


def test_server_has_a_stamp_for_each_of_its_partners(stage):
    primaries, backup = stage.memcacheds(3), stage.memcached()
    started(stage, primaries, [backup])
    bonds = [Bond(primary, backup).wait() for primary in primaries]
    twins = [[(bond.name, b"1"), (bond.name, b"2")] for bond in bonds]
    assert [listed_stamps(primary) for primary in primaries] == twins
    assert listed_stamps(backup) == sorted(itertools.chain(*twins))


def test_missed_write_raises_the_stamps_of_the_pairs_it_is_about(stage):
    """The backup is away: the stamps of those primaries rise that are
    written to."""
    primaries, backup = stage.memcacheds(3), stage.memcached()
    proxy = started(stage, primaries, [backup])
    bonds = [Bond(primary, backup).wait() for primary in primaries]
    backup.kill()
    assert proxy.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    raised = [bond.stamp(primary) > FIRST
              for bond, primary in zip(bonds, primaries)]
    assert raised == [b"k" in values(primary, [b"k"])
                      for primary in primaries]
    backup.start(backup.port)
    wait_for_states(proxy, *["up"] * 4)
    for bond in bonds:
        bond.wait()


def test_without_backups_there_are_no_stamps(stage):
    servers = watched(stage), watched(stage)
    proxy = started(stage, servers, ())
    put(proxy)
    servers[0].restart()
    wait_for(lambda: failures(proxy) > [0], "the failure")
    wait_for_states(proxy, "up", "up")
    put(proxy)
    wait_for(lambda: int(proxy.stats()["uptime"]) >= 3, "3 seconds")
    for server in servers:
        assert [line for line in server.asked() if b"magent:" in line] == []
        assert b"magent" not in server.listed()


WRITES = [b"set n 0 0 1\r\n1\r\n", b"add o 0 0 1\r\n1\r\n",
          b"replace n 0 0 1\r\n2\r\n", b"append n 0 0 1\r\n3\r\n",
          b"prepend n 0 0 1\r\n1\r\n", b"incr n 1\r\n", b"decr n 1\r\n",
          b"touch n 0\r\n", b"gat 0 n\r\n", b"set n 0 0 1 noreply\r\n5\r\n",
          b"ms n 1\r\n1\r\n", b"ms o 1 q\r\n2\r\n", b"ma n\r\n",
          b"mg n t T0\r\n", b"md n\r\n", b"delete o\r\n",
          b"set o 0 0 1\r\n2\r\n", b"delete o noreply\r\n"]


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_each_write_that_a_server_misses_raises_the_stamp_of_the_other(
        stage, victim):
    primary, backup = stage.memcacheds(2)
    proxy = started(stage, [primary], [backup])
    bond = Bond(primary, backup).wait()
    lost, other = ((primary, backup) if victim == "primary" else
                   (backup, primary))
    put(proxy)
    before = bond.stamp(other)
    lost.kill()
    for line in WRITES:
        answer = proxy.talk(line)
        stamp = bond.stamp(other)
        assert stamp > before, (line, answer)
        before = stamp
    many = b"".join(b"set m%d 0 0 1\r\nx\r\n" % i for i in range(100))
    assert proxy.talk(many) == b"STORED\r\n" * 100
    assert bond.stamp(other) > before
    twins = bond.twins(other)
    assert proxy.talk(b"get m1 n\r\n") == b"VALUE m1 0 1\r\nx\r\nEND\r\n"
    assert bond.twins(other) == twins and twins[0] == twins[1]
    lost.start(lost.port)
    wait_for_states(proxy, "up", "up")
    bond.wait()
    assert bond.stamp(lost) >= twins[0]
    assert items(primary, backup) == [COUNT + 100] * 2
    assert held(lost) == FULL


# Items that are lost

def test_item_that_was_evicted_is_put_back(stage):
    primary, backup = stage.memcacheds(2)
    proxy = started(stage, [primary], [backup], "-t", 2000)
    bond = Bond(primary, backup).wait()
    # Any other stamp than the first one.
    backup.restart()
    wait_for(lambda: failures(proxy) > [0], "the failure")
    wait_for_states(proxy, "up", "up")
    before = bond.wait().stamp(primary)
    assert before > FIRST
    failed = failures(proxy)
    assert primary.talk(b"delete %s\r\n" % bond.keys[0]) == b"DELETED\r\n"
    assert backup.talk(b"delete %s\r\n" % bond.keys[1]) == b"DELETED\r\n"
    wait_for(bond.are_equal, "the items", timeout=3)
    assert bond.stamp(primary) == before
    assert states(proxy) == ["up", "up"]
    assert failures(proxy) == failed


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_server_that_has_lost_its_stamp_is_filled(stage, victim):
    """Somebody has emptied it, past magent."""
    primary, backup = stage.memcacheds(2)
    proxy = started(stage, [primary], [backup], "-t", 2000)
    bond = Bond(primary, backup).wait()
    put(proxy)
    wait_for(lambda: items(primary, backup) == [COUNT] * 2, "all effects")
    flushed, other = ((primary, backup) if victim == "primary" else
                      (backup, primary))
    assert flushed.talk(b"flush_all\r\n") == b"OK\r\n"
    wait_for(lambda: failures(proxy) == [1], "the failure")
    wait_for_states(proxy, "up", "up")
    bond.wait()
    assert "s %s: down, was up" % flushed.address in proxy.output()
    assert "s %s: down, was up" % other.address not in proxy.output()
    assert held(primary) == held(backup) == held(proxy) == FULL
    assert failures(proxy) == [1]


def test_pair_that_has_lost_its_stamps_gets_another_one(stage):
    """Somebody has emptied both servers, past magent: that is no failure."""
    primary, backup = stage.memcacheds(2)
    proxy = started(stage, [primary], [backup], "-t", 2000)
    bond = Bond(primary, backup).wait()
    put(proxy)
    wait_for(lambda: items(primary, backup) == [COUNT] * 2, "all effects")
    for server in primary, backup:
        server.talk(b"flush_all\r\n")
    put(proxy)
    wait_for(bond.are_equal, "equal stamps", timeout=4)
    assert failures(proxy) == [0]
    assert held(primary) == held(backup) == FULL


def stored_on(magent, *primaries):
    """Store some keys; which of them each of the primaries has."""
    keys = [b"k%d" % i for i in range(20)]
    for key in keys:
        assert magent.talk(b"set %s 0 0 3\r\nold\r\n" % key) == b"STORED\r\n"
    return [list(values(primary, keys)) for primary in primaries]


def be_behind(magent, one, other, backup, keys):
    """The backup misses what another magent writes to one partner, and the
    other one is away."""
    bond = Bond(one, backup).wait()
    other.kill()
    wait_for_states(magent, "up", "down", "up")
    backup.front.drop()
    for key in bond.keys:
        one.talk(b"incr %s 9\r\n" % key)
    for key in keys:
        one.talk(b"set %s 0 0 3\r\nnew\r\n" % key)
    wait_for(lambda: "wrote past it" in magent.output(), "that to be seen")


def test_server_that_lists_no_keys_and_is_old_in_part_returns(stage):
    """It lacks what another magent has written to one partner, and has keys of
    the other one, which is away."""
    one, other = stage.memcacheds(2)
    backup = stage.add(Fronted(old)).start()
    magent = started(stage, [one, other], [backup])
    mine, _ = stored_on(magent, one, other)
    be_behind(magent, one, other, backup, mine)
    wait_for_states(magent, "up", "down", "rebuild")
    assert b"old" not in values(backup, mine).values()


def test_server_that_is_old_in_part_and_fails_to_list_keeps_the_others(stage):
    """What only it has is not deleted because its list fails now."""
    failing = threading.Event()

    def refusal(line):
        if line.startswith(b"lru_crawler") and failing.is_set():
            raise OSError
        return None

    one, other = stage.memcacheds(2)
    backup = stage.add(Fronted(refusal)).start()
    magent = started(stage, [one, other], [backup])
    mine, theirs = stored_on(magent, one, other)
    failing.set()
    be_behind(magent, one, other, backup, mine)
    wait_for(lambda: "has not listed its keys" in magent.output(), "20 tries",
             timeout=40)
    failing.clear()
    wait_for_states(magent, "up", "down", "up")
    assert values(backup, theirs) == {key: b"old" for key in theirs}
    assert values(backup, mine) == {key: b"new" for key in mine}
    assert flushes(backup) == [0]


class HeldFront(Front):
    """While its server is being filled, nobody learns what its version is."""

    def __init__(self, memcached):
        self.is_filled = False
        self.held, self.released = threading.Event(), threading.Event()
        super().__init__(memcached, nothing)

    def _pass_on(self, link, line, data):
        if re.match(rb"set magent:[0-9a-f]{16}:", line) and int(data) < FIRST:
            self.is_filled = True
        if line.startswith(b"version") and self.is_filled:
            self.held.set()
            assert self.released.wait(20)
        return super()._pass_on(link, line, data)


class HeldAtTheEnd(Fronted):
    """A memcached that cannot be trusted before it is released."""

    def __init__(self):
        Memcached.__init__(self)
        self.front = HeldFront(self)


def test_partner_that_is_away_when_a_server_is_whole_is_not_ahead_of_it(stage):
    """It was read to the end, and has no write that the other one lacks."""
    primary, backup = stage.memcached(), stage.add(HeldAtTheEnd()).start()
    first = way(stage, primary)
    magent = started(stage, [first], [backup], "-t", 10000)
    backup.restart()
    assert backup.front.held.wait(20)
    first.close()
    wait_for(lambda: states(magent)[0] != "up", "the primary to fail")
    backup.front.released.set()
    wait_for_states(magent, "down", "up")
    first.lead_to(primary)
    wait_for_states(magent, "up", "up")
    first.client = primary.client
    Bond(first, backup).wait()
    assert not [line for line in troubles(magent) if "wrote past" in line]


@pytest.mark.parametrize("flush", ["once", "often", "delayed"])
def test_flush_all_through_one_of_two_magents_is_no_failure(stage, flush):
    primary, backup = stage.memcacheds(2)
    magents = [started(stage, [primary], [backup], "-t", 2000)
               for _ in range(2)]
    bond = Bond(primary, backup).wait()
    put(magents[0])
    wait_for(lambda: items(primary, backup) == [COUNT] * 2, "all effects")
    line = b"flush_all 1\r\n" if flush == "delayed" else b"flush_all\r\n"
    assert magents[0].talk(line) == b"OK\r\n"
    wait_for(lambda: items(primary, backup) == [0, 0], "the flush_all",
             timeout=3)
    until = time.monotonic() + 2.5      # each magent looks twice
    while time.monotonic() < until:
        if flush == "often":
            assert magents[0].talk(line) == b"OK\r\n"
        time.sleep(0.02)
    assert [states(magent) for magent in magents] == [["up", "up"]] * 2
    bond.wait()
    for magent in magents:
        assert magent.talk(b"get k1\r\n") == b"END\r\n"
        assert magent.talk(b"set k1 0 0 1\r\nn\r\n") == b"STORED\r\n"
        assert magent.talk(b"delete k1\r\n") == b"DELETED\r\n"
    assert troubles(*magents) == []


@pytest.mark.parametrize("count", [2, 90])
def test_touch_of_many_keys_that_no_stamp_confirms_is_an_error(stage, count):
    """The first keys are a round of their own.  What the primary says of the
    stamp is no reply: its connection ends."""
    is_silly = []
    primary = watched(stage, lambda line: b"what?\r\n" if is_silly and (
        line.startswith(b"incr magent:")) else None)
    backup = stage.memcached()
    magent = started(stage, [primary], [backup], kind=Magent)
    keys = [b"k%d" % i for i in range(count)]
    client = stage.client(magent)
    for key in keys:
        assert client.ask(b"set %s 0 0 1\r\nx\r\n" % key) == b"STORED\r\n"
    # Otherwise the backup has missed something before it is read.
    wait_for(lambda: magent.stats("servers")["1:waiting"] == "0",
             "the answers of the backup")
    backup.kill()
    wait_for_states(magent, "up", "down")
    is_silly.append(True)
    reply = client.exchange([b"gat 100 %s\r\nmn\r\n" % b" ".join(keys)],
                            b"MN\r\n")
    assert reply.endswith(b"SERVER_ERROR no server is up for this key\r\n"
                          b"MN\r\n")
    assert b"END" not in reply


SERVING = [b"magent:serving%d" % slot for slot in range(4)]


def test_flush_all_keeps_the_marks_of_those_who_serve(stage):
    """If one of them is killed now, the copies are to be compared."""
    primary, backup = stage.memcached(), watched(stage)
    magents = [started(stage, [primary], [backup]) for _ in range(2)]
    clients = [stage.client(magent) for magent in magents]

    def counts():
        for client in clients:
            assert client.ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        return [len(values(server, SERVING)) for server in (primary, backup)]

    wait_for(lambda: counts() == [2, 2], "the marks of both")
    seen = looks(backup.asked())
    wait_for(lambda: counts() and looks(backup.asked()) >= seen + 4,
             "both to see them")
    for turn in range(10):
        assert clients[turn % 2].ask(b"flush_all\r\n") == b"OK\r\n"
        wait_for(lambda: counts() == [2, 2], "the marks", timeout=0.1)


def has_no_room(line):
    """Refuses to store what magents keep, as a memcached whose memory is taken
    by items of other sizes."""
    words = line.split()
    if words[0] in (b"set", b"add") and words[1].startswith(b"magent:"):
        return b"SERVER_ERROR out of memory storing object\r\n"
    return None


@pytest.mark.parametrize("without", ["primary", "backup", "both"])
def test_server_without_room_for_a_stamp_is_used(stage, without):
    full = [without in ("primary", "both"), without in ("backup", "both")]
    primary, backup = [watched(stage, has_no_room if is_full else nothing)
                       for is_full in full]
    proxy = started(stage, [primary], [backup], "-t", 500)
    put(proxy)
    # Looks come and go.
    for server in primary, backup:
        before = looks(server.asked())
        wait_for(lambda: looks(server.asked()) >= before + 2, "two looks")
    warnings = [line for line in proxy.output().splitlines()
                if "has no room for a stamp" in line]
    assert len(warnings) == sum(full)
    for server, is_full in zip([primary, backup], full):
        assert is_full == any("warning: s %s: " % server.address in line
                              for line in warnings)
    assert failures(proxy) == [0]
    # One of them is away for a while: nothing goes back, and nobody fails.
    backup.stop()
    assert proxy.talk(b"set k1 0 0 1\r\nm\r\n") == b"STORED\r\n"
    wait_for_states(proxy, "up", "down")
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\ndelete k2\r\n") == (
        b"STORED\r\nDELETED\r\n")
    backup.cont()
    wait_for_states(proxy, "up", "up")
    wanted = [[b"v"], [b"n"], [b""], *[[b"v"]] * (COUNT - 3)]
    assert held(proxy) == held(primary) == held(backup) == wanted
    assert proxy.stats("servers")["0:failures"] == "0"
    assert "somebody wrote past it" not in proxy.output()
    assert len([line for line in proxy.output().splitlines()
                if "has no room for a stamp" in line]) == sum(full)
    primary.kill()
    assert held(proxy) == wanted


def forgets(line):
    """Takes what magents keep, and has none of it."""
    words = line.split()
    if words[1:] and words[1].startswith(b"magent:"):
        return {b"get": b"END\r\n", b"incr": b"NOT_FOUND\r\n",
                b"delete": b"NOT_FOUND\r\n"}.get(words[0], b"STORED\r\n")
    return None


@pytest.mark.parametrize("without", ["primary", "backup", "both"])
def test_server_that_keeps_no_stamp_is_used(stage, without):
    """It says that it does."""
    primary, backup = [
        watched(stage, forgets if without in (role, "both") else nothing)
        for role in ("primary", "backup")]
    proxy = started(stage, [primary], [backup], "-t", 500)
    put(proxy)
    for server in primary, backup:
        before = looks(server.asked())
        wait_for(lambda: looks(server.asked()) >= before + 4, "four looks")
    assert failures(proxy) == [0]
    assert proxy.output().count("has no room for a stamp") == (
        2 if without == "both" else 1)
    backup.stop()
    assert proxy.talk(b"set k1 0 0 1\r\nm\r\n") == b"STORED\r\n"
    wait_for_states(proxy, "up", "down")
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\ndelete k2\r\n") == (
        b"STORED\r\nDELETED\r\n")
    backup.cont()
    wait_for_states(proxy, "up", "up")
    wanted = [[b"v"], [b"n"], [b""], *[[b"v"]] * (COUNT - 3)]
    assert held(proxy) == held(primary) == held(backup) == wanted


# What it costs

def test_standby_asks_each_server_for_its_stamps_once_a_second(stage):
    servers = watched(stage), watched(stage)
    active = started(stage, servers[:1], servers[1:], "-t", 2000)
    put(active)
    links = [server.links() for server in servers]
    standby = started(stage, servers[:1], servers[1:], "-t", 2000)
    of_standby = lambda: [
        server.asked(server.links() - before)
        for server, before in zip(servers, links)]
    before = of_standby()
    began = time.monotonic()

    def look_thrice():
        """While clients use the active one."""
        assert active.talk(b"set k1 0 0 1\r\nn\r\nget k1\r\n") == (
            b"STORED\r\nVALUE k1 0 1\r\nn\r\nEND\r\n")
        return all(looks(now) >= looks(then) + 3
                   for now, then in zip(of_standby(), before))

    wait_for(look_thrice, "three looks")
    assert 1.8 < time.monotonic() - began < 4
    for lines, then in zip(of_standby(), before):
        asked = lines[len(then):]
        assert looks(asked) in (3, 4)
        # That takes the place of the probe.
        assert {line.split()[0] for line in asked} == {b"get"}
        assert max(map(len, asked)) < 250
        assert {line.split()[0] for line in lines} == {
            b"version", b"stats", b"get"}
    assert troubles(active, standby) == []


def test_first_request_after_a_rest_is_preceded_by_a_look(stage):
    servers = watched(stage), watched(stage)
    proxy = started(stage, servers[:1], servers[1:], "-t", 2000)
    gets = lambda: [[line for line in server.asked()
                     if line.startswith(b"get ")] for server in servers]
    with proxy.client() as client:

        def get_once():
            """What the servers were asked for it."""
            before = gets()
            client.send(b"get k\r\n")
            assert client.read_until(b"END\r\n") == b"END\r\n"
            return [now[len(then):] for now, then in zip(gets(), before)]

        before = gets()
        # The next look that does not come of a request is a second away.
        wait_for(lambda: all(looks(now) >= looks(then) + 3
                             for now, then in zip(gets(), before)),
                 "a rest of two seconds")
        of_primary, of_backup = get_once()
        assert [looks(of_primary), of_primary[1:]] == [1, [b"get k\r\n"]]
        assert [looks(of_backup), len(of_backup)] == [1, 1]
        for _ in range(5):
            assert get_once() == [[b"get k\r\n"], []]
        # Under load it is once a second, as without.
        before = gets()
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            get_once()
        assert all(looks(now) <= looks(then) + 3
                   for now, then in zip(gets(), before))


# Two magents

def leave_behind(stage, lost, primary, backup):
    """A magent writes past a server, which hangs, and is killed.  The server
    goes on with what it held before."""
    first = started(stage, [primary], [backup], "-t", 250)
    assert first.talk(b"set k 0 0 3\r\nold\r\nset gone 0 0 3\r\nold\r\n") == (
        b"STORED\r\nSTORED\r\n")
    wait_for(lambda: len(values(backup, [b"k", b"gone"])) == 2, "the effects")
    lost.stop()
    number = 0 if lost is primary else 1
    assert first.talk(b"set j 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    wait_for(lambda: states(first)[number] == "down", "the hang to be known")
    assert first.talk(b"set k 0 0 3\r\nnew\r\ndelete gone\r\n") == (
        b"STORED\r\nDELETED\r\n")
    first.kill()
    lost.cont()
    assert values(lost, [b"k", b"gone"]) == {b"k": b"old", b"gone": b"old"}


NEW = b"VALUE k 0 3\r\nnew\r\nEND\r\n"


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_magent_that_starts_does_not_trust_a_server_that_is_behind(
        stage, victim):
    primary, backup = stage.memcacheds(2)
    lost, other = ((primary, backup) if victim == "primary" else
                   (backup, primary))
    leave_behind(stage, lost, primary, backup)
    second = stage.magent([primary], [backup])
    assert second.talk(b"get k gone\r\n") == NEW
    wait_for_states(second, "up", "up")
    assert "warning: s %s: behind s %s: somebody wrote past it\n" % (
        lost.address, other.address) in second.output()
    Bond(primary, backup).wait()
    assert values(lost, [b"k", b"gone", b"j"]) == {b"k": b"new", b"j": b"new"}
    other.kill()
    assert second.talk(b"get k gone\r\n") == NEW


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_server_that_is_behind_is_not_trusted_when_the_other_one_ends(
        stage, victim):
    """That one ends before it has given what it holds: nobody has the new
    value, and nobody answers with the old one."""
    primary, backup = stage.memcacheds(2)
    lost, other = ((primary, backup) if victim == "primary" else
                   (backup, primary))
    leave_behind(stage, lost, primary, backup)
    second = stage.magent([primary], [backup])
    assert second.talk(b"get k gone\r\n") == NEW
    other.kill()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert b"old" not in second.talk(b"get k gone\r\n")
        time.sleep(0.01)


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_magent_that_rests_does_not_trust_a_server_that_is_behind(
        stage, victim):
    """The second one was there all the time, and could not see what the first
    one did: it was stopped."""
    primary, backup = stage.memcacheds(2)
    lost, other = ((primary, backup) if victim == "primary" else
                   (backup, primary))
    second = started(stage, [primary], [backup], "-t", 250)
    Bond(primary, backup).wait()
    second.stop()
    leave_behind(stage, lost, primary, backup)
    second.cont()
    assert second.talk(b"get k gone\r\n") == NEW
    wait_for(lambda: values(lost, [b"k", b"gone"]) == {b"k": b"new"},
             "it to be made whole")
    wait_for_states(second, "up", "up")
    other.kill()
    assert second.talk(b"get k gone\r\n") == NEW


def copied(magent):
    """How many keys its rebuilds have copied."""
    return sum(map(int, re.findall(r": (\d+) keys copied, ",
                                   magent.output())))


MARKS = [b"magent:serving%d" % slot for slot in range(4)]


class TwoMagents:
    """Two magents before a primary and a backup with many keys, of which so
    many serve clients."""

    def __init__(self, stage, serving):
        self.primary, self.backup = stage.memcacheds(2)
        for server in self.primary, self.backup:
            fill(server, MANY, size=8)
        self.magents = [started(stage, [self.primary], [self.backup],
                                "-t", 2000) for _ in range(2)]
        self.bond = Bond(self.primary, self.backup).wait()
        self.clients = [stage.client(magent)
                        for magent in self.magents[:serving]]
        self.marks = {}
        wait_for(lambda: self.know_each_other(serving),
                 "those who serve to know of each other")

    def know_each_other(self, serving):
        """A magent that serves looks each second who else does, and then says
        so itself: what its second mark follows has seen the first of all."""
        self.serve()
        for key, number in values(self.primary, MARKS).items():
            self.marks.setdefault(key, set()).add(number)
        return (len(self.marks) == serving and
                all(len(numbers) > 2 for numbers in self.marks.values()))

    def serve(self):
        for client in self.clients:
            client.send(b"get fill:1\r\n")
            assert client.read_until(b"END\r\n").startswith(b"VALUE fill:1 ")
        return True

    def are_whole(self, magents):
        """They have missed the backup, and trust it again."""
        return self.serve() and all(
            states(magent) == ["up", "up"] and failures(magent) > [0]
            for magent in magents)


@pytest.mark.parametrize("serving", [0, 1, 2])
def test_one_of_two_magents_fills_a_server(stage, serving):
    two = TwoMagents(stage, serving)
    two.backup.restart()
    seen = [[], []]

    def look():
        for magent, progress in zip(two.magents, seen):
            found = magent.stats("servers")
            if found["1:state"] == "rebuild" and (
                    "1:rebuild_keys_done" in found):
                progress.append(int(found["1:rebuild_keys_done"]))
        return two.are_whole(two.magents)

    wait_for(look, "both to find all servers up")
    assert items(two.primary, two.backup) == [MANY, MANY]
    two.bond.wait()
    numbers = [copied(magent) for magent in two.magents]
    assert max(numbers) == MANY and min(numbers) < MANY / 100
    assert flushes(two.backup) <= [1]
    # The other one shows how far it is.
    progress = seen[numbers.index(min(numbers))]
    assert progress == sorted(progress) and len(set(progress)) > 2
    for magent in two.magents:
        assert magent.talk(b"get fill:%d\r\n" % (MANY - 1)).startswith(b"VALUE")


class Once:
    """Calls act() at the first of these commands, before it is carried out."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern)
        self.act = None

    def __call__(self, line):
        if self.act and self.pattern.match(line):
            act, self.act = self.act, None
            act()


CLAIM = rb"add magent:[0-9a-f]{16}:claim "


def test_server_that_was_made_whole_before_it_was_claimed_is_left_alone(stage):
    """By another magent, which had claimed it until then."""
    claimed = Once(CLAIM)
    primary, backup = stage.memcached(), watched(stage, claimed)
    magent = started(stage, [primary], [backup])
    put(magent)
    bond = Bond(primary, backup).wait()

    def give(server, stamp):
        for key in bond.keys:
            assert server.talk(b"set %s 0 0 %d\r\n%d\r\n" % (
                key, len(str(stamp)), stamp)) == b"STORED\r\n"

    primary.stop()
    wait_for(lambda: states(magent) == ["down", "up"], "the failure")
    give(backup, FIRST + 1000)
    claimed.act = lambda: give(primary, FIRST + 1000)
    primary.cont()
    wait_for(lambda: "behind s %s: somebody wrote past it" % backup.address in
             magent.output(), "the doubt")
    wait_for_states(magent, "up", "up")
    assert "was changed by another magent" in magent.output()
    assert flushes(primary) == [0] and held(primary) == FULL


class Rising:
    """Raises the stamp of a server at each look at it, as somebody does who
    writes to it all the time, and not to its partner."""

    def __init__(self):
        self.server = self.bond = None

    def __call__(self, line):
        if self.server and line.startswith(b"get magent:"):
            stamp = b"%d" % (int(time.time() * 1000000) << 8)
            for key in self.bond.keys:
                assert self.server.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
                    key, len(stamp), stamp)) == b"STORED\r\n"


@pytest.mark.parametrize("partner", ["away", "empty"])
def test_server_that_another_magent_writes_to_all_the_time_returns(
        stage, partner):
    """It has all: also beside a partner that has lost all."""
    rising = Rising()
    primary, backup = stage.memcached(), watched(stage, rising)
    magent = started(stage, [primary], [backup])
    put(magent)
    rising.bond = Bond(primary, backup).wait()
    wait_for(lambda: held(backup) == FULL, "the backup")
    backup.stop()
    wait_for(lambda: states(magent) == ["up", "down"], "the failure")
    primary.kill()
    wait_for(lambda: states(magent) == ["down", "down"], "both failures")
    if partner == "empty":
        primary.start(primary.port)
        wait_for(lambda: states(magent) == ["up", "down"], "the empty one")
    rising.server = backup
    backup.cont()
    wait_for(lambda: states(magent)[1] == "up" and held(magent) == FULL,
             "what it has")
    if partner == "away":
        primary.start(primary.port)
    rising.server = None
    wait_for(lambda: states(magent) == ["up", "up"] and
             held(primary) == FULL, "both to be whole")
    assert "was changed by another magent" not in magent.output()


def test_write_that_a_server_misses_as_it_returns_is_made_up_for(stage):
    """It is the first one.  The stamp of its partner is read behind the write,
    and ahead of what raises it for that."""
    deleted = Once(rb"delete k0\r\n")
    primary, backup = watched(stage), watched(stage, deleted)
    magent = started(stage, [primary], [backup], "-t", 5000)
    put(magent)
    Bond(primary, backup).wait()
    links = primary.links()

    def wait_for_return():
        wait_for(lambda: looks(primary.asked(primary.links() - links)) > 0,
                 "the stamps of the primary to be read")
        for _ in range(10):
            assert magent.stats("servers")["0:state"] == "identify"

    deleted.act = wait_for_return
    primary.front.drop()
    wait_for(lambda: states(magent)[0] == "down", "the failure")
    assert magent.talk(b"delete k0\r\n") == b"DELETED\r\n"
    assert deleted.act is None
    wait_for_states(magent, "up", "up")
    assert values(primary, [b"k0"]) == {}
    assert "warning" not in magent.output().split("down, was up")[1]


def test_claim_ends_when_the_server_has_its_stamps(stage):
    # The stamps of a server that is being filled have 10 digits at most.
    stamped = Once(rb"set magent:[0-9a-f]{16}:1 0 0 (1[1-9]|2\d)\r")
    primary, backup = stage.memcached(), watched(stage, stamped)
    magent = started(stage, [primary], [backup], "-t", 5000)
    put(magent)
    claim = b"magent:%s:claim" % Bond(primary, backup).wait().name
    seen = []

    def look():
        for _ in range(20):     # none of them may come too early
            seen.append(values(primary, [claim]))
            time.sleep(0.01)

    stamped.act = look
    backup.restart()
    wait_for(lambda: len(seen) == 20, "the stamps")
    assert all(seen)
    wait_for(lambda: not values(primary, [claim]), "the end of the claim")


def test_rebuild_of_a_magent_that_was_killed_is_done_by_the_other(stage):
    two = TwoMagents(stage, 1)
    two.backup.restart()
    wait_for(lambda: two.serve() and 0 < int(two.magents[0].stats(
        "servers").get("1:rebuild_keys_done", 0)) < MANY, "the rebuild")
    two.magents[0].kill()
    two.clients.clear()
    assert "another magent" not in two.magents[0].output()
    wait_for(lambda: two.are_whole(two.magents[1:]), "the other one")
    assert items(two.primary, two.backup) == [MANY, MANY]
    two.bond.wait()


def test_magent_that_was_stopped_brings_nothing_old(stage):
    """It has sent writes, and not read the answers, when it is stopped: what
    another magent writes meanwhile stays."""
    primary, backup = stage.memcacheds(2)
    first, second = [started(stage, [primary], [backup], "-t", 5000)
                     for _ in range(2)]
    Bond(primary, backup).wait()
    keys = [b"k%d" % i for i in range(100)]
    clients = [stage.client(first) for _ in keys]
    queue = [b"p%d" % i for i in range(100)]
    pipeline = stage.client(first)
    assert pipeline.ask(b"set k0 0 0 1\r\nx\r\n") == b"STORED\r\n"
    primary.stop()
    for client, key in zip(clients, keys):
        client.send(b"set %s 0 0 3\r\nold\r\n" % key)
    pipeline.send(b"".join(b"set %s 0 0 3\r\nold\r\n" % key for key in queue))
    wait_for(lambda: int(first.stats("servers")["0:waiting"]) > len(keys),
             "them to be sent")
    first.stop()
    primary.cont()
    wait_for(lambda: set(values(primary, keys).values()) == {b"old"} and
             len(values(primary, keys)) == len(keys), "the primary")
    until = time.monotonic() + 3
    with second.client() as client:
        for turn in itertools.count():
            lines = [b"set %s 0 0 4\r\n%04d\r\n" % (key, turn)
                     for key in keys + queue]
            assert client.talk(b"".join(lines)) == b"STORED\r\n" * len(lines)
            if time.monotonic() > until:
                break
    first.cont()
    wait_for(lambda: "held up, and another magent has served meanwhile" in
             first.output(), "the first one to notice it")
    wait_for_states(first, "up", "up")
    newest = {key: b"%04d" % turn for key in keys}
    assert values(primary, keys) == newest
    wait_for(lambda: values(backup, keys) == newest, "the backup")
    # What it had not sent are writes of now; or they have failed.
    for _ in queue:
        assert pipeline.read_line().startswith((b"STORED", b"SERVER_ERROR"))
    wait_for(lambda: values(primary, queue) == values(backup, queue),
             "both servers to be equal")
    for magent in first, second:
        assert values(magent, keys) == newest


def test_magent_that_was_stopped_asks_the_server_that_has_kept_its_items(stage):
    """The other one was restarted, and is there at the same moment: keys that
    only one of the two has are not added there."""
    primary, backup = stage.memcacheds(2)
    first, second = [started(stage, [primary], [backup]) for _ in range(2)]
    Bond(primary, backup).wait()
    keys = [b"k%d" % i for i in range(100)]
    clients = [stage.client(first) for _ in keys]
    assert clients[0].ask(b"set k0 0 0 1\r\nx\r\n") == b"STORED\r\n"
    for turn in range(3):
        primary.kill()
        wait_for_states(first, "down", "up")
        first.stop()
        for client, key in zip(clients, keys):
            client.send(b"add %s 0 0 5\r\nadded\r\n" % key)
        until = time.monotonic() + 2
        with second.client() as client:
            while time.monotonic() < until:
                lines = [b"set %s 0 0 4\r\n%04d\r\n" % (key, turn)
                         for key in keys]
                stored = b"STORED\r\n" * len(keys)
                assert client.talk(b"".join(lines)) == stored
        primary.start(primary.port)
        first.cont()
        answers = [client.read_line() for client in clients]
        assert set(answers) == {b"NOT_STORED\r\n"}, answers
        for magent in first, second:
            wait_for_states(magent, "up", "up")
        newest = {key: b"%04d" % turn for key in keys}
        wait_for(lambda: values(primary, keys) == newest, "the primary")
        assert values(backup, keys) == newest


def test_magent_that_was_stopped_as_it_read_sends_nothing_of_that(stage):
    """It has read that a write is done which the primary has missed; when it
    goes on, the primary was restarted, and another magent has filled it."""
    number = 3133700
    primary, backup = stage.memcacheds(2)
    first = started(stage, [primary], [backup], kind=InjectedMagent)
    second = started(stage, [primary], [backup])
    Bond(primary, backup).wait()
    keys = [b"k%d" % i for i in range(100)]
    client = stage.client(first)
    for key in keys:
        assert client.ask(b"set %s 0 0 1\r\nx\r\n" % key) == b"STORED\r\n"
    assert client.ask(b"set n 0 0 7\r\n%d\r\n" % number) == b"STORED\r\n"
    primary.kill()
    wait_for_states(first, "down", "up")
    first.inject(STOP, number + 1)
    client.send(b"incr n 1\r\n")
    first.wait_stopped()
    primary.start(primary.port)
    newest = {key: b"newer" for key in keys}
    with second.client() as other:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for key in keys:
                assert other.ask(b"set %s 0 0 5\r\nnewer\r\n" % key) == (
                    b"STORED\r\n")
        wait_for_states(second, "up", "up")
        first.cont()
        wait_for(lambda: "held up, and another magent has served meanwhile" in
                 first.output(), "the first one to notice it")
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert values(second, keys) == newest
    wait_for_states(first, "up", "up")
    assert not [line for line in troubles(first, second)
                if "wrote past" in line]
    for server in primary, backup:
        assert values(server, keys) == newest


@pytest.mark.skipif(not threads.can_stop(), reason="cannot stop threads")
@pytest.mark.parametrize("thread", [0, 1])
def test_server_is_not_trusted_before_each_thread_of_it_goes_on(stage, thread):
    """It was hung, and another magent had sent it something that one of them
    has not read."""
    primary, backup = stage.memcached(), stage.memcached("-t", "2")
    first, second = [started(stage, [primary], [backup]) for _ in range(2)]
    Bond(primary, backup).wait()
    # Both magents have sent it effects on connections of before.
    for magent in first, second:
        assert magent.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    backup.stop()
    assert first.talk(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    wait_for_states(first, "up", "down")
    assert second.talk(b"set k 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    wait_for_states(second, "up", "down")
    with threads.stopped(threads.named(backup.pid, "mc-worker")[thread]):
        backup.cont()
        until = time.monotonic() + 2
        wait_for(lambda: states(second)[1] == "up" or
                 time.monotonic() > until, "the return")
        assert states(second)[1] != "up"
    for magent in first, second:
        wait_for_states(magent, "up", "up")
    assert values(backup, [b"k"]) == values(primary, [b"k"]) == {b"k": b"new"}


@pytest.mark.parametrize("kind", [Memcached, lambda: Slow(20)],
                         ids=["", "that answers behind the first request"])
@pytest.mark.parametrize("away", ["primary", "backup"])
def test_write_of_a_magent_that_was_killed_is_not_read_and_then_gone(
        stage, away, kind):
    """It was killed behind the answer of the authority, and had not raised the
    stamp yet: the other server is hung, and comes back with an equal one."""
    lost, there = stage.memcached(), stage.add(kind()).start()
    servers = {"primary": there, "backup": there, away: lost}
    killed = stage.add(Mortal([servers["primary"]], [servers["backup"]])).start()
    assert killed.talk(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    wait_for(lambda: values(lost, [b"k"]), "the mirror")
    Bond(*servers.values()).wait()
    lost.stop()
    number = "0" if away == "primary" else "1"
    wait_for(lambda: killed.stats("servers")[number + ":state"] == "down",
             "that to be seen")
    killed.talk(b"get k\r\n")                    # it serves
    killed.kill()
    assert there.talk(b"set k 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    with stage.magent([servers["primary"]], [servers["backup"]]).client(
            timeout=10) as client:
        assert client.talk(b"get k\r\n") == b"VALUE k 0 3\r\nnew\r\nEND\r\n"
        lost.cont()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert client.talk(b"get k\r\n") == (
                b"VALUE k 0 3\r\nnew\r\nEND\r\n")
    wait_for(lambda: values(lost, [b"k"]) == {b"k": b"new"}, "both to be equal")
