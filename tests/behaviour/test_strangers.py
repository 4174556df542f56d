"""A new process at an address that has items all the same: another memcached,
or one that keeps its items in a file."""
import os
import signal
import tempfile
import time

import pytest

from lib.net import wait_for
from lib.way import COUNT, flushes, held, put, wait_for_states, way


def stranger(stage):
    """Another memcached, which has run for a while, with other values."""
    other = stage.memcached()
    put(other, value=b"o")
    other.talk(b"set own 0 0 1\r\no\r\n")
    wait_for(lambda: int(other.stats()["uptime"]) > 4, "it to run")
    return other


def test_values_of_another_server_at_the_address_are_not_believed(stage):
    other = stranger(stage)
    primary, backup = stage.memcacheds(2)
    to_primary = way(stage, primary)
    proxy = stage.magent([to_primary], [backup])
    wait_for_states(proxy, "up", "up")
    put(proxy)
    to_primary.lead_to(other)
    wait_for(lambda: flushes(other) == [1], "it to be emptied")
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == held(other) == [[b"v"]] * COUNT
    assert proxy.talk(b"get own\r\n") == b"END\r\n"
    # And back: what was written meanwhile is not undone.
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\n") == b"STORED\r\n"
    wait_for(lambda: int(primary.stats()["uptime"]) > 4, "it to run")
    to_primary.lead_to(primary)
    wait_for(lambda: held(primary)[1] == [b"n"], "it to be rebuilt")
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == held(primary)


def test_stranger_is_not_emptied_before_a_partner_is_up(stage):
    other = stranger(stage)
    primary, backup = stage.memcacheds(2)
    to_primary = way(stage, primary)
    proxy = stage.magent([to_primary], [backup])
    wait_for_states(proxy, "up", "up")
    put(proxy)
    backup.kill()
    wait_for_states(proxy, "up", "down")
    to_primary.lead_to(other)
    wait_for(lambda: "no partner is up" in proxy.output(), "it to wait")
    assert flushes(other) == [0]
    assert proxy.talk(b"get own k1\r\n") == b"END\r\n"
    backup.start(backup.port)
    wait_for_states(proxy, "up", "up")
    assert flushes(other) == [1]
    assert proxy.talk(b"get own k1\r\n") == b"END\r\n"


def test_pair_of_strangers_is_emptied_after_a_while(stage):
    """Nobody is left to wait for: both addresses have moved."""
    others = stranger(stage), stranger(stage)
    servers = stage.memcacheds(2)
    ways = [way(stage, server) for server in servers]
    proxy = stage.magent(ways[:1], ways[1:])
    wait_for_states(proxy, "up", "up")
    put(proxy)
    for one, other in zip(ways, others):
        one.close()
    wait_for_states(proxy, "down", "down")
    for one, other in zip(ways, others):
        one.lead_to(other)
    wait_for_states(proxy, "up", "up", timeout=40)
    assert proxy.talk(b"get own k1\r\n") == b"END\r\n"
    assert flushes(*others) == [1, 1]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs /dev/shm")
@pytest.mark.parametrize("partner", ["up", "down"])
def test_server_that_keeps_its_items_in_a_file_is_not_emptied(
        stage, partner):
    backup = stage.memcached()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        primary = stage.memcached("-e", directory + "/items", "-m", "40")
        proxy = stage.magent([primary], [backup])
        wait_for_states(proxy, "up", "up")
        put(proxy)
        # With its items it takes up the time that it has run before.
        wait_for(lambda: int(primary.stats()["uptime"]) > 9, "it to run")
        if partner == "down":
            backup.kill()
            wait_for_states(proxy, "up", "down")
        primary.signal(signal.SIGUSR1)      # keeps the items in the file
        primary.process.wait()
        wait_for_states(proxy, "down", partner)
        time.sleep(4.1)     # memcached does not take it from a later time
        primary.start(primary.port)
        wait_for_states(proxy, "up", partner)
        assert flushes(primary) == [0]
        assert held(proxy) == held(primary) == [[b"v"]] * COUNT
        primary.kill()
