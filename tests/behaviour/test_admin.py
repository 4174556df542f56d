"""The words of an operator, by the unix sockets of -f and of --admin."""
import os
import re
import stat
import time

import pytest

from lib.daemon import OSERR
from lib.net import Client, wait_for
from lib.servers import Magent
from lib.way import put, held as values_held
from test_documents import stalled_dump
from test_replace import Replaceable

OK = b"OK\r\n"
USAGE = b"CLIENT_ERROR usage: server ADDR down|up|drain|rebuild\r\n"


def alone(server):
    return (b"SERVER_ERROR no other server has what %s holds\r\n" %
            server.address.encode())


def listening(kind):
    """A magent of this class that listens for its operator, too."""
    class Listening(kind):
        def __init__(self, place, *arguments):
            self.paths = {name: place / name for name in ("f", "admin")}
            super().__init__(*arguments)

        def command(self):
            return [*super().command(), "-f", str(self.paths["f"]),
                    "--admin=%s" % self.paths["admin"]]

        def operator(self, by="admin"):
            return Client(self.paths[by])

        def say(self, server, word, by="admin"):
            with self.operator(by) as client:
                return client.ask(b"server %s %s\r\n" % (
                    server.address.encode(), word.encode()))

        def each(self, what):
            found = self.stats("servers")
            return {found[name.replace(":" + what, ":address")]: value
                    for name, value in found.items()
                    if name.endswith(":" + what)}

        def state(self, server):
            return self.each("state")[server.address]

        def is_held(self, server):
            return self.each("held")[server.address] == "yes"

        def wait_up(self):
            wait_for(lambda: set(self.each("state").values()) == {"up"},
                     "all servers to be up")
            return self

    return Listening


@pytest.fixture
def start(stage, open_directory):
    def start(primaries, backups=(), *options):
        magent = listening(Magent)(open_directory, primaries, backups, "-v",
                                   *options)
        return stage.add(magent).start().wait_up()
    return start


@pytest.fixture
def trio(stage, start):
    primary, backup = stage.memcacheds(2)
    return start([primary], [backup]), primary, backup


# Words

@pytest.mark.parametrize("by", ["f", "admin"])
@pytest.mark.parametrize("word", ["down", "drain"])
@pytest.mark.parametrize("role", ["primary", "backup"])
def test_server_that_is_taken_out_is_held_until_it_is_let_in(
        trio, role, word, by):
    magent, primary, backup = trio
    victim = primary if role == "primary" else backup
    put(magent, 20)
    assert magent.say(victim, word, by) == OK
    assert magent.state(victim) == "down" and magent.is_held(victim)
    assert not magent.is_held(primary if victim is backup else backup)
    assert magent.stats()["servers_down"] == "1"
    assert magent.stats()["uncovered_pairs"] == "0"
    assert magent.stats()["server_failures"] == "0"
    assert values_held(magent, 20) == [[b"v"]] * 20
    put(magent, 20, b"w")
    assert magent.say(victim, "up", by) == OK
    assert not magent.is_held(victim)
    magent.wait_up()
    assert values_held(victim, 20) == [[b"w"]] * 20
    name = re.escape(victim.address)
    assert re.search(r"s %s: held down by the operator" % name,
                     magent.output())
    assert re.search(r"s %s: let in again by the operator" % name,
                     magent.output())
    assert "warning: s %s" % victim.address not in magent.output()


def test_drained_server_has_no_connection_of_magent_and_may_be_stopped(trio):
    magent, primary, backup = trio
    put(magent, 50)
    before = int(primary.stats()["curr_connections"])
    assert magent.say(primary, "drain") == OK
    wait_for(lambda: int(primary.stats()["curr_connections"]) < before,
             "the connection to end")
    primary.restart()
    assert values_held(magent, 50) == [[b"v"]] * 50
    assert magent.say(primary, "up") == OK
    magent.wait_up()
    assert values_held(primary, 50) == [[b"v"]] * 50
    assert magent.stats()["get_misses"] == "0"


