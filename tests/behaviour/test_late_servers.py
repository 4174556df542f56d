"""Servers that magent reaches late: nothing in them is thrown away on a doubt.

A server that nobody has heard of yet is not a server that has failed.
"""
from lib.net import wait_for
from lib.way import COUNT, flushes, held, items, put, states, wait_for_states, way


def mirrored(stage):
    """A primary and a backup with the same values."""
    servers = stage.memcacheds(2)
    for server in servers:
        put(server)
    return servers


def test_servers_that_are_reached_late_keep_what_they_hold(stage):
    primary, backup = mirrored(stage)
    ways = [way(stage), way(stage)]
    proxy = stage.magent(ways[:1], ways[1:])
    wait_for_states(proxy, "down", "down")
    assert proxy.talk(b"get k1\r\n") == b"END\r\n"
    ways[0].lead_to(primary)
    ways[1].lead_to(backup)
    wait_for_states(proxy, "up", "up")
    assert items(primary, backup) == [COUNT, COUNT]
    assert flushes(primary, backup) == [0, 0]
    assert held(proxy) == [[b"v"]] * COUNT


def test_second_magent_that_reaches_them_late_leaves_them_as_they_are(stage):
    primary, backup = stage.memcacheds(2)
    first = stage.magent([primary], [backup])
    wait_for_states(first, "up", "up")
    put(first)
    ways = [way(stage), way(stage)]
    second = stage.magent(ways[:1], ways[1:])
    wait_for_states(second, "down", "down")
    with first.client() as client:
        ways[0].lead_to(primary)
        ways[1].lead_to(backup)
        while states(second) != ["up", "up"]:
            for i in range(COUNT):
                assert client.talk(b"get k%d\r\n" % i) == (
                    b"VALUE k%d 0 1\r\nv\r\nEND\r\n" % i)
    assert items(primary, backup) == [COUNT, COUNT]
    assert flushes(primary, backup) == [0, 0]


def test_server_reached_late_has_nothing_old_of_what_it_missed(stage):
    primary, backup = mirrored(stage)
    to_primary = way(stage)
    proxy = stage.magent([to_primary], [backup])
    wait_for_states(proxy, "down", "up")
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\ndelete k2\r\n") == (
        b"STORED\r\nDELETED\r\n")
    to_primary.lead_to(primary)
    wait_for_states(proxy, "up", "up")
    for server in proxy, primary, backup:
        assert held(server) == [[b"v"]] + [[b"n"], [b""]] + (
            [[b"v"]] * (COUNT - 3))
    assert flushes(primary) == [0]


def test_server_that_is_started_later_is_filled(stage):
    backup = stage.memcached()
    put(backup)
    primary = stage.memcached()
    primary.kill()
    proxy = stage.magent([primary], [backup])
    wait_for_states(proxy, "down", "up")
    # It was here before magent by its own account, if that is rounded.
    wait_for(lambda: int(proxy.stats()["uptime"]) >= 1, "a second")
    primary.start(primary.port)
    wait_for_states(proxy, "up", "up")
    assert items(primary) == [COUNT]
    assert held(proxy) == [[b"v"]] * COUNT


def test_counters_that_went_back_are_no_reason_to_empty_a_server(stage):
    primary, backup = stage.memcacheds(2)
    to_primary = way(stage, primary)
    proxy = stage.magent([to_primary], [backup])
    wait_for_states(proxy, "up", "up")
    put(proxy)
    to_primary.close()
    wait_for_states(proxy, "down", "up")
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\n") == b"STORED\r\n"
    assert primary.talk(b"stats reset\r\n") == b"RESET\r\n"
    to_primary.lead_to(primary)
    wait_for_states(proxy, "up", "up")
    assert flushes(primary, backup) == [0, 0]
    assert held(primary) == held(proxy) == [[b"v"], [b"n"]] + (
        [[b"v"]] * (COUNT - 2))
