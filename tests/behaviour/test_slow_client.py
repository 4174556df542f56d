"""A client that does not read costs little and delays nobody."""
import concurrent.futures
import contextlib
import select
import threading
import time

import pytest

from lib.net import wait_for
from lib.servers import sanitized

SIZE = 500000
MIB = 1 << 20
SLOW = 4 if sanitized() else 1      # times that it takes, about


@pytest.fixture
def proxy(stage):
    proxy = stage.magent([stage.memcached()], [], "-m", 32, "-t", 10000)
    assert proxy.talk(b"set big 0 0 %d\r\n%s\r\n" % (SIZE, b"b" * SIZE)
                      ) == b"STORED\r\n"
    return proxy


def stuck(stage, proxy, count):
    """A client that asks for count large values and reads none."""
    client = stage.client(proxy, receive_buffer=4096)
    client.send(b"get big\r\n" * count)
    return client


def others_are_served(proxy):
    with proxy.client() as client:
        worst = 0
        for i in range(200):
            start = time.monotonic()
            assert client.talk(b"set small 0 0 1\r\n%d\r\nget small\r\n"
                               % (i % 10)) == (
                b"STORED\r\nVALUE small 0 1\r\n%d\r\nEND\r\n" % (i % 10))
            worst = max(worst, time.monotonic() - start)
    return worst < SLOW


def when_idle(proxy):
    """Wait until it uses no more processor time; its memory then."""
    def idle():
        before = proxy.cpu_seconds()
        time.sleep(0.1)
        return proxy.cpu_seconds() - before < 0.03
    wait_for(idle, "magent to become idle")
    return proxy.rss()


@pytest.mark.parametrize("clients", [1, 30])
def test_clients_that_do_not_read_take_bounded_memory(stage, proxy, clients):
    before = proxy.rss()
    held = [stuck(stage, proxy, 2000) for _ in range(clients)]
    assert others_are_served(proxy)
    grown = when_idle(proxy) - before
    assert grown < (64 * MIB if clients > 1 else 16 * MIB) or sanitized()
    assert others_are_served(proxy)
    for client in held:
        client.close()
    assert others_are_served(proxy)


@pytest.mark.parametrize("ask, before", [
    (b"get %s\r\n" % (b"big " * 100), b""), (b"get big\r\n" * 100, b""),
    (b"gat 0 %s\r\n" % (b"big " * 100), b"get small\r\n"),
    (b"mg big v\r\n" * 100, b"get small\r\n")], ids=lambda b: repr(b[:9]))
