"""What runs and watches magent: systemd, check-magent, the init script."""
import array
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from lib.daemon import admitted, needs_root, refuses, status_of
from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT, ROOT

pytestmark = pytest.mark.usefixtures("reaper")
CHECK = str(ROOT / "scripts" / "check-magent")


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
        assert state in ("READY=1", "WATCHDOG=1", "STOPPING=1",
                         "FDSTORE=1\nFDNAME=magent")


@pytest.mark.parametrize("background", [False, True])
def test_systemd_gets_ready_watchdog_and_stopping(
        run, daemon, notify, background):
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
def test_notify_socket_that_nobody_reads_stops_nothing(run, name):
    magent = run(env={**os.environ, "NOTIFY_SOCKET": name}).ready()
    assert magent.terminate() == 0


def pass_sockets(run, *sockets, pid="$$", names="", options=(), **keywords):
    """Run magent with these, which systemd would have passed to this pid."""
    numbers = [one.fileno() for one in sockets]
    script = 'LISTEN_PID=%s LISTEN_FDS=%d LISTEN_FDNAMES=%s exec "$@" %s' % (
        pid, len(numbers), names, " ".join(
            "%d<&%d" % (3 + i, number) for i, number in enumerate(numbers)))
    return run("-D", *options, pass_fds=numbers,
               through=["bash", "-c", script, "bash"], **keywords)


def listening():
    """A socket with a number above those that it is passed as."""
    one = socket.create_server(("127.0.0.1", 0))
    high = socket.socket(fileno=fcntl.fcntl(one, fcntl.F_DUPFD, 50))
    one.close()
    return high


def test_sockets_that_systemd_passes_are_used(run):
    with listening() as one, listening() as other:
        magent = pass_sockets(run, one, other)
        for passed in one, other:
            with Client(passed.getsockname()[1]) as client:
                assert client.talk(b"version\r\n").startswith(b"VERSION ")
        assert refuses(magent.port)
        assert "sockets of systemd: 2;" in magent.output()
        assert magent.terminate() == 0
        # They are still those of systemd: who comes now waits.
        with Client(one.getsockname()[1]):
            pass


def has_keepalive(port, client):
    """Whether the server's end of a connection has a timer for signs of life,
    the one of the options of clients that can be seen from outside."""
    said = subprocess.run(
        ["ss", "-tnoH", "sport", "=", ":%d" % port, "and", "dport", "=",
         ":%d" % client.socket.getsockname()[1]], check=True,
        capture_output=True, text=True).stdout
    return "timer:(keepalive," in said


def test_clients_have_their_options_also_those_who_came_before(run):
    """The options are set on the socket that is listened on."""
    with listening() as one:
        port = one.getsockname()[1]
        with Client(port) as early:
            magent = pass_sockets(run, one)
            assert early.talk(b"mn\r\n") == b"MN\r\n"
            assert has_keepalive(port, early)
            with Client(port) as late, Client(port) as later:
                for client in late, later:
                    assert client.talk(b"mn\r\n") == b"MN\r\n"
                    assert has_keepalive(port, client)
        assert magent.terminate() == 0


def test_sockets_that_systemd_has_made_stay_when_magent_is_replaced(run):
    with listening() as one:
        magent = pass_sockets(run, one)
        with Client(one.getsockname()[1]) as client:
            assert client.talk(b"version\r\n").startswith(b"VERSION ")
            magent.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "has taken over 1 clients" in magent.output(),
                     "the replacement")
            assert client.talk(b"version\r\n").startswith(b"VERSION ")
        with Client(one.getsockname()[1]) as client:
            assert client.talk(b"version\r\n").startswith(b"VERSION ")
        assert refuses(magent.port)
        assert magent.output().count("sockets of systemd: 1;") == 2
        assert magent.terminate() == 0


def stored(receiver):
    """The sockets that systemd is to keep, by what it was sent."""
    while True:
        text, rights, _, _ = receiver.recvmsg(
            4096, socket.CMSG_SPACE(64 * 4))
        if text.startswith(b"FDSTORE=1"):
            assert text == b"FDSTORE=1\nFDNAME=magent"
            (_, _, data), = rights
            return [socket.socket(fileno=fd)
                    for fd in array.array("i", data)]


