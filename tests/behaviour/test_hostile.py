"""Clients and servers that mean harm: bounded memory, no foreign bytes."""
import random
import re
import time

import pytest

from lib.net import wait_for
from lib.seed import seed
from lib.servers import sanitized

MIB = 1 << 20


def grows_less(proxy, most, action):
    before = proxy.rss()
    result = action()
    assert proxy.rss() - before < most or sanitized()
    return result


# Clients

@pytest.mark.parametrize("size", [2049, 8193, MIB])
@pytest.mark.parametrize("start", [b"x", b"set ", b"mg ", b" " * 200])
def test_line_without_end_takes_little_memory_and_ends_its_client(
        proxy, size, start):
    def junk():
        with proxy.client() as client:
            return client.exchange([(start + b"x" * size)[:size]], b"no answer")
    junk()      # the first one may make it grow to its working size
    reply = grows_less(proxy, 256 << 10, junk)
    assert re.fullmatch(rb"((CLIENT_)?ERROR[^\n]*\r\n)?", reply)
    assert proxy.talk(b"get k\r\n") == b"END\r\n"


def test_announced_values_take_memory_only_as_they_come(stage):
    """A thousand clients announce a megabyte each, or a gigabyte."""
    proxy = stage.magent([stage.memcached()])
    proxy.talk(b"get k\r\n")

    def announce():
        clients = [stage.client(proxy) for _ in range(1000)]
        for i, client in enumerate(clients):
            client.send(b"set k 0 0 %d\r\nabc" % (
                1000000 if i % 2 else 1073741824))
        assert proxy.talk(b"get k\r\n") == b"END\r\n"
        return clients
    for i, client in enumerate(grows_less(proxy, 16 * MIB, announce)):
        if i % 2 == 0:
            assert client.read_line() == (
                b"SERVER_ERROR object too large for cache\r\n")
        client.close()


ATTACKS = [
    b"set x 0 0 2\r\nX\r\nflush_all\r\n",
    b"set x 0 0 11\r\nX\r\nflush_all\r\n\r\n",
    b"set %s 0 0 9\r\nflush_all\r\n" % (b"k" * 251),
    b"set a\0b 0 0 9\r\nflush_all\r\n",
    b"set a\rb 0 0 9\r\nflush_all\r\n",
    b"set x 4294967296x 0 9\r\nflush_all\r\n",
    b"set x 0 z 9\r\nflush_all\r\n",
    b"cas x 0 0 9 z\r\nflush_all\r\n",
    b"ms %s 9\r\nflush_all\r\n" % (b"k" * 251),
    b"ms x 9 MZ\r\nflush_all\r\n", b"ms x 9 !\r\nflush_all\r\n",
    b"ms x 9 T1 T1\r\nflush_all\r\n",
    b"set x 0 0 2000000\r\n%s\r\n" % (b"flush_all\r\n" * 181819)[:2000000],
    b"ms x 2000000\r\n%s\r\n" % (b"flush_all\r\n" * 181819)[:2000000],
    b"get a\0flush_all\r\n", b"get a\rflush_all\r\n", b"delete a\0b\r\n",
    b"get a\r\r\n", b"mg a\r v\r\n", b"gets \n", b"set a\rb 0 0 1\r\nx\r\n",
    b"incr a 1\r2\r\n", b"touch a 1\0flush_all\r\n",
    b"get " + b"a " * 5000 + b"\r\n", b"get " + b"k" * 251 + b"\r\n",
    b"mg a " + b"v " * 300 + b"\r\n", b"ms a 1 O\r\nx\r\n",
    b"lru_crawler metadump all\r\n", b"watch fetchers\r\n",
    b"cache_memlimit 1\r\n", b"shutdown\r\n", b"stats cachedump 1 0\r\n",
    b"stats reset\r\n", b"slabs reassign 1 2\r\n", b"debug\r\n",
    b"extstore\r\n", b"verbosity 2\r\n", b"refresh_certs\r\n",
    b"set a 0 0 3 noreply\r\nabc\r\ndelete a noreply\r\nincr a 1 noreply\r\n",
    b"  get   a  \r\n", b"set  a  1  2  3  \r\nabc\r\n", b"mg a q v O1\r\n"]

