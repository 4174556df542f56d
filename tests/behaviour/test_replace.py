"""SIGHUP: another program, or other options, without closing a connection."""
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from lib.daemon import Run, needs_root, refuses
from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT, TROUBLE, Magent, sanitized
from lib.stamps import Bond
from lib.way import states

TAKEN_OVER = re.compile(r"has taken over (\d+) clients")
REFUSED = re.compile(r"cannot be replaced: (.*); this program goes on")


class Replaceable(Magent):
    """Its options are in a file; its program may be another one."""

    def __init__(self, primaries, backups, path, *options):
        super().__init__(primaries, backups, *options)
        self.path = path
        self.program = MAGENT
        self.other_options = []

    def command(self):
        words = super().command()
        words[0] = str(self.program)
        if not self.path.exists():
            self.say()
        return [*words, "-c", str(self.path)]

    def say(self, *lines):
        self.path.write_text("".join("%s\n" % line for line in lines))

    def replacements(self):
        return len(TAKEN_OVER.findall(self.output()))

    def replace(self):
        """HUP; the number of clients that were taken over."""
        before = self.replacements()
        self.signal(signal.SIGHUP)
        wait_for(lambda: self.replacements() > before or
                 not self.is_running(), "a replacement")
        assert self.is_running(), self.output()
        return int(TAKEN_OVER.findall(self.output())[-1])

    def refuse(self):
        """HUP; why it was refused."""
        before = len(REFUSED.findall(self.output()))
        self.signal(signal.SIGHUP)
        wait_for(lambda: len(REFUSED.findall(self.output())) > before,
                 "a refusal")
        return REFUSED.findall(self.output())[-1]


@pytest.fixture
def place(stage, tmp_path):
    """Starts a magent that may be replaced."""
    def start(primaries, backups=(), *options):
        return stage.add(Replaceable(primaries, backups, tmp_path / "options",
                                     *options)).start()
    return start


@pytest.fixture
def movable(stage, tmp_path):
    """Starts a magent whose program is a copy, to be taken away."""
    def start(*options):
        primary, backup = stage.memcacheds(2)
        magent = Replaceable([primary], [backup], tmp_path / "options",
                             *options)
        magent.program = tmp_path / "magent"
        shutil.copy(MAGENT, magent.program)
        return stage.add(magent).start()
    return start


@pytest.fixture
def trio(stage, place):
    primary, backup = stage.memcacheds(2)
    return place([primary], [backup], "-v"), primary, backup


# Clients

def test_clients_stay_and_so_do_process_and_counters(stage, trio):
    magent, _, _ = trio
    clients = [stage.client(magent) for _ in range(5)]
    for i, client in enumerate(clients):
        assert client.ask(b"set k%d 0 0 1\r\n%d\r\n" % (i, i)) == b"STORED\r\n"
    before = magent.stats()
    assert magent.replace() == len(clients)
    after = magent.stats()
    for name in "pid", "cmd_set", "total_items":
        assert after[name] == before[name], name
    assert int(after["total_connections"]) == int(
        before["total_connections"]) + 1
    assert int(after["uptime"]) >= int(before["uptime"])
    for i, client in enumerate(clients):
        assert client.talk(b"get k%d\r\n" % i) == (
            b"VALUE k%d 0 1\r\n%d\r\nEND\r\n" % (i, i))
    servers = magent.stats("servers")
    assert int(servers["0:requests"]) > 5 and servers["0:failures"] == "0"


def test_replacements_and_refusals_are_counted_from_program_to_program(trio):
    """As memcached's proxy counts the reloads of its configuration: all of
    them, and those that have failed; stats reset leaves them."""
    magent, _, _ = trio

    def reloads():
        stats = magent.stats()
        return [stats["proxy_config_" + name]
                for name in ("reloads", "reload_fails")]

    assert reloads() == ["0", "0"]
    magent.replace()
    assert reloads() == ["1", "0"]
    magent.say("nonsense = 1")
    magent.refuse()
    assert reloads() == ["2", "1"]
    magent.say()
    magent.replace()
    assert reloads() == ["3", "1"]
    assert magent.talk(b"stats reset\r\n") == b"RESET\r\n"
    assert reloads() == ["3", "1"]


def test_it_can_be_replaced_again_and_again(stage, trio):
    magent, _, _ = trio
    client = stage.client(magent)
    for i in range(1, 11):
        magent.replace()
        assert client.ask(b"incr n 1\r\n" if i > 1 else
                          b"set n 0 0 1\r\n1\r\n") in (
            b"STORED\r\n", b"%d\r\n" % i)
    assert magent.stats()["curr_connections"] == "2"


