"""flush_all is one moment: what was stored before it is gone from all servers,
what is stored after it stays on all of them, and one with a delay is the same
when its time has come."""
import contextlib
import pathlib
import socket
import sys
import threading
import time

import pytest

from lib.net import wait_for
from lib.way import (COUNT, flushes, held, items, put, states, wait_for_states,
                     way)

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "faults"))
from faults import Front, Fronted  # noqa: E402

OK = b"OK\r\n"
NOT_ALLOWED = b"CLIENT_ERROR flush_all not allowed\r\n"
NO_MEMORY = b"SERVER_ERROR out of memory\r\n"
FILLED = [[b"v"]] * COUNT
EMPTY = [[b""]] * COUNT


def values(server, *keys):
    """The value of each key, or None."""
    found = [server.talk(b"get %s\r\n" % key).split(b"\r\n") for key in keys]
    return [words[1] if len(words) > 2 else None for words in found]


def started(stage, primaries, backups=(), *options):
    """A magent that is patient with slow servers, and has found all up."""
    proxy = stage.magent(primaries, backups, "-t", 1000, *options)
    wait_for(lambda: set(states(proxy)) == {"up"}, "all servers to be up")
    return proxy


def failures(proxy):
    return int(proxy.stats()["server_failures"])


def come_back(proxy, server):
    """Restart a server, and wait until it has been missed and is up again."""
    before = failures(proxy)
    server.restart()
    wait_for(lambda: failures(proxy) > before and set(states(proxy)) == {"up"},
             "the server to be up again", 40)


def pair_of(stage, *options):
    primary, backup = stage.memcacheds(2, "-t", "1", *options)
    return primary, backup, started(stage, [primary], [backup])


# One memcached

DATES = {b"$past": -3, b"$now": 0, b"$soon": 4, b"$old": -1000000}
SEQUENCES = [
    [b"flush_all"], [b"flush_all 0 noreply"], [b"flush_all -1"],
    [b"flush_all 1"], [b"flush_all 3"], [b"flush_all 3 noreply"],
    [b"flush_all $soon"], [b"flush_all $now"], [b"flush_all $past"],
    [b"flush_all $old"], [b"flush_all 2592001"],
    [b"flush_all 3", b"flush_all 100"],
    [b"flush_all 100", b"flush_all 3"],
    [b"flush_all 3", b"flush_all noreply"],
    [b"flush_all 3", b"flush_all -1"],
    [b"flush_all 3", b"flush_all $old"],
    [b"flush_all 3", b"flush_all x"],
    [b"flush_all 2147483647", b"flush_all 99999999999", b"flush_all 3"],
]


def lines_of(sequence):
    lines = b"".join(line + b"\r\n" for line in sequence)
    for name, offset in DATES.items():
        lines = lines.replace(name, b"%d" % (int(time.time()) + offset))
    return lines


class Course:
    """The sequences, each sent to a server of its own."""

    def __init__(self, clients):
        self.clients = clients
        self.answers = [[] for _ in SEQUENCES]

    def say(self, lines):
        """Say that to each, or what lines() returns for its sequence."""
        for client, sequence in zip(self.clients, SEQUENCES):
            said = lines(sequence) if callable(lines) else lines
            client.send(said + b"mn\r\n")
        for client, answers in zip(self.clients, self.answers):
            answers.append(client.read_until(b"MN\r\n"))


def seen(speakers):
    """The answers; None if it took too long to say anything."""
    course = Course(speakers)
    course.say(b"flush_all\r\n")       # the end of an earlier one
    time.sleep(1.1)
    course.say(b"set k 0 0 1\r\nv\r\n")
    began = time.monotonic()
    course.say(lines_of)
    course.say(b"get k\r\n")
    # What is stored in a second that is not the one of a flush_all.
    time.sleep(max(0, began + 1.1 - time.monotonic()))
    course.say(b"set n 0 0 1\r\nv\r\n")
    took = time.monotonic() - began
    # The clock of a memcached may be two seconds late for a time of day.
    time.sleep(max(0, began + 6.2 - time.monotonic()))
    course.say(b"get k n\r\nset n 0 0 1\r\nw\r\nget k n\r\n")
    return course.answers if took < 1.9 else None


