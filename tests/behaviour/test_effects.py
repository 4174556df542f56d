"""What the mirror gets is what the authority has done, where its reply alone
does not say that: stale and won items, items that may have been made, times of
day, an append without room.
"""
import os
import struct
import tempfile
import time

import pytest

from differential import Names, first_difference
from lib.net import wait_for
from lib.servers import Memcached, built
from lib.way import wait_for_states


@pytest.fixture(scope="module")
def trio(module_stage):
    primary, backup = module_stage.memcacheds(2)
    magent = module_stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    return primary, backup, magent


def settle(magent, mirror):
    """Wait for all effects, and for the repairs of mismatches."""
    for i in range(2):
        text = b"%d.%d" % (i, time.monotonic_ns())
        magent.talk(b"set barrier 0 0 %d\r\n%s\r\n" % (len(text), text))
        wait_for(lambda: text in mirror.talk(b"get barrier\r\n"), "the mirror")


def same(one, other):
    """But for a second of a TTL."""
    return first_difference(one, other, Names()) is None


def look(server, key):
    """All of an item; whoever looks wins one that is stale."""
    return server.talk(b"mg %s s f v t\r\nmg %s s f v t\r\n" % (key, key))


SEQUENCES = {
    "invalidated": [b"ms K 1 F3\r\nx\r\n", b"md K I T300\r\n"],
    "invalidated, won": [
        b"set K 0 0 1\r\nx\r\n", b"md K I\r\n", b"mg K v\r\n"],
    "invalidated twice": [
        b"set K 0 0 1\r\nx\r\n", b"md K I\r\n", b"mg K\r\n", b"md K I T9\r\n"],
    "invalidated and replaced": [
        b"ms K 1\r\nx\r\n", b"md K I\r\n", b"ms K 1\r\ny\r\n"],
    "a missing one invalidated": [b"md K I T30\r\n"],
    "made by mg": [b"mg K N300 v\r\n"],
    "made by mg with T": [b"mg K N300 T400 v\r\n"],
    "made, and set": [b"mg K N300\r\n", b"ms K 1\r\nx\r\n"],
    "made with R": [b"mg K N300 R30\r\n"],
    "won with R": [b"ms K 1 F2 T20\r\nx\r\n", b"mg K N300 R30 v\r\n"],
    "not won with R": [b"ms K 1 F2 T200\r\nx\r\n", b"mg K N300 R30 v\r\n"],
    "won with R, in T's order": [b"ms K 1\r\nx\r\n", b"mg K T20 R30\r\n"],
    "won with R over 30 days": [
        b"ms K 1 T2591990\r\nx\r\n", b"mg K R2591995\r\n"],
    "ma that counts": [b"ms K 1 F9\r\n5\r\n", b"ma K N300 J6\r\n"],
    "ma that makes": [b"ma K N300 J6\r\n", b"ma K N300 J6 q\r\n"],
    "ma that makes with T": [b"ma K T50 N300 J6\r\n"],
    "ma that makes, base64": [b"ma S0s= b N300 J6\r\n"],
    "append that makes, or not": [
        b"ms K 1 MA N300 F5\r\nx\r\n", b"ms K 1 MP N9\r\ny\r\n"],
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("in_one_packet", [False, True])
def test_both_servers_hold_what_one_memcached_would(trio, stage, name,
                                                    in_one_packet):
    primary, backup, magent = trio
    lone = stage.memcached()
    key = b"KK" if "base64" in name else b"k%d" % time.monotonic_ns()
    magent.talk(b"delete %s\r\n" % key)
    commands = [c.replace(b"K ", key + b" ") for c in SEQUENCES[name]]
    if in_one_packet:
        commands = [b"".join(commands)]
    for command in commands:
        assert same(magent.talk(command), lone.talk(command))
    settle(magent, backup)
    wanted = look(lone, key)
    assert same(wanted, look(primary, key)), look(primary, key)
    assert same(wanted, look(backup, key)), look(backup, key)


def test_stale_value_is_stored_as_stale_on_both_servers(trio):
    primary, backup, magent = trio
    magent.talk(b"set s 0 100 1\r\n1\r\n")
    token = magent.talk(b"gets s\r\n").split()[4]
    magent.talk(b"md s I\r\n")
    command = b"ms s 1 C%s I F7 T500\r\n2\r\n" % token
    assert magent.talk(command) == b"HD\r\n"
    settle(magent, backup)
    for server in primary, backup:
        assert server.talk(b"mg s f v\r\nmg s v\r\n") == (
            b"VA 1 f7 X W\r\n2\r\nVA 1 Z X\r\n2\r\n")
    token = magent.talk(b"gets s\r\n").split()[4]
    assert magent.talk(b"ms s 1 C%s I T500\r\n3\r\n" % token) == b"HD\r\n"
    settle(magent, backup)
    for server in primary, backup:
        assert server.talk(b"mg s v\r\n") == b"VA 1\r\n3\r\n"


@pytest.mark.parametrize("command, has", [
    (b"ma m N0 J5 D1 v\r\n", b"EN\r\n"),
    (b"mg m N0 R30\r\n", b"EN\r\n"),
    (b"md m I\r\n", b"EN\r\n")])
def test_mirror_that_lacks_the_key_makes_no_other_one(trio, command, has):
    primary, backup, magent = trio
    magent.talk(b"set m 0 20 3\r\n100\r\n")
    settle(magent, backup)
    backup.talk(b"delete m\r\n")
    magent.talk(command)
    settle(magent, backup)
    found = backup.talk(b"mg m v\r\n")
    # It may have been copied meanwhile.
    assert found == has or found == primary.talk(b"mg m v\r\n")


def test_item_that_only_the_mirror_has_is_gone_when_one_is_made(trio):
    primary, backup, magent = trio
    for command, value in ((b"mg o N90 v\r\n", b""),
                           (b"ma o N90 J7\r\n", b"7")):
        magent.talk(b"set o 3 0 3\r\n100\r\n")
        settle(magent, backup)
        primary.talk(b"delete o\r\n")
        magent.talk(command)
        settle(magent, backup)
        assert backup.talk(b"get o\r\n") == (
            b"VALUE o 0 %d\r\n%s\r\nEND\r\n" % (len(value), value))


def test_pipelined_commands_do_not_overtake_one_that_is_sent_twice(trio):
    magent = trio[2]
    keys = [b"p%d.%d" % (i, time.monotonic_ns()) for i in range(50)]
    commands = [b"ma %s N0 J5 v\r\nmg %s v\r\nget %s\r\nincr %s 2\r\n"
                b"ma %s N0 J5 v q\r\n" % (k, k, k, k, k) for k in keys]
    replies = [b"VA 1\r\n5\r\nVA 1\r\n5\r\nVALUE %s 0 1\r\n5\r\nEND\r\n7\r\n" % k
               for k in keys]
    assert magent.talk(b"".join(commands)) == b"".join(replies)


def test_append_without_room_on_the_mirror_deletes_the_key_there(stage):
    primary = stage.memcached()
    backup = stage.memcached("-I", "512k")
    magent = stage.magent([primary], [backup], "-t", 5000)
    for word in b"append", b"prepend":
        for command in b"set", word:
            assert magent.talk(b"%s k 0 0 300000\r\n%s\r\n" % (
                command, b"x" * 300000)) == b"STORED\r\n"
        settle(magent, backup)
        assert backup.talk(b"get k\r\n") == b"END\r\n"


class Off(Memcached):
    """Its clock is so many seconds ahead."""

    def __init__(self, seconds):
        super().__init__()
        self.file = tempfile.NamedTemporaryFile()
        self.file.write(struct.pack("=q", seconds))
        self.file.flush()
        self.environment = dict(
            os.environ, CLOCK=self.file.name,
            LD_PRELOAD=built("clock", "-shared", "-fPIC", "-ldl"))

    def close(self):
        super().close()
        self.file.close()


@pytest.mark.parametrize("ahead", [20, -20, 100000])
def test_time_of_day_is_as_far_away_on_a_mirror_with_another_clock(stage, ahead):
    primary, backup = stage.memcached(), stage.add(Off(ahead)).start()
    magent = stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    date = int(primary.stats()["time"]) + 15
    commands = {
        b"set": b"set %s 0 DATE 1\r\n1\r\n", b"touch": b"touch %s DATE\r\n",
        b"gat": b"gat DATE %s\r\n", b"ms": b"ms %s 1 TDATE\r\n1\r\n",
        b"mg": b"mg %s TDATE\r\n", b"ma": b"ma %s TDATE\r\n",
        b"md": b"md %s I TDATE\r\n", b"made": b"mg %s NDATE\r\n",
        b"number": b"ma %s NDATE t\r\n"}
    for key, command in commands.items():
        if key not in (b"made", b"number"):
            magent.talk(b"set %s 0 0 1\r\n1\r\n" % key)
        magent.talk((command % key).replace(b"DATE", b"%d" % date))
    past = b"set past 0 %d 1\r\n1\r\n" % (date - 30)
    assert magent.talk(past) == b"STORED\r\n"
    settle(magent, backup)
    for key in commands:
        left = int(backup.talk(b"mg %s t\r\n" % key).split()[1][1:])
        assert left == pytest.approx(date - int(primary.stats()["time"]), abs=3)
    assert backup.talk(b"get past\r\n") == b"END\r\n"


def test_step_whose_server_failed_is_begun_anew_at_the_other_one(stage):
    def fail(link, line, _):
        if line.startswith(b"ms k"):
            link.reset()
            return b""
        return None     # NF to the ma

    primary, backup = stage.fake(fail), stage.memcached()
    backup.talk(b"set k 5 0 2\r\n41\r\n")
    magent = stage.magent([primary], [backup])
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"ma k N0 J5 v Oab k t\r\n") == (
        b"VA 2 Oab kk t-1\r\n42\r\n")
    assert [c for c in primary.commands if b" k " in c] == [
        b"ma k v Oab k t\r\n", b"ms k 1 ME c T0\r\n5\r\n"]


@pytest.mark.parametrize("version, reply, others", [
    ("1.6.45", b"HD\r\n", [b"ms k 1 ME F5 T60\r\nx\r\n"]),
    ("1.6.18", b"NS\r\n", [])])
def test_append_with_n_is_tried_without_and_then_made(
        stage, version, reply, others):
    def script(_, line, __):
        return b"NS\r\n" if b"MA F5" in line else None

    primary = stage.fake(script, version=version)
    magent = stage.magent([primary], [stage.memcached()])
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"ms k 1 MA N60 F5\r\nx\r\n") == reply
    assert [c for c in primary.commands if c.startswith(b"ms k ")] == [
        b"ms k 1 MA F5\r\nx\r\n"] + others
