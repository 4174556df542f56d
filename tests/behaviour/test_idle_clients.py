"""Tens of thousands of clients that ask for nothing cost little memory, and
cost nobody else any time."""
import resource
import socket
import time

import pytest

from lib.net import wait_for
from lib.servers import sanitized

BIND_ADDRESS_NO_PORT = 24       # of Linux: a port is found in connect()

MOST = 50000
LEAST = 10000           # fewer would prove little
PER_ADDRESS = 5000      # clients from one address; with more, ports are hard to find
GROUP = 500             # clients that do something at a time
SPARE = 1000            # files of this process and of magent beside them
KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def count():
    """How many clients: 50,000, or as many as the limit of open files allows,
    for this process and for magent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST + SPARE
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, hard)))
    except (OSError, ValueError):
        files = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if files < LEAST + SPARE:
        pytest.skip("may open %d files only, and not raise that" % hard)
    yield files - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def proxy(stage, count):
    return stage.magent([stage.memcached()], [stage.memcached()],
                        "-n", count + 100, "-m", 64)


def connect(proxy, count):
    """So many connections, from several addresses."""
    connections = []
    for i in range(count):
        if i % GROUP == 0:      # more would not fit in the queue of accept()
            wait_until_accepted(proxy, i)
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        connection.bind(("127.0.0.%d" % (2 + i // PER_ADDRESS), 0))
        connection.connect(("127.0.0.1", proxy.port))
        connections.append(connection)
    wait_until_accepted(proxy, count)
    return connections


def wait_until_accepted(proxy, count):
    wait_for(lambda: int(proxy.stats()["curr_connections"]) > count,
             "magent to accept them")


def ask_all(connections, question, length):
    """Each of them is answered; some at a time, so that none waits long."""
    for i in range(0, len(connections), GROUP):
        group = connections[i:i + GROUP]
        for connection in group:
            connection.sendall(question)
        for connection in group:
            left = length
            while left > 0:
                left -= len(connection.recv(left))


@pytest.mark.skipif(sanitized(), reason="memory of another order")
def test_50000_idle_clients_take_a_kilobyte_each_while_they_are_there(
        proxy, count):
    proxy.talk(b"set k 0 0 1\r\nx\r\nget k\r\n")
    before = proxy.rss()
    connections = connect(proxy, count)
    try:
        print("bytes each:", (proxy.rss() - before) // count)
        assert proxy.rss() - before < count * KIB
        ask_all(connections, b"get k\r\nset k 0 0 1\r\ny\r\nmn\r\n",
                len(b"VALUE k 0 1\r\nx\r\nEND\r\nSTORED\r\nMN\r\n"))
        wait_for(lambda: proxy.rss() - before < count * KIB,
                 "those that have worked to take no more")
        beside = pipeline_seconds(proxy)
        cpu, start = proxy.cpu_seconds(), time.monotonic()
        time.sleep(1.5)         # no look at all of them each second
        assert proxy.cpu_seconds() - cpu < .03 * (time.monotonic() - start)
    finally:
        for connection in connections:
            connection.close()
    wait_for(lambda: int(proxy.stats()["curr_connections"]) == 1,
             "magent to see the ends")
    # What is left is what the event library has for each descriptor.
    wait_for(lambda: proxy.rss() - before < 8 * MIB,
             "memory to be given back")
    # Where the processor is emulated it takes long without them, too.
    assert beside < max(3, 2 * pipeline_seconds(proxy))


def pipeline_seconds(proxy):
    """How long 20,000 sets of a pipeline take."""
    data = b"set p 0 0 1000\r\n%s\r\n" % (b"x" * 1000) * 20000
    answer = b"STORED\r\n" * 20000 + b"MN\r\n"
    with proxy.client(timeout=60) as client:
        start = time.monotonic()
        assert client.exchange([data + b"mn\r\n"], b"MN\r\n") == answer
        return time.monotonic() - start


@pytest.mark.skipif(sanitized(), reason="memory of another order")
def test_clients_that_asked_all_at_once_take_a_kilobyte_each_later(stage):
    """Their requests and replies are in memory at the same time, and what is
    freed of it lies between what stays."""
    some = 4000
    proxy = stage.magent([stage.memcached()], [], "-n", some + 100)
    proxy.talk(b"set k 0 0 1\r\nx\r\n")
    before = proxy.rss()
    connections = connect(proxy, some)
    try:
        for _ in range(2):
            proxy.stop()
            for connection in connections:
                connection.sendall(b"get k\r\nmn\r\n")
            proxy.cont()
            for connection in connections:
                left = len(b"VALUE k 0 1\r\nx\r\nEND\r\nMN\r\n")
                while left > 0:
                    left -= len(connection.recv(left))
        wait_for(lambda: proxy.rss() - before < some * KIB,
                 "those that have worked to take no more")
    finally:
        for connection in connections:
            connection.close()
    wait_for(lambda: proxy.rss() - before < 2 * MIB,
             "memory to be given back")
