"""--stats-port: what reads the statistics of twemproxy reads those of magent.

The reference is the nutcracker of Debian.  Readers such as telegraf and the
munin plugin are told the name of the pool; others take all names that they do
not know for pools and servers.  Most read to the end of the connection, and
some read one line.
"""
import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest

from lib.net import free_port, wait_for
from lib.servers import MAGENT, Magent, Process
from lib.way import states
from test_metrics import Quoted


def read(port, say=b""):
    """All that is said to who connects, until the end."""
    with socket.create_connection(("127.0.0.1", port), 60) as one:
        one.sendall(say)
        return one.makefile("rb").read()


class Counted(Magent):
    """Has such a port."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.stats_port = free_port()
        self.options = [*self.options, "--stats-port=%d" % self.stats_port]

    def said(self):
        return json.loads(read(self.stats_port))

    def pool(self):
        return self.said()["magent"]

    def files(self):
        return os.listdir("/proc/%d/fd" % self.pid)

    def replace(self):
        before = self.output().count("has taken over")
        self.signal(signal.SIGHUP)
        wait_for(lambda: self.output().count("has taken over") > before,
                 "the replacement")


class Nutcracker(Process):
    """The reference, before the same servers."""

    def __init__(self, servers, path):
        super().__init__()
        self.servers, self.path = servers, path / "nutcracker.yml"
        self.stats_port = free_port()

    def command(self):
        self.path.write_text(
            "magent:\n  listen: 127.0.0.1:%d\n  servers:\n%s" % (
                self.port, "".join("   - %s:1\n" % server.address
                                   for server in self.servers)))
        return ["nutcracker", "-c", str(self.path), "-a", "127.0.0.1",
                "-s", str(self.stats_port), "-i", "100"]

    def close(self):
        self.kill()
        self.log.close()


@pytest.fixture
def counted(stage):
    """Starts one before a primary and a backup."""
    def start(*options):
        magent = Counted(stage.memcacheds(1), stage.memcacheds(1), *options)
        stage.add(magent).start()
        wait_for(lambda: states(magent) == ["up", "up"], "both")
        return magent
    return start


def shape(text):
    """Names in their order and types of values; the servers are sorted."""
    def of(value):
        if not isinstance(value, list):
            return type(value).__name__
        plain = [(name, of(one)) for name, one in value
                 if not isinstance(one, list)]
        return plain + sorted((name, of(one)) for name, one in value
                              if isinstance(one, list))
    return of(json.loads(text, object_pairs_hook=list))


@pytest.mark.skipif(shutil.which("nutcracker") is None,
                    reason="no nutcracker")
def test_names_order_and_types_are_those_of_nutcracker(stage, tmp_path):
    servers = stage.memcacheds(2)
    reference = stage.add(Nutcracker(servers, tmp_path)).start()
    magent = stage.add(Counted(servers)).start()
    theirs, ours = (read(one.stats_port) for one in (reference, magent))
    assert shape(ours) == shape(theirs)
    assert len(shape(ours)) == 8 and len(shape(ours)[-1][1]) == 8
    # The spaces, too: one reader parses the text as YAML.
    for text in theirs, ours:
        assert text.count(b"\n") == 1 and text.endswith(b"}}}\n")
        assert text.startswith(b'{"service":"nutcracker", "source":"%s", '
                               % socket.gethostname().encode())
    assert b', "magent": {"client_eof":' in ours
    assert b', "magent": {"client_eof":' in theirs


def test_numbers_are_those_of_magent(counted):
    magent = counted()
    assert magent.said()["version"] in magent.stats()["version"]
    before = magent.pool()
    with magent.client() as client:
        for line, answer in ((b"set a 0 0 1\r\nx\r\n", b"STORED\r\n"),
                             (b"get a\r\n", b"END\r\n"),
                             (b"nonsense\r\n", b"ERROR\r\n")):
            client.send(line)
            client.read_until(answer)
        said = magent.said()
        pool = said["magent"]
        assert pool["client_connections"] == 1
        assert pool["client_err"] == before["client_err"] + 1
        assert said["curr_connections"] == 3
        assert said["total_connections"] >= 3
        assert abs(said["timestamp"] - time.time()) < 60
        for server in magent.primaries + magent.backups:
            one = pool[server.address]
            assert one["requests"] > before[server.address]["requests"]
            assert one["requests"] == one["responses"] + one["out_queue"]
            assert (one["server_connections"], one["server_ejected_at"]) == (
                1, 0)
    wait_for(lambda: magent.pool()["client_connections"] == 0, "the end",
             pause=0.2)
    assert magent.pool()["client_eof"] > before["client_eof"]


def test_server_that_is_down_is_shown_as_ejected(counted):
    magent = counted()
    backup, before = magent.backups[0], magent.pool()["server_ejects"]
    start = time.time()
    backup.kill()
    wait_for(lambda: magent.pool()[backup.address]["server_connections"] == 0,
             "the failure", pause=0.2)
    pool = magent.pool()
    one = pool[backup.address]
    assert pool["server_ejects"] == before + 1 and one["server_err"] == 1
    assert start - 1 < one["server_ejected_at"] / 1e6 < time.time() + 1
    primary = magent.primaries[0]
    primary.kill()
    wait_for(lambda: magent.stats()["uncovered_pairs"] == "1", "the other")
    magent.talk(b"set a 0 0 1\r\nx\r\n")
    assert magent.pool()["forward_error"] == 1
    backup.start(backup.port)
    wait_for(lambda: magent.pool()[backup.address]["server_ejected_at"] == 0,
             "the return", pause=0.2)


def test_address_of_any_characters_is_a_name(stage, tmp_path):
    server = stage.add(Quoted(tmp_path)).start()
    magent = stage.add(Counted([server], [])).start()
    assert server.address in magent.pool()


def test_who_asks_something_first_is_answered_the_same(counted):
    """One of the exporters speaks HTTP; and nothing is lost for that."""
    magent = counted()
    for say in b"GET / HTTP/1.1\r\n\r\n", b"x" * 300000:
        assert json.loads(read(magent.stats_port, say))["magent"]


# Limits

def test_those_who_stay_are_let_go_and_clients_do_not_notice(counted):
    magent = counted()
    visitors = [socket.create_connection(("127.0.0.1", magent.stats_port))
                for _ in range(40)]
    try:
        assert magent.talk(b"mn\r\n") == b"MN\r\n"
        assert len(magent.files()) < 50
        assert magent.said()["magent"]
        for visitor in visitors:
            visitor.settimeout(60)
            text = b"".join(iter(lambda: visitor.recv(1 << 16), b""))
            assert json.loads(text)["magent"]
        wait_for(lambda: len(magent.files()) < 30, "their descriptors", 30)
    finally:
        for visitor in visitors:
            visitor.close()


def test_those_who_come_all_the_time_wait_for_their_turn(counted):
    """8 are let in between two ticks of 250 ms."""
    magent = counted()
    start = time.monotonic()
    for _ in range(41):
        assert magent.said()["magent"]
    assert time.monotonic() - start > 1


def test_it_ends_at_once_with_those_who_are_connected(counted):
    magent = counted()
    with socket.create_connection(("127.0.0.1", magent.stats_port)) as one:
        assert one.recv(1) == b"{"
        assert magent.terminate() == 0
        magent.start(magent.port)


# The port

def test_there_is_no_port_without_the_option(stage):
    magent = stage.magent([stage.memcached()])
    inodes = set()
    for fd in os.listdir("/proc/%d/fd" % magent.pid):
        with contextlib.suppress(FileNotFoundError):    # closed meanwhile
            inodes.add(os.readlink("/proc/%d/fd/%s" % (magent.pid, fd)))
    with open("/proc/net/tcp") as file:
        listening = [line.split() for line in file if " 0A " in line]
    assert sum("socket:[%s]" % words[9] in inodes for words in listening) == 1


@pytest.mark.parametrize("address, why", [
    ("", "--stats-port"), ("127.0.0.1", "has no port"), ("70000", "port"),
    ("unix:/tmp/x", "is no port"), ("nowhere.invalid:2", "nowhere.invalid")])
def test_wrong_address_is_refused(address, why):
    result = subprocess.run(
        [MAGENT, "-D", "-u", "root", "-p", str(free_port()), "-s",
         "127.0.0.1:1", "--stats-port=" + address], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=20)
    lines = [line for line in result.stdout.splitlines()
             if "warning" not in line]
    assert result.returncode in (64, 71) and len(lines) == 1
    assert why in lines[0]


def test_port_that_is_taken_is_refused(stage):
    taken = stage.memcached()
    result = subprocess.run(
        [MAGENT, "-D", "-u", "root", "-p", str(free_port()), "-s",
         "127.0.0.1:1", "--stats-port=%d" % taken.port],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=20)
    assert result.returncode == 71
    assert ("--stats-port 127.0.0.1: cannot listen on 127.0.0.1 port %d: " %
            taken.port) in result.stdout


def test_port_comes_stays_and_goes_with_the_options(stage, tmp_path):
    options = tmp_path / "options"
    options.write_text("")
    magent = Counted([stage.memcached()], [], "-c", str(options))
    magent.options.pop()
    stage.add(magent).start()
    with pytest.raises(ConnectionRefusedError):
        magent.said()
    options.write_text("stats-port %d\n" % magent.stats_port)
    magent.replace()
    assert magent.said()["magent"]["client_connections"] == 0
    magent.replace()
    assert magent.said()["magent"]
    options.write_text("")
    magent.replace()
    with pytest.raises(ConnectionRefusedError):
        magent.said()
    options.write_text("stats-port %d\n" % stage.memcached().port)
    magent.signal(signal.SIGHUP)
    wait_for(lambda: "cannot be replaced: --stats-port 127.0.0.1: cannot "
             "listen" in magent.output(), "the refusal")


def low_port():
    """One that only root may bind."""
    while True:
        port = random.randrange(600, 1024)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_low_port_is_bound_before_root_is_given_up_and_kept(stage):
    class Nobody(Counted):
        def command(self):
            return [{"root": "nobody"}.get(word, word)
                    for word in super().command()]

    magent = Nobody([stage.memcached()])
    magent.stats_port = low_port()
    magent.options = ["--stats-port=%d" % magent.stats_port]
    stage.add(magent).start()
    magent.replace()
    assert magent.said()["magent"]
    assert os.stat("/proc/%d" % magent.pid).st_uid == (
        pwd.getpwnam("nobody").pw_uid)
