"""The log: on stderr, in the journal and in syslog."""
import collections
import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from lib.daemon import Run, needs_root
from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT, written

pytestmark = pytest.mark.usefixtures("reaper")
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z magent: "


def test_log_lines_on_stderr_begin_with_the_time(run):
    magent = run("-vv").ready()
    assert magent.terminate() == 0
    lines = magent.output().splitlines()
    assert lines
    for line in lines:
        assert re.match(STAMP, line), line


def test_log_lines_in_the_journal_begin_with_a_priority(run, stage):
    log = stage.enter_context(tempfile.TemporaryFile())
    st = os.fstat(log.fileno())
    magent = run(stderr=log, env={
        **os.environ,
        "JOURNAL_STREAM": "%d:%d" % (st.st_dev, st.st_ino)}).ready()
    assert magent.terminate() == 0
    lines = written(log).decode().splitlines()
    assert lines
    for line in lines:
        assert re.match(r"<[3467]>", line), line


def test_journal_stream_that_is_not_stderr_is_ignored(run):
    magent = run(env={**os.environ, "JOURNAL_STREAM": "1:2"}).ready()
    assert magent.terminate() == 0
    assert re.match(STAMP, magent.output())


def test_log_lines_about_hostile_bytes_cannot_be_forged(run):
    magent = run("-vv").ready()
    with Client(magent.port) as client:
        for key in (b"a\x1b[2Jb", b"a\rb", 250 * b"\xff", b"\x01\x07\x7f",
                    b"%s%n%s%n"):
            client.talk(b"get " + key + b"\r\n")
            client.talk(b"nonsense " + key + b"\r\n")
    for data in b"\x80" + 250 * b"\x1b\n", b"a\x1b\xff\0" * 1000 + b"\r\n":
        with Client(magent.port) as client:
            client.send(data)
            client.half_close()
            client.read_to_end()
    assert magent.terminate() == 0
    for line in magent.output().splitlines():
        assert re.match(STAMP, line) and line.isascii() and line.isprintable()
    assert magent.output().isascii()


def refusing(stage):
    return "127.0.0.1:%d" % free_port()


def says(stage, text):
    """A server that says this to the first line, and closes."""
    def script(link, *_):
        link.send(text)
        link.close()
        return b""
    fake = stage.fake(script)
    fake.identity = lambda line: None
    return fake.address