@pytest.mark.parametrize("by", ["f", "admin"])
@pytest.mark.parametrize("role", ["primary", "backup"])
def test_rebuild_fills_a_server_anew(trio, role, by):
    """What somebody has written past magent is gone, and what he has deleted
    is back."""
    magent, primary, backup = trio
    victim = primary if role == "primary" else backup
    put(magent, 20)
    victim.talk(b"set k0 0 0 1\r\nx\r\ndelete k1\r\nset other 0 0 1\r\nx\r\n")
    before = magent.each("connects")[victim.address]
    assert magent.say(victim, "rebuild", by) == OK
    wait_for(lambda: magent.each("connects")[victim.address] != before,
             "the return")
    magent.wait_up()
    assert values_held(victim, 20) == [[b"v"]] * 20
    assert victim.talk(b"get other\r\n") == b"END\r\n"
    assert values_held(magent, 20) == [[b"v"]] * 20
    assert not magent.is_held(victim)


def test_held_server_that_is_to_be_rebuilt_is_filled_when_it_is_let_in(trio):
    magent, primary, _ = trio
    put(magent, 20)
    assert magent.say(primary, "down") == OK
    primary.talk(b"set other 0 0 1\r\nx\r\n")
    assert magent.say(primary, "rebuild") == OK
    assert magent.is_held(primary) and magent.state(primary) == "down"
    assert magent.say(primary, "up") == OK
    magent.wait_up()
    assert values_held(primary, 20) == [[b"v"]] * 20
    assert primary.talk(b"get other\r\n") == b"END\r\n"


@pytest.mark.parametrize("by", ["f", "admin"])
def test_scrub_begins_a_pass(trio, by):
    magent, _, backup = trio
    put(magent, 20)
    backup.talk(b"set k0 0 0 1\r\nx\r\n")
    passes = int(magent.stats()["scrub_passes"])
    with magent.operator(by) as client:
        assert client.ask(b"scrub\r\n") == OK
    wait_for(lambda: int(magent.stats()["scrub_passes"]) > passes, "a pass")
    assert values_held(backup, 1) == [[b"v"]]
    assert "keys per second: the operator" in magent.output()


def test_words_may_be_said_again(trio):
    magent, primary, _ = trio
    assert magent.say(primary, "up") == OK
    for word in "down", "drain", "down":
        assert magent.say(primary, word) == OK
        assert magent.is_held(primary)
    for _ in range(2):
        assert magent.say(primary, "up") == OK
    magent.wait_up()


def test_server_that_has_failed_before_is_held_and_let_in(trio):
    magent, primary, _ = trio
    primary.kill()
    wait_for(lambda: magent.state(primary) == "down", "the failure")
    for word in "down", "drain":
        assert magent.say(primary, word) == OK
        assert magent.is_held(primary)
        if word == "down":
            assert magent.say(primary, "up") == OK
            assert not magent.is_held(primary)
    primary.start(primary.port)
    time.sleep(0.5)     # time to connect
    assert magent.state(primary) == "down"
    assert magent.say(primary, "up") == OK
    magent.wait_up()


# Errors

ERRORS = [
    (b"server", USAGE), (b"server 127.0.0.1:1", USAGE), (b"server up", USAGE),
    (b"server 127.0.0.1:1 away", USAGE),
    (b"server 127.0.0.1:1 up now", USAGE),
    (b"server 127.0.0.1:1 UP", USAGE),
    (b"server 127.0.0.1:1 up", b"CLIENT_ERROR no server 127.0.0.1:1\r\n"),
    (b"server  x%n  down ", b"CLIENT_ERROR no server x%n\r\n"),
    (b"server " + 1500 * b"a" + b" up",
     b"CLIENT_ERROR no server " + 399 * b"a" + b"\r\n"),
    (b"scrub now", b"CLIENT_ERROR usage: scrub\r\n"),
    (b"servers", b"ERROR\r\n"), (b"serve x up", b"ERROR\r\n"),
    (b"server\0 x up", b"CLIENT_ERROR bad command line format\r\n"),
    (b"slabs automove 1", b"CLIENT_ERROR command not allowed\r\n"),
]


