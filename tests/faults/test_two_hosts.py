"""Two hosts share an address, with keepalived and magent on each: the master
fails, the address moves, and clients that connect again go on.

Each row is a scene under load: something happens to the master, a server fails
before or meanwhile, both come back, the address moves once more, and in the end
the partner of the server fails, so that clients read what the returned one
holds.
"""
import os
import shutil

import pytest

from faults import can_isolate
from lib.servers import sanitized
from moves import EVENTS, Row, Tutorial, TwoHosts
from takeover import AWAY

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        shutil.which("keepalived") is None or not can_isolate(),
        reason="needs keepalived and network namespaces")]

TABLE = [
    Row("killed", "backup", "no fault", "MSR"),
    Row("killed", "primary", "hung", "FKMSBR"),
    Row("killed", "backup", "restarted", "MFSRB"),
    Row("stopped", "backup", "no fault", "MSR"),
    Row("stopped", "primary", "restarted", "FKMSBR"),
    Row("stopped", "backup", "hung", "MFSRB"),
    Row("unplugged from clients", "primary", "hung", "FKMSRB"),
    Row("cut off from clients", "backup", "no fault", "MSR"),
    Row("cut off from clients", "backup", "restarted", "MFSBR"),
    Row("cut off from servers", "backup", "no fault", "MSR"),
    Row("cut off from servers", "primary", "restarted", "FKMSBR"),
    Row("cut off from both", "backup", "no fault", "MSR"),
    Row("cut off from both", "backup", "hung", "MFSRB")]


def cases(rows):
    """scripts/two-hosts has all of them; some are enough for each change."""
    if "ALL_ROWS" not in os.environ:
        rows = rows[::4] if sanitized() else rows[::2]
    return [pytest.param(row, id="-".join(row).replace(" ", "_"))
            for row in rows]


FLAPS = "keepalived ended", "unplugged from clients", "check failed"


def test_address_that_flaps_ten_times_does_no_harm(stage):
    """No server has failed for any of the magents."""
    scene = TwoHosts(stage, primaries=2)
    scene.start_load()
    failures = [scene.failures(number) for number in range(2)]
    for _ in range(10):
        first = scene.master
        name = scene.dice.choice(FLAPS)
        scene.move(name)
        scene.load.work(AWAY)
        scene.bring_back(first, name)
    assert [scene.failures(number) for number in range(2)] == failures
    scene.wait_up(numbers=[0, 1])
    scene.lose_partner(scene.dice.choice(("primary", "backup")))
    scene.check()


@pytest.mark.parametrize("row", cases(TABLE))
def test_address_moves_and_clients_that_connect_again_go_on(stage, row):
    scene = TwoHosts(stage)
    errors = EVENTS[row.event].errors
    scene.start_load(lossy=errors, noreply=not errors)
    scene.play(row)
    scene.turn_back()
    scene.lose_partner(row.victim)
    scene.check()


@pytest.mark.parametrize("event", ["unplugged from clients",
                                   "keepalived ended"])
def test_magent_that_keepalived_starts_and_kills(stage, event):
    """As old tutorials have it: magent is at the shared address only, and is
    started when that has come."""
    scene = Tutorial(stage)
    scene.start_load()
    scene.move(event)
    scene.load.work(AWAY)
    scene.wait_up()
    scene.bring_back(0, event)
    scene.load.work(AWAY)
    scene.wait_up()
    scene.lose_partner("backup")
    scene.check()
