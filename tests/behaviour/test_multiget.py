"""A get of many keys: all shards, in the order asked for, one END."""
import contextlib
import itertools
import re
import socket

import pytest

from lib.net import wait_for
from lib.servers import sanitized


@pytest.fixture(scope="module", params=[1, 5])
def shards(request, module_stage):
    return module_stage.magent(module_stage.memcacheds(request.param))


def store(server, values):
    data = b"".join(
        b"set %s 0 0 %d noreply\r\n%s\r\n" % (key, len(value), value)
        for key, value in values.items())
    assert server.talk(data) == b""


def expected(values, keys):
    return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(values[key]),
                                                 values[key])
                    for key in keys if key in values) + b"END\r\n"


def test_get_of_10000_keys_returns_hits_in_order(shards):
    keys = [b"many:%d" % i for i in range(10000)]
    values = {key: b"v" + key for key in keys[::2]}
    store(shards, values)
    request = b"get " + b" ".join(keys) + b"\r\n"
    assert shards.talk(request) == expected(values, keys)
    assert shards.talk(request * 3) == expected(values, keys) * 3


def test_get_line_of_one_megabyte_is_answered(shards):
    keys = [b"%0249d" % i for i in range(4300)]
    values = {key: key[-5:] for key in keys[::7]}
    store(shards, values)
    request = b"get " + b" ".join(keys) + b"\r\n"
    assert len(request) > 1 << 20
    assert shards.talk(request) == expected(values, keys)


def test_get_line_without_end_closes_its_client_only(shards):
    """Over 2 MiB of keys; and the others are still served."""
    with shards.client() as client:
        reply = client.exchange(
            [b"get " + b"k " * (3 << 20)], b"\r\nMN\r\n")
        assert client.ended and reply in (
            b"", b"CLIENT_ERROR line too long\r\n")
    assert shards.talk(b"get k\r\n") == b"END\r\n"


def test_get_with_many_spaces_is_answered(shards):
    store(shards, {b"sp": b"x"})
    assert shards.talk(b"get " + b" " * 3000 + b"sp\r\n") == (
        b"VALUE sp 0 1\r\nx\r\nEND\r\n")
    assert shards.talk(b"get" + b"  sp" * 3000 + b"  \r\n") == (
        b"VALUE sp 0 1\r\nx\r\n" * 3000 + b"END\r\n")


@pytest.mark.parametrize("name", [b"get", b"gat 0"])
def test_get_with_duplicates_and_misses_returns_each_hit(shards, name):
    values = {b"d%d" % i: b"%d" % i for i in range(10)}
    store(shards, values)
    keys = [b"d%d" % (i * 7 % 13) for i in range(60)]
    assert shards.talk(name + b" " + b" ".join(keys) + b"\r\n") == (
        expected(values, keys))
    assert shards.talk(name + b" x y z x\r\n") == b"END\r\n"


def test_gets_of_20_keys_has_a_valid_token_for_each(shards):
    values = {b"t%d" % i: b"%d" % i for i in range(20)}
    store(shards, values)
    lines = shards.talk(
        b"gets " + b" ".join(values) + b"\r\n").split(b"\r\n")
    heads = [line.split() for line in lines if line.startswith(b"VALUE")]
    assert [head[1] for head in heads] == list(values)
    assert all(head[4].isdigit() for head in heads)
    cas = b"".join(b"cas %s 0 0 1 %s\r\nn\r\n" % (head[1], head[4])
                   for head in heads)
    assert shards.talk(cas) == b"STORED\r\n" * 20
    assert shards.talk(cas) == b"EXISTS\r\n" * 20


def test_get_of_24_large_values_returns_them_in_order(shards):
    values = {b"big%d" % i: bytes([65 + i]) * 1000000 for i in range(12)}
    store(shards, values)
    keys = list(values) + [b"none"] + list(values)[::-1]
    assert shards.talk(b"get " + b" ".join(keys) + b"\r\nget big3\r\n") == (
        expected(values, keys) + expected(values, [b"big3"]))