@pytest.mark.parametrize("by", ["f", "admin"])
def test_errors_are_said_clearly(trio, by):
    magent, primary, _ = trio
    with magent.operator(by) as client:
        for line, reply in ERRORS:
            assert client.talk(line + b"\r\n") == reply, line
    assert set(magent.each("held").values()) == {"no"}


def test_address_may_be_as_on_the_command_line(trio):
    magent, primary, _ = trio
    for address in primary.address, primary.address + ":7":
        with magent.operator() as client:
            assert client.ask(b"server %s up\r\n" % address.encode()) == OK


def test_clients_by_tcp_say_nothing_of_the_kind(trio):
    """The same answers as those of memcached, and nothing happens."""
    magent, primary, backup = trio
    for word in b"down", b"up", b"drain", b"rebuild", b"away":
        for server in primary, backup:
            assert magent.talk(b"server %s %s\r\n" % (
                server.address.encode(), word)) == b"ERROR\r\n"
    assert magent.talk(b"server\r\nscrub\r\nscrub now\r\n") == 3 * b"ERROR\r\n"
    assert set(magent.each("held").values()) == {"no"}
    assert set(magent.each("state").values()) == {"up"}
    assert magent.stats()["scrub_passes"] == "0"
    assert "operator" not in magent.output()


@pytest.mark.parametrize("word", ["down", "drain", "rebuild"])
def test_server_without_a_partner_stays(stage, start, word):
    server = stage.memcached()
    magent = start([server])
    assert magent.say(server, word) == alone(server)
    assert magent.state(server) == "up"
    assert "s %s: %s by the operator is refused" % (
        server.address, word) in magent.output()
    with magent.operator() as client:
        assert client.ask(b"scrub\r\n") == (
            b"SERVER_ERROR no key has two servers\r\n")


@pytest.mark.parametrize("word", ["down", "drain", "rebuild"])
def test_server_whose_partner_is_away_stays(trio, word):
    magent, primary, backup = trio
    assert magent.say(backup, "down") == OK
    assert magent.say(primary, word) == alone(primary)
    assert magent.state(primary) == "up"
    assert magent.say(backup, "up") == OK
    magent.wait_up()
    assert magent.say(primary, word) == OK


@pytest.mark.parametrize("word", ["down", "drain", "rebuild"])
def test_server_stays_while_its_partner_is_being_rebuilt(stage, start, word):
    primary = stage.memcached()
    backup = stage.fake(stalled_dump)
    magent = start([primary], [backup])
    primary.restart()
    wait_for(lambda: magent.state(primary) == "rebuild", "the rebuild")
    assert magent.say(backup, word) == alone(backup)
    assert magent.state(backup) == "up"


def test_primary_that_is_its_own_backup_only_stays(stage, start):
    """Its own keys have no other server, though it has a partner."""
    first, second = stage.memcacheds(2)
    magent = start([first, second], [first])
    assert magent.say(first, "drain") == alone(first)
    assert magent.say(second, "drain") == OK


def test_one_of_each_pair_of_four_may_be_away(stage, start):
    primaries, backups = stage.memcacheds(2), stage.memcacheds(2)
    magent = start(primaries, backups)
    put(magent, 200)
    for server in primaries:
        assert magent.say(server, "drain") == OK
    for server in backups:
        assert magent.say(server, "drain") == alone(server)
    assert magent.stats()["uncovered_pairs"] == "0"
    assert values_held(magent) == [[b"v"]] * 200
    for server in primaries:
        assert magent.say(server, "up") == OK
    magent.wait_up()


# Order

def test_words_in_pieces_are_answered_in_their_order(trio):
    magent, primary, backup = trio
    address = primary.address.encode()
    lines = (b"set a 0 0 1\r\nv\r\n"
             b"server %s drain\r\nget a\r\nserver %s up\r\nscrub\r\n"
             b"server %s nonsense\r\nserver x down\r\nget a b\r\n" % (
                 (address,) * 3))
    hit = b"VALUE a 0 1\r\nv\r\nEND\r\n"
    replies = (b"STORED\r\n" + OK + hit + OK + OK + USAGE +
               b"CLIENT_ERROR no server x\r\n" + hit)
    for by in "f", "admin":
        for size in 1, 7, len(lines):
            magent.wait_up()
            pieces = [lines[at:at + size]
                      for at in range(0, len(lines), size)]
            with magent.operator(by) as client:
                assert client.exchange([*pieces, b"mn\r\n"], b"MN\r\n") == (
                    replies + b"MN\r\n")
    magent.wait_up()


