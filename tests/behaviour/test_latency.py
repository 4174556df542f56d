"""stats latency: how long commands take, and servers to answer."""
import signal
import time

import pytest

from lib.net import wait_for
from lib.way import states

HELD = 0.3      # seconds
COMMANDS = {
    "get": [b"get a\r\n", b"gets a b c\r\n"],
    "set": [b"set a 0 0 1\r\nx\r\n", b"cas a 0 0 1 1\r\nx\r\n",
            b"append a 0 0 1\r\nx\r\n"],
    "delete": [b"delete a\r\n"],
    "counter": [b"incr a 1\r\n", b"decr a 1\r\n"],
    "touch": [b"touch a 0\r\n", b"gat 0 a\r\n"],
    "meta": [b"mg a\r\n", b"ms a 1\r\nx\r\n", b"md a\r\n", b"ma a\r\n"],
}


def slow(link, line, data):
    """Answers this key late."""
    if line.startswith(b"get slow"):
        time.sleep(HELD)


@pytest.fixture
def held(stage):
    """A magent before a server that is slow with one key."""
    magent = stage.magent([stage.fake(slow)], [], "-t", 5000)
    wait_for(lambda: states(magent) == ["up"], "the server")
    return magent


def times(magent, what):
    return {name.split(":")[1]: int(value)
            for name, value in magent.stats("latency").items()
            if name.startswith(what + ":") and value.isdigit()}


def test_time_that_a_server_takes_is_that_of_the_command_too(held):
    for key in (b"slow", b"fast", b"fast"):
        assert held.talk(b"get %s\r\n" % key) == b"END\r\n"
    for found, most in ((times(held, "get"), 3), (times(held, "0"), 1000)):
        assert 3 <= found["count"] <= most
        assert HELD * 1e6 <= found["mean_us"] * found["count"]
        assert found["p50_us"] < 2e5 <= found["p999_us"]


def test_commands_behind_a_slow_one_have_waited_as_long(held):
    """What is seen is what the client sees: replies keep their order."""
    with held.client() as client:
        client.exchange([40 * b"get fast\r\n"], 40 * b"END\r\n")
        held.talk(b"stats reset\r\n")     # and more are in flight at once
        client.send(b"get slow\r\n" + 9 * b"get fast\r\n")
        client.read_exactly(10 * len(b"END\r\n"))
    assert times(held, "get")["count"] == 10
    assert times(held, "get")["p50_us"] > 2e5


@pytest.mark.parametrize("kind", COMMANDS)
def test_each_command_is_of_one_kind(stage, kind):
    magent = stage.magent(stage.memcacheds(1), stage.memcacheds(1))
    for line in COMMANDS[kind]:
        magent.talk(line)
    assert {name: times(magent, name)["count"] for name in COMMANDS} == {
        name: len(COMMANDS[kind]) * (name == kind) for name in COMMANDS}
    for line in (b"version\r\n", b"mn\r\n", b"nonsense\r\n"):
        magent.talk(line)
    assert sum(times(magent, name)["count"] for name in COMMANDS) == len(
        COMMANDS[kind])
    magent.talk(b"stats reset\r\n")
    assert times(magent, kind) == dict.fromkeys(times(magent, kind), 0)
    assert times(magent, "0")["count"] > 0


def test_replies_that_nobody_wants_are_counted(stage):
    magent = stage.magent(stage.memcacheds(1), [])
    with magent.client() as client:
        client.ask(b"set a 0 0 1 noreply\r\nx\r\nmg b q\r\nget a\r\n")
    for kind in ("set", "meta", "get"):
        assert times(magent, kind)["count"] == 1


def test_another_program_goes_on_counting(stage):
    magent = stage.magent(stage.memcacheds(1), [])
    magent.talk(b"get a\r\n")
    before = times(magent, "get"), times(magent, "0")
    magent.signal(signal.SIGHUP)
    wait_for(lambda: magent.stats()["proxy_config_reloads"] == "1",
             "the other program")
    assert times(magent, "get") == before[0]
    assert times(magent, "0")["count"] >= before[1]["count"]


def reads(magent):
    """Hits and misses of the first server."""
    stats = magent.stats("servers")
    return int(stats["0:hits"]), int(stats["0:misses"])


@pytest.mark.parametrize("version", ["1.6.18", "1.4.25"])
@pytest.mark.parametrize("line, found", [
    (b"get a\r\n", (1, 0)), (b"gets b\r\n", (0, 1)),
    (b"get a b c a\r\n", (2, 2)), (b"mg a v\r\n", (1, 0)),
    (b"mg a\r\n", (1, 0)), (b"mg b v\r\n", (0, 1)),
    (b"set c 0 0 1\r\nx\r\n", (0, 0)), (b"delete b\r\n", (0, 0))])
def test_keys_that_are_read_are_counted_at_their_server(
        stage, version, line, found):
    """Of a server before the meta commands, too."""
    def has_a(_, asked, __):
        words = asked.split()
        if words[0] in (b"get", b"gets"):
            cas = b" 7" if words[0] == b"gets" else b""
            return b"".join(b"VALUE a 0 1%s\r\nx\r\n" % cas
                            for word in words[1:] if word == b"a") + b"END\r\n"
        if words[0] == b"mg" and words[1] == b"a":
            value = b"v" in words[2:]
            flags = b"".join(b" " + word for word in words[2:]
                             if word[:1] in b"Ok")
            return b"VA 1%s\r\nx\r\n" % flags if value else (
                b"HD%s\r\n" % flags)
        return None

    magent = stage.magent([stage.fake(has_a, version=version)], [])
    wait_for(lambda: states(magent) == ["up"], "the server")
    magent.talk(line)
    assert reads(magent) == found


@pytest.mark.parametrize("line", [
    b"get a\r\n", b"get a b\r\n", b"mg a v\r\n"])
def test_error_is_no_read(stage, line):
    magent = stage.magent([stage.fake(
        lambda *_: b"SERVER_ERROR out of memory\r\n")], [])
    wait_for(lambda: states(magent) == ["up"], "the server")
    magent.talk(line)
    assert reads(magent) == (0, 0)


def test_value_that_is_too_large_for_magent_is_no_miss(stage):
    server = stage.memcached("-I", "4m")
    magent = stage.magent([server], [])
    server.talk(b"set large 0 0 3000000\r\n%s\r\n" % (3000000 * b"x"))
    assert b"SERVER_ERROR" in magent.talk(b"get large other\r\n")
    assert reads(magent) == (0, 1)
