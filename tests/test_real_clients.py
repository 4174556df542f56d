"""Client libraries of Debian 12, at magent as at a memcached.

tests/clients/SCRIPT.txt is what is done with a library, an operation a line.
The library does it at a plain memcached and at magent; what it makes of the
answers must be the same, line by line, and so must what the servers hold in
the end.  So the expected values are those of the real memcached.
"""
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import pytest

from lib.net import TIMEOUT, wait_for

HERE = pathlib.Path(__file__).parent / "clients"
KILL = "--"         # in a script: here the primary may be killed
PHP = ["php", str(HERE / "client.php")]


def python(kind):
    return [sys.executable, str(HERE / "client.py"), kind]


def perl(module):
    return ["perl", str(HERE / "client.pl"), module]


CLIENTS = {
    "php-memcached": (PHP, "php-memcached"),
    "php-session": (PHP, "php-session"),
    "pymemcache": (python("pymemcache"), "pymemcache"),
    "pymemcache-pool": (python("pymemcache-pool"), "pymemcache-pool"),
    "pylibmc": (python("pylibmc"), "pylibmc"),
    "python-memcached": (python("python-memcached"), "python-memcached"),
    "django-pymemcache": (python("django-pymemcache"), "django"),
    "django-pylibmc": (python("django-pylibmc"), "django"),
    "perl-fast": (perl("Cache::Memcached::Fast"), "perl-fast"),
    "perl-memcached": (perl("Cache::Memcached"), "perl-memcached"),
}


class Driven:
    """A program that answers each line of code with a line.

    It reads from and writes to a socket, so that waiting for it can end.
    """

    def __init__(self, command, port):
        self.address = "127.0.0.1:%d" % port
        self.log = tempfile.TemporaryFile("a+b")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.process = subprocess.Popen(
                [*command, str(port)], stdin=theirs, stdout=theirs,
                stderr=self.log)
            ours.settimeout(TIMEOUT)
            self.lines = ours.makefile("rwb")

    def send(self, line):
        self.lines.write(line.encode() + b"\n")
        self.lines.flush()

    def receive(self):
        """The answer to a line, without the number of the port."""
        line = self.lines.readline().decode()
        assert line, "the program has ended:\n" + self.output()
        return line.rstrip("\n").replace(self.address, "ADDRESS")

    def ask(self, line):
        self.send(line)
        return self.receive()

    def output(self):
        self.log.seek(0)
        return self.log.read().decode()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.lines.close()
        self.log.close()


def drive(stage, command, server):
    driven = Driven(command, server.port)
    stage.callback(driven.close)
    return driven


def operations(script):
    lines = (HERE / (script + ".txt")).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def compare(stage, name, plain, proxy, kill=lambda: None):
    """Play the client's script at both, and kill() at its mark."""
    command, script = CLIENTS[name]
    at_plain, at_proxy = (
        drive(stage, command, server) for server in (plain, proxy))
    for line in operations(script):
        if line == KILL:
            kill()
            continue
        at_plain.send(line)
        at_proxy.send(line)
        expected = at_plain.receive()
        assert at_proxy.receive() == expected, line


def keys(server):
    """What a server lists, when it is not busy with another list."""
    def dump():
        text = server.talk(b"lru_crawler metadump all\r\n")
        return text.endswith(b"END\r\n") and text
    text = wait_for(dump, "a list of keys")
    return sorted(map(urllib.parse.unquote_to_bytes,
                      re.findall(rb"(?m)^key=(\S+)", text)))


def holds(server):
    """Keys, values, flags and, in hundreds of seconds, times to live."""
    text = server.talk(b"".join(
        b"mg %s k f t v\r\n" % key for key in keys(server)))
    return re.sub(
        rb"(?m)^(VA .* t)(\d+)",
        lambda found: b"%s%d" % (found[1], (int(found[2]) + 50) // 100),
        text.replace(b"EN\r\n", b""))


def check_holds(plain, *servers):
    """They come to hold what the plain memcached holds."""
    expected = holds(plain)
    assert b" t-1\r\n" in expected or b" t1" in expected
    for server in servers:
        wait_for(lambda: holds(server) == expected,
                 "%r to be held" % expected)


@pytest.mark.parametrize("name", CLIENTS)
def test_as_at_memcached(stage, pair, name):
    """Every operation; the primary and the backup then hold the same."""
    primary, backup, proxy = pair
    plain = stage.memcached()
    compare(stage, name, plain, proxy)
    check_holds(plain, primary, backup)
    assert proxy.stats()["failovers"] == "0"


@pytest.mark.parametrize("name", CLIENTS)
def test_primary_killed(stage, pair, name):
    """A client object that goes on sees no error and what it has written."""
    primary, backup, proxy = pair
    plain = stage.memcached()
    compare(stage, name, plain, proxy, primary.kill)
    check_holds(plain, backup)
    assert proxy.stats()["failovers"] == "1"
