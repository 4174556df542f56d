"""Commands of which a part has come hold memory: when it is short, the oldest
are given up, whatever their size, and nobody else waits for them."""
import threading
import time

import pytest

from lib.net import wait_for
from lib.servers import sanitized

MIB = 1 << 20
LIMIT = 8
STORING = b"SERVER_ERROR out of memory storing object\r\n"
READING = b"SERVER_ERROR out of memory reading request\r\n"
SLOW = 4 if sanitized() else 1      # times that it takes, about


@pytest.fixture
def proxy(stage):
    proxy = stage.magent([stage.memcached()], [stage.memcached()],
                         "-m", LIMIT, "-n", 5000)
    assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    return proxy


def hold(stage, proxy, count, data):
    clients = [stage.client(proxy) for _ in range(count)]
    for client in clients:
        client.send(data)
    return clients


def held(proxy):
    return int(proxy.stats()["buffer_bytes"])


def is_served(proxy, *others, seconds=1):
    """Whether a new client, and those that were there, get answers in time."""
    with proxy.client() as new:
        for client in (new, *others):
            start = time.monotonic()
            assert client.talk(b"get k\r\nset s 0 0 1\r\nx\r\n") == (
                b"VALUE k 0 1\r\nv\r\nEND\r\nSTORED\r\n")
            if time.monotonic() - start > seconds * SLOW:
                return False
    return True


@pytest.mark.parametrize("count, data", [
    (150, b"set p 0 0 500000\r\n" + b"x" * 60000),
    (150, b"ms p 500000\r\n" + b"x" * 60000),
    (150, b"append p 0 0 500000 noreply\r\n" + b"x" * 60000),
    (150, b"get" + b" key" * 15000),
    (40, b"get " + b"k" * 200 + b" k" * 450000),
    (3000, b"set p 0 0 500000\r\n" + b"x" * 3900),
    (3000, b"set p 0 0 9000\r\n" + b"x" * 8900),
    (20, b"set p 0 0 1000000\r\n" + b"x" * 999999),
    (300, b"get k\r\n" * 10 + b"set p 0 0 500000\r\n" + b"x" * 60000),
], ids=lambda v: repr(v)[:24])
def test_unfinished_commands_of_many_stop_nobody(stage, proxy, count, data):
    old = stage.client(proxy)
    clients = hold(stage, proxy, count, data)
    assert is_served(proxy, old)
    wait_for(lambda: held(proxy) < 1.1 * LIMIT * MIB, "memory to be free")
    assert is_served(proxy, old)
    assert int(proxy.stats()["out_of_memory"]) > 0
    for client in clients:
        client.close()


def test_unfinished_commands_within_a_quarter_of_the_limit_stay(stage, proxy):
    """As long as nobody else needs the memory."""
    clients = hold(stage, proxy, 20, b"set p 0 0 50010\r\n" + b"x" * 50000)
    time.sleep(3.5)         # longer than any look at them
    for client in clients:
        client.send(b"y" * 10 + b"\r\n")
        assert client.read_line() == b"STORED\r\n"


def test_byte_now_and_then_is_no_progress(stage, proxy):
    clients = hold(stage, proxy, 150, b"set p 0 0 500000\r\n" + b"x" * 60000)
    over = threading.Event()

    def drip():
        while not over.is_set():
            for client in clients:
                client.send(b"x")
            over.wait(.2)
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        old = stage.client(proxy)
        for _ in range(10):
            assert is_served(proxy, old)
            time.sleep(.3)
        assert held(proxy) < 1.1 * LIMIT * MIB
    finally:
        over.set()
        thread.join()


def test_readers_of_a_little_now_and_then_stop_nobody(stage, proxy):
    """Slow readers and unfinished commands, together over the limit."""
    assert proxy.talk(b"set big 0 0 1000000\r\n%s\r\n" % (b"b" * 1000000)
                      ) == b"STORED\r\n"
    readers = [stage.client(proxy, receive_buffer=4096) for _ in range(60)]
    for reader in readers:
        reader.send(b"get big\r\n" * 10)
    writers = hold(stage, proxy, 80, b"set p 0 0 500000\r\n" + b"x" * 60000)
    over = threading.Event()

    def drip():
        while not over.is_set():
            for reader in readers:
                try:
                    reader.socket.recv(3000)
                except OSError:
                    pass
            over.wait(.3)
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        wait_for(lambda: held(proxy) < 1.1 * LIMIT * MIB, "memory to be free")
        # It takes up to two looks until those who read too little are closed.
        for _ in range(10):
            assert is_served(proxy, seconds=6)
            time.sleep(.2)
    finally:
        over.set()
        thread.join()
    assert "has read too little for" in proxy.output() or (
        "has read nothing for" in proxy.output())
    del writers


def refused(stage, proxy, start):
    """A client whose command was given up; its data is still to come."""
    client = hold(stage, proxy, 1, start)[0]
    hold(stage, proxy, 150, b"set p 0 0 500000\r\n" + b"x" * 60000)
    before = int(proxy.stats()["out_of_memory"])
    assert before > 0
    return client


DATA = 100000


@pytest.mark.parametrize("line, reply, value", [
    (b"set k 0 0 %d", STORING, b""),
    (b"set k 0 0 %d noreply", b"", b""),
    (b"ms k %d", STORING, b""),
    (b"ms k %d q", STORING, b""),
    (b"ms k %d MA", STORING, b""),
    (b"append k 0 0 %d", STORING, b"v"),
    (b"prepend k 0 0 %d noreply", b"", b"v"),
    (b"add k 0 0 %d", STORING, b"v"),
    (b"replace k 0 0 %d", STORING, b"v"),
    (b"cas k 0 0 %d 1", STORING, b"v"),
])
def test_refused_storage_leaves_what_memcached_would(
        stage, proxy, line, reply, value):
    """No old value behind a set; and the client goes on in step."""
    client = refused(stage, proxy, line % DATA + b"\r\n" + b"n" * 60000)
    client.send(b"n" * (DATA - 60000) + b"\r\n")
    found = b"VALUE k 0 1\r\n%s\r\n" % value if value else b""
    assert client.talk(b"get k\r\nget none\r\n") == (
        reply + found + b"END\r\nEND\r\n")
    for server in proxy.primaries + proxy.backups:
        wait_for(lambda: server.talk(b"get k\r\n") == found + b"END\r\n",
                 "both servers to have the same")


def test_refused_line_closes_its_client_with_an_error(stage, proxy):
    client = refused(stage, proxy, b"get none\r\nget" + b" key" * 15000)
    assert client.read_to_end() == b"END\r\n" + READING


def test_long_get_line_in_small_pieces_costs_little(stage):
    """The bytes that were searched for its end are not searched again."""
    proxy = stage.magent([stage.memcached()])
    short = cost_of_pieces(stage, proxy, b"get" + b" k" * 10000)
    assert cost_of_pieces(stage, proxy, b"get" + b" k" * 950000) < (
        1.5 * short + .1)


def cost_of_pieces(stage, proxy, line):
    """Seconds of the processor for 12,000 pieces of a byte behind it."""
    client = stage.client(proxy)
    client.send(line)
    wait_for(lambda: held(proxy) > len(line), "the line to come")
    before = proxy.cpu_seconds()
    with proxy.client() as other:
        for _ in range(12000):
            client.send(b" ")
            other.ask(b"mn\r\n")     # by now it has read this piece
    # Without what it costs to carry out a get of so many keys.
    spent = proxy.cpu_seconds() - before
    client.send(b"\r\n")
    assert client.read_line() == b"END\r\n"
    return spent