def test_60_slow_readers_at_once_take_bounded_memory(
        stage, proxy, ask, before):
    """3 GB are asked for in a moment, when values were small so far, too."""
    assert proxy.talk(b"set small 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert proxy.talk(before * 5000).count(b"VALUE") == 5000 * bool(before)
    held = [stage.client(proxy, receive_buffer=4096) for _ in range(60 // SLOW)]
    for client in held:
        client.send(ask)
    assert proxy.talk(b"get small\r\n") == b"VALUE small 0 1\r\nx\r\nEND\r\n"
    assert others_are_served(proxy)
    assert proxy.peak_rss() < 6 * 32 * MIB or sanitized()
    for client in held:
        client.close()


def test_large_multigets_over_the_limit_are_all_read_in_the_end(stage, proxy):
    """A client that waits for memory which others hold goes on when it is free."""
    value = b"VALUE big 0 %d\r\n%s\r\n" % (SIZE, b"b" * SIZE)
    whole = value * 30 + b"END\r\n"
    clients = 20 // SLOW

    def read(_):
        with proxy.client() as client:
            client.send(b"get %s\r\n" % (b"big " * 30))
            return client.read_exactly(len(whole)) == whole
    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        assert all(threads.map(read, range(clients)))
    assert proxy.stats()["out_of_memory"] == "0"
    assert proxy.peak_rss() < 6 * 32 * MIB or sanitized()


class Readers(threading.Thread):
    """Clients that get a large value, again and again, as fast as they can."""

    def __init__(self, proxy, count):
        super().__init__()
        self.clients = [proxy.client() for _ in range(count)]
        self.whole = len(b"VALUE big 0 %d\r\n" % SIZE) + SIZE + 2 + 5
        self.done = threading.Event()
        self.rounds = 0

    def run(self):
        poll = select.poll()
        by_file = {client.socket.fileno(): client for client in self.clients}
        missing = dict.fromkeys(by_file, self.whole)
        buffer = bytearray(1 << 20)
        for file, client in by_file.items():
            poll.register(file, select.POLLIN)
            client.send(b"get big\r\n")
        while not self.done.is_set():
            for file, _ in poll.poll(100):
                missing[file] -= by_file[file].socket.recv_into(buffer)
                if missing[file] == 0:
                    missing[file] = self.whole
                    self.rounds += 1
                    by_file[file].send(b"get big\r\n")

    def stop(self):
        self.done.set()
        self.join()
        for client in self.clients:
            client.close()


def test_multigets_beside_100_readers_of_large_values_are_answered(
        stage, proxy):
    """Readers of large values, more than fit, do not starve other clients."""
    readers = Readers(proxy, 100 // SLOW)
    readers.start()
    try:
        wait_for(lambda: readers.rounds > 300, "the readers to be under way")
        for ask, n in ((b"get big none big\r\n", 2), (b"get big\r\n", 1),
                       (b"get none\r\nget big\r\nget big\r\n", 2)) * 3:
            with proxy.client() as client:
                assert client.talk(ask).count(b"VALUE") == n
    finally:
        readers.stop()
    assert proxy.stats()["out_of_memory"] == "0"


def test_large_value_unread_takes_no_more_than_its_size(stage, proxy):
    held = [stuck(stage, proxy, 1) for _ in range(20)]
    wait_for(lambda: proxy.stats()["get_hits"] == "20", "all values to come")
    when_idle(proxy)
    # What the sockets have not taken; the one that asks has a block, too.
    assert int(proxy.stats()["buffer_bytes"]) < len(held) * SIZE * 1.05
    for client in held:
        client.close()


def test_large_multigets_over_four_servers_do_not_block_each_other(stage):
    """What a get waits with for its next keys does not keep others waiting."""
    proxy = stage.magent(stage.memcacheds(4), [], "-m", 32, "-t", 10000)
    keys = [b"key%d" % i for i in range(40)]
    assert proxy.talk(b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (
        key, SIZE, b"b" * SIZE) for key in keys)) == b"STORED\r\n" * 40
    whole = b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (key, SIZE, b"b" * SIZE)
                     for key in keys) + b"END\r\n"

    def read(_):
        with proxy.client(receive_buffer=65536) as client:
            client.send(b"get %s\r\n" % b" ".join(keys))
            time.sleep(0.5)         # let it be slow, so that all wait
            return client.read_exactly(len(whole)) == whole
    clients = 20 // SLOW
    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
        assert all(threads.map(read, range(clients)))


def test_input_of_200_clients_over_the_limit_is_all_answered(stage):
    """Clients that send, together, more than there is memory for, and read."""
    proxy = stage.magent([stage.memcached()], [], "-m", 8, "-t", 10000)
    clients = [stage.client(proxy) for _ in range(200 // SLOW)]
    request = b"get k\r\n" * 9000
    for client in clients:
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.send(request)
    for client in clients:
        client.socket.settimeout(30)
        client.half_close()
        reply = client.read_to_end()
        assert reply == b"END\r\n" * (len(reply) // 5)
        assert len(reply) > 5 * 1000


def test_hung_server_takes_no_memory_from_clients_of_others(stage):
    """Large values are due from it; another server's clients do not wait."""
    servers = stage.memcacheds(2)
    proxy = stage.magent(servers, [], "-m", 32, "-t", 10000)
    keys = [next(key for key in (b"k%d" % i for i in range(100))
                 if proxy.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
                     key, SIZE, b"b" * SIZE)) == b"STORED\r\n"
                 and server.talk(b"mg %s\r\n" % key) == b"HD\r\n")
            for server in servers]
    clients = [stage.client(proxy) for _ in range(200)]
    for client in clients[:20]:
        assert client.talk(b"get %s\r\n" % keys[0]).startswith(b"VALUE")
    servers[0].stop()
    for client in clients:
        client.send(b"get %s\r\n" % keys[0])
    start = time.monotonic()
    with proxy.client() as client:
        assert client.talk(b"get %s %s\r\n" % (keys[1], keys[1])
                           ).count(b"VALUE") == 2
        assert client.talk(b"get %s\r\n" % keys[1]).count(b"VALUE") == 1
    assert time.monotonic() - start < 5
    servers[0].cont()


def test_slow_reader_gets_all_its_values(stage, proxy):
    client = stuck(stage, proxy, 60)
    assert others_are_served(proxy)
    value = b"VALUE big 0 %d\r\n%s\r\nEND\r\n" % (SIZE, b"b" * SIZE)
    for _ in range(60):
        assert client.read_exactly(len(value)) == value


def test_slow_writer_delays_nobody(stage, proxy):
    client = stage.client(proxy)
    client.send(b"set slow 0 0 10\r\n")
    for byte in b"0123456789\r\n":
        client.send(bytes([byte]))
        assert others_are_served(proxy)
    assert client.read_line() == b"STORED\r\n"


def test_memory_of_200_large_gets_does_not_stay(stage, proxy):
    """Memory that large values took is used again or given back."""
    before = proxy.rss()
    with proxy.client() as client:
        for _ in range(200):
            assert len(client.talk(b"get big\r\n")) > SIZE
    assert proxy.rss() - before < 16 * MIB or sanitized()


def test_requests_waiting_for_hung_server_take_little_memory(stage):
    """Small commands for a server that hangs: they take memory, too."""
    server = stage.memcached()
    proxy = stage.magent([server], [], "-m", 32, "-t", 60000)
    clients = [stage.client(proxy) for _ in range(200)]
    for client in clients:      # a client that is served may have more
        assert client.talk(b"get k\r\n" * 600) == b"END\r\n" * 600
    before = proxy.rss()
    server.stop()
    for client in clients:
        client.send(b"get k\r\n" * 2000)
    grown = when_idle(proxy) - before
    server.cont()
    for client in clients:
        assert client.talk(b"") == b"END\r\n" * 2000
    assert grown < 48 * MIB or sanitized()


def test_commands_without_end_over_the_limit_stop_nobody(stage, proxy):
    """Lines of gets, of many clients, that together are over the limit."""
    held = [stage.client(proxy) for _ in range(60)]
    for client in held:
        client.send(b"get " + b"k" * 1500000)
    assert others_are_served(proxy)
    wait_for(lambda: int(proxy.stats()["buffer_bytes"]) < 32 * MIB,
             "memory to be free again")
    assert others_are_served(proxy)


def kernel_queues(proxy):
    """Bytes that the kernel holds of what magent has sent to clients."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in list(table)[1:]]
    return sum(int(row[4].split(":")[0], 16) for row in rows
               if int(row[1].split(":")[1], 16) == proxy.port)


@pytest.mark.parametrize("ask", [b"get big\r\n" * 8, b"get%s\r\n" % (
    b" big" * 8)], ids=["pipeline", "rounds"])
def test_little_waits_in_the_kernel_for_clients_that_do_not_read(
        stage, proxy, ask):
    clients = [stage.client(proxy, receive_buffer=4096) for _ in range(40)]
    for client in clients:
        client.send(ask)
    wait_for(lambda: int(proxy.stats()["buffer_bytes"]) > 16 * MIB,
             "values to wait for them")
    assert kernel_queues(proxy) < 40 * (300 << 10)
    assert others_are_served(proxy)
