"""The unix socket of -f."""
import socket

import pytest

from lib.daemon import OSERR, Run, connection, last_line
from lib.net import Client, wait_for

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
