"""The gate: who waits for a flush_all or a handback, and who does not."""
import threading
import time

import pytest

from lib.net import wait_for


class Held:
    """A script that answers the commands with these words only when it is
    let go."""

    def __init__(self, *words):
        self.words = words
        self.released = threading.Event()
        self.holds = False
        self.held = 0

    def __call__(self, link, line, data):
        if self.holds and line.split()[0] in self.words:
            self.held += 1
            self.released.wait(20)


def has(server, key):
    return server.holds(key) != b"EN\r\n"


def key_on(proxy, server, name=b"k"):
    """A key whose primary this is."""
    with proxy.client() as client:
        for i in range(100):
            key = b"%s%d" % (name, i)
            assert client.ask(b"set %s 0 0 1\r\nv\r\n" % key) == b"STORED\r\n"
            if has(server, key):
                return key
    raise AssertionError("no key on %s" % server.title())


def test_client_of_other_servers_does_not_wait_for_handback(stage):
    """The old authority of a server that returns takes its time: clients with
    other keys notice nothing."""
    held = Held(b"mg")
    primary, other = stage.memcached(), stage.memcached()
    backup, other_backup = stage.fake(held), stage.memcached()
    proxy = stage.magent([primary, other], [backup, other_backup],
                         "-t", 20000, "--ring=modula")
    states = lambda: proxy.stats("servers")["0:state"]
    with proxy.client() as client:
        keys = {}
        for i in range(100):
            key = b"k%d" % i
            assert client.ask(b"set %s 0 0 1\r\nv\r\n" % key) == b"STORED\r\n"
            keys[has(primary, key)] = key
        # With one ring of two the second primary has the second backup.
        slow, quick = keys[True], keys[False]
        primary.kill()
        wait_for(lambda: states() == "down", "the end of the primary")
        held.holds = True
        client.send(b"mg %s v\r\n" % slow)
        wait_for(lambda: held.held > 0, "the command that is held")
        primary.start(primary.port)
        wait_for(lambda: states() in ("rebuild", "handback"), "its return")
        with proxy.client() as another:
            until = time.monotonic() + 1
            worst = 0
            while time.monotonic() < until:
                began = time.monotonic()
                another.exchange([b"get %s\r\n" % quick], b"VALUE %s 0 1\r\n"
                                 b"v\r\nEND\r\n" % quick)
                worst = max(worst, time.monotonic() - began)
        held.released.set()
        client.read_line()
        wait_for(lambda: states() == "up", "the end of the handback")
    assert worst < 0.5


def test_statistics_do_not_wait_for_a_closed_gate(stage):
    held = Held(b"mg", b"flush_all")
    slow = stage.fake(held)
    proxy = stage.magent([slow], [], "-t", 20000)
    with proxy.client() as client, proxy.client() as flusher:
        held.holds = True
        client.send(b"mg k v\r\n")
        wait_for(lambda: held.held > 0, "the command that is held")
        flusher.send(b"flush_all\r\n")
        began = time.monotonic()
        for _ in range(20):
            assert "0:state" in proxy.stats("servers")
            assert proxy.stats("conns")
        assert proxy.talk(b"version\r\nmn\r\n").endswith(b"MN\r\n")
        assert time.monotonic() - began < 2
        held.released.set()
        client.read_line()
        assert flusher.read_line() == b"OK\r\n"


@pytest.mark.parametrize("flushers", [1, 5])
def test_pipelines_of_flush_all_take_turns_with_others(stage, flushers):
    """Clients that ask for flush_all again and again do not keep others from
    being answered in between."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    count = 300
    stop = threading.Event()

    def flush(client):
        while not stop.is_set():
            client.send(b"flush_all\r\n" * count)
            for _ in range(count):
                assert client.read_line() == b"OK\r\n"

    clients = [stage.client(proxy) for _ in range(flushers)]
    threads = [threading.Thread(target=flush, args=(client,))
               for client in clients]
    for thread in threads:
        thread.start()
    with proxy.client() as client:
        began = time.monotonic()
        for i in range(100):
            assert client.ask(b"set k%d 0 0 1\r\nv\r\n" % i) == b"STORED\r\n"
        took = time.monotonic() - began
    flushed = int(proxy.stats()["cmd_flush"])
    stop.set()
    for thread in threads:
        thread.join()
    assert took < 3
    assert flushed > 20


def test_what_follows_a_flush_all_is_not_flushed(stage):
    """What a client sends behind a flush_all, in the same packet, comes after
    it; what it sent before, ahead of it."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    with proxy.client() as client:
        for i in range(50):
            client.exchange(
                [b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\nflush_all\r\n"
                 b"set b 0 0 1\r\n2\r\nget a b\r\n"],
                b"STORED\r\nSTORED\r\nOK\r\nSTORED\r\n"
                b"VALUE b 0 1\r\n2\r\nEND\r\n")
            wait_for(lambda: has(backup, b"b") and not has(backup, b"a"),
                     "the same on the mirror")


def test_many_keys_wait_if_one_of_them_is_held(stage):
    """A get of many keys, one of them on a server that is waited for, is
    answered whole when that server has answered."""
    held = Held(b"mg")
    slow, quick = stage.fake(held), stage.memcached()
    proxy = stage.magent([slow, quick], [], "-t", 20000, "--ring=modula")
    key = key_on(proxy, quick)
    with proxy.client() as client, proxy.client() as flusher, \
            proxy.client() as reader:
        names = b" ".join(b"n%d" % i for i in range(2000))
        held.holds = True
        for i in range(10):     # one of them is on the slow server
            client.send(b"mg m%d v\r\n" % i)
        wait_for(lambda: held.held > 0, "the command that is held")
        waiting = lambda: int(proxy.stats("servers")["0:waiting"])
        before = waiting()
        flusher.send(b"flush_all 1000\r\n")
        wait_for(lambda: waiting() > before, "the closed gate")
        reader.send(b"get %s %s\r\n" % (names, key))
        time.sleep(0.1)         # time to be answered too early
        held.released.set()
        assert flusher.read_line() == b"OK\r\n"
        assert reader.read_until(b"END\r\n") == (
            b"VALUE %s 0 1\r\nv\r\nEND\r\n" % key)
