"""The unix socket of -f."""
import os
import signal
import socket
import stat

import pytest

from lib.daemon import OSERR, Run, connection, last_line, needs_root
from lib.net import Client, wait_for
from lib.servers import built

pytestmark = pytest.mark.usefixtures("reaper")


def test_unix_socket_serves_and_is_removed_at_the_end(run, open_directory):
    path = open_directory / "socket"
    magent = run("-f", path).ready()
    with Client(path) as client:
        assert client.talk(b"set u 0 0 1\r\nv\r\nget u\r\n") == \
            b"STORED\r\nVALUE u 0 1\r\nv\r\nEND\r\n"
        client.send(b"stats\r\n")
        assert client.read_until(b"END\r\n").startswith(b"STAT pid ")
    assert magent.terminate() == 0
    assert not path.exists()


def test_unix_socket_without_port_serves(stage, memcached, open_directory):
    path = open_directory / "socket"
    magent = stage.add(Run("-D", "-s", memcached.address, "-f", path, port="0"))
    wait_for(path.exists, "the socket")
    with wait_for(lambda: connection(path), "magent") as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert magent.terminate() == 0


def test_stale_unix_socket_is_replaced(run, open_directory):
    path = open_directory / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    run("-f", path).ready()
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")


def test_unix_socket_in_use_is_not_replaced(run, open_directory):
    path = open_directory / "socket"
    first = run("-f", path).ready()
    second = run("-f", path)
    assert second.wait() == OSERR
    assert str(path) in last_line(second.output())
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    assert first.terminate() == 0


def test_file_at_the_unix_sockets_path_is_not_replaced(run, open_directory):
    path = open_directory / "file"
    path.write_text("precious")
    magent = run("-f", path)
    assert magent.wait() == OSERR
    assert str(path) in last_line(magent.output())
    assert path.read_text() == "precious"


def test_unix_socket_of_107_bytes_serves(run, open_directory):
    path = str(open_directory) + "/"
    path += (107 - len(path)) * "s"
    run("-f", path).ready()
    with Client(path) as client:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")


def test_unix_socket_may_be_used_by_every_user(run, open_directory):
    """Also under a umask that would not let them."""
    path = open_directory / "socket"
    run("-f", path, preexec_fn=lambda: os.umask(0o077)).ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_unix_socket_of_a_successor_survives_the_end_of_the_first(
        stage, open_directory):
    path = open_directory / "socket"
    memcached = stage.memcached()
    first = stage.add(Run("-D", "-s", memcached.address, "-t", "8000", "-f",
                          path)).ready()
    with Client(path) as client:
        client.talk(b"get k\r\n")
        memcached.stop()
        client.send(b"get k\r\n")       # in flight, so it takes its time
        wait_for(lambda: first.serves(), "the get to be read")
        first.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not path.exists(), "the first to give the path up")
        second = stage.add(Run("-D", "-s", memcached.address, "-f", path))
        wait_for(lambda: connection(path), "the second").close()
        memcached.cont()
        assert first.wait() == 0
    with Client(path) as client:
        assert client.ask(b"mn\r\n") == b"MN\r\n"
    assert second.terminate() == 0
    assert not path.exists()


def test_file_that_took_the_unix_sockets_place_is_not_removed(
        run, open_directory):
    path = open_directory / "socket"
    magent = run("-f", path).ready()
    path.unlink()
    path.write_text("precious")
    assert magent.terminate() == 0
    assert path.read_text() == "precious"


def test_of_magents_that_replace_a_stale_socket_at_once_one_serves(
        run, open_directory):
    for n in range(5):
        path = open_directory / ("socket%d" % n)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        magents = [run("-f", path) for _ in range(4)]
        wait_for(lambda: sum(magent.process.poll() is None
                             for magent in magents) <= 1, "one to be left")
        left, = [magent for magent in magents if magent.process.poll() is None]
        wait_for(lambda: connection(path), "the one that is left").close()
        assert {magent.process.poll() for magent in magents} == {None, OSERR}
        assert left.terminate() == 0


@needs_root
def test_mode_of_unix_socket_is_set_without_following_a_link(
        stage, memcached, open_directory, tmp_path):
    """Whoever owns the directory replaces the file right after the bind."""
    victim = tmp_path / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    path = open_directory / "socket"
    magent = stage.add(Run("-D", "-s", memcached.address, "-f", path, env=dict(
        os.environ, VICTIM=str(victim),
        LD_PRELOAD=built("swap", "-shared", "-fPIC", "-ldl"),
        ASAN_OPTIONS="verify_asan_link_order=0")))
    magent.ready()
    assert path.is_symlink()
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert magent.terminate() == 0
    assert path.is_symlink()
