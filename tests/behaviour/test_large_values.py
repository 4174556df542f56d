"""A value that a server holds and magent does not take (-I) is an error for
that key, and for nobody else."""
import pytest

from lib.net import wait_for

LARGE = 3500000
REFUSED = b"SERVER_ERROR object too large for cache\r\n"


def store_large(server, key=b"large", size=LARGE):
    """Past magent, into a memcached that takes it."""
    assert server.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
        key, size, b"x" * size)) == b"STORED\r\n"


def value(key, data=b"v"):
    return b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(data), data)


@pytest.fixture(scope="module")
def trio(module_stage):
    servers = module_stage.memcacheds(2, "-I", "8m", "-m", "128")
    proxy = module_stage.magent(servers[:1], servers[1:])
    proxy.talk(b"".join(b"set %s 0 0 1\r\nv\r\n" % key
                        for key in (b"a", b"b", b"c")))
    for server in servers:
        store_large(server)
        store_large(server, b"large2", 2200000)
    return proxy, *servers


def check_unharmed(proxy):
    stats = proxy.stats()
    assert stats["failovers"] == "0" and stats["servers_down"] == "0"


@pytest.mark.parametrize("command, reply", [
    (b"get large", REFUSED),
    (b"gets large", REFUSED),
    (b"gat 0 large", REFUSED),
    (b"get a large b", value(b"a") + value(b"b") + REFUSED),
    (b"get large a", value(b"a") + REFUSED),
    (b"get a b large", value(b"a") + value(b"b") + REFUSED),
    (b"get large large2 none", REFUSED),
    (b"get large a large2 b large c",
     value(b"a") + value(b"b") + value(b"c") + REFUSED),
    (b"mg large v", REFUSED),
    (b"mg large s v", REFUSED),
    (b"mg large s", b"HD s%d\r\n" % LARGE),
    (b"mg large v q", REFUSED),
    (b"touch large 0", b"TOUCHED\r\n"),
], ids=lambda value: value.decode()[:20])
def test_large_value_is_an_error_for_its_key_alone(trio, command, reply):
    proxy = trio[0]
    assert proxy.talk(command + b"\r\n") == reply
    assert proxy.talk(b"get a\r\n") == value(b"a") + b"END\r\n"
    check_unharmed(proxy)


def test_large_values_between_gets_of_several_clients_harm_none(trio):
    """They share commands to the server."""
    proxy = trio[0]
    keys = [b"a", b"large", b"b", b"large2", b"none", b"large", b"c"] * 30
    replies = {b"large": REFUSED, b"large2": REFUSED, b"none": b"END\r\n"}
    expected = b"".join(replies.get(key, value(key) + b"END\r\n")
                        for key in keys)
    data = b"".join(b"get %s\r\n" % key for key in keys)
    clients = [proxy.client() for _ in range(8)]
    for client in clients:
        client.send(data + b"mn\r\n")
    for client in clients:
        assert client.read_until(b"MN\r\n") == expected + b"MN\r\n"
        client.close()
    check_unharmed(proxy)


def test_memory_does_not_grow_with_large_values(trio):
    proxy = trio[0]
    proxy.talk(b"get large\r\n")
    before = proxy.peak_rss()
    for _ in range(20):
        assert proxy.talk(b"get large\r\n" * 5) == REFUSED * 5
    assert proxy.peak_rss() - before < 1 << 20


def test_value_that_append_makes_large_is_an_error(stage):
    servers = stage.memcacheds(2, "-I", "8m", "-m", "128")
    proxy = stage.magent(servers[:1], servers[1:])
    part = b"x" * 700000
    for verb in b"set", b"append", b"append", b"append", b"append":
        assert proxy.talk(b"%s k 0 0 %d\r\n%s\r\n" % (
            verb, len(part), part)) == b"STORED\r\n"
    assert proxy.talk(b"get k\r\n") == REFUSED
    assert proxy.talk(b"delete k\r\nget k\r\n") == b"DELETED\r\nEND\r\n"
    check_unharmed(proxy)


def test_rebuild_with_a_large_value_ends_and_says_so(stage):
    servers = stage.memcacheds(2, "-I", "8m", "-m", "128")
    proxy = stage.magent(servers[:1], servers[1:])
    names = [b"k%d" % i for i in range(200)]
    proxy.talk(b"".join(b"set %s 0 0 1\r\nv\r\n" % name for name in names))
    for server in servers:
        store_large(server)
    servers[0].restart()
    wait_for(lambda: proxy.stats("servers")["0:state"] == "up" and
             proxy.stats()["keys_copied"] != "0", "the rebuild")
    assert proxy.stats()["keys_copied"] == "200"
    assert "1 keys were not copied" in proxy.output()
    assert servers[0].talk(b"get k7\r\n") == value(b"k7") + b"END\r\n"
    assert proxy.stats()["failovers"] == "1"


@pytest.mark.parametrize("size, warned", [("8m", True), ("1m", False),
                                          ("512k", False)])
def test_item_size_below_that_of_a_server_is_warned_of(stage, size, warned):
    server = stage.memcached("-I", size)
    proxy = stage.magent([server])
    wait_for(lambda: proxy.stats("servers")["0:state"] == "up", "the server")
    assert ("-I is 1048576" in proxy.output()) == warned


@pytest.mark.parametrize("reply", [
    b"VALUE k 0 1073741825\r\n", b"VALUE k 0 2147483648\r\n",
    b"VALUE other 0 3000000\r\n", b"VALUE k 0 3000000 7\r\n"])
def test_large_value_that_cannot_be_is_a_failure_of_the_server(stage, reply):
    fake = stage.fake(lambda link, line, data:
                      reply if line.startswith(b"get") else None)
    backup = stage.memcached()
    proxy = stage.magent([fake], [backup])
    assert proxy.talk(b"get k\r\n") == b"END\r\n"
    assert proxy.stats()["failovers"] == "1"


def test_large_value_without_its_end_is_a_failure_in_time(stage):
    fake = stage.fake(lambda link, line, data: b"VALUE k 0 3000000\r\nxxx"
                      if line.startswith(b"get") else None)
    backup = stage.memcached()
    proxy = stage.magent([fake], [backup])
    assert proxy.talk(b"get k\r\n") == b"END\r\n"
    assert proxy.stats()["failovers"] == "1"


def test_other_than_end_behind_a_large_value_is_a_failure(stage):
    fake = stage.fake(lambda link, line, data:
                      b"VALUE k 0 3000000\r\n%s\r\nSTORED\r\n" % (
                          b"x" * 3000000)
                      if line.startswith(b"get") else None)
    backup = stage.memcached()
    proxy = stage.magent([fake], [backup])
    assert proxy.talk(b"get k\r\n") == b"END\r\n"
    assert proxy.stats()["failovers"] == "1"
