"""A primary that dies, hangs or never came: the backup answers for it."""
import time

import pytest

from differential import Names, first_difference
from lib.net import free_port, wait_for

SERVER_ERROR = b"SERVER_ERROR"
# State before the fault; requests after it must be answered from it.
BEFORE = (b"set a 5 0 2\r\n41\r\nset b 0 500 3\r\nabc\r\nincr a 1\r\n"
          b"append b 0 0 1\r\nd\r\nset gone 0 0 1\r\nx\r\ndelete gone\r\n")
AFTER = [
    b"get a", b"get a none b gone", b"gets none", b"gat 0 a b",
    b"set c 1 0 2\r\nxy", b"get c", b"add c 0 0 1\r\nz", b"add d 0 0 1\r\n5",
    b"replace b 0 0 2\r\nqq", b"append b 0 0 1\r\n!", b"prepend b 0 0 1\r\n?",
    b"get b", b"incr a 5", b"decr a 7", b"incr none 1", b"touch a 0",
    b"touch none 0", b"delete c", b"delete gone", b"get c",
    b"mg a v f s t", b"mg none v k", b"ms m 2 T0\r\n77", b"ma m v", b"md m q",
    b"mg m", b"ms a 1 q\r\n1", b"mg a v", b"me none", b"mn",
    b"set a 0 0 1 noreply\r\n9", b"incr a 1 noreply", b"get a",
    b"delete a noreply", b"get a", b"flush_all", b"get b"]


class Absent:
    """A server that nobody has started."""

    def __init__(self):
        self.port = free_port()
        self.address = "127.0.0.1:%d" % self.port


def answers(client):
    return [client.talk(request + b"\r\n", b"md marker O5\r\n", b"NF O5\r\n")
            for request in AFTER]


def check(stage, client):
    """The client is answered as if there had been no fault."""
    plain = stage.memcached()
    plain.talk(BEFORE)
    for request, expected, got in zip(
            AFTER, answers(stage.client(plain)), answers(client)):
        assert first_difference(expected, got, Names()) is None, (
            request, expected, got)


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_commands_with_primary_lost_are_answered_as_before(stage, pair, fault):
    primary, _, proxy = pair
    client = stage.client(proxy)
    client.talk(BEFORE)
    getattr(primary, fault)()
    check(stage, client)


@pytest.mark.parametrize("silent", [False, True])
def test_commands_with_primary_never_there_are_answered(stage, silent):
    """Refused, or accepted and never answered."""
    primary = stage.fake(lambda link, *_: link.hang()) if silent else Absent()
    if silent:
        primary.identity = lambda line: None
    proxy = stage.magent([primary], [stage.memcached()])
    client = stage.client(proxy)
    client.talk(BEFORE)
    check(stage, client)


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_commands_with_backup_lost_are_answered_as_before(stage, pair, fault):
    _, backup, proxy = pair
    client = stage.client(proxy)
    client.talk(BEFORE)
    getattr(backup, fault)()
    check(stage, client)


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_commands_after_the_first_do_not_wait_for_lost_primary(pair, fault):
    """After a server was found down nothing waits for it."""
    primary, _, proxy = pair
    proxy.talk(BEFORE)
    getattr(primary, fault)()
    with proxy.client() as client:
        start = time.monotonic()
        client.talk(b"get a\r\n")
        assert time.monotonic() - start < 2
        start = time.monotonic()
        for _ in range(200):
            client.talk(b"set a 0 0 1\r\nx\r\nget a\r\n")
        assert time.monotonic() - start < 2


def test_hung_primary_with_option_t_fails_over_after_that_time(stage):
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 1000)
    proxy.talk(BEFORE)
    primary.stop()
    start = time.monotonic()
    assert proxy.talk(b"get a\r\n") == b"VALUE a 5 2\r\n42\r\nEND\r\n"
    assert 0.9 < time.monotonic() - start < 3