def test_what_is_dropped_and_when_is_as_with_one_memcached(stage):
    servers = stage.memcacheds(len(SEQUENCES), "-t", "1")
    proxies = [started(stage, [server]) for server in servers]
    for speakers in proxies, servers:
        clients = [stage.client(speaker) for speaker in speakers]
        for _ in range(5):
            answers = seen(clients)
            if answers is not None:
                break
        assert answers is not None, "too slow to say anything"
        if speakers is proxies:
            of_magent = answers
    for sequence, magents, memcacheds in zip(SEQUENCES, of_magent, answers):
        assert magents == memcacheds, sequence


def test_dropped_items_do_not_come_back_with_a_later_flush(stage):
    """memcached forgets a flush_all at the next one, with what is not due; unless
    its LRU thread has taken the item away in between."""
    plain = stage.memcached()
    talk = b"set k 0 0 1\r\nv\r\nflush_all\r\nflush_all 100\r\nget k\r\n"
    assert any(plain.talk(talk).endswith(b"VALUE k 0 1\r\nv\r\nEND\r\n")
               for _ in range(20))
    proxy = pair_of(stage)[2]
    assert proxy.talk(talk) == b"STORED\r\nOK\r\nOK\r\nEND\r\n"


# One moment

def test_delayed_flush_is_kept_by_magent_and_done_at_once(stage):
    """No server is sent anything before its time.  From one answer to the next,
    all that was stored is gone from both; what is stored then stays."""
    primary, backup, proxy = pair_of(stage)
    put(proxy)
    began = time.monotonic()
    with proxy.client() as client:
        assert client.ask(b"flush_all 3\r\n") == OK
        assert flushes(primary, backup) == [0, 0]
        written = 0
        while time.monotonic() - began < 4:
            written += 1
            assert client.ask(b"set n%d 0 0 1\r\nv\r\n" % written) == (
                b"STORED\r\n")
            if written % 50 == 0:
                time.sleep(0.01)
    assert flushes(primary, backup) == [1, 1]
    assert held(primary) == held(backup) == EMPTY
    keys = [b"n%d" % i for i in range(1, written + 1)]
    lines = b"".join(b"get %s\r\n" % key for key in keys)
    kept = proxy.talk(lines)
    assert primary.talk(lines) == backup.talk(lines) == kept
    alive = [key in kept.replace(b" 0 1\r\n", b"\r\n").split(b"\r\n")
             or b"VALUE %s " % key in kept for key in keys]
    first = alive.index(True)
    assert 0 < first and all(alive[first:]), "the moment is one"


def test_flush_does_not_overtake_effects_on_other_links(stage):
    """With -i, the mirror carries out what it was sent on all links first."""
    order = []

    def script(link, line, data):
        if line.startswith(b"set "):
            time.sleep(0.05)
        if line.startswith((b"set ", b"flush_all")):
            order.append(line.split()[0])

    primary, backup = stage.memcached(), stage.fake(script)
    proxy = started(stage, [primary], [backup], "-i", 8)
    with proxy.client() as client:
        for i in range(8):
            client.exchange([b"set k%d 0 0 1\r\nv\r\nflush_all\r\n" % i],
                            b"STORED\r\nOK\r\n")
    assert order == [b"set", b"flush_all"] * 8