def web_server(stage):
    return says(stage, b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n")


def redis(stage):
    return says(stage, b"-ERR unknown command 'version'\r\n")


def terminal(stage):
    """Text that would do harm to a terminal, in a line without an end."""
    return says(stage, b"\x1b[2J" * 20 + b"\n")


def locked_memcached(stage):
    return says(stage, b"CLIENT_ERROR unauthenticated\r\n")


def proxy_without_servers(stage):
    return says(stage, b"")


def silent(stage):
    fake = stage.fake(lambda link, *_: link.hang())
    fake.identity = lambda line: None
    return fake.address


def unknown_name(stage):
    return "no-such-host.invalid:%d" % free_port()


REASONS = {
    refusing: "Connection refused",
    web_server: 'is no memcached: it says "HTTP/1.1 400 Bad Request"',
    redis: "is no memcached: it says \"-ERR unknown command 'version'\"",
    terminal: 'is no memcached: it says "%s"' % (16 * r"\x1b[2J"),
    locked_memcached: 'is no memcached: it says "CLIENT_ERROR unauthenticated"',
    proxy_without_servers: "closed the connection",
    silent: "no connection in time",
}


def messages(magent):
    return [re.sub("^" + STAMP, "", line)
            for line in magent.output().splitlines()]


@pytest.mark.parametrize("server", REASONS, ids=lambda f: f.__name__)
def test_server_that_never_answered_has_its_reason_in_the_log_once(
        stage, server):
    """However often it is tried: here four times at least."""
    address = server(stage)
    magent = stage.add(Run("-D", "-s", address))
    magent.ready()
    time.sleep(1.5)     # tries at about 0, 0.1, 0.3, 0.7 and 1.5 s
    assert magent.terminate() == 0
    line = "warning: s %s: cannot be used: %s" % (address, REASONS[server])
    assert messages(magent).count(line) == 1
    assert len([m for m in messages(magent) if "cannot be used" in m]) == 1


def test_reason_is_told_again_when_it_changes_and_after_a_recovery(stage):
    server = stage.memcached()
    magent = stage.magent([server])
    refused = "s %s: cannot be used: Connection refused" % server.address
    for n in (1, 2):
        server.kill()
        wait_for(lambda: magent.output().count(refused) == n, "the reason")
        server.start(server.port)
        wait_for(lambda: magent.stats("servers")["0:state"] == "up", "the end")
    server.kill()
    wait_for(lambda: magent.output().count(refused) == 3, "the reason")
    stage.add(Closing(server.port))
    wait_for(lambda: re.search("used: (closed the connection|Connection reset)",
                               magent.output()), "the new reason")


class Closing:
    """Takes connections, and closes them."""

    def __init__(self, port):
        self.socket = socket.create_server(("127.0.0.1", port))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                self.socket.accept()[0].close()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.mark.parametrize("server", [*REASONS, unknown_name],
                         ids=lambda f: f.__name__)
def test_dead_server_under_load_logs_a_line_a_second_of_a_kind(stage, server):
    """200,000 requests for it, as fast as they are answered."""
    magent = stage.add(Run("-D", "-s", server(stage)))
    magent.ready()
    started = time.monotonic()
    with Client(magent.port) as client:
        for _ in range(200):
            client.talk(1000 * b"set k 0 0 1\r\nv\r\n")
    seconds = time.monotonic() - started + 1
    assert magent.terminate() == 0
    kinds = collections.Counter(
        re.sub(r"\d+", "0", message) for message in messages(magent))
    assert max(kinds.values()) <= seconds, kinds


def test_server_killed_under_load_logs_a_line_a_second_of_a_kind(stage):
    server = stage.memcached()
    magent = stage.magent([server])
    with magent.client() as client:
        client.talk(b"set k 0 0 1\r\nv\r\n")
        started = time.monotonic()
        server.kill()
        for _ in range(200):
            client.talk(1000 * b"set k 0 0 1\r\nv\r\n")
    seconds = time.monotonic() - started + 1
    kinds = collections.Counter(
        re.sub(r"\d+", "0", message) for message in messages(magent))
    assert max(kinds.values()) <= seconds, kinds


def full_pipe(stage):
    reader, writer = os.pipe()
    stage.callback(os.close, reader)
    stage.callback(os.close, writer)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 16))
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"0")
    os.set_blocking(writer, True)
    return writer


def broken_pipe(stage):
    reader, writer = os.pipe()
    os.close(reader)
    stage.callback(os.close, writer)
    return writer


def full_disk(stage):
    return stage.enter_context(open("/dev/full", "wb"))


@pytest.mark.parametrize("stderr", [full_pipe, broken_pipe, full_disk])
def test_stderr_that_takes_nothing_stops_nobody(run, stage, stderr):
    magent = run("-vv", stderr=stderr(stage)).ready()
    with Client(magent.port) as client:
        assert client.talk(100 * b"nonsense\r\n") == 100 * b"ERROR\r\n"
    assert magent.terminate() == 0


def device_directory(path):
    """A shell command that makes a small /dev of path."""
    words = []
    for name in "null", "zero", "random", "urandom", "full":
        (path / name).touch()
        words.append("mount --bind /dev/%s %s/%s" % (name, path, name))
    return " && ".join(words + ["mount --rbind %s /dev" % path, 'exec "$@"'])


@needs_root
def test_daemon_logs_to_syslog(stage, memcached, open_directory, tmp_path):
    """In a mount namespace whose /dev/log is ours."""
    device = open_directory / "dev"
    device.mkdir()
    receiver = stage.enter_context(
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind(str(device / "log"))
    os.chmod(device / "log", 0o666)
    receiver.settimeout(20)
    port, pid_file = free_port(), tmp_path / "pid"
    started = subprocess.run(
        ["unshare", "-m", "sh", "-c", device_directory(device), "sh",
         MAGENT, "-l", "127.0.0.1", "-p", str(port), "-u", "nobody",
         "-s", memcached.address, "-P", str(pid_file)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    if b"unshare" in started.stderr or b"mount" in started.stderr:
        pytest.skip("no mount namespaces here")
    assert started.returncode == 0, started.stderr
    pid = int(pid_file.read_text())
    try:
        with Client(port) as client:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
    finally:
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    line = receiver.recv(8192).decode()
    assert re.match(r"<(27|28|30)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
                    r"magent\[%d\]: [ -~]+$" % pid, line), line
