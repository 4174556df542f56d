"""stats conns: memcached's lines, and what magent adds to them, per client."""
import re

import pytest

from lib.net import wait_for
from lib.servers import sanitized

OURS = ["requests", "backlog", "input_kept", "paused"]
MEMCACHEDS = ["addr", "listen_addr", "state", "secs_since_last_cmd"]


def conns(proxy):
    """What it says of each client, by the client's address."""
    clients = {}
    for name, value in proxy.stats("conns").items():
        number, _, what = name.partition(":")
        clients.setdefault(number, {})[what] = value
    return {lines["addr"]: lines for lines in clients.values()}


def address(client):
    return "tcp:%s:%d" % client.socket.getsockname()


def of(proxy, client):
    return conns(proxy)[address(client)]


def test_client_that_waits_has_memcacheds_lines_and_ours(stage, proxy):
    client = stage.client(proxy)
    client.ask(b"mn\r\n")
    lines = of(proxy, client)
    assert list(lines) == MEMCACHEDS + OURS
    assert lines["listen_addr"] == "tcp:" + proxy.address
    assert lines["state"] == "conn_new_cmd"
    assert int(lines["secs_since_last_cmd"]) < 20
    assert [lines[name] for name in OURS] == ["0", "0", "0", "no"]


def test_lines_of_memcached_are_those_of_memcached(stage, proxy):
    memcached = stage.memcached()
    client = stage.client(memcached)
    client.ask(b"version\r\n")
    assert list(of(memcached, client)) == MEMCACHEDS


def test_client_number_is_that_of_the_log(stage):
    proxy = stage.magent([stage.memcached()], [], "-v")
    client = stage.client(proxy)
    client.ask(b"mn\r\n")
    said = re.search(r"c#(\d+) %s:%d: connected" % client.socket.getsockname(),
                     proxy.output())
    assert proxy.stats("conns")[said.group(1) + ":addr"] == address(client)


def test_half_a_value_shows_as_kept_input(stage, proxy):
    client = stage.client(proxy)
    client.send(b"set k 0 0 100000\r\n" + b"x" * 5000)
    wait_for(lambda: of(proxy, client)["input_kept"] == "5018",
             "the input to come")
    assert of(proxy, client)["state"] == "conn_nread"
    client.send(b"x" * 95000 + b"\r\n")
    assert client.read_line() == b"STORED\r\n"
    assert of(proxy, client)["input_kept"] == "0"


def test_value_that_is_refused_shows_as_swallowed(stage, proxy):
    client = stage.client(proxy)
    client.send(b"set k 0 0 2000000\r\nx")
    client.read_line()
    assert of(proxy, client)["state"] == "conn_swallow"


def test_client_that_reads_nothing_shows_its_backlog_and_is_paused(stage):
    proxy = stage.magent([stage.memcached()])
    proxy.talk(b"set k 0 0 1000000\r\n%s\r\n" % (b"x" * 1000000))
    client = stage.client(proxy, receive_buffer=4096)
    client.send(b"get k\r\n" * 40)
    lines = wait_for(
        lambda: (lambda now: now["paused"] == "backlog" and now)(
            of(proxy, client)), "the client to be paused")
    assert int(lines["backlog"]) > 256 << 10
    assert lines["state"] == "conn_mwrite"


def test_requests_in_flight_show_and_fill_the_window(stage):
    fake = stage.fake(lambda link, line, data: link.hang())
    proxy = stage.magent([fake], [], "-t", 20000)
    client = stage.client(proxy)
    client.send(b"get k\r\n" * 10)
    lines = wait_for(
        lambda: (lambda now: now["paused"] == "window" and now)(
            of(proxy, client)), "the client to be paused")
    assert lines["state"] == "conn_io_queue"
    assert lines["requests"] == "2"


@pytest.mark.skipif(sanitized(), reason="takes long")
def test_busy_clients_come_first_of_more_than_it_lists(stage, proxy):
    idle = [stage.client(proxy) for _ in range(1200)]
    idle[-1].ask(b"mn\r\n")
    busy = stage.client(proxy)
    busy.send(b"set k 0 0 10\r\nx")
    wait_for(lambda: conns_left_out(proxy)[0] == address(busy), "the client")
    assert conns_left_out(proxy)[1] >= 200


def conns_left_out(proxy):
    """The address of the first client that is listed, and how many are not."""
    stats = proxy.stats("conns")
    first = next(value for name, value in stats.items()
                 if name.endswith(":addr"))
    return first, int(stats.get("conns_left_out", 0))
