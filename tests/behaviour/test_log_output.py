"""The log: on stderr, in the journal and in syslog."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from lib.daemon import Run, needs_root
from lib.net import Client, free_port
from lib.servers import MAGENT

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
    log.seek(0)
    lines = log.read().decode().splitlines()
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


def test_dead_server_under_load_does_not_flood_the_log(stage):
    magent = stage.add(Run("-D", "-s", "127.0.0.1:%d" % free_port()))
    magent.ready()
    started = time.monotonic()
    with Client(magent.port) as client:
        for _ in range(50):
            client.talk(1000 * b"set k 0 0 1\r\nv\r\n")
    seconds = time.monotonic() - started + 1
    assert magent.terminate() == 0
    lines = magent.output().splitlines()
    assert len(lines) < 20 + 10 * seconds, "\n".join(lines)


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