KEY = rb" [^\0 \r\n]{1,250}"
CANONICAL = re.compile(
    rb"(?:(?:get|gets)(?:%(k)s)+|(?:gat|gats) -?\d+(?:%(k)s)+"
    rb"|(?:set|add|replace|append|prepend)%(k)s \d+ -?\d+ \d+"
    rb"|cas%(k)s \d+ -?\d+ \d+ \d+|(?:incr|decr)%(k)s \d+|touch%(k)s -?\d+"
    rb"|delete%(k)s|ms%(k)s \d+(?: [A-Za-z][!-~]*)*"
    rb"|(?:mg|md|ma|me)%(k)s(?: [A-Za-z][!-~]*)*|mn)\r\n" % {b"k": KEY})


def test_attacks_reach_a_server_as_canonical_commands_only(stage):
    server = stage.fake()
    proxy = stage.magent([server])
    for attack in ATTACKS:
        with proxy.client() as client:
            client.send(attack)
            client.half_close()
            client.read_to_end()
    wait_for(lambda: server.commands, "some of it to be forwarded")
    for command in server.commands:
        line, newline, data = command.partition(b"\r\n")
        assert CANONICAL.fullmatch(line + newline), command
        assert b"noreply" not in line
        if data:
            size = int(line.split()[2 if line.startswith(b"ms") else 4])
            assert len(data) == size + 2 and data.endswith(b"\r\n")
    assert b"flush_all\r\nflush_all" not in server.received


# Servers: the backup has the value, so the client must get it.

FOUND = b"VALUE k 0 3\r\nnew\r\nEND\r\n"
WRONG_REPLIES = [
    b"VALUE other 0 1\r\nx\r\nEND\r\n", b"VALUE K 0 3\r\nold\r\nEND\r\n",
    b"VALUE k 0 3\r\nold\r\nVALUE k 0 3\r\nold\r\nEND\r\n",
    b"VALUE k 0 3\r\nold\r\n", b"VALUE k 0 3\r\nol",
    b"VALUE k 0 -1\r\nold\r\nEND\r\n",
    b"VALUE k 0 4294967294\r\nold\r\nEND\r\n",
    b"VALUE k 0 2147483648\r\nold\r\nEND\r\n",
    b"VALUE k 0 %s\r\nold\r\nEND\r\n" % (b"9" * 40),
    b"VALUE k 0 3x\r\nold\r\nEND\r\n", b"VALUE k 0 x\r\nold\r\nEND\r\n",
    b"VALUE k 0\r\nold\r\nEND\r\n", b"VALUE k 0 3 4 5\r\nold\r\nEND\r\n",
    b"VALUE k 0 3\r\noldEND\r\n", b"VALUE k 0 3\r\nold\n\nEND\r\n",
    b"VALUE k 0 3\r\nold\r\nENDED\r\n", b"VALUE  k 0 3\r\nold\r\nEND\r\n",
    b"VALUE k x 3\r\nold\r\nEND\r\n", b"VALUE k\0 0 3\r\nold\r\nEND\r\n",
    b"\r\nEND\r\n", b"\0\0\0\0\r\n", b"x" * MIB, b"x" * 3000 + b"\r\n",
    b"STORED\r\n", b"OK\r\n", b"HD\r\n", b"5\r\n", b"END \r\n", b"EN\r\n",
    b"DELETED\r\nEND\r\n", b"VERSION 1.6.18\r\n", b"STAT a b\r\nEND\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n",
    b"\x81\0\0\0\0\0\0\x81\0\0\0\0\0\0\0\0", b"", b"E", b"END", b"END\r",
    b"VALUE k 0 2147483647\r\n" + b"x" * 2000000]


@pytest.fixture
def scripted(stage):
    """A scripted primary, a backup that has k, and the magent.

    Once the primary is given up it does not come back.
    """
    primary, backup = stage.fake(), stage.memcached()
    proxy = stage.magent([primary], [backup])
    assert proxy.talk(b"set k 0 0 3\r\nnew\r\n") == b"STORED\r\n"
    primary.refuse()
    return primary, backup, proxy