def test_magent_that_stalled_itself_blames_no_server(stage, pair):
    """Replies that wait when it wakes are read before the clock is."""
    _, _, proxy = pair
    client = stage.client(proxy)
    client.talk(BEFORE)
    client.send(b"get a\r\nset a 0 0 1\r\nx\r\n" * 1000)
    proxy.stop()
    time.sleep(0.6)     # over the timeout
    proxy.cont()
    assert client.talk(b"").endswith(b"STORED\r\n")
    assert proxy.stats()["server_failures"] == "0"


def test_hung_primary_without_requests_is_found_by_the_probe(pair):
    primary, _, proxy = pair
    proxy.talk(BEFORE)
    before = int(proxy.stats()["failovers"])
    primary.stop()
    wait_for(lambda: int(proxy.stats()["failovers"]) > before, "the probe")
    start = time.monotonic()
    assert proxy.talk(b"get a\r\n") == b"VALUE a 5 2\r\n42\r\nEND\r\n"
    assert time.monotonic() - start < 0.2


def test_writes_in_flight_at_hung_primary_keep_order_on_backup(stage, pair):
    """What the hung primary did not answer happens on the backup, in order."""
    primary, _, proxy = pair
    clients = [stage.client(proxy) for _ in range(3)]
    clients[0].talk(b"set n 0 0 1\r\n0\r\nset k 0 0 1\r\n0\r\n")
    primary.stop()
    for client in clients:
        client.send(b"".join(b"incr n 1\r\nset k 0 0 %d\r\n%d\r\nget k\r\n"
                             % (len(b"%d" % i), i) for i in range(100)))
    numbers = []
    for client in clients:
        lines = client.talk(b"").split(b"\r\n")
        assert lines.count(b"STORED") == 100 and lines.count(b"END") == 100
        mine = [int(line) for line in lines[0:-1:5]]
        assert mine == sorted(mine)
        numbers += mine
    assert sorted(numbers) == list(range(1, 301))
    assert clients[0].talk(b"get k\r\n").split()[4] == b"99"


def both_down(stage, *options):
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], *options)
    proxy.talk(BEFORE)
    primary.kill()
    backup.kill()
    client = stage.client(proxy)
    client.talk(b"get a\r\n")
    return client


READS = {b"get a\r\n": b"END\r\n", b"gets a\r\n": b"END\r\n",
         b"get a b\r\n": b"END\r\n", b"mg a v k O1\r\n": b"EN ka O1\r\n",
         b"mg a q v\r\n": b""}
NO_MEMORY = b"SERVER_ERROR out of memory storing object\r\n"
NO_SERVER = b"CLIENT_ERROR no server is up for this key\r\n"
NO_SERVER_META = b"SERVER_ERROR no server is up for this key\r\n"
WRITES = {
    b"set a 0 0 1%s\r\nx\r\n": NO_MEMORY,
    b"add n 0 0 1%s\r\nx\r\n": NO_MEMORY,
    b"replace a 0 0 1%s\r\nx\r\n": NO_MEMORY,
    b"append a 0 0 1%s\r\nx\r\n": NO_MEMORY,
    b"prepend a 0 0 1%s\r\nx\r\n": NO_MEMORY,
    b"cas a 0 0 1 1%s\r\nx\r\n": NO_MEMORY,
    b"incr a 1%s\r\n": NO_SERVER, b"decr a 1%s\r\n": NO_SERVER,
    b"touch a 0%s\r\n": NO_SERVER, b"delete a%s\r\n": NO_SERVER,
    b"flush_all%s\r\n": b"SERVER_ERROR no server is up\r\n"}
META_WRITES = {
    b"ms a 1\r\nx\r\n": NO_MEMORY, b"md a\r\n": NO_SERVER_META,
    b"ma a\r\n": NO_SERVER_META, b"mg a N30\r\n": NO_SERVER_META,
    b"mg a v k q N30 O1\r\n": NO_SERVER_META}


def test_reads_with_both_servers_down_miss(stage):
    client = both_down(stage)
    for request, expected in READS.items():
        assert client.talk(request) == expected, request