def test_flush_during_a_rebuild_leaves_nothing_old(stage):
    primary, backup, proxy = pair_of(stage)
    for i in range(0, 60000, 1000):
        proxy.talk(b"".join(b"set r%d 0 0 1 noreply\r\nv\r\n" % j
                            for j in range(i, i + 1000)))
    primary.restart()
    wait_for(lambda: states(proxy) == ["rebuild", "up"], "the rebuild")
    assert proxy.talk(b"flush_all\r\n") == OK
    assert states(proxy) == ["rebuild", "up"], "it was too late"
    put(proxy)
    wait_for_states(proxy, "up", "up")
    assert held(primary) == held(backup) == held(proxy) == FILLED
    assert items(primary, backup) == [COUNT, COUNT]


def test_delayed_flush_comes_due_during_a_rebuild(stage):
    primary, backup, proxy = pair_of(stage)
    for i in range(0, 100000, 1000):
        proxy.talk(b"".join(b"set r%d 0 0 1 noreply\r\nv\r\n" % j
                            for j in range(i, i + 1000)))
    proxy.talk(b"flush_all 2\r\n")
    wait_for(lambda: time.sleep(0.6) is None, "the time to be near")
    primary.restart()
    wait_for(lambda: flushes(backup) == [1], "its time")
    put(proxy)
    wait_for_states(proxy, "up", "up")
    assert held(primary) == held(backup) == held(proxy) == FILLED
    assert items(primary, backup) == [COUNT, COUNT]


def hang(server, proxy, number):
    """Stop a server, and wait until it is missed."""
    server.stop()
    proxy.talk(b"get " + b" ".join(b"h%d" % i for i in range(20)) + b"\r\n")
    wait_for(lambda: states(proxy)[number] == "down", "it to be missed")


def test_flush_during_invalidation_leaves_nothing_old(stage):
    """A server without cas uniques is emptied for a second: time enough."""
    primary, backup, proxy = pair_of(stage, "-C")
    put(proxy)
    hang(primary, proxy, 0)
    assert proxy.talk(b"flush_all\r\n") == OK
    put(proxy, value=b"o")
    primary.cont()
    wait_for(lambda: states(proxy)[0] == "invalidate", "the invalidation")
    assert proxy.talk(b"flush_all\r\n") == OK
    put(proxy, 10)
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == FILLED[:10] + EMPTY[10:]


def test_flush_during_a_handback_leaves_nothing_old(stage):
    """The partner does not answer the fence of the handback for a while."""
    released = threading.Event()
    listed = threading.Event()

    def hold(line):
        if line.startswith(b"lru_crawler"):
            listed.set()
        if line == b"version\r\n" and listed.is_set():
            assert released.wait(20)

    primary, backup = stage.memcached(), stage.add(Fronted(hold)).start()
    proxy = started(stage, [primary], [backup])
    put(proxy)
    with proxy.client() as client:
        primary.restart()
        wait_for(lambda: states(proxy) == ["handback", "up"], "the handback")
        client.send(b"flush_all\r\nset k0 0 0 1\r\nn\r\n")
        time.sleep(0.1)
        assert states(proxy) == ["handback", "up"]
        released.set()
        assert client.read_line() == OK
        assert client.read_line() == b"STORED\r\n"
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == [[b"n"]] + EMPTY[1:]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("delay", [0, 2])
def test_flush_while_a_server_hangs_is_not_undone_when_it_wakes(
        stage, which, delay):
    *servers, proxy = pair_of(stage)
    put(proxy)
    servers[which].stop()
    assert proxy.talk(b"flush_all %d\r\n" % delay) == OK
    wait_for(lambda: flushes(servers[1 - which]) == [1], "its time")
    put(proxy, 10, b"n")
    servers[which].cont()
    wait_for_states(proxy, "up", "up")
    for server in *servers, proxy:
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["restart", "hang"])
def test_server_that_returns_before_the_time_needs_nothing_special(
        stage, which, how):
    """It gets back what it lacks, loses what was deleted, and drops the same
    as the other one when the time has come."""
    *servers, proxy = pair_of(stage)
    put(proxy)
    assert proxy.talk(b"flush_all 8\r\n") == OK
    if how == "restart":
        servers[which].kill()
        wait_for(lambda: states(proxy)[which] == "down", "it to be missed")
    else:
        hang(servers[which], proxy, which)
    assert proxy.talk(b"set k1 0 0 1\r\nn\r\ndelete k2\r\n") == (
        b"STORED\r\nDELETED\r\n")
    if how == "restart":
        servers[which].start(servers[which].port)
    else:
        servers[which].cont()
    wait_for_states(proxy, "up", "up")
    for server in *servers, proxy:
        assert held(server) == [[b"v"], [b"n"], [b""]] + FILLED[3:]
    assert flushes(*servers) == [0, 0], "too slow to say anything"
    wait_for(lambda: flushes(*servers) == [1, 1], "its time")
    for server in *servers, proxy:
        assert held(server) == EMPTY


