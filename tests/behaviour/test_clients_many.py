"""Thousands of clients, the limit of -n, and what an idle one costs."""
import pathlib
import re

import pytest

from lib.net import wait_for
from lib.servers import sanitized

COUNT = 2000
FULL = b"ERROR Too many open connections\r\n"


pytestmark = pytest.mark.usefixtures("enough_files")


def open_files(server):
    return len(list(pathlib.Path("/proc/%d/fd" % server.pid).iterdir()))


def statistic(client, name):
    client.send(b"stats\r\n")
    text = client.read_until(b"END\r\n").decode()
    return int(re.search(r"STAT %s (\d+)\r\n" % name, text).group(1))


def wait_until_alone(client):
    wait_for(lambda: statistic(client, "curr_connections") == 1,
             "the other clients to be gone")


def test_2000_clients_at_once_are_all_served(stage):
    proxy = stage.magent(stage.memcacheds(2))
    clients = [stage.client(proxy) for _ in range(COUNT)]
    for i, client in enumerate(clients):
        client.send(b"set n%d 0 0 4\r\n%04d\r\nget n%d\r\n" % (i, i, i))
    for i, client in enumerate(clients):
        assert client.talk(b"") == (
            b"STORED\r\nVALUE n%d 0 4\r\n%04d\r\nEND\r\n" % (i, i))
    assert int(proxy.stats()["curr_connections"]) >= COUNT


def test_clients_over_option_n_are_refused_until_one_leaves(stage):
    proxy = stage.magent([stage.memcached()], [], "-n", 10)
    clients = []
    for _ in range(10):
        clients.append(stage.client(proxy))
        assert clients[-1].talk(b"get k\r\n") == b"END\r\n"
    for _ in range(20):
        assert stage.client(proxy).read_to_end() == FULL
    assert statistic(clients[0], "rejected_connections") == 20
    clients.pop().close()
    wait_for(lambda: is_served(proxy), "a place to be free")
    assert all(c.talk(b"get k\r\n") == b"END\r\n" for c in clients)


def is_served(proxy):
    with proxy.client() as client:
        return client.talk(b"get k\r\n") == b"END\r\n"


@pytest.mark.skipif(sanitized(), reason="memory of another order")
def test_idle_clients_take_at_most_4_kb_each(stage):
    proxy = stage.magent([stage.memcached()])
    with proxy.client() as client:
        client.talk(b"get k\r\n")
    before = proxy.rss()
    clients = [stage.client(proxy) for _ in range(COUNT)]
    for client in clients:
        assert client.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert (proxy.rss() - before) / COUNT <= 4096


def test_4000_clients_that_come_and_go_leave_no_descriptor(stage):
    proxy = stage.magent([stage.memcached()])
    observer = stage.client(proxy)
    wait_until_alone(observer)
    files = open_files(proxy)
    for round in range(4000):
        with proxy.client() as client:
            if round % 3 == 1:
                client.send(b"get k\r\n")
            elif round % 3 == 2:
                client.send(b"set k 0 0 100\r\nabc")
    wait_until_alone(observer)
    assert open_files(proxy) == files
