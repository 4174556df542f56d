"""Several magents serve clients from the same servers at the same time: one on
each web server, or one for each half of the keys.
"""
import itertools
import os
import pathlib
import signal
import threading

import pytest

from faults import Isolated, Load, Plain, Slow, can_isolate
from lib.net import wait_for
from lib.servers import sanitized
from lib.stamps import values
from takeover import LOAD, READS, Row, Takeover

WORK = 15000            # operations
MANY = 2000             # keys that take a while to delete
FEW = 800               # keys that take a while to copy from a slow server

needs_network = pytest.mark.skipif(
    not can_isolate(), reason="cannot make network namespaces")


def scrub(scene):
    """Have both copies of each key compared, by the first magent."""
    proxy = scene.proxies[0]
    done = int(proxy.stats()["scrub_passes"])
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: int(proxy.stats()["scrub_passes"]) > done, "the pass", 60)


def test_clients_of_two_magents_share_their_keys(stage):
    """Each reads what any other one has written.  What was written in the same
    millisecond may be in another order on the mirror, until a pass ends."""
    scene = Takeover(stage, "three", Plain)
    scene.start_load(others=scene.proxies[1:], clients=48, rate=12000)
    scene.load.work(WORK // 5 if sanitized() else WORK)
    scene.check()
    scrub(scene)
    assert scene.diverged() == {}


def unread(proxy, servers):
    """Bytes that it has sent to servers, and that these have not read."""
    files = pathlib.Path("/proc/%d/fd" % proxy.pid)
    mine = {os.readlink(file) for file in files.iterdir()}
    rows = [line.split() for line in
            pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {"%04X" % server.port for server in servers}
    sent = {(row[1], row[2]): row[4].split(":")[0] for row in rows
            if "socket:[%s]" % row[9] in mine and row[2][-4:] in ports}
    waiting = [row[4].split(":")[1] for row in rows if (row[2], row[1]) in sent]
    assert sent
    return sum(int(number, 16) for number in [*sent.values(), *waiting])


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_magent_of_half_of_the_keys_is_killed(stage, victim):
    """Its clients turn to the one of the other half, which has the servers the
    other way round; then a server fails.  What it has sent is read before, and
    what it has not is found: see operations.md, What is not covered."""
    scene = Takeover(stage, "crossed", Plain)
    other = stage.add(Load(scene.proxies[1], **LOAD, name="other:"))
    scene.start_load()
    other.work(READS)
    scene.proxies[0].stop()
    wait_for(lambda: not unread(scene.proxies[0],
                                scene.primaries + scene.backups),
             "what it has sent to be read")
    scene.kill_and_move()
    wait_for(lambda: int(scene.proxies[1].stats()["scrub_passes"]) > 0,
             "the keys to be compared")
    scene.wait_up()
    scene.lose_partner(Row("crossed", victim, "no fault", "killed"))
    other.work(READS)
    scene.check()
    verdict = other.end()
    assert verdict.faultless(), "%s\n%s" % (verdict, verdict.report[:4000])


class Reader(threading.Thread):
    """Reads keys again and again, and counts those that are missing."""

    def __init__(self, proxy, keys):
        super().__init__()
        self.proxy, self.keys = proxy, keys
        self.missing = self.turns = 0
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.is_set():
            self.missing += len(self.keys) - len(values(self.proxy, self.keys))
            self.turns += 1

    def end(self):
        self.is_over.set()
        self.join()


@needs_network
def test_what_another_magent_answers_from_is_not_deleted(stage):
    """One magent has lost the primary for a moment, and clients have written
    meanwhile what it is to forget: the other magent has not seen that yet."""
    scene = Takeover(stage, "pair", Isolated)
    lost, other = scene.proxies
    primary, = scene.primaries
    keys = [b"k%d" % i for i in range(MANY)]
    for proxy in other, lost:
        assert set(proxy.talk(b"".join(
            b"set %s 0 0 1\r\n1\r\n" % key for key in keys)).split()) == {
                b"STORED"}
    readers = [Reader(other, keys[i::40]) for i in range(4)]
    for reader in readers:
        reader.start()
    scene.cut(primary, 0)
    with lost.client() as client:
        for turn in itertools.count():
            lines = [b"set %s 0 0 1\r\n2\r\n" % key for key in keys]
            assert client.talk(b"".join(lines)) == b"STORED\r\n" * len(lines)
            if scene.states(0)[primary.address] != "up":
                break
    primary.network.heal()
    wait_for(lambda: "rebuild, was" in lost.output(), "its return")
    scene.wait_up(numbers=[0, 1])
    for reader in readers:
        reader.end()
        assert reader.turns > 0 and reader.missing == 0
    assert set(values(other, keys[:100]).values()) == {b"2"}


class Asker(threading.Thread):
    """Has a magent serve, all the time."""

    def __init__(self, proxy):
        super().__init__()
        self.proxy = proxy
        self.is_over = threading.Event()

    def run(self):
        with self.proxy.client() as client:
            while not self.is_over.wait(0.02):
                client.talk(b"set asked 0 0 1\r\nx\r\n")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()


def test_flush_all_through_one_drops_what_another_one_copies(stage):
    """The other one has asked the backup, which is slow, for values before the
    flush_all, and adds them behind it to the primary that it fills."""
    servers = iter([Plain(), Slow(20)])
    scene = Takeover(stage, "pair", lambda: next(servers))
    primary, = scene.primaries
    keys = [b"k%d" % i for i in range(FEW)]
    assert scene.proxies[0].talk(b"".join(
        b"set %s 0 0 3\r\nold\r\n" % key for key in keys)
        ) == b"STORED\r\n" * FEW
    with Asker(scene.proxies[0]), Asker(scene.proxies[1]):
        primary.restart()
        for proxy in scene.proxies:
            wait_for(lambda: proxy.stats("servers")["0:state"] == "rebuild",
                     "both to see it return")
        wait_for(lambda: values(primary, keys), "the first copies")
        follower, = [proxy for proxy in scene.proxies
                     if "rebuilt by another magent" in proxy.output()]
        assert follower.talk(b"flush_all\r\n") == b"OK\r\n"
        while {"up"} != {state for number in (0, 1)
                         for state in scene.states(number).values()}:
            assert values(follower, keys) == {}
    for server in scene.primaries + scene.backups:
        assert values(server, keys) == {}