def test_server_that_is_away_at_the_time_drops_the_same(stage):
    """It was there when the flush_all was accepted, and hangs until later."""
    primary, backup, proxy = pair_of(stage)
    put(proxy)
    assert proxy.talk(b"flush_all 2\r\n") == OK
    hang(primary, proxy, 0)
    wait_for(lambda: flushes(backup) == [1], "its time")
    put(proxy, 10, b"n")
    primary.cont()
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


@pytest.mark.parametrize("delay", [0, 2])
def test_server_without_partner_that_is_away_drops_the_same(stage, delay):
    servers = stage.memcacheds(2)
    proxy = started(stage, servers)
    put(proxy)
    before = items(*servers)
    assert min(before) > 0
    servers[0].stop()
    assert proxy.talk(b"flush_all %d\r\n" % delay) == OK
    wait_for(lambda: flushes(servers[1]) == [1], "its time")
    servers[0].cont()
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == EMPTY


def test_server_without_partner_keeps_its_items_if_nobody_flushed(stage):
    """It is away, the client is told so, and it returns as it was."""
    server = stage.memcached()
    proxy = started(stage, [server])
    put(proxy)
    hang(server, proxy, 0)
    assert proxy.talk(b"flush_all\r\n") == b"SERVER_ERROR no server is up\r\n"
    server.cont()
    wait_for_states(proxy, "up")
    assert held(proxy) == FILLED


# The end of magent

@pytest.mark.parametrize("options", [[], ["-C"]])
def test_magent_that_is_stopped_forgets_what_is_to_come(stage, options):
    primary, backup, proxy = pair_of(stage, *options)
    put(proxy)
    assert proxy.talk(b"flush_all 2\r\n") == OK
    began = time.monotonic()
    assert proxy.terminate() == 0
    assert time.monotonic() - began < 1
    assert "a flush_all that is not due yet is lost" in proxy.output()
    time.sleep(max(0, began + 2.2 - time.monotonic()))
    assert held(primary) == held(backup) == FILLED
    proxy.start(proxy.port)
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == FILLED


@pytest.mark.parametrize("options", [[], ["-C"]])
def test_magent_that_is_stopped_ends_the_flush_that_is_under_way(
        stage, options):
    primary, backup, proxy = pair_of(stage, *options)
    put(proxy)
    with proxy.client() as client:
        client.send(b"flush_all\r\n")
        wait_for(lambda: flushes(primary, backup) == [1, 1], "both to be asked")
        assert proxy.terminate() == 0
        assert client.read_line() == OK
    assert held(primary) == held(backup) == EMPTY
    proxy.start(proxy.port)


# Refused