@pytest.mark.parametrize("size", [10, 5000, 900000])
def test_half_of_a_command_is_kept(stage, trio, size):
    magent, _, _ = trio
    client = stage.client(magent)
    value = os.urandom(size // 2) + b"\r\n" * (size // 4)
    command = b"set k 7 0 %d\r\n%s\r\n" % (len(value), value)
    half = len(command) // 2
    client.send(command[:half])
    wait_for(lambda: int(magent.stats()["bytes_read"]) >= half, "the half")
    magent.replace()
    client.send(command[half:] + b"get k\r\n")
    assert client.read_line() == b"STORED\r\n"
    assert client.read_until(b"\r\nEND\r\n") == (
        b"VALUE k 7 %d\r\n%s\r\nEND\r\n" % (len(value), value))


def test_value_that_is_thrown_away_goes_on_to_its_end(stage, trio):
    magent, _, _ = trio
    client = stage.client(magent)
    size = 5 << 20
    client.send(b"set k 0 0 %d\r\n" % size + bytes(size // 2))
    assert client.read_line().startswith(b"SERVER_ERROR")
    magent.replace()
    client.send(bytes(size - size // 2) + b"\r\nmn\r\n")
    assert client.read_line() == b"MN\r\n"


def test_output_that_is_not_taken_is_kept(stage, trio):
    """A client asks for 40 MB, and takes nothing until then."""
    magent, _, _ = trio
    value = bytes(range(256)) * 2000
    assert magent.talk(b"set big 0 0 %d\r\n%s\r\n" % (
        len(value), value)) == b"STORED\r\n"
    client = stage.client(magent, receive_buffer=1 << 16)
    client.send(b"get big\r\n" * 80 + b"mn\r\nquit\r\n")

    def waits():
        with magent.client() as asking:
            asking.send(b"stats conns\r\n")
            text = asking.read_until(b"END\r\n")
        return any(int(n) > 100000
                   for n in re.findall(rb"backlog (\d+)", text))

    wait_for(waits, "output to be left")
    for _ in range(3):
        magent.replace()
    for _ in range(80):
        assert client.read_line() == b"VALUE big 0 %d\r\n" % len(value)
        right = client.read_exactly(len(value)) == value
        assert right
        assert client.read_exactly(7) == b"\r\nEND\r\n"
    assert client.read_to_end() == b"MN\r\n"


@pytest.mark.parametrize("name", [b"get", b"gets", b"gat 0"])
def test_get_of_many_keys_goes_on_between_two_rounds(stage, trio, name):
    magent, _, _ = trio
    values = {b"k%d" % i: b"%d" % (i % 10) * 200000 for i in range(40)}
    for key, value in values.items():
        assert magent.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
            key, len(value), value)) == b"STORED\r\n"
    keys = list(values) * 4
    client = stage.client(magent, receive_buffer=1 << 16)
    client.send(b"%s %s\r\nmn\r\n" % (name, b" ".join(keys)))
    for i, key in enumerate(keys):
        head = client.read_line().split()
        assert head[:4] == [b"VALUE", key, b"0", b"200000"]
        right = client.read_exactly(200002) == values[key] + b"\r\n"
        assert right
        if i in (0, 3, 20, 50, 90):
            magent.replace()
    assert client.read_exactly(9) == b"END\r\nMN\r\n"


def test_client_that_has_half_closed_gets_all_of_its_get(stage, trio):
    """Between two rounds, and its end has been seen."""
    magent, _, _ = trio
    value = b"v" * 200000
    keys = [b"k%d" % i for i in range(100)]
    for key in keys:
        assert magent.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
            key, len(value), value)) == b"STORED\r\n"
    client = stage.client(magent, receive_buffer=1 << 16)
    client.send(b"get %s\r\n" % b" ".join(keys))
    client.half_close()
    for i, key in enumerate(keys):
        assert client.read_line() == b"VALUE %s 0 %d\r\n" % (key, len(value))
        right = client.read_exactly(len(value) + 2) == value + b"\r\n"
        assert right
        if i in (0, 10, 40):
            magent.replace()
    assert client.read_to_end() == b"END\r\n"


def test_quiet_and_silent_commands_are_carried_out_once(stage, trio):
    magent, primary, _ = trio
    client = stage.client(magent)
    assert client.ask(b"set n 0 0 1\r\n0\r\n") == b"STORED\r\n"
    for _ in range(5):
        client.send(b"incr n 1 noreply\r\nma n q\r\nmg none q v\r\n" * 500)
        magent.replace()
    client.send(b"mn\r\n")
    assert client.read_line() == b"MN\r\n"
    assert primary.talk(b"get n\r\n") == b"VALUE n 0 4\r\n5000\r\nEND\r\n"


class Worker(threading.Thread):
    """Pipelines of many commands about one number, each of whose answers is
    known."""

    def __init__(self, magent, number):
        super().__init__(daemon=True)
        self.client = Client(magent.port, timeout=30)
        self.key = b"w%d" % number
        self.ended = threading.Event()
        self.error = None
        self.rounds = 0
        self.longest = 0.0

    def run(self):
        try:
            assert self.client.ask(b"set %s 0 0 1\r\n0\r\n" % self.key) == (
                b"STORED\r\n")
            while not self.ended.is_set():
                began = time.monotonic()
                self.round()
                self.longest = max(self.longest, time.monotonic() - began)
        except Exception as error:      # shown by the test
            self.error = error

    def round(self):
        key, n = self.key, 5 * self.rounds
        self.client.send(
            b"incr %s 1\r\nincr %s 2 noreply\r\nget %s none\r\n"
            b"ma %s D2\r\nmg %s v\r\nset x%s 0 0 2\r\nab\r\ngets x%s\r\n"
            b"delete x%s\r\ntouch %s 0\r\nmn\r\n" % ((key,) * 9))
        expected = (b"%d\r\n" % (n + 1), b"VALUE %s 0 %d\r\n%d\r\nEND\r\n" % (
            key, len(b"%d" % (n + 3)), n + 3), b"HD\r\n", b"VA %d\r\n%d\r\n" % (
            len(b"%d" % (n + 5)), n + 5), b"STORED\r\n")
        for text in expected:
            got = self.client.read_exactly(len(text))
            # memcached keeps a number as long as it was, with spaces.
            assert got == text, (got, text)
        line = self.client.read_line()
        assert line.startswith(b"VALUE x%s 0 2 " % key), line
        rest = b"ab\r\nEND\r\nDELETED\r\nTOUCHED\r\nMN\r\n"
        assert self.client.read_exactly(len(rest)) == rest
        self.rounds += 1


class Visitor(Worker):
    """Comes, asks one thing, and goes."""

    def __init__(self, magent):
        super().__init__(magent, -1)
        self.port = magent.port

    def round(self):
        with Client(self.port, timeout=30) as client:
            assert client.ask(b"touch w-1 0\r\n") == b"TOUCHED\r\n"
        self.rounds += 1


def test_clients_under_load_notice_nothing(stage, place):
    """Nor do those that are idle, or that come meanwhile; and each number is
    counted once."""
    primaries, backups = stage.memcacheds(2), stage.memcacheds(1)
    magent = place(primaries, backups)
    idle = [stage.client(magent) for _ in range(100 if sanitized() else 1000)]
    workers = [Worker(magent, i) for i in range(20)]
    workers += [Visitor(magent) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(3 if sanitized() else 10):
        done = [worker.rounds for worker in workers]
        wait_for(lambda: all(worker.error or worker.rounds > before + 1
                             for worker, before in zip(workers, done)),
                 "each to work")
        magent.replace()
    for worker in workers:
        worker.ended.set()
    for worker in workers:
        worker.join(30)
        assert worker.error is None, repr(worker.error)
        worker.client.close()
    for client in idle:
        assert client.ask(b"mn\r\n") == b"MN\r\n"
    stats = magent.stats()
    assert stats["rejected_connections"] == "0"
    assert stats["uncovered_pairs"] == "0" and stats["failovers"] == "0"


# What is known of servers

def test_dirty_keys_are_known_to_the_next_program(stage, trio):
    magent, primary, backup = trio
    magent.talk(b"".join(b"set k%d 0 0 3 noreply\r\nold\r\n" % i
                         for i in range(1000)))
    primary.stop()
    assert magent.talk(b"set k1 0 0 3\r\nnew\r\ndelete k2\r\n") == (
        b"STORED\r\nDELETED\r\n")
    wait_for(lambda: states(magent) == ["down", "up"], "the failure")
    magent.replace()
    wait_for(lambda: states(magent)[1] == "up", "the other one to be up")
    assert magent.stats("servers")["0:dirty_keys"] == "2"
    assert magent.talk(b"get k1 k2\r\n") == (
        b"VALUE k1 0 3\r\nnew\r\nEND\r\n")
    primary.cont()
    wait_for(lambda: states(magent) == ["up", "up"], "the return")
    copied = re.findall(r"(\d+) keys copied", magent.output())
    assert copied == ["1"]
    assert primary.talk(b"get k1 k2 k3\r\n") == (
        b"VALUE k1 0 3\r\nnew\r\nVALUE k3 0 3\r\nold\r\nEND\r\n")


def test_what_a_hung_server_was_sent_is_waited_for_by_the_next_program(
        stage, place):
    """It carries out a write of before when it goes on."""
    primary, backup = stage.memcacheds(2)
    magent = place([primary], [backup])
    assert magent.talk(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    primary.stop()
    client = stage.client(magent)
    assert client.ask(b"set k 0 0 1\r\n2\r\n") in (
        b"STORED\r\n", b"SERVER_ERROR no server is up for this key\r\n")
    wait_for(lambda: states(magent) == ["down", "up"], "the failure")
    assert client.ask(b"set k 0 0 1\r\n3\r\n") == b"STORED\r\n"
    magent.replace()
    primary.cont()
    wait_for(lambda: states(magent) == ["up", "up"], "the return")
    assert client.talk(b"get k\r\n") == b"VALUE k 0 1\r\n3\r\nEND\r\n"
    assert primary.talk(b"get k\r\n") == b"VALUE k 0 1\r\n3\r\nEND\r\n"


def test_rebuild_begins_again(stage, place):
    primary, backup = stage.memcacheds(2)
    magent = place([primary], [backup], "-t", 2000)
    n = 30000
    primary.talk(b"".join(b"set k%d 0 0 1 noreply\r\n1\r\n" % i
                          for i in range(n)))
    backup.restart()
    wait_for(lambda: states(magent)[1] == "rebuild", "the rebuild")
    magent.replace()
    wait_for(lambda: states(magent) == ["up", "up"], "the rebuild", 60)
    assert backup.item_count() == n
    assert magent.talk(b"get k1\r\n") == b"VALUE k1 0 1\r\n1\r\nEND\r\n"


def test_server_that_is_lost_meanwhile_is_known_to_be(stage, place):
    """It was restarted, empty, while there was no program."""
    primary, backup = stage.memcacheds(2)
    magent = place([primary], [backup])
    assert magent.talk(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    primary.kill()
    magent.replace()
    primary.start(primary.port)
    wait_for(lambda: states(magent) == ["up", "up"], "the return")
    assert magent.talk(b"get k\r\n") == b"VALUE k 0 1\r\n1\r\nEND\r\n"
    assert primary.talk(b"get k\r\n") == b"VALUE k 0 1\r\n1\r\nEND\r\n"


def test_mirror_that_lags_is_waited_for(stage, place):
    """It takes 5 ms for each write, and some are on their way."""
    def lags(_link, line, _data):
        if line.startswith((b"set k", b"ms k")):
            time.sleep(0.005)

    primary, backup = stage.memcached(), stage.fake(lags)
    magent = place([primary], [backup], "-t", 5000)
    client = stage.client(magent)
    client.send(b"".join(b"set k%d 0 0 1\r\n1\r\n" % i for i in range(100)))
    assert client.read_line() == b"STORED\r\n"
    magent.replace()
    for _ in range(99):
        assert client.read_line() == b"STORED\r\n"
    assert "cannot be replaced" not in magent.output()


def test_flush_all_that_is_to_come_comes(stage, trio):
    magent, primary, backup = trio
    client = stage.client(magent)
    assert client.ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
    assert client.ask(b"flush_all 3\r\n") == b"OK\r\n"
    magent.replace()
    magent.replace()
    assert client.talk(b"get k\r\n") == b"VALUE k 0 1\r\n1\r\nEND\r\n"
    for server in magent, primary, backup:
        wait_for(lambda: server.talk(b"get k\r\n") == b"END\r\n",
                 "the flush_all")
    assert "is lost" not in magent.output()


# Options

def test_new_options_are_in_force(stage, trio):
    magent, _, _ = trio
    client = stage.client(magent)
    magent.say("max-clients 1", "item-size 2m", "timeout 500")
    magent.replace()
    client.send(b"stats settings\r\n")
    text = client.read_until(b"END\r\n")
    assert b"STAT item_size_max 2097152\r\n" in text
    with magent.client() as other:
        assert other.read_to_end() == (
            b"ERROR Too many open connections\r\n")
    assert client.ask(b"mn\r\n") == b"MN\r\n"


def test_new_port_is_bound_and_the_old_one_closed(stage, trio, tmp_path):
    magent, _, _ = trio
    client = stage.client(magent)
    path = tmp_path / "socket"
    magent.say("socket %s" % path)
    magent.replace()
    with Client(path) as local:
        assert local.ask(b"mn\r\n") == b"MN\r\n"
    magent.say()
    magent.replace()
    assert not path.exists()
    assert client.ask(b"mn\r\n") == b"MN\r\n"


# What is refused

def test_wrong_options_are_refused_in_one_line(stage, trio):
    magent, _, _ = trio
    client = stage.client(magent)
    for lines, why in (
            (["timeout never"], "options:1: timeout never: "),
            (["nonsense 1"], "options:1: nonsense 1: no such option"),
            (["item-size 900m"], "-I "),
            (["group nobody-there"],
             "-g nobody-there: there is no such group"),
            (["log-file /nowhere/log"], "--log-file /nowhere/log: "),
            (["pid-file /nowhere/pid"],
             "-P /nowhere/pid: cannot write the pid file: "),
            (["ring magent"], "other servers than before")):
        magent.say(*lines)
        assert why in magent.refuse(), lines
        assert client.ask(b"mn\r\n") == b"MN\r\n"
    magent.path.unlink()
    assert "options: " in magent.refuse()
    magent.say()
    magent.replace()
    assert client.ask(b"mn\r\n") == b"MN\r\n"


def test_address_that_is_taken_is_refused(stage, trio, tmp_path):
    magent, _, _ = trio
    client = stage.client(magent)
    path = tmp_path / "taken"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        magent.say("socket %s" % path)
        assert "cannot listen on %s: " % path in magent.refuse()
    assert client.ask(b"mn\r\n") == b"MN\r\n"


def test_broken_program_is_refused(stage, movable, tmp_path):
    magent = movable()
    client = stage.client(magent)
    saved = tmp_path / "saved"
    magent.program.rename(saved)
    assert "No such file" in magent.refuse()
    for text, mode, why in (
            ("not a program", 0o755, "Exec format error"),
            ("#!/bin/sh\nkill -9 $$\n", 0o755, "died"),
            ("#!/bin/sh\nexit 0\n", 0o755, "does not say ok"),
            ("#!/bin/sh\necho broken >&2; exit 1\n", 0o755, "broken")):
        magent.program.write_text(text)
        magent.program.chmod(mode)
        assert why in magent.refuse(), text
        assert client.ask(b"mn\r\n") == b"MN\r\n"
    magent.program.unlink()
    saved.rename(magent.program)
    magent.replace()
    assert client.ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


def test_program_that_says_nothing_is_not_waited_for_for_ever(
        stage, movable, tmp_path):
    """Nor is one that has closed its output, and goes on."""
    magent = movable()
    client = stage.client(magent)
    magent.program.unlink()
    script(magent.program, "exec >&- 2>&-\nexec sleep 100\n")
    assert "took too long" in magent.refuse()
    script(magent.program, "exec sleep 100\n")
    magent.signal(signal.SIGHUP)
    for _ in range(50):
        assert client.ask(b"mn\r\n") == b"MN\r\n"
        time.sleep(0.01)
    # The second one is for when the first is refused.
    magent.signal(signal.SIGHUP)
    shutil.copy(MAGENT, tmp_path / "good")
    (tmp_path / "good").rename(magent.program)
    wait_for(lambda: magent.replacements() == 1, "the replacement")
    assert len(REFUSED.findall(magent.output())) == 2
    assert client.ask(b"mn\r\n") == b"MN\r\n"


def test_end_before_it_is_ready_again_is_orderly(stage, place):
    """A server hangs, and is waited for."""
    primary, backup = stage.memcacheds(2)
    magent = place([primary], [backup], "-t", 3000)
    backup.stop()
    magent.replace()
    assert magent.replacements() == 1
    assert magent.terminate() == 0
    assert not TROUBLE.search(magent.output())
    magent.log.close()


def begin_rehearsal_without_end(magent, started):
    magent.program.unlink()
    script(magent.program, "touch %s\nexec sleep 100\n" % started)
    magent.signal(signal.SIGHUP)
    wait_for(started.exists, "the new program")


def test_end_does_not_wait_for_the_new_program(movable, tmp_path):
    magent = movable()
    begin_rehearsal_without_end(magent, tmp_path / "started")
    # The stage ends it, and sees that it says nothing but 0.


@pytest.mark.parametrize("delay", [0, 1])
def test_signal_to_end_while_the_new_program_is_tried_ends(
        movable, tmp_path, delay):
    """Also if clients are served for a while."""
    magent = movable("--shutdown-delay", delay)
    begin_rehearsal_without_end(magent, tmp_path / "started")
    magent.program.unlink()
    shutil.copy(MAGENT, magent.program)
    assert magent.terminate() == 0
    assert magent.replacements() == 0
    assert not TROUBLE.search(magent.output())
    magent.log.close()


def test_options_that_change_meanwhile_are_tried_again(stage, movable, tmp_path):
    magent = movable()
    client = stage.client(magent)
    saved, started = tmp_path / "saved", tmp_path / "started"
    magent.program.rename(saved)
    script(magent.program, "%s \"$@\"\ntouch %s\nsleep 0.3\n" % (
        saved, started))
    magent.signal(signal.SIGHUP)
    wait_for(started.exists, "the new program")
    # It has seen that the options are right.
    magent.say("timeout never")
    assert "does not say ok" in magent.refuse()
    assert client.ask(b"mn\r\n") == b"MN\r\n"
    magent.say()
    magent.program.unlink()
    saved.rename(magent.program)
    magent.replace()
    assert client.ask(b"mn\r\n") == b"MN\r\n"


# The process

def test_signal_before_it_is_ready_is_for_then(stage, place):
    """A server does not answer until then."""
    answer = threading.Event()
    fake = stage.fake()
    identity = fake.identity
    fake.identity = lambda line: answer.wait(20) and identity(line)
    magent = place([fake], (), "-t", 20000)
    wait_for(lambda: fake.links, "the server to be connected to")
    magent.signal(signal.SIGHUP)
    magent.signal(signal.SIGHUP)
    assert magent.replacements() == 0
    answer.set()
    wait_for(lambda: magent.replacements() == 1, "the replacement")
    wait_for(lambda: states(magent) == ["up"], "the server")


def hup(pid, count):
    """Send it, and wait until count() is higher."""
    before = count()
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: count() > before, "the replacement")


@pytest.mark.usefixtures("reaper")
def test_daemon_keeps_its_pid_file_and_its_lock(daemon, tmp_path):
    """The log file is named as it was seen from where magent was started."""
    path, options = tmp_path / "log", tmp_path / "options"
    options.write_text("log-file log\n")
    magent = daemon("-c", "options", cwd=tmp_path)

    def count():
        return len(TAKEN_OVER.findall(path.read_text()))

    for _ in range(3):
        with Client(magent.port) as client:
            hup(magent.pid, count)
            assert client.ask(b"mn\r\n") == b"MN\r\n"
    assert int(magent.pid_file.read_text()) == magent.pid
    second = subprocess.run(
        [*magent.command[:-2], "-D", "-p", "0", "-f", str(tmp_path / "s")],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert second.returncode == 75, second.stdout
    assert os.readlink("/proc/%d/cwd" % magent.pid) == "/"
    assert magent.terminate() == 0
    assert not magent.pid_file.exists()


@needs_root
@pytest.mark.usefixtures("reaper")
def test_user_may_not_open_again_what_root_has_opened(
        daemon, open_directory, tmp_path):
    """The log file, and the directory that it was started in."""
    log = open_directory / "log"
    tmp_path.chmod(0o700)
    magent = daemon("--log-file", log, user="nobody", cwd=tmp_path)
    log.chmod(0o600)
    for _ in range(2):
        hup(magent.pid, lambda: len(TAKEN_OVER.findall(log.read_text())))
    assert magent.serves()
    assert magent.terminate() == 0
    assert log.read_text().rstrip().endswith("stopped")


@pytest.mark.usefixtures("reaper")
def test_daemon_stays_one_that_logs_to_its_file(daemon, tmp_path):
    """verbose stands for the foreground, at a start."""
    options, log = tmp_path / "options", tmp_path / "log"
    options.write_text("log-file %s\n" % log)
    magent = daemon("-c", options)
    options.write_text("log-file %s\nverbose\n" % log)
    hup(magent.pid, lambda: len(TAKEN_OVER.findall(log.read_text())))
    assert magent.terminate() == 0
    assert log.read_text().rstrip().endswith("stopped")


def test_pid_file_may_change(run, tmp_path):
    options = tmp_path / "options"
    first, other = tmp_path / "first", tmp_path / "other"
    options.write_text("pid-file %s\n" % first)
    magent = run("-c", options).ready()

    def count():
        return len(TAKEN_OVER.findall(magent.output()))

    for path in other, first:
        options.write_text("pid-file %s\n" % path)
        hup(magent.pid, count)
        wait_for(path.exists, "the pid file")
        assert int(path.read_text()) == magent.pid
    assert not other.exists()
    options.write_text("")
    hup(magent.pid, count)
    wait_for(lambda: not first.exists(), "it to be removed")
    assert magent.terminate() == 0


class Bare(Run):
    """All of its options but for the server are in a file."""

    def __init__(self, server, path, port, user=("-u", "root")):
        self.port = port
        self.log = tempfile.TemporaryFile("a+b")
        servers = ["-s", server.address] if server else []
        self.command = [MAGENT, "-D", *user, *servers, "-c", str(path)]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log)
        self.pid = self.process.pid


@needs_root
def test_user_is_that_of_the_start(stage, memcached, open_directory):
    options = open_directory / "options"
    port = free_port()
    options.write_text("port %d\nuser nobody\n" % port)
    options.chmod(0o644)
    magent = stage.add(Bare(memcached, options, port, user=())).ready()
    uid = magent.status()["Uid"]
    for line, is_said in (("user daemon", True), ("user nobody", False)):
        options.write_text("port %d\n%s\n" % (port, line))
        before = magent.output().count("are those of the start")
        hup(magent.pid, lambda: len(TAKEN_OVER.findall(magent.output())))
        assert magent.status()["Uid"] == uid
        assert (magent.output().count("are those of the start") ==
                before + is_said)
    assert magent.terminate() == 0


def servers_in(path, port, *lines):
    path.write_text("port %d\n" % port + "".join(
        "%s\n" % line for line in lines))


@pytest.mark.parametrize("ring, may_move", [("ketama", True),
                                            ("modula", False)])
def test_order_of_servers_may_change_if_it_decides_nothing(
        stage, tmp_path, ring, may_move):
    """Each is the backup of others, and the lists differ in their order."""
    names = [server.address for server in stage.memcacheds(3)]
    lines = ["server %s" % name for name in names] + [
        "backup %s" % name for name in names[::-1]] + ["ring %s" % ring]
    options, port = tmp_path / "options", free_port()
    servers_in(options, port, *lines)
    magent = stage.add(Bare(None, options, port)).ready()
    with Client(port) as client:
        keys = [b"k%d" % i for i in range(100)]
        for key in keys:
            assert client.ask(b"set %s 0 0 1\r\nx\r\n" % key) == b"STORED\r\n"
        hup(magent.pid, lambda: len(TAKEN_OVER.findall(magent.output())))
        before = len(TAKEN_OVER.findall(magent.output()))
        for moved in (lines[1:3] + lines[:1] + lines[3:],
                      lines[:3] + lines[4:6] + lines[3:4] + lines[6:]):
            servers_in(options, port, *moved)
            wanted = TAKEN_OVER if may_move else REFUSED
            hup(magent.pid, lambda: len(wanted.findall(magent.output())))
        assert len(TAKEN_OVER.findall(magent.output())) == before + (
            2 * may_move)
        client.send(b"get %s\r\n" % b" ".join(keys))
        assert client.read_until(b"END\r\n").count(b"VALUE") == len(keys)
    for other in (lines[1:], lines[:3] + lines[4:],
                  lines[:3] + [lines[3] + ":2"] + lines[4:],
                  [lines[0].replace("127.0.0.1", "localhost")] + lines[1:]):
        servers_in(options, port, *other)
        hup(magent.pid, lambda: len(REFUSED.findall(magent.output())))
        assert "other servers" in REFUSED.findall(magent.output())[-1]
    assert magent.terminate() == 0


def test_port_may_change(stage, memcached, tmp_path):
    """Clients of the old one stay."""
    options = tmp_path / "options"
    ports = [free_port() for _ in range(3)]
    options.write_text("port %d\n" % ports[0])
    magent = stage.add(Bare(memcached, options, ports[0])).ready()
    clients = [Client(ports[0])]
    for port, last in zip(ports[1:], ports):
        options.write_text("port %d\n" % port)
        hup(magent.pid, lambda: len(TAKEN_OVER.findall(magent.output())))
        wait_for(lambda: not refuses(port), "the new port")
        assert refuses(last)
        clients.append(Client(port))
        for client in clients:
            assert client.ask(b"mn\r\n") == b"MN\r\n"
    for client in clients:
        client.close()
    assert magent.terminate() == 0


def test_who_has_connected_to_a_socket_that_is_given_up_is_served(
        movable, tmp_path):
    """While nobody accepted: the one program had ended, and the other one not
    begun."""
    magent = movable()
    real, begins, goes_on, path = [
        tmp_path / name for name in ("real", "begins", "goes on", "socket")]
    magent.say("socket %s" % path)
    magent.replace()
    magent.program.rename(real)
    script(magent.program,
           "if [ \"$1\" != --check ]; then\n"
           "    : > '%s'\n"
           "    while [ ! -e '%s' ]; do sleep 0.01; done\n"
           "fi\n"
           "exec '%s' \"$@\"\n" % (begins, goes_on, real))
    magent.say()
    magent.signal(signal.SIGHUP)
    wait_for(begins.exists, "the next program")
    with Client(path, timeout=30) as client:
        client.send(b"mn\r\n")
        goes_on.touch()
        assert client.read_line() == b"MN\r\n"
        assert not path.exists()


def run_next(text, *options):
    """A program that is to take over from one that has left this text."""
    fd = os.memfd_create("carry", 0)
    os.write(fd, text)
    environment = dict(os.environ, MAGENT_CARRIED=str(fd))
    try:
        return subprocess.run(
            [MAGENT, "-D", "-u", "root", "-s", "127.0.0.1:1", "-p",
             str(free_port()), *options], pass_fds=[fd], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    finally:
        os.close(fd)


@pytest.mark.parametrize("text, why", [
    (b"", b"cannot be read"),
    (b"hello\n", b"is of no magent"),
    (b"magent 2\nend\n", b"has another format"),
    (b"magent 1\nsocket 3", b"is cut short"),
    (b"magent 1\nclient 3 1 +100\nabc\nend\n", b"is cut short"),
    (b"magent 1\nx +18446744073709551615\nabc\nend\n", b"is cut short"),
])
def test_what_cannot_be_read_ends_the_next_program(text, why):
    done = run_next(text)
    assert done.returncode == 70
    assert why in done.stdout and done.stdout.count(b"\n") == 1


CARRIED = pathlib.Path(__file__).with_name("carried-1.txt")


def carried(**values):
    """The text of the file, with these in it."""
    text = b""
    has_bytes = False
    for line in CARRIED.read_text().splitlines():
        if line.startswith("#"):
            continue
        for name, value in values.items():
            line = line.replace("@%s@" % name, str(value))
        if has_bytes:
            data = line.encode("latin-1").decode("unicode_escape").encode(
                "latin-1")
            text = text[:-2] + b"%d\n%s\n" % (len(data), data)
        else:
            text += line.encode() + b"\n"
        has_bytes = not has_bytes and line.endswith("+?")
    return text


def test_what_the_first_such_program_has_left_is_read(stage):
    primary, backup = stage.memcacheds(2)
    bond = Bond(primary, backup)
    for server, stamp, value in ((primary, b"459710319247259063", b"new"),
                                 (backup, b"4294967296", b"old")):
        for key, data in (*[(key, stamp) for key in bond.keys],
                          (b"k1", value), (b"k3", b"any")):
            assert server.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
                key, len(data), data)) == b"STORED\r\n"
    backup.talk(b"set k2 0 0 3\r\nold\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        clients = [stage.client(port) for _ in range(2)]
        sockets = [listening.accept()[0] for _ in clients]
        zombie = socket.create_connection(("127.0.0.1", backup.port))
        for one in (listening, *sockets, zombie):
            one.setblocking(False)
        address = struct.pack("=H", socket.AF_INET) + struct.pack(
            "!H4s8x", port, socket.inet_aton("127.0.0.1"))
        fd = os.memfd_create("carry", 0)
        os.write(fd, carried(
            listening=listening.fileno(), client=sockets[0].fileno(),
            other=sockets[1].fileno(), zombie=zombie.fileno(),
            primary=primary.port, backup=backup.port,
            address=repr(address.decode("latin-1"))[1:-1],
            started=time.monotonic_ns() // 1000000 - 5000))
        passed = [listening.fileno(), zombie.fileno(), fd,
                  *(one.fileno() for one in sockets)]
        magent = stage.add(Run(
            "-D", "-s", primary.address, "-b", backup.address, port=port,
            pass_fds=passed, env=dict(os.environ, MAGENT_CARRIED=str(fd))))
        for one in (*sockets, zombie):
            one.close()
        os.close(fd)
    assert clients[1].read_line() == b"STORED\r\n"
    wait_for(lambda: magent.output().count(": up, was") == 2,
             "the backup to be up")
    assert re.findall(r"(\d+) keys copied", magent.output()) == ["1"]
    assert clients[0].ask(b"56789\r\n") == b"STORED\r\n"
    with Client(port) as client:
        client.send(b"stats\r\n")
        stats = client.read_until(b"END\r\n")
    assert b"STAT cmd_set 4\r\n" in stats
    assert int(re.search(rb"uptime (\d+)", stats).group(1)) >= 5
    assert backup.talk(b"get k1 k2 k3\r\n") == (
        b"VALUE k1 0 3\r\nnew\r\nVALUE k3 0 3\r\nany\r\nEND\r\n")
    assert magent.terminate() == 0
