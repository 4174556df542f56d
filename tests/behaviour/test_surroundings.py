"""What surrounds magent: locale, time zone, umask, and addresses that come."""
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.daemon import Run, needs_root  # noqa: E402
from lib.net import Client, free_port, wait_for  # noqa: E402
from lib.servers import Memcached  # noqa: E402
from lib.stage import run_in_network  # noqa: E402

pytestmark = pytest.mark.usefixtures("reaper")
TRANSCRIPT = (b"set k 0 0 3\r\n\xff\xfe\x00\r\nget k\r\nset k\xc3\xa9 1 0 1\r\n1\r\n"
              b"incr k\xc3\xa9 1\r\ngets none\r\nSET k 0 0 1\r\nmg k\xc3\xa9 v f t\r\n")
ANSWER = (b"STORED\r\nVALUE k 0 3\r\n\xff\xfe\x00\r\nEND\r\nSTORED\r\n2\r\n"
          b"END\r\nERROR\r\nVA 1 f1 t-1\r\n2\r\n")


@pytest.mark.parametrize("environment", [
    {"LC_ALL": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati"},
    {"LC_ALL": "tr_TR.UTF-8", "TZ": "America/St_Johns"},
    {"LC_ALL": "nonsense", "TZ": ":nonsense/zone", "LANG": "\xff"},
    {"LC_NUMERIC": "fr_FR.UTF-8", "TZ": "XXX-24"}, {}],
    ids=lambda e: e.get("TZ", "none"))
def test_answers_and_log_are_the_same_in_any_locale_and_time_zone(
        run, environment):
    magent = run("-v", env={"PATH": os.environ["PATH"], **environment}).ready()
    with Client(magent.port) as client:
        assert client.talk(TRANSCRIPT) == ANSWER
        client.send(b"stats\r\n")
        stats = client.read_until(b"END\r\n").decode()
        client.talk(b"\xff\xe9 nonsense\r\n")
    assert re.search(r"STAT rusage_user \d+\.\d{6}\r\n", stats)
    assert abs(int(re.search(r"STAT time (\d+)", stats)[1]) - time.time()) < 5
    assert magent.terminate() == 0
    stamp = time.strftime("%Y-%m-%dT%H:", time.gmtime())
    assert stamp in magent.output() and magent.output().isascii()


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
def test_files_have_their_mode_with_any_umask(
        stage, memcached, open_directory, mask):
    socket_path, log = open_directory / "socket", open_directory / "log"
    magent = stage.add(Run(
        "-D", "-s", memcached.address, "-f", socket_path, "--log-file", log,
        "-P", open_directory / "pid", preexec_fn=lambda: os.umask(mask)))
    magent.ready()
    modes = {path: path.stat().st_mode & 0o777
             for path in open_directory.iterdir()}
    assert modes == {socket_path: 0o777, log: 0o640 & ~mask,
                     open_directory / "pid": 0o644 & ~mask}
    with Client(str(socket_path)) as client:
        assert client.talk(TRANSCRIPT) == ANSWER
    assert magent.terminate() == 0


class At:
    """A server as a command line names it."""

    def __init__(self, address):
        self.address = address


def state(proxy):
    return proxy.stats("servers")["0:state"]


def test_unix_socket_of_a_server_that_appears_later_is_used(
        stage, open_directory):
    path = open_directory / "memcached"
    proxy = stage.magent([At("unix:%s" % path)])
    assert state(proxy) in ("down", "starting")
    assert proxy.talk(b"get k\r\n") == b"END\r\n"
    started = subprocess.Popen(["memcached", "-s", path, "-a", "777", "-u",
                                "root"])
    stage.callback(started.wait)
    stage.callback(started.kill)
    wait_for(lambda: state(proxy) == "up", "the server")
    assert proxy.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    reason = "cannot be used: No such file or directory"
    assert proxy.output().count(reason) == 1


# What follows runs in a network of its own.

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


@needs_root
@pytest.mark.parametrize("name", [
    "ipv6_address_that_comes_later_is_used",
    "server_behind_a_hole_at_the_start_delays_nobody_but_its_keys",
    "server_that_returns_into_a_hole_delays_nobody",
    "connection_that_is_cut_in_the_middle_of_its_making_is_given_up",
])
def test_in_a_network(name):
    done = subprocess.run(["unshare", "-n", sys.executable, __file__, name],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120, text=True)
    assert done.returncode == 0, done.stdout


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def may_bind(address):
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return False
    return True


@case
def ipv6_address_that_comes_later_is_used(stage, port):
    ip("addr", "del", "::1/128", "dev", "lo")
    proxy = stage.magent([At("[::1]:%d" % port)])
    assert state(proxy) in ("down", "starting")
    ip("addr", "add", "::1/128", "dev", "lo", "nodad")
    wait_for(lambda: may_bind("::1"), "the address")
    started = subprocess.Popen(["memcached", "-l", "::1", "-p", str(port),
                                "-u", "root"])
    stage.callback(started.wait)
    stage.callback(started.kill)
    wait_for(lambda: state(proxy) == "up", "the server")


def hole():
    """What is sent to 10.9.9.9 goes out, and nobody answers."""
    ip("link", "add", "hole", "type", "veth", "peer", "name", "end")
    ip("addr", "add", "10.9.9.1/24", "dev", "hole")
    for end in "hole", "end":
        ip("link", "set", end, "up")
    ip("neigh", "add", "10.9.9.9", "lladdr", "02:00:00:00:00:09", "dev",
       "hole")


@case
def server_behind_a_hole_at_the_start_delays_nobody_but_its_keys(stage, port):
    hole()
    servers = [At("10.9.9.9:%d" % port), stage.memcached()]
    backup = stage.memcached()
    proxy = stage.magent(servers, [backup])
    start = time.monotonic()
    for i in range(50):
        assert proxy.talk(b"set k%d 0 0 1\r\nx\r\nget k%d\r\n" % (i, i)) == (
            b"STORED\r\nVALUE k%d 0 1\r\nx\r\nEND\r\n" % i)
    assert time.monotonic() - start < 3
    assert "s 10.9.9.9:%d: cannot be used: no connection in time" % port in (
        proxy.output())


@case
def server_that_returns_into_a_hole_delays_nobody(stage, port):
    """Its host is gone while magent connects again and again."""
    class There(Memcached):
        @property
        def address(self):
            return "10.9.9.9:%d" % self.port

        def command(self):
            command = super().command()
            command[command.index("-l") + 1] = "10.9.9.9,127.0.0.1"
            return command

    hole()
    ip("addr", "add", "10.9.9.9/32", "dev", "lo")
    primary = stage.add(There()).start(port)
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup])
    wait_for(lambda: state(proxy) == "up", "the server")
    proxy.talk(b"set k 0 0 1\r\nx\r\n")
    ip("addr", "del", "10.9.9.9/32", "dev", "lo")   # packets go into the hole
    longest = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        start = time.monotonic()
        assert proxy.talk(b"get k\r\n").startswith(b"VALUE")
        longest = max(longest, time.monotonic() - start)
    assert longest < 2
    assert state(proxy) == "down"
    ip("addr", "add", "10.9.9.9/32", "dev", "lo")
    wait_for(lambda: state(proxy) == "up", "the return", 10)


@case
def connection_that_is_cut_in_the_middle_of_its_making_is_given_up(
        stage, port):
    """Its queue of connections is full, as that of a host under an attack:
    the kernel answers nothing.  Then there is room again."""
    full = socket.create_server(("127.0.0.1", port), backlog=0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    backup = stage.memcached()
    proxy = stage.magent([At("127.0.0.1:%d" % port)], [backup])
    start = time.monotonic()
    assert proxy.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert time.monotonic() - start < 2
    for filler in fillers:
        filler.close()
    full.close()
    stage.add(Memcached()).start(port)
    wait_for(lambda: state(proxy) == "up", "the server", 20)
    assert proxy.talk(b"get k\r\n").startswith(b"VALUE")


def main(name):
    run_in_network(CASES[name], free_port())


if __name__ == "__main__":
    main(sys.argv[1])
