"""Client libraries of Debian 12, at magent as at a memcached.

tests/clients/SCRIPT.txt says what is done with a library, an operation a line.
Each is done at a plain memcached and at magent.  The library must return the
same, and the servers must come to hold the same.
"""
import functools
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import pytest

from lib import evidence
from lib.net import TIMEOUT, wait_for
from lib.servers import written
from lib.way import states

HERE = pathlib.Path(__file__).parent / "clients"
MARK = "--"         # in a script: here the primary may be killed
PHP = ["php", str(HERE / "client.php")]


def python(kind):
    return [sys.executable, "-X", "utf8", str(HERE / "client.py"), kind]


def perl(module):
    return ["perl", str(HERE / "client.pl"), module]


PECL = ["php", str(HERE / "memcache.php")]
SPYMEMCACHED = [
    "java", "-cp", "/usr/share/java/bsh.jar:/usr/share/java/spymemcached.jar",
    "bsh.Interpreter", str(HERE / "client.bsh")]


def node(options="{}"):
    """The package is where scripts/test has put it, or where NODE_PATH says."""
    path = os.environ.get("NODE_PATH") or str(
        HERE.parents[2] / "build-npm" / "node_modules")
    return ["env", "NODE_PATH=" + path, "node", str(HERE / "client.js"),
            options]


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
        self.asked = None
        self.log = tempfile.TemporaryFile("a+b")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.process = subprocess.Popen(
                [*command, str(port)], stdin=theirs, stdout=theirs,
                stderr=self.log)
            ours.settimeout(TIMEOUT)
            self.lines = ours.makefile("rwb")

    def send(self, line):
        self.asked = line
        self.lines.write(line.encode() + b"\n")
        self.lines.flush()

    def receive(self):
        """The answer to a line, without the number of the port."""
        try:
            answer = self.lines.readline().decode()
        except TimeoutError:
            raise TimeoutError("no answer to " + self.asked) from None
        assert answer, "ended at %s:\n%s" % (self.asked, self.output())
        return answer.rstrip("\n").replace(self.address, "ADDRESS")

    def ask(self, line):
        self.send(line)
        return self.receive()

    def output(self):
        return written(self.log).decode()

    def title(self):
        return "client %s" % evidence.command_line(self.process.args)

    def evidence(self):
        return evidence.last_lines(self.output()) or "(no output)"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.lines.close()
        self.log.close()


def drive(stage, command, server):
    return stage.add(Driven(command, server.port))


def operations(script):
    text = (HERE / (script + ".txt")).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def compare(stage, name, plain, proxy, at_mark):
    """Play the client's script at both, and call at_mark() at its mark."""
    command, script = CLIENTS[name]
    at_plain, at_proxy = (
        drive(stage, command, server) for server in (plain, proxy))
    for line in operations(script):
        if line == MARK:
            at_mark()
            continue
        at_plain.send(line)
        at_proxy.send(line)
        expected = at_plain.receive()
        assert at_proxy.receive() == expected, line


def keys(server):
    """All keys of a server; none while it makes another list."""
    with server.client() as client:
        text = client.ask(b"lru_crawler metadump hash\r\n")
    return sorted(map(urllib.parse.unquote_to_bytes,
                      re.findall(rb"(?m)^key=(?!magent%3A)(\S+)", text)))