def on(word, action):
    """A script that does this when a command begins so."""
    return lambda link, line, data: (
        action(link) if line.startswith(word + b" ") else None)


def says(reply, then=lambda link: None):
    def action(link):
        link.send(reply)
        then(link)
        return b""
    return action


@pytest.mark.parametrize("reply", WRONG_REPLIES, ids=lambda r: repr(r[:30]))
def test_wrong_reply_of_primary_is_replaced_by_the_backups(scripted, reply):
    primary, _, proxy = scripted
    primary.script = on(b"get", says(reply))
    with proxy.client() as client:
        got = grows_less(proxy, 8 * MIB, lambda: client.talk(b"get k\r\n"))
        assert got == FOUND
        primary.script = None
        assert client.talk(b"get k\r\n") == FOUND


@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("part", [b"", b"V", b"VALUE k 0 3\r\n",
                                  b"VALUE k 0 3\r\nol",
                                  b"VALUE k 0 3\r\nold\r\nEN"])
def test_reply_cut_off_by_primary_is_replaced_by_the_backups(
        scripted, part, ending):
    primary, _, proxy = scripted
    primary.script = on(b"get", says(
        part, lambda link: getattr(link, ending)()))
    assert proxy.talk(b"get k\r\n") == FOUND
    assert proxy.talk(b"get k\r\n") == FOUND


COMMANDS = {
    b"set": (b"set k 1 0 1\r\n5\r\n", b"STORED\r\n"),
    b"add": (b"add k 1 0 1\r\n5\r\n", b"NOT_STORED\r\n"),
    b"replace": (b"replace k 1 0 1\r\n5\r\n", b"STORED\r\n"),
    b"append": (b"append k 1 0 1\r\n5\r\nget k\r\n",
                b"STORED\r\nVALUE k 0 4\r\nnew5\r\nEND\r\n"),
    b"prepend": (b"prepend k 1 0 1 noreply\r\n5\r\nget k\r\n",
                 b"VALUE k 0 4\r\n5new\r\nEND\r\n"),
    b"incr": (b"set k 0 0 1\r\n5\r\nincr k 1\r\n", b"STORED\r\n6\r\n"),
    b"decr": (b"set k 0 0 1\r\n5\r\ndecr k 1\r\nget k\r\n",
              b"STORED\r\n4\r\nVALUE k 0 1\r\n4\r\nEND\r\n"),
    b"touch": (b"touch k 100\r\n", b"TOUCHED\r\n"),
    b"delete": (b"delete k\r\nget k\r\n", b"DELETED\r\nEND\r\n"),
    b"gat": (b"gat 0 k\r\n", FOUND),
    b"mg": (b"mg k v f O1 k\r\n", b"VA 3 f0 O1 kk\r\nnew\r\n"),
    b"ms": (b"ms k 1 q\r\nx\r\nmg k v\r\n", b"VA 1\r\nx\r\n"),
    b"md": (b"md k k\r\n", b"HD kk\r\n"),
    b"ma": (b"ms k 1\r\n5\r\nma k v\r\n", b"HD\r\nVA 1\r\n6\r\n"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reply", [b"GARBAGE\r\n", b"VALUE\r\nSTORED\r\n",
                                   b"\0" * 5000])
def test_command_answered_with_garbage_is_done_by_the_backup(
        scripted, command, reply):
    """It is carried out by the backup instead."""
    primary, _, proxy = scripted
    request, expected = COMMANDS[command]
    primary.script = on(command, says(reply))
    assert proxy.talk(request) == expected


@pytest.mark.parametrize("reply", [b"END\r\nEND\r\n", b"END\r\nVALUE k 0 1\r\n",
                                   b"END\r\n\r\n", b"END\r\nx"])
def test_reply_with_bytes_behind_it_ends_the_connection(scripted, reply):
    """The connection is given up; nobody gets the other bytes."""
    primary, _, proxy = scripted
    primary.script = on(b"get", says(reply))
    with proxy.client() as client:
        assert client.talk(b"get k\r\n") in (b"END\r\n", FOUND)
        wait_for(lambda: client.talk(b"get k\r\n") == FOUND, "the failover")
        assert client.talk(b"set a 0 0 1\r\nx\r\nget k\r\n") == (
            b"STORED\r\n" + FOUND)


