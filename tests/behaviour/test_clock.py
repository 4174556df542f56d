"""The time of day of magent's host is set while it runs: tools/clock.c."""
import mmap
import os
import struct
import tempfile
import time

import pytest

from lib.net import wait_for
from lib.servers import Magent, built, sanitized

HOUR = 3600
YEAR_2038 = 2 ** 31 - 10        # seconds since 1970; ten before the limit


class SteppedMagent(Magent):
    """It sees a time of day that step() sets."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.file = tempfile.NamedTemporaryFile()
        self.file.truncate(8)
        self.page = mmap.mmap(self.file.fileno(), 8)
        self.environment = dict(
            os.environ, CLOCK=self.file.name,
            LD_PRELOAD=built("clock", "-shared", "-fPIC", "-ldl"))
        if sanitized():
            self.environment["ASAN_OPTIONS"] = "verify_asan_link_order=0"

    def step(self, seconds):
        struct.pack_into("=q", self.page, 0, seconds)

    def close(self):
        super().close()
        self.page.close()
        self.file.close()


@pytest.fixture(params=["an hour ahead", "an hour back", "2038"])
def step(request):
    """Seconds by which the clock is set."""
    return {"an hour ahead": HOUR, "an hour back": -HOUR,
            "2038": int(YEAR_2038 - time.time())}[request.param]


@pytest.fixture
def stepped(stage):
    primary, backup = stage.memcacheds(2)
    magent = stage.add(SteppedMagent([primary], [backup], "-t", 1000)).start()
    wait_for(lambda: states(magent) == ["up", "up"], "both servers")
    return primary, backup, magent


def states(magent):
    return [value for name, value in magent.stats("servers").items()
            if name.endswith(":state")]


def test_step_of_the_clock_fails_no_server_and_no_client(stepped, step):
    _, _, magent = stepped
    with magent.client() as idle, magent.client() as busy:
        idle.ask(b"version\r\n")
        for seconds in (step, 0, step):
            magent.step(seconds)
            assert abs(int(magent.stats()["time"]) - time.time() -
                       seconds) < 5
            end = time.monotonic() + 1.2    # over the probes of a second
            while time.monotonic() < end:
                assert busy.talk(b"set k 0 0 1\r\nx\r\nget k\r\n") == (
                    b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n")
        assert idle.ask(b"version\r\n").startswith(b"VERSION ")
    stats = magent.stats()
    assert stats["failovers"] == "0" and stats["server_failures"] == "0"
    assert states(magent) == ["up", "up"]


def test_hung_server_is_found_in_time_after_a_step(stepped, step):
    primary, _, magent = stepped
    magent.step(step)
    primary.stop()
    start = time.monotonic()
    assert magent.talk(b"get k\r\n") == b"END\r\n"
    assert 0.9 < time.monotonic() - start < 4
    magent.step(0)
    primary.cont()
    wait_for(lambda: states(magent) == ["up", "up"], "the return", 10)


def test_uptime_does_not_follow_the_clock(stepped, step):
    _, _, magent = stepped
    magent.step(step)
    assert 0 < int(magent.stats()["uptime"]) < 60


DAY = 86400


def test_copies_after_a_step_live_as_long_as_they_were_to(stepped, step):
    """Times to live of more than 30 days are given as a time of day."""
    primary, backup, magent = stepped
    lives = {b"long": 60 * DAY, b"short": 20 * DAY, b"ever": 0}
    for key, seconds in lives.items():
        if seconds > 30 * DAY:
            seconds += int(time.time())
        assert magent.talk(b"set %s 0 %d 1\r\nx\r\n" % (key, seconds)
                           ) == b"STORED\r\n"
    before = {key: life(primary, key) for key in lives}
    primary.kill()
    assert magent.talk(b"get ever\r\n").startswith(b"VALUE")
    primary.start(primary.port)
    magent.step(step)
    wait_for(lambda: states(magent) == ["up", "up"], "the rebuild")
    for key in lives:
        assert abs(life(primary, key) - before[key]) < 10, key


def test_copies_live_as_long_if_the_clock_is_set_in_the_rebuild(
        stepped, step):
    primary, backup, magent = stepped
    keys = [b"k%d" % i for i in range(30000)]
    exptime = 60 * DAY + int(time.time())
    magent.talk(b"".join(b"set %s 0 %d 1 noreply\r\nx\r\n" % (key, exptime)
                         for key in keys))
    primary.kill()
    assert magent.talk(b"get k0\r\n").startswith(b"VALUE")
    primary.start(primary.port)
    wait_for(lambda: primary.item_count() > 100, "some copies",
             pause=0)
    magent.step(step)
    assert primary.item_count() < len(keys)
    wait_for(lambda: states(magent) == ["up", "up"], "the rebuild")
    lives = [life(primary, key) for key in keys[::10]]
    assert 60 * DAY - 60 < min(lives) <= max(lives) < 60 * DAY + 10


def life(server, key):
    """Seconds that it has to live; -1: for ever."""
    reply = server.talk(b"mg %s t\r\n" % key)
    return int(reply.split()[1][1:])
