"""magent as a process: background, user, pid file, signals, log, limits, and
the scripts that run it."""
import contextlib
import ctypes
import grp
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import pytest

from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT, ROOT, TROUBLE

NOUSER, OSERR, CANTCREAT, TEMPFAIL = 67, 71, 73, 75
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z magent: "
CHECK = str(ROOT / "scripts" / "check-magent")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module", autouse=True)
def reaper():
    """Daemons become children of this process, which gets their status, and
    ends those that a failed test has lost."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    before = children()
    yield
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ctypes.CDLL(None).prctl(set_child_subreaper, 0, 0, 0, 0)


def children():
    return {int(pid) for task in pathlib.Path("/proc/self/task").iterdir()
            for pid in (task / "children").read_text().split()}


@pytest.fixture(scope="module")
def memcached(module_stage):
    return module_stage.memcached()


@pytest.fixture
def open_directory():
    """A directory that every user may search."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


class Run:
    """One run of magent with the words it said on stderr."""

    def __init__(self, *options, port=None, user="root", **popen):
        self.port = port or free_port()
        self.log = tempfile.TemporaryFile()
        self.command = [MAGENT, "-l", "127.0.0.1", "-p", str(self.port),
                        *(["-u", user] if user and os.geteuid() == 0 else []),
                        *map(str, options)]
        popen.setdefault("stderr", self.log)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log, **popen)
        self.pid = self.process.pid

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="surrogateescape")

    def serves(self):
        try:
            with Client(self.port) as client:
                return client.ask(b"version\r\n").startswith(b"VERSION ")
        except (OSError, EOFError):
            return False

    def ready(self):
        wait_for(lambda: self.process.poll() is not None or self.serves(),
                 "magent to serve")
        assert self.process.poll() is None, self.output()
        return self

    def wait(self):
        """Its exit status."""
        return self.process.wait(30)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def status(self):
        return status_of(self.pid)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        output = self.output()
        self.log.close()
        assert not TROUBLE.search(output), output