def holds(server):
    """Keys, values, flags and, in hundreds of seconds, times to live."""
    text = server.talk(b"".join(
        b"mg %s k f t v\r\n" % key for key in keys(server)))
    return re.sub(
        rb"(?m)^(VA .* t)(\d+)",
        lambda found: b"%s%d" % (found[1], (int(found[2]) + 50) // 100),
        text.replace(b"EN\r\n", b""))


def check_holds(plain, *servers):
    """They come to hold what the plain memcached holds: not nothing."""
    end = time.monotonic() + 5
    done = False
    while not done:
        expected = [holds(plain)] * len(servers)
        held = [holds(server) for server in servers]
        done = held == expected and held[0] or time.monotonic() > end
    assert held == expected
    assert held[0]


@pytest.mark.parametrize("name", CLIENTS)
def test_client_library_works_as_with_memcached(stage, pair, name):
    """Every operation; the primary and the backup come to hold the same."""
    primary, backup, proxy = pair
    plain = stage.memcached()
    check = functools.partial(check_holds, plain, primary, backup)
    compare(stage, name, plain, proxy, check)
    check()
    assert proxy.stats()["failovers"] == "0"


@pytest.mark.parametrize("name", CLIENTS)
def test_client_library_with_primary_killed_sees_no_error(stage, pair, name):
    """A client object that goes on sees no error and what it has written."""
    primary, backup, proxy = pair
    plain = stage.memcached()
    compare(stage, name, plain, proxy, primary.kill)
    check_holds(plain, backup)
    assert proxy.stats()["failovers"] == "1"


@pytest.mark.parametrize("name", CLIENTS)
def test_client_library_with_primary_restarted_sees_no_error(
        stage, pair, name):
    """The primary is empty, and is filled while the client goes on."""
    primary, backup, proxy = pair
    plain = stage.memcached()
    compare(stage, name, plain, proxy, primary.restart)
    wait_for(lambda: states(proxy) == ["up", "up"], "the return")
    check_holds(plain, primary, backup)
    assert proxy.stats()["failovers"] == "1"


REFUSED = "UNKNOWN READ FAILURE"    # libmemcached's word for it


@pytest.fixture
def within_5_s():
    """Clients of the binary protocol get an answer at once and do not wait."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 5


def test_binary_php_memcached_fails_at_once_and_text_then_works(
        stage, proxy, within_5_s):
    """Each operation fails; the text protocol then does on the same object."""
    php = drive(stage, PHP, proxy)
    php.ask("$c->setOption(Memcached::OPT_BINARY_PROTOCOL, true)")
    assert php.ask("$c->set('a', 1)") == '[false,"%s"]' % REFUSED
    assert php.ask("$c->delete('a')") == '[false,"%s"]' % REFUSED
    assert php.ask("$c->get('a')") == '[false,"NOT FOUND"]'
    assert php.ask("$c->getMulti(['a', 'b'])") == '[[],"NOT FOUND"]'
    php.ask("$c->setOption(Memcached::OPT_BINARY_PROTOCOL, false)")
    assert php.ask("[$c->set('a', 1), $c->get('a')]") == '[[true,1],"SUCCESS"]'


def test_binary_php_session_fails_at_once_and_text_then_works(
        stage, proxy, within_5_s):
    """The default of PHP: sessions do not start, and warn of the lock."""
    php = drive(stage, PHP, proxy)
    for line in operations("php-session")[:3]:
        assert php.ask(line) == '[true,"SUCCESS"]'
    answer = php.ask("[session_id('binary'), session_start(), $_SESSION]")
    assert answer.startswith('[["",false,[]],"SUCCESS",')
    assert "Failed to write session lock: " + REFUSED in answer
    assert "Failed to read session data: memcached (path: ADDRESS)" in answer
    assert php.ask("ini_set('memcached.sess_binary_protocol', 0)") == (
        '["1","SUCCESS"]')
    assert php.ask("session_start()") == '[true,"SUCCESS"]'


def test_binary_pylibmc_fails_at_once(stage, proxy, within_5_s):
    client = drive(stage, python("pylibmc-binary"), proxy)
    for line in 'c.set("a", 1)', 'c.delete("a")', 'c.incr("a")':
        assert client.ask(line).startswith("pylibmc.UnknownReadFailure")
    assert client.ask('c.get("a"), c.get_multi(["a", "b"])') == "(None, {})"


def test_binary_bmemcached_shows_the_refusal_of_magent(
        stage, proxy, within_5_s):
    """This library shows what magent says, on each new connection."""
    client = drive(stage, python("bmemcached"), proxy)
    refusal = (
        "bmemcached.exceptions.MemcachedException: (\"Code: 129 Message: "
        "b'magent: binary protocol not supported, "
        "set memcached.sess_binary_protocol=0'\", 129)")
    assert client.ask('c.set("a", 1)') == refusal
    assert client.ask('c.get("a")') == "None"
    assert client.ask('c.incr("a", 1)') == refusal


# For each library: what it is asked about a key with no server, and what it
# says to it; and the same for a key with one.
TROUBLE_OF_A_KEY = {
    "php-memcached": (PHP, {
        "$c->set('%s', 1)":
            '[false,"SERVER FAILED TO ALLOCATE OBJECT"]',
        "$c->add('%s', 1)":
            '[false,"SERVER FAILED TO ALLOCATE OBJECT"]',
        "$c->increment('%s')": '[false,"CLIENT ERROR"]',
        "$c->touch('%s', 9)": '[false,"CLIENT ERROR"]',
        "$c->delete('%s')": '[false,"CLIENT ERROR"]',
        "$c->get('%s')": '[false,"NOT FOUND"]',
    }, "$c->get('%s')", '["value","SUCCESS"]'),
    "pylibmc": (python("pylibmc"), {
        "c.set('%s', 1)": "pylibmc.Error: error 48",
        "c.incr('%s')": "pylibmc.ClientError",
        "c.delete('%s')": "pylibmc.ClientError",
        "c.get('%s')": "None",
    }, "c.get('%s')", "b'value'"),
    "pecl-memcache": (PECL, {
        "$c->set('%s', 1)": "false",
        "$c->add('%s', 1)": "false",
        "$c->append('%s', 1)": "false",
        "$c->increment('%s')": "false",
        "$c->decrement('%s')": "false",
        "$c->delete('%s')": "false",
        "$c->get('%s')": "false",
    }, "$c->get('%s')", '"value"'),
    "node-memcached": (node(), {
        '["incr", "%s", 1]': '["no server is up for this key",false]',
        '["decr", "%s", 1]': '["no server is up for this key",false]',
        '["touch", "%s", 9]': '["no server is up for this key",false]',
        '["del", "%s"]': '["no server is up for this key",false]',
        '["get", "%s"]': "[null,null]",
    }, '["get", "%s"]', '[null,"value"]'),
}


def with_a_dead_pair(stage):
    """A magent; keys that no server is up for, and that one is up for."""
    servers = stage.memcacheds(2)
    backup = stage.memcached()
    proxy = stage.magent(servers, [backup])
    for i in range(20):
        assert proxy.talk(b"set k%d 0 0 5\r\nvalue\r\n" % i) == b"STORED\r\n"
    dead, live = (keys(server)[0].decode() for server in servers)
    servers[0].kill()
    backup.kill()
    wait_for(lambda: proxy.stats()["uncovered_pairs"] == "1", "the failures")
    return proxy, dead, live


@pytest.mark.parametrize("name", TROUBLE_OF_A_KEY)
def test_error_for_a_key_without_servers_is_not_taken_for_a_dead_magent(
        stage, name):
    """The library fails at that key alone, and goes on at once with others."""
    proxy, dead, live = with_a_dead_pair(stage)
    command, refused, ask, value = TROUBLE_OF_A_KEY[name]
    client = drive(stage, command, proxy)
    assert client.ask(ask % live) == value
    start = time.monotonic()
    connections = int(proxy.stats()["total_connections"])
    for line, answer in refused.items():
        assert client.ask(line % dead).startswith(answer), line
        assert client.ask(ask % live) == value, line
    assert time.monotonic() - start < 5
    assert int(proxy.stats()["total_connections"]) == connections + 1


@pytest.mark.parametrize("client, store, ask, value", [
    (node('{"retry": 100}'), '["set", "%s", "1", 0]', '["get", "%s"]',
     '[null,"value"]'),
    (SPYMEMCACHED, 'c.set("%s", 0, "1").get()', 'c.get("%s")', "value"),
    (SPYMEMCACHED, 'c.delete("%s").get()', 'c.get("%s")', "value"),
], ids=["node-memcached", "spymemcached", "spymemcached-delete"])
def test_library_that_gives_up_at_each_error_is_soon_back(
        stage, client, store, ask, value):
    """At any error of a memcached it leaves the server for a set time."""
    proxy, dead, live = with_a_dead_pair(stage)
    client = drive(stage, client, proxy)
    assert client.ask(ask % live) == value
    assert value not in client.ask(store % dead)
    wait_for(lambda: client.ask(ask % live) == value, "the client", 5)
