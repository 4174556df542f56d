"""Servers that answer, but late: age counts, not silence.

A server that says something now and then is not alive for that.  Whoever waits
for one waits as long as -t says, and then the partner answers.
"""
import threading
import time

import pytest

from lib.net import wait_for
from lib.servers import sanitized

TIMEOUT = 0.25
# What a client may wait at most: -t, and as much again for a busy machine.
PATIENCE = 1.5


class Limping:
    """A script that takes so many seconds for each of these commands."""

    def __init__(self, *words):
        self.words = words
        self.seconds = 0

    def __call__(self, link, line, data):
        if line.split()[0] in self.words:
            time.sleep(self.seconds)


def ask_all(clients, commands):
    """Send each client's command; how long the slowest answer took."""
    began = time.monotonic()
    for client, command in zip(clients, commands):
        client.send(command)
    for client in clients:
        client.read_line()
    return time.monotonic() - began


@pytest.mark.parametrize("seconds", [0.02, 0.2])
def test_clients_of_limping_primary_are_answered_by_its_backup(stage, seconds):
    script = Limping(b"mg")
    primary, backup = stage.fake(script), stage.memcached()
    proxy = stage.magent([primary], [backup])
    clients = [stage.client(proxy) for _ in range(100)]
    assert clients[0].ask(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    script.seconds = seconds
    assert ask_all(clients, [b"mg k%d v\r\n" % i for i in range(100)]) < PATIENCE
    assert proxy.stats()["server_timeouts"] == "1"


@pytest.mark.parametrize("end", ["failover", "flush_all"])
def test_nobody_waits_for_mirror_that_lags(stage, end):
    """The mirror takes 50 ms a write: once its oldest write is older than -t it
    is down, and writes become dirty keys."""
    script = Limping(b"set")
    primary, backup = stage.memcached(), stage.fake(script)
    proxy = stage.magent([primary], [backup])
    client, other = stage.client(proxy), stage.client(proxy)
    script.seconds = 0.05
    for i in range(400):
        assert client.ask(b"set k%d 0 0 1\r\nv\r\n" % i) == b"STORED\r\n"
    if end == "failover":
        primary.kill()
    else:
        client.send(b"flush_all 1000\r\n")
    began = time.monotonic()
    other.send(b"mg k0 v\r\n")
    other.read_line()
    assert time.monotonic() - began < PATIENCE


def test_mirror_that_lags_is_down_and_gets_dirty_keys(stage):
    script = Limping(b"set")
    primary, backup = stage.memcached(), stage.fake(script)
    proxy = stage.magent([primary], [backup])
    client = stage.client(proxy)
    script.seconds = 0.05
    for i in range(400):
        assert client.ask(b"set k%d 0 0 1\r\nv\r\n" % i) == b"STORED\r\n"
    wait_for(lambda: proxy.stats("servers")["1:timeouts"] == "1",
             "the end of the mirror")
    # What it had not answered, and what was written since.
    dirty = int(proxy.stats("servers")["1:dirty_keys"])
    assert 300 < dirty <= 400 or proxy.stats("servers")["1:state"] != "down"


class Rambling:
    """Instead of its statistics, a scripted server sends this for ever."""

    def __init__(self, server, piece, pause):
        self.server = server
        self.piece = piece
        self.pause = pause
        self.floods = 0
        self.plain = server.identity
        server.identity = self.identity

    def identity(self, line):
        if not line.startswith(b"stats"):
            return self.plain(line)
        self.floods += 1
        link = self.server.links[-1]
        while not self.server.ending.is_set():
            link.send(self.piece)
            time.sleep(self.pause)
        return b""


def test_statistics_that_drip_for_ever_delay_nobody(stage):
    """Such a server is given up after -t: magent is ready, and the backup
    answers."""
    primary, backup = stage.fake(), stage.memcached()
    Rambling(primary, b"STAT a 1\r\n", 0.05)
    proxy = stage.magent([primary], [backup])
    began = time.monotonic()
    assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    wait_for(lambda: "ready" in proxy.output(), "the word ready", timeout=3)
    assert time.monotonic() - began < PATIENCE


def test_flood_of_statistics_takes_little_memory(stage):
    primary, backup = stage.fake(), stage.memcached()
    rambling = Rambling(primary, b"STAT a 1\r\n" * 6000, 0)
    proxy = stage.magent([primary], [backup], "-m", 8)
    wait_for(lambda: rambling.floods >= 3, "several floods", timeout=30)
    assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    assert proxy.peak_rss() < 64 << 20 or sanitized()


def test_survivor_that_is_late_has_four_times_the_timeout(stage):
    """While its partner is away nobody can answer in its place: then a server
    that is held up for 2.5 times -t costs time only."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 400)
    client = stage.client(proxy)
    assert client.ask(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    primary.kill()
    client.exchange([b"get k\r\n"], b"VALUE k 0 1\r\nv\r\nEND\r\n")
    backup.stop()
    threading.Timer(1, backup.cont).start()
    client.exchange([b"get k\r\n"], b"VALUE k 0 1\r\nv\r\nEND\r\n")
    assert client.ask(b"set k 0 0 1\r\nw\r\n") == b"STORED\r\n"
    assert proxy.stats("servers")["1:timeouts"] == "0"


def test_survivor_that_hangs_is_given_up_at_last(stage):
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 100)
    client = stage.client(proxy)
    primary.kill()
    assert client.ask(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    backup.stop()
    began = time.monotonic()
    client.exchange([b"get k\r\n"], b"END\r\n")
    assert 0.35 < time.monotonic() - began < 0.4 + PATIENCE


def test_large_value_that_arrives_at_a_fair_rate_is_waited_for(stage):
    """3 MB in 12 pieces, one in 50 ms: twice as long as -t in all."""
    piece = b"x" * (256 << 10)
    stage_of = {"count": 0}

    def slowly(link, line, data):
        if not line.startswith(b"get "):
            return None
        stage_of["count"] += 1
        link.send(b"VALUE k 0 %d\r\n" % (12 * len(piece)))
        for _ in range(12):
            link.send(piece)
            time.sleep(0.05)
        return b"\r\nEND\r\n"

    proxy = stage.magent([stage.fake(slowly)], [], "-I", "8m")
    client = stage.client(proxy)
    client.send(b"get k\r\n")
    reply = client.read_until(b"END\r\n")
    assert len(reply) > 12 * len(piece)
    assert stage_of["count"] == 1
    assert proxy.stats()["server_timeouts"] == "0"