def test_writes_with_both_servers_down_are_refused(stage):
    """Also a mg that would make the key; see test_real_clients.py, too."""
    client = both_down(stage)
    for request, refusal in WRITES.items():
        assert client.talk(request % b"") == refusal, request
        assert client.talk(request % b" noreply") == b"", request
    for request, refusal in META_WRITES.items():
        assert client.talk(request) == refusal, request


def test_reads_with_both_down_and_on_down_error_are_refused(stage):
    client = both_down(stage, "--on-down=error")
    for request in READS:
        reply = client.talk(request)
        assert reply.startswith(SERVER_ERROR), request
        assert reply.count(b"\r\n") == 1


def test_commands_with_both_servers_down_do_not_wait(stage):
    client = both_down(stage)
    start = time.monotonic()
    for _ in range(500):
        client.talk(b"get a\r\nset a 0 0 1\r\nx\r\n")
    assert time.monotonic() - start < 2


def test_magent_started_without_servers_answers(stage):
    proxy = stage.magent([Absent()])
    assert proxy.talk(b"get k\r\n") == b"END\r\n"
    assert proxy.talk(b"set k 0 0 1\r\nx\r\n").startswith(SERVER_ERROR)
    assert proxy.talk(b"version\r\n").startswith(b"VERSION 1.")


def test_server_started_after_magent_is_used(stage):
    later = stage.memcached()
    later.kill()
    proxy = stage.magent([later])
    with proxy.client() as client:
        client.talk(b"get k\r\n")
        later.start(later.port)
        wait_for(lambda: client.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n",
                 "the server to be used")
        assert client.talk(b"get k\r\n") == b"VALUE k 0 1\r\nx\r\nEND\r\n"


def test_servers_of_a_pair_that_nobody_answers_for_are_tried_all_the_time(
        stage):
    """However long that lasts; one with a partner that is up has time."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    with proxy.client() as client:
        assert client.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
        primary.kill()
        backup.kill()
        # With waits that double, the next try would be 3 s later.
        time.sleep(8)
        backup.start(backup.port)
        started = time.monotonic()
        wait_for(lambda: client.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n",
                 "the backup to be used")
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_multiget_with_one_of_four_servers_lost_returns_the_others(
        stage, fault):
    servers = stage.memcacheds(4)
    proxy = stage.magent(servers)
    keys = [b"key:%d" % i for i in range(100)]
    proxy.talk(b"".join(b"set %s 0 0 1\r\nx\r\n" % key for key in keys))
    lost = set(servers[1].talk(b"get %s\r\n" % b" ".join(keys)).split())
    getattr(servers[1], fault)()
    with proxy.client() as client:
        for _ in range(3):
            assert client.talk(b"get %s\r\n" % b" ".join(keys)) == b"".join(
                b"VALUE %s 0 1\r\nx\r\n" % key for key in keys
                if key not in lost) + b"END\r\n"


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_multiget_with_two_primaries_lost_is_whole(stage, fault):
    servers = stage.memcacheds(5)
    proxy = stage.magent(servers[:4], servers[4:])
    keys = [b"key:%d" % i for i in range(100)]
    request = b"get %s\r\n" % b" ".join(keys)
    proxy.talk(b"".join(b"set %s 0 0 1\r\nx\r\n" % key for key in keys))
    whole = proxy.talk(request)
    assert whole.count(b"VALUE") == 100
    with proxy.client() as client:
        client.send(request * 20)
        getattr(servers[1], fault)()
        getattr(servers[2], fault)()
        assert client.talk(request) == whole * 21


def test_primary_that_is_the_only_backup_has_no_backup_itself(stage):
    one, two = stage.memcacheds(2)
    proxy = stage.magent([one, two], [one])
    assert proxy.stats()["uncovered_pairs"] == "0"
    one.kill()
    wait_for(lambda: proxy.stats()["uncovered_pairs"] == "1",
             "the keys of the first to be without a server")
    one.start(one.port)
    wait_for(lambda: proxy.stats()["uncovered_pairs"] == "0", "its return")