def refusing(stage, which):
    servers = [stage.memcached(*["-F"] * (number == which))
               for number in range(2)]
    return (*servers, started(stage, servers[:1], servers[1:]))


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_refusal_of_one_server_is_known_before_anything_is_dropped(
        stage, which, away):
    """Also if that server is away, and was heard of last with -F."""
    *servers, proxy = refusing(stage, which)
    put(proxy)
    if away:
        servers[which].stop()
        hang(servers[which], proxy, which)
    asked = flushes(servers[1 - which])
    for line in b"flush_all", b"flush_all 0", b"flush_all 1", b"flush_all 60":
        began = time.monotonic()
        assert proxy.talk(line + b"\r\n") == NOT_ALLOWED
        assert proxy.talk(line + b" noreply\r\n") == b""
        assert time.monotonic() - began < 0.2
    assert flushes(servers[1 - which]) == asked
    servers[which].cont()
    wait_for_states(proxy, "up", "up")
    for server in *servers, proxy:
        assert held(server) == FILLED


def test_refused_flush_does_not_replace_the_one_to_come(stage):
    """Nor does one that comes when a server refuses by now undo it."""
    primary, backup, proxy = pair_of(stage)
    put(proxy)
    assert proxy.talk(b"flush_all 3\r\n") == OK
    backup.options += ("-F",)
    come_back(proxy, backup)
    assert proxy.talk(b"flush_all 100\r\nflush_all\r\n") == NOT_ALLOWED * 2
    assert held(backup) == FILLED, "too slow to say anything"
    wait_for(lambda: flushes(primary) == [1], "its time")
    put(proxy, 10, b"n")
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


class Refusing:
    """A front refuses flush_all, although its memcached says otherwise."""

    def __init__(self, answer=NOT_ALLOWED):
        self.answer = answer
        self.refuses = True

    def __call__(self, line):
        if self.refuses and line.startswith(b"flush_all"):
            return self.answer
        return None


@pytest.mark.parametrize("answer", [NOT_ALLOWED, b"ERROR\r\n", NO_MEMORY])
@pytest.mark.parametrize("which", [0, 1])
def test_surprising_refusal_leaves_no_server_with_less_than_the_other(
        stage, which, answer):
    """One has dropped its items when the other one refuses: it is filled."""
    refuse = Refusing(answer)
    servers = [stage.memcached(), stage.memcached()]
    servers[which] = stage.add(Fronted(refuse)).start()
    proxy = started(stage, servers[:1], servers[1:])
    put(proxy)
    assert proxy.talk(b"flush_all\r\n") == answer
    assert held(proxy) == FILLED
    wait_for_states(proxy, "up", "up")
    for server in *servers, proxy:
        assert held(server) == FILLED
    asked = flushes(servers[1 - which])
    if answer == NOT_ALLOWED:   # it has been noticed
        assert proxy.talk(b"flush_all\r\n") == NOT_ALLOWED
        assert flushes(servers[1 - which]) == asked
    servers[which].kill()
    assert held(proxy) == FILLED


def test_surprising_refusal_of_some_servers_of_many(stage):
    """Nobody is trusted with less than a partner that has refused."""
    refuse = [Refusing(), Refusing()]
    primaries = [stage.add(Fronted(refuse[0])).start(), *stage.memcacheds(2)]
    backups = [*stage.memcacheds(2), stage.add(Fronted(refuse[1])).start()]
    proxy = started(stage, primaries, backups)
    put(proxy)
    assert proxy.talk(b"flush_all\r\n") == NOT_ALLOWED
    wait_for(lambda: set(states(proxy)) == {"up"}, "all to be up")
    before = held(proxy)
    assert [b""] in before and [b"v"] in before
    for server in primaries[0], backups[2], primaries[1], backups[0]:
        come_back(proxy, server)
        assert held(proxy) == before


