"""Signals: an end that finishes what is in flight, or one at once."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from faults import Fronted
from lib.daemon import Run, refuses
from lib.fake import FakeServer
from lib.net import Client, wait_for
from lib.servers import MAGENT
from lib.way import wait_for_states

pytestmark = pytest.mark.usefixtures("reaper")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_magent_at_sigterm_or_sigint_closes_clients_and_exits_0(run, number):
    magent = run().ready()
    with Client(magent.port) as idle:
        magent.process.send_signal(number)
        assert magent.wait() == 0
        assert idle.read_to_end() == b""


def test_magent_at_other_signals_goes_on(run):
    magent = run().ready()
    with Client(magent.port) as client:
        for _ in range(50):
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
                           signal.SIGPIPE):
                magent.process.send_signal(number)
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0


def ask_the_hung(magent, memcached):
    """A client whose get is on its way to a server that hangs."""
    with Client(magent.port) as client:
        assert client.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    memcached.stop()
    client = Client(magent.port)
    client.send(b"get k\r\n")
    wait_for(lambda: unread_bytes(memcached.port), "the get to arrive")
    return client


def unread_bytes(port):
    """Whether bytes wait to be read by whoever has this port."""
    rows = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(int(row.split()[1].split(":")[1], 16) == port and
               int(row.split()[4].split(":")[1], 16) > 0 for row in rows)


def test_request_in_flight_at_sigterm_is_finished(stage):
    memcached = stage.memcached()
    magent = stage.add(Run("-D", "-s", memcached.address, "-t", "60000"))
    magent.ready()
    with ask_the_hung(magent, memcached) as client:
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(magent.port), "the port to close")
        assert magent.process.poll() is None
        memcached.cont()
        assert client.read_to_end() == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    assert magent.wait() == 0


def test_second_sigterm_ends_magent_at_once(stage, tmp_path):
    memcached = stage.memcached()
    magent = stage.add(Run("-D", "-s", memcached.address, "-t", "60000", "-P",
                           tmp_path / "pid"))
    magent.ready()
    with ask_the_hung(magent, memcached):
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(magent.port), "the port to close")
        magent.process.send_signal(signal.SIGTERM)
        assert magent.process.wait(5) == 0
    assert not (tmp_path / "pid").exists()


def is_stopping(client):
    client.send(b"stats\r\n")
    return b"STAT stopping 1\r\n" in client.read_until(b"END\r\n")


def test_clients_are_served_until_the_shutdown_delay_is_over(run):
    """And whoever asks how it is, moves them elsewhere meanwhile."""
    magent = run("--shutdown-delay=2").ready()
    wait_for(lambda: "ready; servers" in magent.output(), "it to be ready")
    with Client(magent.port) as client:
        began = time.monotonic()
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: is_stopping(client), "the signal")
        with Client(magent.port) as late:
            assert late.talk(b"version\r\n").startswith(b"VERSION ")
        asked = subprocess.run([MAGENT, "--health=%d" % magent.port],
                               capture_output=True, text=True, timeout=20)
        assert asked.returncode == 1 and "about to end" in asked.stdout
        assert magent.process.poll() is None
        assert client.read_to_end() == b""
        assert 1.9 < time.monotonic() - began < 20
    assert magent.wait() == 0


@pytest.mark.parametrize("first, second", [
    (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, None)])
def test_shutdown_delay_can_be_cut_short(run, first, second):
    """Who is at the keyboard does not wait."""
    magent = run("--shutdown-delay", "3600").ready()
    wait_for(lambda: "ready; servers" in magent.output(), "it to be ready")
    with Client(magent.port) as client:
        assert not is_stopping(client)
        magent.process.send_signal(first)
        if second is not None:
            wait_for(lambda: is_stopping(client), "the signal")
            magent.process.send_signal(second)
        assert magent.wait() == 0


def lists_slowly(asked):
    """Refuses nothing, and takes its time to list keys."""
    def refuse(line):
        if line.startswith(b"lru_crawler metadump"):
            asked.set()
            time.sleep(2)
    return refuse


def test_second_signal_in_the_shutdown_delay_ends_a_pass_in_order(stage):
    """The list of its keys has not begun."""
    asked = threading.Event()
    primary = stage.add(Fronted(lists_slowly(asked))).start()
    magent = stage.add(Run("-D", "--shutdown-delay=60", "-s", primary.address,
                           "-b", stage.memcached().address, "-t", "5000"))
    magent.ready()
    wait_for(lambda: "ready; servers" in magent.output(), "it to be ready")
    with Client(magent.port) as client:
        magent.process.send_signal(signal.SIGUSR2)
        assert asked.wait(20)
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: is_stopping(client), "the signal")
    magent.process.send_signal(signal.SIGTERM)
    assert magent.wait() == 0, magent.output()


def test_sigterm_before_the_daemon_is_ready_is_status_1(stage, tmp_path):
    """The command that started it waits for it to be ready."""
    silent = stage.fake()
    silent.identity = lambda line: b""
    started = stage.add(Run("-P", tmp_path / "pid", "-s", silent.address, "-t",
                            "60000"))
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and
                       (tmp_path / "pid").read_text(), "the pid file"))
    wait_for(lambda: silent.links, "the server to be connected to")
    os.kill(pid, signal.SIGTERM)
    assert started.wait() == 1
    assert not (tmp_path / "pid").exists()


def test_sigterm_right_after_the_bind_ends_magent_in_order(run, tmp_path):
    for n in range(20):
        magent = run("-P", tmp_path / "pid", "-f", tmp_path / "socket")
        wait_for(lambda: not refuses(magent.port), "the port", pause=0)
        magent.process.send_signal(signal.SIGTERM)
        assert magent.wait() == 0, magent.output()
        assert list(tmp_path.iterdir()) == []


def test_sigterm_while_a_server_is_invalidated_ends_magent_in_order(stage):
    """The deletes that it was sent are unanswered at the end."""
    silent = []
    fake = stage.fake(lambda link, line, data: b"" if silent and
                      line.startswith(b"delete") else None)
    backup = stage.memcached()
    magent = stage.add(Run("-D", "-s", fake.address, "-b", backup.address,
                           "-t", "20000"))
    magent.ready()
    state = lambda: stat_of(magent, b"0:state")
    wait_for(lambda: state() == b"up", "the server")
    fake.down = True
    for link in fake.links:
        link.reset()
    with Client(magent.port) as client:
        client.talk(b"".join(b"set k%d 0 0 1\r\nv\r\n" % i
                             for i in range(100)))
    silent.append(True)
    wait_for(lambda: state() == b"invalidate", "the invalidation")
    magent.process.send_signal(signal.SIGTERM)
    assert magent.wait() == 0, magent.output()


def test_sigterm_while_a_server_is_emptied_key_by_key_ends_in_order(stage):
    """It has lost its stamps, refuses flush_all, and has not begun to list its
    keys."""
    asked = threading.Event()
    primary = Fronted(lists_slowly(asked))
    primary.options += ("-F",)
    stage.add(primary).start()
    magent = stage.add(Run("-D", "-s", primary.address, "-b",
                           stage.memcached().address, "-t", "5000"))
    magent.ready()
    with Client(magent.port) as client:
        wait_for(lambda: stat_of(magent, b"0:state") == b"up", "the server")
        assert client.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    stamps = re.findall(rb"^key=magent%3A(\w+)%3A(\d) ", primary.listed(), re.M)
    assert len(stamps) == 2
    primary.talk(b"".join(b"delete magent:%s:%s\r\n" % stamp
                          for stamp in stamps))
    asked.clear()
    assert asked.wait(20)
    assert stat_of(magent, b"0:state") == b"invalidate"
    magent.process.send_signal(signal.SIGTERM)
    assert magent.wait() == 0, magent.output()


def stat_of(magent, name):
    with Client(magent.port) as client:
        client.send(b"stats servers\r\n")
        lines = client.read_until(b"END\r\n").split(b"\r\n")
    return dict(line.split(b" ", 2)[1:] for line in lines
                if line.startswith(b"STAT "))[name]


def test_large_reply_on_its_way_at_sigterm_arrives_whole(stage):
    """The output is flushed: 20 MB to a client that begins to read late."""
    memcached = stage.memcached()
    magent = stage.add(Run("-D", "-s", memcached.address))
    magent.ready()
    value = os.urandom(1000000)
    with Client(magent.port, receive_buffer=4096) as client:
        assert client.talk(b"set k 0 0 %d\r\n%s\r\n" % (len(value), value)
                           ) == b"STORED\r\n"
        client.send(b"get %s\r\n" % (b"k " * 20))
        wait_for(lambda: client.socket.recv(1, socket.MSG_PEEK), "its begin")
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(magent.port), "the port to close")
        assert client.read_to_end() == (
            (b"VALUE k 0 %d\r\n%s\r\n" % (len(value), value)) * 20 + b"END\r\n")
    assert magent.wait() == 0


def test_client_that_reads_nothing_delays_the_end_for_5_s_at_most(stage):
    memcached = stage.memcached()
    magent = stage.add(Run("-D", "-s", memcached.address))
    magent.ready()
    with Client(magent.port, receive_buffer=4096) as client:
        client.talk(b"set k 0 0 1000000\r\n%s\r\n" % bytes(1000000))
        client.send(b"get %s\r\n" % (b"k " * 20))
        wait_for(lambda: client.socket.recv(1, socket.MSG_PEEK), "its begin")
        start = time.monotonic()
        magent.process.send_signal(signal.SIGTERM)
        assert magent.process.wait(20) == 0
        assert time.monotonic() - start < 8


def test_sigterm_during_a_rebuild_ends_magent_in_order(stage):
    primary, backup = stage.memcacheds(2)
    magent = stage.add(Run("-D", "-s", primary.address, "-b", backup.address))
    magent.ready()
    with Client(magent.port) as client:
        client.talk(b"".join(b"set k%d 0 0 1 noreply\r\nx\r\n" % i
                             for i in range(30000)))
    primary.restart()
    wait_for(lambda: primary.item_count() > 100, "some copies",
             pause=0)
    assert stat_of(magent, b"0:state") == b"rebuild"
    with Client(magent.port) as client:
        client.send(b"set k 0 0 1\r\nx\r\nget k\r\n")
        magent.process.send_signal(signal.SIGTERM)
        assert client.read_to_end() in (
            b"", b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n")
    assert magent.process.wait(20) == 0, magent.output()


def test_storm_of_signals_under_load_changes_no_answer(stage, tmp_path):
    magent = stage.add(Run("-D", "-s", stage.memcached().address, "-b",
                           stage.memcached().address, "--log-file",
                           tmp_path / "log"))
    magent.ready()
    numbers = (signal.SIGUSR2, signal.SIGPIPE, signal.SIGUSR1, signal.SIGHUP)
    with Client(magent.port) as client:
        for i in range(500):
            for number in numbers:
                magent.process.send_signal(number)
            assert client.talk(b"set k 0 0 3\r\n%03d\r\nget k\r\n" % i) == (
                b"STORED\r\nVALUE k 0 3\r\n%03d\r\nEND\r\n" % i)
    assert magent.terminate() == 0


class Silent(FakeServer):
    """May never answer what it is asked about stamps."""

    is_silent = False

    def of_stamps(self, link, line, data):
        if self.is_silent:
            link.hang()
        return super().of_stamps(link, line, data)

    def drop(self):
        for link in self.links:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)


def test_magent_that_ends_while_a_server_returns_leaves_nothing_behind(stage):
    """What the server was asked has no answer: a leak is an error under
    ASan."""
    server = stage.add(Silent())
    magent = stage.magent([server], [stage.memcached()], "-t", 20000)
    wait_for_states(magent, "up", "up")
    server.is_silent = True
    server.drop()
    wait_for(lambda: ": version 1.6.18, pid" in magent.output().split(
        "down, was up")[-1], "its return")
    wait_for_states(magent, "identify", "up")
    magent.close()
