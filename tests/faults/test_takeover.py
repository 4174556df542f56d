"""A magent dies, stops or is left while a server is away: what it knew of that
server is known to the one that clients use next.

Each row is a scene under load: a server fails, then its magents do, the server
returns, and when all is up its partner fails, so that clients read what the
returned one holds.
"""
import pytest

from faults import Isolated, Load, can_isolate
from lib.servers import sanitized
from takeover import AWAY, FAULTS, LOAD, READS, Row, Takeover

needs_network = pytest.mark.skipif(
    not can_isolate(), reason="cannot make network namespaces")

SERVER_FAULTS = [fault for fault in FAULTS
                 if fault not in ("no fault", "active cut off")]
EVENTS = ("killed", "there and back", "fresh standby", "restarted",
          "both restarted")
ROLES = "primary", "backup"

# No magent fails.
QUIET = [Row("pair", ROLES[i % 2], fault, "no event", "FKB")
         for i, fault in enumerate(SERVER_FAULTS)]

# Two of three: scripts/soak --two-magents plays all of them.
TABLE = [Row("pair", ROLES[(i + j) % 2], fault, event)
         for i, fault in enumerate(SERVER_FAULTS)
         for j, event in enumerate(EVENTS) if (i + j) % 3 != 2]

# A magent that is stopped may go on while all is well, and while the server
# that it knows to be behind is the only one.
TABLE += [Row("pair", ROLES[i % 2], fault, "stopped longer" if i % 2 else
              "stopped") for i, fault in enumerate(SERVER_FAULTS)]

TABLE += [Row("pair", victim, fault, "standby restarted")
          for victim, fault in (("primary", "hung"), ("backup", "restarted"),
                                ("primary", "cut off from standby"))]

# No server fails: a magent that is killed may have been about to send something
# to one of the pair.
TABLE += [Row("pair", victim, "no fault", event, "M")
          for victim, event in (("backup", "killed"), ("primary", "killed"),
                                ("backup", "stopped"), ("primary", "move"),
                                ("backup", "restarted"))]

# Nobody may know of the fault yet.
TABLE += [Row("pair", ROLES[i % 2], fault, event, "FMB")
          for i, (fault, event) in enumerate((
              ("hung", "killed"), ("restarted", "killed"),
              ("hung", "restarted"), ("cut off", "stopped longer")))]

# The server returns before the magent fails, or fails after it.
TABLE += [Row("pair", "primary", "hung", "killed", "FKBM"),
          Row("pair", "backup", "restarted", "killed", "FKBM"),
          Row("pair", "backup", "hung", "restarted", "FKBM"),
          Row("pair", "primary", "cut off", "move", "FKBM"),
          Row("pair", "primary", "hung", "killed", "MFB"),
          Row("pair", "backup", "restarted", "stopped", "MFB"),
          Row("pair", "primary", "hung", "there and back", "MFB")]

# The host of a magent has lost its network, and is back while another one
# serves: what was under way in it is worth nothing.
TABLE += [Row("pair", victim, "active cut off", "move", "FMB")
          for victim in ROLES]

TABLE += [Row("three", "primary", "hung", "killed"),
          Row("three", "backup", "restarted", "killed"),
          Row("three", "backup", "hung", "move"),
          Row("crossed", "primary", "hung", "killed"),
          Row("crossed", "backup", "cut off from active", "stopped longer"),
          Row("crossed", "backup", "hung", "there and back"),
          Row("crossed", "backup", "restarted", "restarted")]

# One magent, killed and started again.
ALONE = [Row("alone", victim, fault, "restarted") for victim, fault in (
    ("primary", "hung"), ("backup", "hung"), ("primary", "restarted"),
    ("backup", "restarted"), ("primary", "cut off"), ("backup", "given away"))]


def cases(rows):
    """Of a table, some rows are enough where all is slow."""
    rows = rows[::3] if sanitized() else rows
    return [pytest.param(row, id="-".join(row).replace(" ", "_"), marks=(
        needs_network if FAULTS[row.fault].kind is Isolated else ()))
        for row in rows]


def play(stage, row, numbers=None, **load):
    scene = Takeover(stage, row.layout, FAULTS[row.fault].kind)
    scene.start_load(**load)
    scene.play(row, numbers)
    scene.lose_partner(row)
    scene.check()


@pytest.mark.parametrize("row", cases(QUIET))
def test_server_that_fails_before_two_magents_returns_whole(stage, row):
    """When both say so.  Each of them fills the server: the one may empty it
    when the other one has filled it."""
    play(stage, row, numbers=[0, 1])


@pytest.mark.parametrize("row", cases(TABLE))
def test_server_that_was_away_during_fault_of_magent_returns_whole(stage, row):
    play(stage, row)


@pytest.mark.parametrize("row", cases(ALONE))
def test_server_that_was_away_during_restart_of_magent_returns_whole(
        stage, row):
    play(stage, row)


@pytest.mark.parametrize("layout", ["alone", "three"])
def test_magent_that_is_killed_again_and_again_leaves_no_old_value(
        stage, layout):
    """Each time under load, and the next one is there at once."""
    row = Row(layout, "backup", "no fault", "restarted")
    scene = Takeover(stage, row.layout, FAULTS[row.fault].kind)
    scene.start_load()
    for _ in range(10 if sanitized() else 50):
        scene.load.work(scene.dice.randrange(600))
        scene.restart()
    # The first request is what has magent look for marks of others.
    scene.load.work(AWAY)
    scene.wait_up()
    for primary in scene.primaries:
        scene.note("kill of %s" % scene.name(primary))
        primary.kill()
    scene.load.work(READS)
    scene.check()


def test_flush_all_before_the_fault_of_a_magent_is_not_undone(stage):
    """The values of before are not there again, on any server."""
    row = Row("pair", "primary", "hung", "killed")
    scene = Takeover(stage, row.layout, FAULTS[row.fault].kind)
    scene.start_load(flush=0.2)
    scene.load.work(READS)
    scene.load.flush(False)
    scene.play(row)
    scene.lose_partner(row)
    assert scene.check().flushes > 0


def turning_load(stage, first, second):
    """The verdict on a load that turns to another memcached and back."""
    load = stage.add(Load(first, **LOAD))
    for server in second, first:
        load.work(READS)
        load.turn_to(server)
    load.work(READS)
    return load.end()


def test_checker_finds_nothing_when_clients_turn_to_the_same_memcached(stage):
    server = stage.memcached()
    verdict = turning_load(stage, server, server)
    assert verdict.faultless(), (verdict.complaints[:4000], verdict.report)


def test_checker_finds_clients_that_turn_to_another_memcached(stage):
    verdict = turning_load(stage, *stage.memcacheds(2))
    assert verdict.anomalies > 0 and verdict.closed == verdict.errors == 0
    assert "-> -" in verdict.report