@pytest.mark.parametrize("size", [5, 30, 200, 250])
@pytest.mark.parametrize("name", [b"gat", b"gats"])
def test_gat_of_many_keys_is_sent_in_lines_that_servers_take(
        stage, name, size):
    """A memcached closes the connection at a long line that is no get."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    keys = [(b"%d" % i).ljust(size, b"k") for i in range(1500)]
    proxy.talk(b"".join(b"set %s 0 0 1 noreply\r\nv\r\n" % key
                        for key in keys))
    reply = proxy.talk(name + b" 100 " + b" ".join(keys) + b"\r\n")
    assert reply.count(b"VALUE ") == len(keys)
    assert re.findall(rb"VALUE (\S+) ", reply) == keys
    assert proxy.stats()["failovers"] == "0"
    for server in primary, backup:
        wait_for(lambda: server.holds(keys[-1]).endswith(b" t100\r\nv\r\n"),
                 "the keys to be touched")


def test_lines_of_gat_have_at_most_1024_bytes(stage):
    """That is what memcacheds before 1.6.18 take."""
    fake = stage.fake()
    proxy = stage.magent([fake])
    keys = [(b"%d" % i).ljust(30, b"k") for i in range(900)]
    proxy.talk(b"gat 2147483647 " + b" ".join(keys) + b"\r\n")
    lines = [line for line in fake.commands if line.startswith(b"gat ")]
    assert max(map(len, lines)) <= 1024
    assert b" ".join(b" ".join(line.split()[2:]) for line in lines) == \
        b" ".join(keys)
    assert max(map(len, lines)) > 980       # and they are filled


@pytest.mark.parametrize("name", [b"get", b"gets", b"gat 0"])
def test_round_of_values_larger_than_those_before_is_cut(stage, name):
    """Small values and misses, then large ones in their places: what has no
    room is asked for again, in order, and counted once."""
    primaries, backups = stage.memcacheds(2), stage.memcacheds(1)
    proxy = stage.magent(primaries, backups, "-m", 16, "-t", 5000)
    values = {b"big%d" % i: b"%d" % (i % 10) * 400000 for i in range(20)}
    values.update({b"small%d" % i: b"s" for i in range(20)})
    store(proxy, values)
    small = [b"small%d" % (i % 20) for i in range(1000)]
    proxy.talk(b"get " + b" ".join(small) + b"\r\n")
    keys = [b"none%d" % i for i in range(300)] + [
        b"%s%d" % (kind, i) for _ in range(3) for i in range(20)
        for kind in (b"big", b"small", b"none", b"big")]
    before, peak = proxy.stats(), proxy.peak_rss()
    clients = [stage.client(proxy, timeout=60) for _ in range(3)]
    for client in clients:
        client.send(name + b" " + b" ".join(keys) + b"\r\n")
    # In turn: one that does not read for seconds is closed, memory is short.
    for key, client in itertools.product(keys, clients):
        if key in values:
            head = client.read_line().split()
            assert head[1] == key and (len(head) == 5) == (name == b"gets")
            right = client.read_exactly(int(head[3])) == values[key]
            assert right        # without showing the value
            assert client.read_line() == b"\r\n"
    for client in clients:
        assert client.read_line() == b"END\r\n"
    assert proxy.peak_rss() - peak < 3 * (16 << 20) or sanitized()
    after = proxy.stats()
    kind = "touch" if name.startswith(b"gat") else "get"
    for counter, want in (("_hits", True), ("_misses", False)):
        assert int(after[kind + counter]) - int(before[kind + counter]) == (
            3 * sum((key in values) == want for key in keys))
    assert after["server_timeouts"] == "0"


def test_round_whose_server_fails_when_it_was_cut_is_whole(stage):
    """Values had no room; then their server is lost, and its partner has small
    ones."""
    keys = [b"k%d" % i for i in range(8)]
    large = b"".join(b"VALUE %s 0 1000000\r\n%s\r\n" % (key, bytes(1000000))
                     for key in keys)

    def breaks(link, line, data):
        if not line.startswith(b"get k0 k1 "):
            return None
        with contextlib.suppress(OSError):
            link.send(large)
        link.socket.shutdown(socket.SHUT_WR)
        return b""

    primary, backup = stage.fake(breaks), stage.memcached()
    store(backup, dict.fromkeys(keys, b"small"))
    proxy = stage.magent([primary], [backup], "-m", 8, "-t", 5000)
    # Now it expects little of a round.
    assert proxy.talk(b"get none none\r\n" * 200) == b"END\r\n" * 200
    assert proxy.talk(b"get " + b" ".join(keys) + b"\r\n") == b"".join(
        b"VALUE %s 0 5\r\nsmall\r\n" % key for key in keys) + b"END\r\n"
    assert proxy.stats()["failovers"] == "1"