def at_once(magent, words):
    """The answers to these, each said by somebody else at the same time."""
    clients = [magent.operator() for _ in words]
    for client, (server, word) in zip(clients, words):
        client.send(b"server %s %s\r\n" % (server.address.encode(),
                                           word.encode()))
    answers = [client.read_line() for client in clients]
    for client in clients:
        client.close()
    return answers


def test_only_one_of_two_partners_is_drained_at_once(trio):
    magent, primary, backup = trio
    answers = at_once(magent, [(primary, "drain"), (backup, "drain")])
    assert sorted(answers) in ([OK, alone(primary)], [OK, alone(backup)])
    assert sorted(magent.each("held").values()) == ["no", "yes"]


def test_server_may_be_drained_twice_at_once(trio):
    magent, primary, _ = trio
    assert at_once(magent, 3 * [(primary, "drain")]) == 3 * [OK]
    assert at_once(magent, [(primary, "up"), (primary, "up")]) == 2 * [OK]
    magent.wait_up()
    assert at_once(magent, [(primary, "drain"), (primary, "down")]) == 2 * [OK]
    assert magent.is_held(primary)


def test_operator_who_leaves_before_the_answer_does_no_harm(trio):
    magent, primary, backup = trio
    with magent.operator() as client:
        client.send(b"server %s drain\r\n" % primary.address.encode())
    wait_for(lambda: magent.is_held(primary), "the end")
    assert magent.say(primary, "up") == OK
    magent.wait_up()


# Servers that fail meanwhile

def test_drain_of_a_server_that_hangs_ends_in_time(stage, trio):
    magent, primary, _ = trio
    put(magent, 20)
    primary.stop()
    try:
        began = time.monotonic()
        assert magent.say(primary, "drain") == OK
        assert time.monotonic() - began < 5
        assert magent.is_held(primary)
        assert values_held(magent, 20) == [[b"v"]] * 20
        put(magent, 20, b"w")
    finally:
        primary.cont()
    assert magent.say(primary, "up") == OK
    magent.wait_up()
    assert values_held(primary, 20) == [[b"w"]] * 20


def test_drain_beside_a_partner_that_hangs_is_refused(trio):
    magent, primary, backup = trio
    put(magent, 20)
    backup.stop()
    try:
        assert magent.say(primary, "drain") == alone(primary)
        assert magent.state(primary) == "up"
        assert values_held(magent, 20) == [[b"v"]] * 20
    finally:
        backup.cont()
    magent.wait_up()


def test_partner_of_a_held_server_that_fails_leaves_what_two_down_leave(trio):
    magent, primary, backup = trio
    put(magent, 20)
    assert magent.say(primary, "drain") == OK
    backup.kill()
    wait_for(lambda: magent.state(backup) == "down", "the failure")
    assert magent.stats()["uncovered_pairs"] == "1"
    assert magent.talk(b"get k0\r\n") == b"END\r\n"
    assert magent.talk(b"set k0 0 0 1\r\nx\r\n").startswith(b"SERVER_ERROR")
    time.sleep(0.5)     # time to connect to the one that is held
    assert magent.state(primary) == "down"
    assert magent.say(primary, "up") == OK
    wait_for(lambda: magent.state(primary) == "up", "the return")
    assert values_held(magent, 20) == [[b"v"]] * 20
    backup.start(backup.port)
    magent.wait_up()
    assert values_held(backup, 20) == [[b"v"]] * 20


def test_held_server_is_not_connected_to_after_a_rest(trio):
    """A magent that begins to serve tries the servers that are down."""
    magent, primary, _ = trio
    assert magent.say(primary, "drain") == OK
    before = primary.stats()["total_connections"]
    for _ in range(2):
        time.sleep(1.2)     # a rest
        assert magent.talk(b"get a\r\n") == b"END\r\n"
    assert magent.state(primary) == "down"
    assert int(primary.stats()["total_connections"]) == int(before) + 1