def test_reply_before_the_request_answers_nobody(scripted):
    """Said while nothing is asked: not the answer to the next request."""
    primary, _, proxy = scripted
    primary.links[0].send(b"VALUE k 0 3\r\nold\r\nEND\r\n")
    proxy.talk(b"")     # by now it has come
    assert proxy.talk(b"get k\r\n") == FOUND


def test_reply_that_drips_past_the_timeout_fails_over(scripted):
    """The timeout is for the whole reply."""
    primary, _, proxy = scripted
    primary.script = on(b"get", lambda link: link.drip(FOUND[:-7] + b"old\r\n"
                                                       b"END\r\n", 0.1))
    start = time.monotonic()
    assert proxy.talk(b"get k\r\n") == FOUND
    assert time.monotonic() - start < 1


def test_reply_after_the_timeout_reaches_nobody(scripted):
    primary, _, proxy = scripted

    def late(link):
        time.sleep(0.5)
        return b"VALUE k 0 3\r\nold\r\nEND\r\n"
    primary.script = on(b"get", late)
    with proxy.client() as client:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert client.talk(b"get k\r\nget none\r\n") == FOUND + b"END\r\n"


@pytest.mark.parametrize("command", [b"set k 0 0 1\r\nx\r\n",
                                     b"ms k 1\r\nx\r\n"])
def test_set_refused_by_primary_is_reported_and_deleted_on_backup(
        scripted, command):
    """The client gets the error; the old value is gone from the backup too."""
    primary, backup, proxy = scripted
    error = b"SERVER_ERROR out of memory storing object\r\n"
    primary.script = on(command.split()[0], says(error))
    assert proxy.talk(command) == error
    wait_for(lambda: backup.talk(b"get k\r\n") == b"END\r\n", "the delete")


def test_reply_of_endless_noise_takes_little_memory_and_time(scripted):
    primary, _, proxy = scripted

    dice = random.Random(seed())

    def noise(link):
        while not primary.ending.is_set():
            link.send(dice.randbytes(65536))
        return b""
    primary.script = on(b"get", noise)
    assert grows_less(proxy, 8 * MIB, lambda: proxy.talk(b"get k\r\n")) == FOUND
    before = proxy.cpu_seconds()
    time.sleep(0.5)     # the time over which the load is measured
    assert proxy.cpu_seconds() - before < 0.2
    assert proxy.talk(b"get k\r\n") == FOUND


@pytest.mark.parametrize("greeting", [
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n",
    b"\x81\x0b\0\0" + bytes(20), b"VERSION \r\n", b"ERROR\r\n",
    b"ERROR\r\n" * 3,
    b"VERSION 1.6.18\r\nEND\r\nEND\r\nEND\r\n"])
def test_server_that_is_no_memcached_is_replaced_by_the_backup(
        stage, greeting):
    primary, backup = stage.fake(lambda *_: greeting), stage.memcached()
    primary.identity = lambda line: greeting
    proxy = stage.magent([primary], [backup])
    assert proxy.talk(b"set k 0 0 3\r\nnew\r\nget k\r\n") == (
        b"STORED\r\n" + FOUND)
    assert backup.talk(b"get k\r\n") == FOUND


def test_server_that_does_not_read_fails_its_own_keys_only(stage):
    """Its own keys fail; other servers' keys and memory are not touched."""
    server = stage.fake(lambda link, *_: link.hang())
    proxy = stage.magent([server, stage.memcached()], [], "-m", 32)
    proxy.talk(b"version\r\n")
    sets = b"".join(b"set key:%d 0 0 10000\r\n%s\r\n" % (i, b"x" * 10000)
                    for i in range(2000))
    replies = grows_less(proxy, 64 * MIB, lambda: proxy.talk(sets))
    lines = replies.split(b"\r\n")[:-1]
    stored = lines.count(b"STORED")
    assert len(lines) == 2000 and 200 < stored < 1800
    assert all(line == b"STORED" or line.startswith(b"SERVER_ERROR")
               for line in lines)