def test_surprising_refusal_of_a_server_that_is_being_filled(stage):
    """The one that was trusted has dropped all: so must the other one."""
    primary, backup = stage.memcached(), stage.memcached()
    refuse = Refusing()
    released = threading.Event()

    def hold(line):
        if line.startswith(b"lru_crawler"):
            assert released.wait(20)
        return refuse(line)

    primary = stage.add(Fronted(refuse)).start()
    front = stage.add(Front(backup, lambda line: hold(line)
                            if line.startswith(b"lru_") else None))
    proxy = started(stage, [primary], [front])
    put(proxy)
    primary.restart()
    wait_for(lambda: states(proxy) == ["rebuild", "up"], "the rebuild")
    primary.talk(b"set k0 0 0 1\r\no\r\n")
    assert proxy.talk(b"flush_all\r\n") == NOT_ALLOWED
    released.set()
    put(proxy, 10, b"n")
    refuse.refuses = False
    wait_for(lambda: states(proxy) == ["up", "up"], "both to be up")
    for server in primary, backup, proxy:
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


# Emptied without flush_all

@pytest.mark.parametrize("surprise", [False, True])
def test_server_that_refuses_is_emptied_key_by_key_when_it_returns(
        stage, surprise):
    """It was promised when the server did not refuse yet."""
    refuse = Refusing()
    refuse.refuses = False
    primary = (stage.add(Fronted(refuse)).start() if surprise
               else stage.memcached())
    backup = stage.memcached()
    proxy = started(stage, [primary], [backup])
    for i in range(0, 20000, 1000):
        proxy.talk(b"".join(b"set r%d 0 0 1 noreply\r\nv\r\n" % j
                            for j in range(i, i + 1000)))
    odd = (b"set \xff\xfe%\x01 0 0 1\r\nv\r\nms AAEC 1 b\r\nv\r\nset %s 0 0 1\r\n"
           b"v\r\n").replace(b"%s", b"l" * 250)
    assert proxy.talk(odd) == b"STORED\r\nHD\r\nSTORED\r\n"
    assert proxy.talk(b"flush_all 3\r\n") == OK
    if not surprise:
        primary.options += ("-F",)
        come_back(proxy, primary)
        assert items(primary) == [20003], "too slow to say anything"
    refuse.refuses = True
    wait_for(lambda: flushes(backup) == [1], "its time")
    put(proxy, 10, b"n")
    wait_for(lambda: states(proxy) == ["up", "up"], "it to be back")
    assert "its keys are deleted one by one" in proxy.output()
    for server in primary, backup:
        assert items(server) == [10]
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


def test_stranger_that_refuses_is_emptied_key_by_key(stage):
    """The address leads to another memcached, which was started with -F."""
    other = stage.memcached("-F")
    put(other, value=b"o")
    other.talk(b"set own 0 0 1\r\no\r\n")
    primary, backup = stage.memcacheds(2)
    to_primary = way(stage, primary)
    proxy = started(stage, [to_primary], [backup])
    put(proxy)
    wait_for(lambda: int(other.stats()["uptime"]) > 4, "it to run")
    to_primary.lead_to(other)
    wait_for(lambda: "its keys are deleted one by one" in proxy.output(),
             "it to be emptied")
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == held(other) == FILLED
    assert other.talk(b"get own\r\n") == b"END\r\n"


def test_server_that_refuses_and_lists_nothing_stays_away(stage):
    """Nothing old is read from it; its reason is in the log."""
    other = stage.memcached("-F", "-X")
    put(other, value=b"o")
    primary, backup = stage.memcacheds(2)
    to_primary = way(stage, primary)
    proxy = started(stage, [to_primary], [backup])
    put(proxy)
    wait_for(lambda: int(other.stats()["uptime"]) > 4, "it to run")
    to_primary.lead_to(other)
    wait_for(lambda: "refuses flush_all, and does not list its keys"
             in proxy.output(), "the reason")
    assert held(proxy) == FILLED
    to_primary.lead_to(primary)
    wait_for_states(proxy, "up", "up")
    assert held(proxy) == FILLED


class Stalling(Refusing):
    """Does not list its keys, nor say its version, before it is told to."""

    def __init__(self):
        super().__init__()
        self.refuses = False
        self.is_asked, self.lists = threading.Event(), threading.Event()
        self.speaks = threading.Event()
        self.speaks.set()

    def __call__(self, line):
        if line.startswith(b"lru_crawler"):
            self.is_asked.set()
            assert self.lists.wait(20)
        elif line.startswith(b"version"):
            assert self.speaks.wait(20)
        return super().__call__(line)


