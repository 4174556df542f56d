"""The network of magent itself: all servers are cut off, and back.

No server has failed, so nothing that they hold is thrown away.
"""
import threading
import time

import pytest

from faults import Isolated, can_isolate, fill, missing
from lib.net import wait_for

pytestmark = pytest.mark.skipif(not can_isolate(), reason="needs root")

KEYS = 2000


class Writer:
    """Sets some keys again and again, whatever comes of it; the first time, all
    of them are stored before it is there."""

    def __init__(self, proxy, keys):
        self.keys = keys
        self.client = proxy.client()
        self.ends = False
        for i in range(keys):
            assert self.write(i) == b"STORED\r\n"
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def write(self, i):
        return self.client.ask(b"set written:%d 0 0 1\r\nx\r\n" % i)

    def work(self):
        while not self.ends:
            for i in range(self.keys):
                self.write(i)
                time.sleep(0.001)

    def close(self):
        self.ends = True
        self.thread.join()
        self.client.close()


def states(proxy):
    found = proxy.stats("servers")
    return [found[name] for name in found if name.endswith(":state")]


def refused(proxy):
    """How many writes, one to each of some keys, no server takes."""
    with proxy.client() as client:
        return sum(client.ask(b"set fill:%d 0 0 1\r\nx\r\n" % i)
                   != b"STORED\r\n" for i in range(0, KEYS, 50))


def flushes(servers):
    return [int(server.stats()["cmd_flush"]) for server in servers]


@pytest.mark.parametrize("how", ["blackhole", "down"])
@pytest.mark.parametrize("seconds", [0.5, 3, 20])
def test_all_servers_cut_off_are_served_again_within_a_second(
        stage, seconds, how):
    if how == "down" and seconds == 20:
        pytest.skip("one of them takes long enough")
    servers = [stage.add(Isolated()).start() for _ in range(5)]
    proxy = stage.magent(servers[:3], servers[3:])
    wait_for(lambda: set(states(proxy)) == {"up"}, "all to be up")
    fill(proxy, KEYS)
    writer = stage.add(Writer(proxy, 50))
    copied = int(proxy.stats()["keys_copied"])
    for server in servers:
        server.network.cut(how)
    time.sleep(seconds)
    for server in servers:
        server.network.heal()
    healed = time.monotonic()
    wait_for(lambda: refused(proxy) == 0 and missing(proxy, KEYS) == 0,
             "all keys to be served")
    took = time.monotonic() - healed
    started = time.monotonic()
    assert refused(proxy) == missing(proxy, KEYS) == 0
    look = time.monotonic() - started
    wait_for(lambda: set(states(proxy)) == {"up"}, "all to be up")
    gone = missing(proxy, 50, b"written")
    writer.close()
    copied = int(proxy.stats()["keys_copied"]) - copied
    assert took < 1 + 2 * look, (took, look)
    assert flushes(servers) == [0] * 5
    # Those that are written all the time, and those of refused().
    assert copied <= 2 * (50 + KEYS // 50), copied
    assert gone == missing(proxy, 50, b"written") == missing(proxy, KEYS) == 0
