"""A server that returns may still have to do what it was sent before.

That is waited for, however the server is reached: what hung in it does not
overwrite what was written later.
"""
import contextlib
import os
import socket
import threading
import time

import pytest

from lib.fake import FakeServer
from lib.net import Client, free_port, wait_for
from lib.servers import Memcached
from lib.way import wait_for_states


class Unix(Memcached):
    """A memcached on a unix socket."""

    def __init__(self, path):
        super().__init__()
        self.path = str(path)

    @property
    def address(self):
        return "unix:" + self.path

    def command(self):
        return ["memcached", "-U", "0", "-u", "root", "-s", self.path]

    def client(self, **options):
        return Client(self.path, **options)


class Translator:
    """Forwards connections, so that the server sees other ports.  It passes
    on the end of each direction."""

    def __init__(self, server):
        self.server = server
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.sockets = []
        self._spawn(self._accept)

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def _spawn(self, target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                other = socket.create_connection(
                    ("127.0.0.1", self.server.port))
                self.sockets += [one, other]
                self._spawn(self._pass, one, other)
                self._spawn(self._pass, other, one)

    @staticmethod
    def _pass(source, target):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(1 << 16)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for one in [self.listener, *self.sockets]:
            one.close()


# A memcached does twenty before it sees that its client has gone.  The large
# ones give the next connection time to overtake the others.
LARGE = [b"large:%d" % i for i in range(14)]
KEYS = [b"key:%d" % i for i in range(4)]


def check_that_newer_writes_stay(stage, primary, place):
    """What was queued in a hung primary is carried out when it wakes."""
    backup = stage.memcached()
    proxy = stage.magent([place], [backup], "-t", 250)
    wait_for_states(proxy, "up", "up")
    zombies = b"".join(b"append %s 0 0 1\r\nz\r\n" % key for key in LARGE)
    zombies += b"".join(b"set %s 0 0 1\r\nz\r\n" % key for key in KEYS)
    with proxy.client() as client:
        for turn in range(5):
            for key in LARGE:
                client.ask(b"set %s 0 0 900000\r\n%s\r\n" % (
                    key, b"v" * 900000))
            primary.stop()
            client.exchange([zombies + b"mn\r\n"], b"MN\r\n")
            requests = int(proxy.stats("servers")["0:requests"])
            for key in KEYS:
                assert client.ask(b"set %s 0 0 1\r\n%d\r\n" % (
                    key, turn)) == b"STORED\r\n"
            # It wakes to the old connection and to a new one at once.
            wait_for(lambda: int(proxy.stats("servers")["0:requests"]) >
                     requests, "the next try", pause=0.001)
            primary.cont()
            wait_for_states(proxy, "up", "up")
            for key in KEYS:
                client.send(b"get %s\r\n" % key)
                reply = client.read_until(b"END\r\n").split()
                assert reply[4] == b"%d" % turn, reply
                assert primary.talk(b"get %s\r\n" % key).split()[4] == (
                    b"%d" % turn)


def test_hung_server_on_a_unix_socket_does_not_undo_newer_writes(
        stage, tmp_path):
    primary = stage.add(Unix(tmp_path / "socket")).start()
    check_that_newer_writes_stay(stage, primary, primary)


def test_hung_server_behind_other_ports_does_not_undo_newer_writes(stage):
    primary = stage.memcached()
    place = Translator(primary)
    stage.callback(place.close)
    check_that_newer_writes_stay(stage, primary, place)


class HungThread:
    """A server of which one thread hangs, with a set in its socket, while
    others answer."""

    def __init__(self):
        self.goes_on = threading.Event()
        self.hangs = threading.Event()
        self.has_ended = False

    def __call__(self, link, line, data):
        if line.startswith(b"set k ") and not self.goes_on.is_set():
            self.hangs.set()
            self.goes_on.wait(20)
            link.send(b"STORED\r\n" * 100)
            while link.reader.readline():
                pass
            self.has_ended = True
            link.close()
            return b""
        return None


def test_server_with_a_thread_that_hangs_is_waited_for(stage):
    """Its other threads answer at once, and say that nothing is under way."""
    hung = HungThread()
    primary = stage.fake(hung)
    proxy = stage.magent([primary], [stage.memcached()])
    wait_for_states(proxy, "up", "up")
    assert proxy.talk(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    assert hung.hangs.is_set()
    wait_for_states(proxy, "drain", "up")
    assert proxy.talk(b"set k 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    time.sleep(1.5)     # an idle time that was enough once
    wait_for_states(proxy, "drain", "up")
    assert proxy.talk(b"get k\r\n").split()[4:5] == [b"new"]
    hung.goes_on.set()
    wait_for_states(proxy, "up", "up")
    assert hung.has_ended


def descriptors(proxy):
    return len(os.listdir("/proc/%d/fd" % proxy.pid))


def test_server_that_hangs_for_long_costs_no_more_connections(stage):
    """Tries to connect to it are no connections that matter."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 50, "-i", 4)
    wait_for_states(proxy, "up", "up")
    before = descriptors(proxy)
    primary.stop()
    assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    timeouts = int(proxy.stats("servers")["0:timeouts"])
    wait_for(lambda: int(proxy.stats("servers")["0:timeouts"]) >=
             timeouts + 4, "some tries")
    assert descriptors(proxy) <= before + 2
    primary.cont()
    wait_for_states(proxy, "up", "up")
    wait_for(lambda: descriptors(proxy) <= before + 1, "the old ones to end")


class Threaded(FakeServer):
    """Says that it has very many threads; on all connections but the first of
    each return, it does act(link) in place of an answer to stats."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.first = None
        self.connections = set()
        self.yields = 0

    def _general(self):
        return {**super()._general(), "threads": 1000000}

    def drop(self):
        self.first = None
        self.connections.clear()
        for link in self.links:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)

    class link(FakeServer.link):
        def _answer(self, command, line, data):
            server = self.server
            server.first = server.first or self
            server.connections.add(self)
            if self is server.first or line != b"stats\r\n":
                super()._answer(command, line, data)
            else:
                server.act(self)


def talk_for_ever(link):
    with contextlib.suppress(OSError):
        while True:
            link.send(b"STAT " + b"x" * 5000)
            link.send(b"STAT conn_yields 18446744073709551616\r\n" * 100)


def always_more(link):
    """The server has been busy since the last question, too."""
    link.server.yields += 1
    link.send(b"STAT conn_yields %d\r\nEND\r\n" % link.server.yields)


ACTS = {"closes": lambda link: link.reset(),
        "is silent": lambda link: link.hang(),
        "never ends": talk_for_ever,
        "knows no stats": lambda link: link.send(b"ERROR\r\n"),
        "says too much": lambda link: link.send(b"END\r\n" * 100)}


@pytest.mark.parametrize("act", ACTS)
def test_server_whose_threads_answer_strangely_returns(stage, act):
    """Nobody answers in its place, so that it is not waited for long."""
    fake = stage.add(Threaded(ACTS[act]))
    backup = stage.memcached()
    magent = stage.magent([fake], [backup])
    wait_for_states(magent, "up", "up")
    backup.kill()
    wait_for_states(magent, "up", "down")
    fake.drop()
    wait_for(lambda: len(fake.connections) > 1, "its threads to be asked")
    wait_for_states(magent, "up", "down")
    assert 1 < len(fake.connections) <= 40
    assert ("not all of its threads answer" in magent.output()) == (
        act in ("is silent", "never ends"))
    assert magent.talk(b"version\r\n").startswith(b"VERSION")


def test_server_that_is_always_busy_returns(stage):
    """With the work of another magent: it is not that of before any more."""
    fake = stage.add(Threaded(always_more))
    magent = stage.magent([fake], [stage.memcached()])
    wait_for_states(magent, "up", "up")
    fake.drop()
    wait_for(lambda: fake.yields > 100, "its threads to be asked")
    wait_for_states(magent, "up", "up", timeout=5)
    assert "not all of its threads answer" not in magent.output()