def test_list_that_ends_when_its_server_has_failed_is_of_no_use(stage):
    """It was to be emptied key by key, and has gone meanwhile."""
    stalling = Stalling()
    primary, backup = stage.add(Fronted(stalling)).start(), stage.memcached()
    proxy = started(stage, [primary], [backup], "-t", "5000")
    put(proxy)
    assert proxy.talk(b"flush_all 3\r\n") == OK
    stalling.refuses = True
    assert stalling.is_asked.wait(20)
    stalling.speaks.clear()
    *links, lister = primary.front.links
    for link in links:
        with contextlib.suppress(OSError):
            link.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: states(proxy) == ["down", "up"], "the failure")
    stalling.lists.set()
    wait_for(lambda: lister.socket.fileno() == -1, "the list to be read")
    stalling.speaks.set()
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == EMPTY


# Servers without cas uniques

@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
@pytest.mark.parametrize("delay", [0, 2])
def test_what_follows_a_flush_is_kept_without_cas_uniques(stage, which, delay):
    """Such a memcached also drops what comes later in the same second."""
    servers = [stage.memcached(*["-C"] * (number in which))
               for number in range(2)]
    proxy = started(stage, servers[:1], servers[1:])
    put(proxy)
    began = time.monotonic()
    with proxy.client() as client:
        assert client.ask(b"flush_all %d\r\n" % delay) == OK
        if delay:
            wait_for(lambda: flushes(*servers) == [1, 1], "its time")
        else:
            assert time.monotonic() - began < 1.6
        for i in range(COUNT):
            assert client.ask(b"set k%d 0 0 1\r\nn\r\n" % i) == b"STORED\r\n"
        for server in *servers, proxy:
            assert held(server) == [[b"n"]] * COUNT
        time.sleep(1.1)
        for server in *servers, proxy:
            assert held(server) == [[b"n"]] * COUNT


def test_clock_that_stands_still_is_no_reason_to_wait_for_ever(stage):
    """The server is given up, and emptied when it returns."""
    born = time.time()

    class Still(Front):
        still = True

        def identity(self, line):
            if self.still and line == b"stats settings\r\n":
                return b"STAT cas_enabled no\r\nEND\r\n"
            if self.still and line == b"stats\r\n":
                return b"STAT pid 7\r\nSTAT uptime 5\r\nSTAT time %d\r\n" \
                    b"END\r\n" % born
            return None

    primary, backup = stage.memcacheds(2)
    front = stage.add(Still(primary, lambda line: None))
    proxy = started(stage, [front], [backup])
    put(proxy)
    began = time.monotonic()
    assert proxy.talk(b"flush_all\r\n") == OK
    assert time.monotonic() - began < 6
    assert "its clock stands still" in proxy.output()
    put(proxy, 10, b"n")
    assert held(proxy) == [[b"n"]] * 10 + EMPTY[10:]
    front.still = False
    wait_for_states(proxy, "up", "up")
    for server in primary, backup, proxy:
        assert held(server) == [[b"n"]] * 10 + EMPTY[10:]


# Turns

def test_delayed_flushes_of_many_clients_leave_one_to_come(stage):
    """The last one that was answered counts."""
    primary, backup, proxy = pair_of(stage)
    put(proxy)
    clients = [stage.client(proxy) for _ in range(20)]
    for client in clients:
        client.send(b"flush_all 2\r\n" * 10)
    for client in clients:
        for _ in range(10):
            assert client.read_line() == OK
    assert clients[0].ask(b"flush_all 100\r\n") == OK
    time.sleep(2.2)
    assert held(proxy) == FILLED and flushes(primary, backup) == [0, 0]
