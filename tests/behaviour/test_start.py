"""magent starts in the foreground or background, or ends with a status."""
import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

import pytest

from lib.daemon import OSERR, Run, connection, last_line
from lib.fake import FakeServer
from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT

pytestmark = pytest.mark.usefixtures("reaper")


def test_parent_of_daemon_returns_when_the_port_is_bound(daemon):
    magent = daemon()
    with Client(magent.port) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0


def test_daemon_leaves_session_directory_and_descriptors_of_caller(daemon):
    magent = daemon()
    assert os.getsid(magent.pid) == magent.pid
    assert os.readlink("/proc/%d/cwd" % magent.pid) == "/"
    for fd in range(3):
        assert os.readlink("/proc/%d/fd/%d" % (magent.pid, fd)) == "/dev/null"


def test_daemon_with_inherited_pipe_closes_it(daemon):
    """Otherwise a reader of the other end of this pipe would never see its end."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        magent = daemon(pass_fds=[writer])
        os.close(writer)
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b""
        assert magent.serves()


def test_daemon_with_relative_paths_uses_the_start_directory(daemon, tmp_path):
    magent = daemon("-f", "socket", "-P", "other", cwd=tmp_path,
                    pid_file=tmp_path / "other")
    with Client(tmp_path / "socket") as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0
    assert list(tmp_path.iterdir()) == []


def test_magent_in_foreground_is_the_process_itself(run):
    magent = run().ready()
    assert magent.status()["Pid"] == [str(magent.process.pid)]
    assert magent.terminate() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_magent_with_closed_standard_descriptors_puts_no_socket_there(
        memcached, closed):
    """No socket takes the place of a standard descriptor."""
    port = free_port()
    command = "exec \"$@\" " + closed
    process = subprocess.Popen(
        ["sh", "-c", command, "sh", MAGENT, "-D", "-u", "root", "-l",
         "127.0.0.1", "-p", str(port), "-s", memcached.address],
        stderr=subprocess.DEVNULL)
    try:
        with wait_for(lambda: connection(port), "magent") as client:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
        for fd in range(3):
            assert "socket" not in os.readlink(
                "/proc/%d/fd/%d" % (process.pid, fd))
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_magent_with_port_taken_exits_with_oserr(stage, memcached, daemon):
    first = daemon()
    before = first.pid_file.read_bytes()
    for options in ["-D"], []:
        second = stage.add(Run(*options, "-s", memcached.address, "-P",
                               first.pid_file, port=first.port))
        assert second.wait() == OSERR
        said = last_line(second.output())
        assert str(first.port) in said and "in use" in said
        second.close()
    assert first.pid_file.read_bytes() == before
    assert first.serves()


@pytest.mark.parametrize("host", ["203.0.113.1", "nosuch.invalid", "1.2.3"])
def test_magent_with_foreign_address_exits_with_its_name(
        stage, memcached, host):
    magent = stage.add(Run("-s", memcached.address, "-l", host))
    assert magent.wait() in (OSERR, 68)
    assert host in last_line(magent.output())
    magent.close()


# Where it listens.

def listens_on(magent, *hosts):
    """Those of the hosts on which magent answers."""
    return [host for host in hosts if answers(host, magent.port)]


def answers(host, port):
    try:
        with socket.create_connection((host, port), 5) as client:
            client.sendall(b"mn\r\n")
            return client.recv(10) == b"MN\r\n"
    except OSError:
        return False


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(
            socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


def listening(stage, memcached, *options):
    """A magent that listens where these options say, and there alone."""
    port = free_port()
    magent = stage.add(Process([MAGENT, "-D", "-u", "root", "-p", str(port),
                                "-s", memcached.address, *options], port))
    wait_for(lambda: magent.process.poll() is not None or
             listens_on(magent, "127.0.0.1", "127.0.0.2", "::1"),
             "magent to listen")
    return magent


class Process(Run):
    """As Run, but all of the command is given."""

    def __init__(self, command, port):
        self.port = port
        self.log = tempfile.TemporaryFile("a+b")
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        self.pid = self.process.pid


@needs_ipv6
@pytest.mark.parametrize("options, hosts", [
    ([], ["127.0.0.1", "127.0.0.2", "::1"]),
    (["-l", "0.0.0.0"], ["127.0.0.1", "127.0.0.2"]),
    (["-l", "::"], ["::1"]),
    (["-l", "::", "-l", "0.0.0.0"], ["127.0.0.1", "127.0.0.2", "::1"]),
    (["-l", "127.0.0.1"], ["127.0.0.1"]),
    (["-l", "[::1]"], ["::1"]),
    (["-l", "127.0.0.2", "--listen=::1"], ["127.0.0.2", "::1"]),
    (["-l", "127.0.0.1,::1"], ["127.0.0.1", "::1"]),
    (["-l", "127.0.0.1,127.0.0.2", "-l", "127.0.0.1"],
     ["127.0.0.1", "127.0.0.2"]),
], ids=lambda value: " ".join(value) or "no option")
def test_magent_listens_on_all_addresses_that_are_given(
        stage, memcached, options, hosts):
    magent = listening(stage, memcached, *options)
    assert listens_on(magent, "127.0.0.1", "127.0.0.2", "::1") == hosts
    said = ",".join(option.strip("[]") for option in options
                    if option != "-l").replace("--listen=", "")
    with Client(magent.port) if "127.0.0.1" in hosts else (
            contextlib.nullcontext()) as client:
        assert client is None or (b"STAT inter %s\r\n" % (
            said.encode() or b"NULL")) in client.talk(b"stats settings\r\n")
    assert magent.terminate() == 0


@pytest.mark.parametrize("host, number", [
    ("192.0.2.1", "010200C0"),
    pytest.param("2001:db8::1", "B80D0120000000000000000001000000",
                 marks=needs_ipv6)])
def test_address_that_comes_later_is_listened_on(run, host, number):
    magent = run("--freebind", "-l", host).ready()
    tables = "".join(pathlib.Path("/proc/net", name).read_text()
                     for name in ("tcp", "tcp6"))
    assert " %s:%04X " % (number, magent.port) in tables
    assert magent.terminate() == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1,192.0.2.1"])
def test_address_that_is_not_ours_is_refused_and_named(
        stage, memcached, host):
    magent = listening(stage, memcached, "-l", host)
    assert magent.wait() == OSERR
    assert "192.0.2.1 port %d" % magent.port in last_line(magent.output())


def test_one_taken_address_of_several_is_refused_and_named(stage, memcached):
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        magent = stage.add(Process(
            [MAGENT, "-D", "-u", "root", "-p", str(port), "-s",
             memcached.address, "-l", "127.0.0.1", "-l", "127.0.0.2"], port))
        assert magent.wait() == OSERR
        assert "127.0.0.2 port %d" % port in last_line(magent.output())


def test_name_that_is_unknown_is_refused_and_named(stage, memcached):
    magent = listening(stage, memcached, "-l", "no.such.host.invalid")
    assert magent.wait() == OSERR
    assert "-l no.such.host.invalid" in last_line(magent.output())


class Unknown(FakeServer):
    """Says late what it is, and notes what it was asked before that."""

    def __init__(self):
        self.early = b""
        super().__init__()
        self.may_answer = threading.Event()

    def identity(self, line):
        if line.split() == [b"stats", b"settings"] and self.links:
            assert self.may_answer.wait(20)
            with contextlib.suppress(BlockingIOError):
                self.early += self.links[-1].socket.recv(
                    100, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return super().identity(line)


def test_server_is_asked_nothing_before_it_is_known(stage):
    """What it may be asked depends on what it can."""
    server, other = stage.add(Unknown()), stage.memcached()
    proxy = stage.magent([server], [other], "-t", 10000)
    wait_for(lambda: server.links, "the connection of magent")
    with proxy.client() as client:
        client.send(b"set k 0 0 1\r\nv\r\nget k\r\nversion\r\n")
        # When another client is answered, this one has been read, too.
        assert proxy.talk(b"version\r\n").startswith(b"VERSION ")
        server.may_answer.set()
        assert client.read_until(b"END\r\n") == b"STORED\r\nEND\r\n"
        assert client.read_line().startswith(b"VERSION ")
    assert server.early == b""