class Daemon(Run):
    """A run that goes to the background."""

    def __init__(self, pid_file, *options, **keywords):
        super().__init__("-P", pid_file, *options, **keywords)
        self.pid_file = pathlib.Path(pid_file)
        self.status_of_parent = self.process.wait(30)
        assert self.status_of_parent == 0, self.output()
        self.pid = int(self.pid_file.read_text())

    def wait(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            time.sleep(.01)
        raise TimeoutError("the daemon does not end")

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        super().close()


@pytest.fixture
def run(stage, memcached):
    """Start magent in the foreground before one memcached."""
    def start(*options, **keywords):
        made = Run("-D", "-s", memcached.address, *options, **keywords)
        stage.callback(made.close)
        return made
    return start


@pytest.fixture
def daemon(stage, memcached, tmp_path):
    """Start magent in the background before one memcached."""
    def start(*options, pid_file=tmp_path / "pid", **keywords):
        made = Daemon(pid_file, "-s", memcached.address, *options, **keywords)
        stage.callback(made.close)
        return made
    return start


def status_of(pid):
    """/proc/pid/status as a dictionary of lists of words."""
    text = pathlib.Path("/proc/%d/status" % pid).read_text()
    return {name: value.split() for name, value in
            (line.split(":", 1) for line in text.splitlines())}


def last_line(text):
    return text.splitlines()[-1]


# Background and foreground

def test_the_parent_returns_when_the_port_is_bound(daemon):
    magent = daemon()
    with Client(magent.port) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0


def test_a_daemon_leaves_its_caller(daemon):
    magent = daemon()
    assert os.getsid(magent.pid) == magent.pid
    assert os.readlink("/proc/%d/cwd" % magent.pid) == "/"
    for fd in range(3):
        assert os.readlink("/proc/%d/fd/%d" % (magent.pid, fd)) == "/dev/null"


def test_a_daemon_keeps_no_descriptor_of_its_caller(daemon):
    """Or whoever reads the other end of this pipe would wait for ever."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        magent = daemon(pass_fds=[writer])
        os.close(writer)
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b""
        assert magent.serves()


def test_relative_paths_outlive_the_directory(daemon, tmp_path):
    magent = daemon("-f", "socket", "-P", "other", cwd=tmp_path,
                    pid_file=tmp_path / "other")
    with Client(tmp_path / "socket") as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_foreground_is_the_process_itself(run):
    magent = run().ready()
    assert magent.status()["Pid"] == [str(magent.process.pid)]
    assert magent.terminate() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(memcached, closed):
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


def connection(port):
    try:
        return Client(port)
    except OSError:
        return None


# What cannot start

def test_a_port_that_is_taken(run, memcached, tmp_path, daemon):
    first = daemon()
    before = first.pid_file.read_bytes()
    for options in ["-D"], []:
        second = Run(*options, "-s", memcached.address, "-P", first.pid_file,
                     port=first.port)
        assert second.wait() == OSERR
        said = last_line(second.output())
        assert str(first.port) in said and "in use" in said
        second.close()
    assert first.pid_file.read_bytes() == before
    assert first.serves()


def test_a_pid_file_that_is_held(daemon, memcached):
    first = daemon()
    inode = first.pid_file.stat().st_ino
    for options in ["-D"], []:
        second = Run(*options, "-s", memcached.address, "-P", first.pid_file)
        assert second.wait() == TEMPFAIL
        assert "%d" % first.pid in last_line(second.output())
        second.close()
    assert first.pid_file.read_text() == "%d\n" % first.pid
    assert first.pid_file.stat().st_ino == inode
    assert first.terminate() == 0


def test_a_stale_pid_file_is_taken_over(daemon, tmp_path):
    (tmp_path / "pid").write_text("1\n" + 5000 * "stale\n")
    magent = daemon()
    assert magent.pid_file.read_text() == "%d\n" % magent.pid


def test_a_pid_file_that_cannot_be(memcached, tmp_path):
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in tmp_path / "missing" / "pid", tmp_path / "link", tmp_path:
        magent = Run("-s", memcached.address, "-P", path)
        assert magent.wait() == CANTCREAT
        assert str(path) in last_line(magent.output())
        magent.close()
    assert (tmp_path / "target").read_text() == "kept"


@pytest.mark.parametrize("options, word", [
    (["-u", "nosuch"], "nosuch"), (["-u", "4000000000"], "4000000000"),
    (["-g", "nosuch"], "nosuch"), (["-u", "1x"], "1x"),
    (["-u", "99999999999999"], "9999")])
def test_a_user_that_is_not(memcached, options, word):
    for foreground in ["-D"], []:
        magent = Run(*foreground, *options, "-s", memcached.address, user=None)
        assert magent.wait() == NOUSER
        assert word in last_line(magent.output())
        magent.close()


@pytest.mark.parametrize("host", ["203.0.113.1", "nosuch.invalid", "1.2.3"])
def test_an_address_that_is_not_here(memcached, host):
    magent = Run("-s", memcached.address, "-l", host)
    assert magent.wait() in (OSERR, 68)
    assert host in last_line(magent.output())
    magent.close()


# Pid file and user

def test_the_pid_file_goes_with_its_owner(daemon):
    magent = daemon()
    assert magent.pid_file.read_text() == "%d\n" % magent.pid
    assert magent.terminate() == 0
    assert not magent.pid_file.exists()


def test_a_pid_file_of_somebody_else_stays(daemon):
    magent = daemon()
    magent.pid_file.unlink()
    magent.pid_file.write_text("another\n")
    assert magent.terminate() == 0
    assert magent.pid_file.read_text() == "another\n"


@needs_root
def test_a_pid_file_where_only_root_may_write(daemon):
    """Its name stays; no pid stays in it."""
    magent = daemon(user="nobody")
    assert magent.pid_file.read_text() == "%d\n" % magent.pid
    assert magent.terminate() == 0
    assert magent.pid_file.read_text() == ""
    assert daemon(user="nobody").serves()


def is_user(magent, uid, gid, groups):
    status = magent.status()
    assert status["Uid"] == 4 * [str(uid)]
    assert status["Gid"] == 4 * [str(gid)]
    assert set(status["Groups"]) == set(map(str, groups))
    for name in "CapPrm", "CapEff", "CapAmb":
        assert int(status[name][0], 16) == 0, name
    assert status["NoNewPrivs"] == ["1"]


@needs_root
def test_root_becomes_nobody_and_says_so(run):
    magent = run(user=None).ready()
    nobody = pwd.getpwnam("nobody")
    is_user(magent, nobody.pw_uid, nobody.pw_gid, [nobody.pw_gid])
    assert "becoming nobody" in magent.output()


@needs_root
def test_user_and_group_by_name_and_number(run):
    daemon, games = pwd.getpwnam("daemon"), grp.getgrnam("games")
    for user in "daemon", str(daemon.pw_uid):
        is_user(run(user=user).ready(), daemon.pw_uid, daemon.pw_gid,
                os.getgrouplist("daemon", daemon.pw_gid))
    for group in "games", str(games.gr_gid):
        is_user(run("-g", group, user="daemon").ready(), daemon.pw_uid,
                games.gr_gid, os.getgrouplist("daemon", games.gr_gid))
    is_user(run("-g", "54321", user="54321").ready(), 54321, 54321, [54321])


@needs_root
def test_root_stays_root_with_a_warning(run):
    magent = run(user="root").ready()
    assert magent.status()["Uid"] == 4 * ["0"]
    assert "warning: running as root" in magent.output()


def as_nobody():
    os.setgroups([])
    os.setgid(pwd.getpwnam("nobody").pw_gid)
    os.setuid(pwd.getpwnam("nobody").pw_uid)


@needs_root
def test_others_stay_who_they_are(run):
    magent = run("-u", "root", user=None, preexec_fn=as_nobody).ready()
    assert magent.status()["Uid"] == 4 * [str(pwd.getpwnam("nobody").pw_uid)]
    assert "warning: only root can become" in magent.output()


# Signals

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(run, number):
    magent = run().ready()
    with Client(magent.port) as idle:
        magent.process.send_signal(number)
        assert magent.wait() == 0
        assert idle.read_to_end() == b""


def test_other_signals_change_nothing(run):
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


def refuses(port):
    try:
        Client(port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass        # it closes at this moment
    return False


def test_what_is_in_flight_is_finished(stage):
    memcached = stage.memcached()
    magent = Run("-D", "-s", memcached.address, "-t", "60000")
    stage.callback(magent.close)
    magent.ready()
    with ask_the_hung(magent, memcached) as client:
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(magent.port), "the port to close")
        assert magent.process.poll() is None
        memcached.cont()
        assert client.read_to_end() == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    assert magent.wait() == 0


def test_a_second_signal_ends_it_at_once(stage, tmp_path):
    memcached = stage.memcached()
    magent = Run("-D", "-s", memcached.address, "-t", "60000", "-P",
                 tmp_path / "pid")
    stage.callback(magent.close)
    magent.ready()
    with ask_the_hung(magent, memcached):
        magent.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(magent.port), "the port to close")
        magent.process.send_signal(signal.SIGTERM)
        assert magent.process.wait(5) == 0
    assert not (tmp_path / "pid").exists()


# systemd

@pytest.fixture(params=["path", "abstract"])
def notify(request, stage, tmp_path):
    """A socket like that of systemd: its name, and the words it gets."""
    name = str(tmp_path / "notify") if request.param == "path" else \
        "\0magent-notify-%d-%d" % (os.getpid(), time.monotonic_ns())
    receiver = stage.enter_context(
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind(name)
    receiver.settimeout(20)
    if request.param == "path":
        os.chmod(name, 0o777)
    return name.replace("\0", "@"), receiver


def next_state(receiver, wanted):
    while True:
        state = receiver.recv(4096).decode()
        if state == wanted:
            return
        assert state in ("READY=1", "WATCHDOG=1", "STOPPING=1")


@pytest.mark.parametrize("background", [False, True])
def test_systemd_is_told(run, daemon, notify, background):
    name, receiver = notify
    environment = {**os.environ, "NOTIFY_SOCKET": name,
                   "WATCHDOG_USEC": "2000000"}
    magent = (daemon if background else run)(env=environment)
    assert receiver.recv(4096) == b"READY=1"
    assert magent.serves()
    next_state(receiver, "WATCHDOG=1")
    next_state(receiver, "WATCHDOG=1")
    assert magent.terminate() == 0
    next_state(receiver, "STOPPING=1")


@pytest.mark.parametrize("name", ["/nonexistent/socket", "@magent-nobody",
                                  "nonsense", "", "/" + 200 * "x"])
def test_nobody_listens_for_notes(run, name):
    magent = run(env={**os.environ, "NOTIFY_SOCKET": name}).ready()
    assert magent.terminate() == 0


# Log

def test_lines_have_the_time(run):
    magent = run("-vv").ready()
    assert magent.terminate() == 0
    lines = magent.output().splitlines()
    assert lines
    for line in lines:
        assert re.match(STAMP, line), line


def test_the_journal_gets_priorities(run, stage):
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


def test_a_journal_that_is_not_stderr(run):
    magent = run(env={**os.environ, "JOURNAL_STREAM": "1:2"}).ready()
    assert magent.terminate() == 0
    assert re.match(STAMP, magent.output())


def test_a_line_cannot_be_forged(run):
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


def test_a_dead_server_does_not_flood_the_log(stage):
    magent = Run("-D", "-s", "127.0.0.1:%d" % free_port())
    stage.callback(magent.close)
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
def test_stderr_that_takes_nothing(run, stage, stderr):
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
def test_a_daemon_logs_to_syslog(stage, memcached, open_directory, tmp_path):
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


# Limits

def open_files_limit(pid):
    text = pathlib.Path("/proc/%d/limits" % pid).read_text()
    return list(map(int, re.search(
        r"Max open files\s+(\d+)\s+(\d+)", text).groups()))


def low_limit(soft, hard, user=lambda: None):
    def set_limit():
        user()      # it reads files, for which there must be room
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return set_limit


def test_the_soft_limit_is_raised(run):
    magent = run("-n", "500", preexec_fn=low_limit(64, 1000)).ready()
    soft, hard = open_files_limit(magent.pid)
    assert 500 < soft <= 1000
    assert "open files" not in magent.output()


@needs_root
def test_root_raises_the_hard_limit(run):
    try:
        magent = run("-n", "2000", user="nobody",
                     preexec_fn=low_limit(64, 100)).ready()
    except AssertionError:
        pytest.skip("this root may not")
    if "open files" not in magent.output():
        assert open_files_limit(magent.pid)[0] > 2000


@needs_root
def test_a_limit_that_cannot_be_raised(run):
    magent = run("-n", "2000", user=None,
                 preexec_fn=low_limit(100, 200, as_nobody)).ready()
    assert open_files_limit(magent.pid) == [200, 200]
    assert re.search(r"the limit of 200 open files leaves room for \d+ "
                     r"clients, not for -n 2000", magent.output())


def test_too_many_clients(run):
    """As memcached: they are told, and a place that is left is free again."""
    magent = run("-n", "3").ready()
    clients = [wait_for(lambda: admitted(magent), "a place")
               for _ in range(3)]
    for _ in range(20):
        with Client(magent.port) as refused:
            assert refused.read_to_end() == \
                b"ERROR Too many open connections\r\n"
    clients.pop().close()
    clients.append(wait_for(lambda: admitted(magent), "a place"))
    for client in clients:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    for client in clients:
        client.close()


def admitted(magent):
    """A client that is served, or None.  One that has left may still be
    counted for a moment."""
    client = Client(magent.port)
    with contextlib.suppress(OSError, EOFError):
        if client.ask(b"version\r\n").startswith(b"VERSION "):
            return client
    client.close()
    return None


def test_no_descriptors_left(run):
    """It pauses accepting, serves on, and recovers within a second or two."""
    magent = run().ready()
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(Client(magent.port))
        old.ask(b"version\r\n")
        used = len(os.listdir("/proc/%d/fd" % magent.pid))
        limit = resource.prlimit(magent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(magent.pid, resource.RLIMIT_NOFILE,
                         (used + 3, limit[1]))
        waiting = [stack.enter_context(Client(magent.port))
                   for _ in range(30)]
        before = cpu_seconds(magent.pid)
        started = time.monotonic()
        while time.monotonic() - started < 1:
            assert old.ask(b"version\r\n").startswith(b"VERSION ")
            time.sleep(.05)
        assert cpu_seconds(magent.pid) - before < .3
        resource.prlimit(magent.pid, resource.RLIMIT_NOFILE, limit)
        for client in waiting:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")


def cpu_seconds(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text()
    user, system = fields.rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# Unix socket

def test_a_unix_socket(run, open_directory):
    path = open_directory / "socket"
    magent = run("-f", path).ready()
    with Client(path) as client:
        assert client.talk(b"set u 0 0 1\r\nv\r\nget u\r\n") == \
            b"STORED\r\nVALUE u 0 1\r\nv\r\nEND\r\n"
        client.send(b"stats\r\n")
        assert client.read_until(b"END\r\n").startswith(b"STAT pid ")
    assert magent.terminate() == 0
    assert not path.exists()


def test_a_unix_socket_alone(stage, memcached, open_directory):
    path = open_directory / "socket"
    magent = Run("-D", "-s", memcached.address, "-f", path, port="0")
    stage.callback(magent.close)
    wait_for(path.exists, "the socket")
    with wait_for(lambda: connection(path), "magent") as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0


def test_a_stale_socket_is_replaced(run, open_directory):
    path = open_directory / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    run("-f", path).ready()
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")


def test_a_socket_in_use_is_not_replaced(run, open_directory):
    path = open_directory / "socket"
    first = run("-f", path).ready()
    second = run("-f", path)
    assert second.wait() == OSERR
    assert str(path) in last_line(second.output())
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert first.terminate() == 0


def test_a_file_is_not_replaced_by_a_socket(run, open_directory):
    path = open_directory / "file"
    path.write_text("precious")
    magent = run("-f", path)
    assert magent.wait() == OSERR
    assert str(path) in last_line(magent.output())
    assert path.read_text() == "precious"


def test_the_longest_path(run, open_directory):
    path = str(open_directory) + "/"
    path += (107 - len(path)) * "s"
    run("-f", path).ready()
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")


# Scripts

def check(*arguments):
    done = subprocess.run([CHECK, *map(str, arguments)], text=True,
                          capture_output=True, timeout=30)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    return done.returncode, done.stdout


def test_check_magent(stage):
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup])
    wait_for(lambda: check("-p", magent.port)[0] == 0, "all to be up")
    primary.kill()
    wait_for(lambda: magent.stats()["failovers"] != "0", "the failover")
    assert check("-p", magent.port, "-H", "127.0.0.1", "-t", 2)[0] == 0
    backup.kill()
    wait_for(lambda: check("-p", magent.port)[0] == 1, "the pair to be down")
    assert "no server is up" in check("-p", magent.port)[1]
    primary.start(primary.port)
    wait_for(lambda: check("-p", magent.port)[0] == 0, "the primary to return")


def test_check_magent_of_too_many_clients(run):
    magent = run("-n", "1").ready()
    with wait_for(lambda: admitted(magent), "a place"):
        status, line = check("-p", magent.port)
        assert status == 1 and "too many clients" in line


def test_check_magent_while_a_server_hangs(stage):
    """One second is enough to find that out; nothing is uncovered."""
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup])
    wait_for(lambda: check("-p", magent.port)[0] == 0, "both to be up")
    primary.stop()
    try:
        assert check("-p", magent.port, "-t", 1) == (
            0, "check-magent: 127.0.0.1 port %d: every key has a server that "
            "is up\n" % magent.port)
    finally:
        primary.cont()


def test_check_magent_of_no_magent(stage, memcached):
    assert check("-p", free_port()) [0] == 1
    status, line = check("-p", memcached.port)
    assert status == 1 and "no magent" in line
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        status, line = check("-p", silent.getsockname()[1], "-t", "0.3")
        assert status == 1 and "no answer" in line
        assert time.monotonic() - started < 5
    assert check("-H", "nosuch.invalid", "-t", 5)[0] == 1
    assert check("-t", "soon")[0] == 1


def tool(*command, **keywords):
    if shutil.which(command[0]) is None:
        pytest.skip("%s is not installed" % command[0])
    return subprocess.run(command, text=True, capture_output=True, timeout=60,
                          **keywords)


def test_shell_scripts_have_no_faults():
    done = tool("shellcheck", CHECK, str(ROOT / "scripts" / "magent.init"))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def unit(tmp_path):
    text = (ROOT / "scripts" / "magent.service").read_text()
    assert "ExecStart=/usr/sbin/magent -D" in text
    path = tmp_path / "magent.service"
    path.write_text(text.replace("/usr/sbin/magent",
                                 os.path.abspath(MAGENT)))
    return str(path)


def test_the_unit_is_valid(unit):
    done = tool("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened(unit):
    done = tool("systemd-analyze", "security", "--offline=true", "--no-pager",
                unit)
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level.group(1)) < 2.5


def test_the_options_of_the_service_are_taken():
    text = (ROOT / "scripts" / "magent.default").read_text()
    options = re.search(r'^MAGENT_OPTS="(.*)"$', text, re.M).group(1)
    done = subprocess.run([MAGENT, "-D", *options.split(), "-V"],
                          capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


@needs_root
def test_the_init_script(memcached, open_directory):
    port, pid_file = free_port(), open_directory / "run" / "pid"
    (open_directory / "default").write_text(
        'MAGENT_OPTS="-l 127.0.0.1 -p %d -s %s"\n' % (port, memcached.address))
    script = open_directory / "init"
    text = (ROOT / "scripts" / "magent.init").read_text()
    for old, new in (("DAEMON=/usr/sbin/magent",
                      "DAEMON=" + os.path.abspath(MAGENT)),
                     ("/etc/default/magent", open_directory / "default"),
                     ("RUNDIR=/run/magent", "RUNDIR=%s/run" % open_directory),
                     ("$RUNDIR/magent.pid", pid_file)):
        assert old in text
        text = text.replace(old, str(new))
    script.write_text(text)
    script.chmod(0o755)

    def init(action):
        return tool("sh", str(script), action).returncode

    def pid():
        return int(pid_file.read_text())

    if not os.path.exists("/lib/lsb/init-functions"):
        pytest.skip("no lsb-base")
    try:
        assert init("status") == 3
        assert init("stop") == 0
        assert init("start") == 0
        first = pid()
        assert status_of(first)["Uid"][0] == str(pwd.getpwnam("nobody").pw_uid)
        assert init("start") == 0 and pid() == first
        assert init("status") == 0
        assert init("restart") == 0 and pid() != first
        assert init("force-reload") == 0 and pid() != first
        with Client(port) as client:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
        assert init("stop") == 0
        assert refuses(port) and not pid_file.exists()
        assert init("status") == 3
        assert init("nonsense") == 2
    finally:
        init("stop")


@needs_root
def test_the_keepalived_example(tmp_path):
    """As user root: with another one, the test mode of 2.2.7 ends itself."""
    text = (ROOT / "scripts" / "keepalived.conf").read_text()
    text = text.replace("script_user nobody", "script_user root")
    text = text.replace("/usr/lib/magent/check-magent", "/bin/true")
    interface = next((name for _, name in socket.if_nameindex()
                      if name.startswith(("eth", "en"))), None)
    if interface is None:
        pytest.skip("no interface for it")
    path = tmp_path / "keepalived.conf"
    path.write_text(text.replace("eth0", interface))
    done = tool("keepalived", "-t", "-f", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SECURITY" not in done.stdout + done.stderr


def test_modes_of_the_scripts():
    for name, executable in (("check-magent", True), ("magent.init", True),
                             ("magent.default", False),
                             ("magent.service", False),
                             ("keepalived.conf", False)):
        mode = (ROOT / "scripts" / name).stat().st_mode
        assert bool(mode & stat.S_IXUSR) == executable