def test_sockets_that_systemd_keeps_are_used_again(
        run, notify, tmp_path):
    """One that is not asked for any more is closed."""
    name, receiver = notify
    path = tmp_path / "socket"
    environment = {**os.environ, "NOTIFY_SOCKET": name}
    magent = run("-f", path, env=environment).ready()
    kept = stored(receiver)
    assert len(kept) == 2
    magent.process.kill()
    magent.wait()
    with Client(magent.port) as waiting, Client(path) as local:
        for client in waiting, local:
            client.send(b"mn\r\n")
        high = [socket.socket(fileno=fcntl.fcntl(one, fcntl.F_DUPFD, 50))
                for one in kept]
        for one in kept:
            one.close()
        second = pass_sockets(run, *high, names="magent:magent",
                              port=magent.port, options=["-f", path],
                              env=environment)
        for client in waiting, local:
            assert client.read_line() == b"MN\r\n"
    assert "sockets of systemd" not in second.output()
    for one in stored(receiver):
        one.close()
    assert second.terminate() == 0 and not path.exists()
    third = pass_sockets(run, *high, names="magent:magent")
    third.ready()
    for one in high:
        one.close()
    wait_for(lambda: refuses(magent.port), "the old socket to be closed")
    assert third.terminate() == 0


def test_sockets_for_another_process_are_left_alone(run):
    with listening() as one:
        magent = pass_sockets(run, one, pid="1").ready()
        assert "systemd" not in magent.output()
        assert magent.terminate() == 0


def test_descriptor_that_is_no_listening_socket_is_refused(run):
    with socket.socket() as one:
        high = socket.socket(fileno=fcntl.fcntl(one, fcntl.F_DUPFD, 50))
        with high:
            magent = pass_sockets(run, high)
            assert magent.wait() == 71
    assert "$LISTEN_FDS: descriptor 3 is no stream socket" in magent.output()


def check(*arguments):
    done = subprocess.run([CHECK, *map(str, arguments)], text=True,
                          capture_output=True, timeout=30,
                          env={**os.environ, "MAGENT": os.path.abspath(MAGENT)})
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    return done.returncode, done.stdout


def test_check_magent_follows_the_pair_down_and_up(stage):
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


def test_check_magent_with_no_place_left_names_the_clients(run):
    magent = run("-n", "1").ready()
    with wait_for(lambda: admitted(magent), "a place"):
        status, line = check("-p", magent.port)
        assert status == 1 and "too many clients" in line


def test_check_magent_with_a_server_hung_is_good(stage):
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


def test_check_magent_without_magent_says_what_is_wrong(stage, memcached):
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
    assert check("-t", "soon") == (
        1, "check-magent: 127.0.0.1 port 11211: -t soon: not a time\n")


def health(where, *options):
    done = subprocess.run([MAGENT, "--health", str(where), *options], text=True,
                          capture_output=True, timeout=30)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert done.returncode in (0, 1)
    prefix = "magent: %s: " % where
    assert done.stdout.startswith(prefix)
    return done.returncode, done.stdout[len(prefix):-1]


GOOD = 0, "every key has a server that is up"


def test_magent_asks_another_one_how_it_is(stage, open_directory):
    primary, backup = stage.memcacheds(2)
    path = str(open_directory / "socket")
    magent = stage.magent([primary], [backup], "-f", path, "-l", "::1")
    for where in ("127.0.0.1:%d", "localhost:%d", "[::1]:%d"):
        assert health(where % magent.port) == GOOD
    assert health("unix:" + path) == GOOD
    primary.kill()
    backup.kill()
    wait_for(lambda: health("unix:" + path) != GOOD, "the pair to be down")
    assert health("unix:" + path) == (
        1, "no server is up for the keys of 1 pairs of servers")


