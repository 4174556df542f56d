"""stats route KEY: where a key goes, who answers for it, and why."""
import hashlib
import re
import types

import pytest

from lib.net import wait_for
from lib.servers import ROOT
from test_documents import stalled_dump


def route(magent, key="k"):
    return magent.stats("route " + key)


def wait_for_state(magent, n, state):
    wait_for(lambda: magent.stats("servers")["%d:state" % n] == state, state)


def answered(magent, key="k"):
    said = route(magent, key)
    return said["authority"], said["reason"]


def test_route_of_a_pair_that_is_up_names_both_and_the_primary_answers(pair):
    primary, backup, magent = pair
    wait_for_state(magent, 1, "up")
    hashed = hashlib.md5(b"k").digest()[:4]
    assert route(magent) == {
        "hash": str(int.from_bytes(hashed, "little")),
        "primary": primary.address, "primary_state": "up",
        "primary_lacks": "nothing",
        "backup": backup.address, "backup_state": "up",
        "backup_lacks": "nothing",
        "authority": primary.address, "reason": "primary_is_trusted"}


def test_route_while_servers_fail_and_return_says_who_answers(pair):
    primary, backup, magent = pair
    for n in 0, 1:
        wait_for_state(magent, n, "up")
    backup.kill()
    wait_for_state(magent, 1, "down")
    said = route(magent)
    assert said["backup_state"] == "down" and said["backup_lacks"] == "keys"
    assert answered(magent) == (primary.address, "primary_is_trusted")
    backup.start(backup.port)
    wait_for_state(magent, 1, "up")
    assert route(magent)["backup_lacks"] == "nothing"
    primary.kill()
    wait_for_state(magent, 0, "down")
    said = route(magent)
    assert said["primary_state"] == "down" and said["primary_lacks"] == "keys"
    assert said["backup_lacks"] == "nothing"
    assert answered(magent) == (backup.address, "primary_is_away")
    backup.kill()
    wait_for_state(magent, 1, "down")
    assert answered(magent) == ("NULL", "none_is_there")
    primary.start(primary.port)
    backup.start(backup.port)
    # Who is up first reads once more what the other one has.
    wait_for(lambda: answered(magent) == (
        primary.address, "primary_is_trusted"), "the primary")


def test_route_during_a_rebuild_says_that_the_primary_is_behind(stage):
    returned, fake = stage.memcached(), stage.fake(stalled_dump)
    magent = stage.magent([returned], [fake])
    for n in 0, 1:
        wait_for_state(magent, n, "up")
    returned.restart()
    wait_for_state(magent, 0, "rebuild")
    said = route(magent)
    assert said["primary_state"] == "rebuild"
    assert said["primary_lacks"] == "all" and said["backup_lacks"] == "nothing"
    assert answered(magent) == (fake.address, "primary_is_behind")


def test_route_without_a_backup_says_so(stage, proxy):
    said = route(proxy)
    assert said["backup"] == "NULL"
    assert [name for name in said if "backup_" in name or "lacks" in name] == []
    assert said["authority"] == said["primary"]


def test_route_of_servers_in_both_lists_has_two_servers(stage):
    servers = stage.memcacheds(3)
    magent = stage.magent(servers, servers)
    for i in range(50):
        said = route(magent, "k%d" % i)
        assert said["primary"] != said["backup"]


@pytest.mark.parametrize("ring", ["ketama", "twemproxy"])
def test_route_on_a_known_ring_is_that_of_the_program_with_this_ring(
        stage, ring):
    """The servers are not there; the keys have to go to them all the same."""
    text = (ROOT / "tests/unit/vectors/rings-programs").read_text()
    text = re.search(r"^set equal-2\n.*?(?=^set |\Z)", text,
                     re.M | re.S).group(0)
    names = ["%s:%s" % found for found in
             re.findall(r"^server (\S+) (\d+) 1$", text, re.M)]
    owners = re.search("^%s ([AB]+)$" % ring, text, re.M).group(1)
    magent = stage.magent([types.SimpleNamespace(address=name)
                           for name in names], [], "--ring=" + ring)
    for i in range(0, 800, 8):
        assert route(magent, "key:%d" % i)["primary"] == (
            names["AB".index(owners[i])]), i


@pytest.mark.parametrize("line, said", [
    (b"stats route", b"CLIENT_ERROR bad command line"),
    (b"stats route ", b"CLIENT_ERROR bad command line"),
    (b"stats route a b", b"CLIENT_ERROR bad command line"),
    (b"stats route " + 251 * b"k", b"CLIENT_ERROR bad command line format"),
    (b"stats route a\0b", b"CLIENT_ERROR bad command line format"),
    (b"stats route magent:x",
     b"CLIENT_ERROR keys that begin with magent: are reserved"),
])
def test_route_of_no_key_or_a_bad_one_is_a_client_error(proxy, line, said):
    assert proxy.talk(line + b"\r\nmn\r\n") == said + b"\r\nMN\r\n"


def test_no_key_for_cachedump_is_the_same_error_of_memcached(memcached):
    assert memcached.talk(b"stats cachedump\r\n") == (
        b"CLIENT_ERROR bad command line\r\n")


@pytest.mark.parametrize("key", [b"k", 250 * b"k", b"magent", b"route",
                                 bytes(range(0x80, 0x100)), b"\x01\x7f%"])
def test_route_of_any_key_of_memcached_is_answered_in_lines_of_three_words(
        proxy, key):
    reply = proxy.talk(b"stats  route  " + key + b"  \r\n")
    assert reply.endswith(b"\r\nEND\r\n")
    assert all(len(line.split(b" ")) == 3
               for line in reply.split(b"\r\n")[:-2])
