"""What a burst took is given back, and counts against -m while it lasts."""
import pytest

from lib.net import wait_for
from lib.servers import sanitized

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sanitized(), reason="memory of another order")


def small_sets(proxy, stage):
    clients = [stage.client(proxy) for _ in range(300)]
    for client in clients:
        client.send(b"set k 0 0 1\r\nx\r\n" * 600)
    for client in clients:
        assert client.read_exactly(8 * 600) == b"STORED\r\n" * 600
    return clients


def large_gets(proxy, stage):
    clients = [stage.client(proxy, receive_buffer=4096) for _ in range(60)]
    for client in clients:
        client.send(b"get big\r\n" * 30)
    wait_for(lambda: int(proxy.stats()["get_hits"]) > 60, "values to come")
    return clients


def gets_of_many_keys(proxy, stage):
    clients = [stage.client(proxy, receive_buffer=4096) for _ in range(60)]
    for client in clients:
        client.send(b"get " + b"k big " * 3000 + b"\r\n")
    wait_for(lambda: int(proxy.stats()["get_hits"]) > 60, "values to come")
    return clients


def halves_of_sets(proxy, stage):
    clients = [stage.client(proxy) for _ in range(1000)]
    for client in clients:
        client.send(b"set k 0 0 90000\r\n" + b"x" * 40000)
    return clients


@pytest.mark.parametrize("burst", [
    small_sets, large_gets, gets_of_many_keys, halves_of_sets])
def test_memory_of_a_burst_is_given_back(stage, burst):
    proxy = stage.magent([stage.memcached()], [stage.memcached()],
                         "-m", 64, "-t", 8000)
    assert proxy.talk(b"set big 0 0 500000\r\n%s\r\n" % (b"b" * 500000)
                      ) == b"STORED\r\n"
    before = proxy.rss()
    for _ in range(2):
        clients = burst(proxy, stage)
        for client in clients:
            client.close()
        wait_for(lambda: proxy.rss() < before + 8 * MIB,
                 "memory to be given back")
    assert proxy.peak_rss() - before < 3 * 64 * MIB
    assert proxy.talk(b"set k 0 0 1\r\nx\r\nget k\r\n").endswith(b"END\r\n")


def test_requests_that_wait_for_a_hung_server_count_as_held(stage):
    server = stage.memcached()
    proxy = stage.magent([server], [], "-m", 8, "-t", 60000)
    clients = [stage.client(proxy) for _ in range(200)]
    for client in clients:
        assert client.talk(b"delete k\r\n" * 600) == b"NOT_FOUND\r\n" * 600
    before = proxy.rss()
    server.stop()
    for client in clients:
        client.send(b"delete k\r\n" * 600)
    with proxy.client() as client:      # it is served, though all is held
        assert client.ask(b"mn\r\n") == b"MN\r\n"
    assert proxy.rss() - before < 24 * MIB
    server.cont()
    for client in clients:
        assert client.talk(b"") == b"NOT_FOUND\r\n" * 600
    wait_for(lambda: int(proxy.stats()["buffer_bytes"]) < 2 * MIB,
             "what was held to be free")