# From one magent to the next

@pytest.fixture
def replaceable(stage, open_directory):
    primary, backup = stage.memcacheds(2)
    magent = listening(Replaceable)(open_directory, [primary], [backup],
                                    open_directory / "options", "-v")
    stage.add(magent)
    magent.path.write_text("")
    return magent.start().wait_up(), primary, backup


def test_held_server_stays_so_when_magent_is_replaced(replaceable):
    magent, primary, backup = replaceable
    put(magent, 20)
    assert magent.say(primary, "drain") == OK
    with magent.operator() as operator:
        for _ in range(3):
            magent.replace()
            assert magent.is_held(primary)
            assert magent.state(primary) == "down"
            wait_for(lambda: magent.state(backup) == "up", "the partner")
        put(magent, 20, b"w")
        # By the connection of before.
        assert operator.ask(b"server %s up\r\n" % primary.address.encode()) \
            == OK
    magent.wait_up()
    assert values_held(primary, 20) == [[b"w"]] * 20
    magent.replace()
    assert not magent.is_held(primary)
    magent.wait_up()


def test_restart_forgets_who_was_held(trio):
    magent, primary, _ = trio
    assert magent.say(primary, "drain") == OK
    assert magent.terminate() == 0
    magent.start(magent.port)
    assert not magent.is_held(primary)
    magent.wait_up()


def test_file_of_the_socket_is_made_anew_when_magent_is_replaced(replaceable):
    magent, primary, _ = replaceable
    magent.paths["admin"].unlink()
    magent.replace()
    assert magent.say(primary, "up") == OK


def test_socket_that_others_may_use_does_not_become_that_of_the_operator(
        stage, open_directory):
    server = stage.memcached()
    path = open_directory / "options"
    public, free = open_directory / "public", open_directory / "free"
    magent = stage.add(Replaceable([server], [], path))
    path.write_text("socket %s\n" % public)
    magent.start()
    path.write_text("admin %s\n" % public)
    assert magent.refuse() == "cannot listen on %s: others may use it" % public
    path.write_text("admin %s\n" % free)
    magent.replace()
    assert not public.exists() and stat.S_IMODE(os.stat(free).st_mode) == 0o600
    with Client(free) as client:
        assert client.ask(b"server x up\r\n") == b"CLIENT_ERROR no server x\r\n"


# The socket

def test_socket_of_the_operator_serves_as_any_other_one(trio):
    magent, _, _ = trio
    with magent.operator() as client:
        assert client.talk(b"set u 0 0 1\r\nv\r\nget u\r\n") == \
            b"STORED\r\nVALUE u 0 1\r\nv\r\nEND\r\n"


def test_socket_of_the_operator_is_private_and_is_removed_at_the_end(trio):
    magent, _, _ = trio
    modes = {name: stat.S_IMODE(os.stat(path).st_mode)
             for name, path in magent.paths.items()}
    assert modes == {"f": 0o777, "admin": 0o600}
    assert magent.terminate() == 0
    assert not any(path.exists() for path in magent.paths.values())
    magent.start(magent.port)
    # It answers on its port before it listens on them.
    wait_for(lambda: all(path.exists() for path in magent.paths.values()),
             "both to be there")


@pytest.mark.usefixtures("reaper")
def test_one_path_is_not_for_both(run, open_directory):
    path = open_directory / "socket"
    magent = run("-f", path, "--admin=%s" % path)
    assert magent.wait() == 64
    assert "magent: --admin: is the path of -f" in magent.output()


@pytest.mark.usefixtures("reaper")
def test_path_of_the_operator_in_use_is_an_error(run, open_directory):
    path = open_directory / "file"
    path.write_text("precious")
    magent = run("--admin=%s" % path)
    assert magent.wait() == OSERR
    assert "cannot listen on %s" % path in magent.output()
    assert path.read_text() == "precious"