def test_port_alone_is_one_of_this_host(stage, memcached):
    magent = stage.magent([memcached])
    done = subprocess.run([MAGENT, "--health=%d" % magent.port], text=True,
                          capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (
        0, "magent: 127.0.0.1:%d: %s\n" % (magent.port, GOOD[1]))


def test_magent_that_does_not_answer_is_not_well(stage, memcached):
    where = "127.0.0.1:%d" % free_port()
    assert health(where) == (1, "Connection refused")
    where = "127.0.0.1:%d" % memcached.port
    assert "no magent" in health(where)[1]
    assert health("unix:/nonexistent") == (1, "No such file or directory")
    magent = stage.magent([memcached])
    where = "127.0.0.1:%d" % magent.port
    # Otherwise its server is late when it goes on.
    wait_for(lambda: health(where)[0] == 0, "its server to be up")
    magent.stop()
    assert health(where, "-t", "50") == (1, "no answer within 50 ms")
    started = time.monotonic()
    assert health(where) == (1, "no answer within 1000 ms")
    assert time.monotonic() - started < 5
    magent.cont()
    assert health(where)[0] == 0


def tool(*command, **keywords):
    if shutil.which(command[0]) is None:
        pytest.skip("%s is not installed" % command[0])
    return subprocess.run(command, text=True, capture_output=True, timeout=60,
                          **keywords)


def test_shell_scripts_pass_shellcheck():
    done = tool("shellcheck", CHECK, str(ROOT / "scripts" / "magent.init"))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(params=["magent.service", "magent@.service"])
def unit(tmp_path, request):
    text = (ROOT / "scripts" / request.param).read_text()
    assert "ExecStart=/usr/sbin/magent -D" in text
    path = tmp_path / request.param.replace("@", "@cache")
    path.write_text(text.replace("/usr/sbin/magent",
                                 os.path.abspath(MAGENT)))
    return str(path)


def test_systemd_unit_passes_verify(unit):
    done = tool("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_unit_has_low_exposure(unit):
    done = tool("systemd-analyze", "security", "--offline=true", "--no-pager",
                unit)
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level.group(1)) < 2.5


def test_options_of_default_file_are_taken():
    text = (ROOT / "scripts" / "magent.default").read_text()
    options = re.search(r'^MAGENT_OPTS="(.*)"$', text, re.M).group(1)
    done = subprocess.run([MAGENT, "-D", *options.split(), "-V"],
                          capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_units_differ_in_where_the_options_are():
    def lines(name):
        return set((ROOT / "scripts" / name).read_text().splitlines())
    one, template = lines("magent.service"), lines("magent@.service")
    assert {line.split("=")[0] for line in one ^ template
            if not line.startswith("#")} == {
                "Description", "EnvironmentFile", "ExecReload", "ExecStart",
                "ExecStartPre", "LogsDirectory", "RuntimeDirectory"}


@needs_root
def test_init_script_starts_restarts_and_stops_magent(
        memcached, open_directory):
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
        with Client(port) as client:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
            assert init("reload") == 0 and pid() == first
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
        assert init("restart") == 0 and pid() != first
        assert init("force-reload") == 0 and pid() != first
        with Client(port) as client:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
        assert init("stop") == 0
        assert refuses(port) and not pid_file.exists()
        assert init("status") == 3 and init("reload") != 0
        assert init("nonsense") == 2
    finally:
        init("stop")


@needs_root
def test_keepalived_example_passes_its_check(tmp_path):
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


def test_scripts_are_executable_where_they_must_be():
    for name, executable in (("check-magent", True), ("magent.init", True),
                             ("magent.default", False),
                             ("magent.service", False),
                             ("magent@.service", False),
                             ("magent.socket", False),
                             ("magent.logrotate", False),
                             ("keepalived.conf", False)):
        mode = (ROOT / "scripts" / name).stat().st_mode
        assert bool(mode & stat.S_IXUSR) == executable


def test_ready_comes_after_the_port_and_the_first_answer_of_each_server(
        run, notify, stage):
    """A server that is slow to say who it is delays it, and nothing else."""
    name, receiver = notify
    answer = threading.Event()
    slow = stage.fake()
    identity = slow.identity
    slow.identity = lambda line: answer.wait(20) and identity(line)
    magent = run("-s", slow.address, "-t", "20000",
                 env={**os.environ, "NOTIFY_SOCKET": name})
    wait_for(lambda: slow.links, "the server to be connected to")
    with Client(magent.port) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    receiver.settimeout(0.3)
    with pytest.raises(TimeoutError):
        receiver.recv(4096)
    answer.set()
    receiver.settimeout(20)
    assert receiver.recv(4096) == b"READY=1"
    assert magent.terminate() == 0


def test_watchdog_gets_nothing_while_the_loop_stands_still(run, notify):
    """So the service manager ends it, and starts another."""
    name, receiver = notify
    magent = run(env={**os.environ, "NOTIFY_SOCKET": name,
                      "WATCHDOG_USEC": "2000000"})
    assert receiver.recv(4096) == b"READY=1"
    next_state(receiver, "WATCHDOG=1")
    magent.process.send_signal(signal.SIGSTOP)
    receiver.settimeout(5)
    with pytest.raises(TimeoutError):
        while True:
            receiver.recv(4096)
    magent.process.send_signal(signal.SIGCONT)
    next_state(receiver, "WATCHDOG=1")
    assert magent.terminate() == 0
