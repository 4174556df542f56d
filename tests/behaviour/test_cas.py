"""Tokens that say which incarnation of which server they are from."""
import pytest

from lib.net import wait_for

LOW = (1 << 48) - 1


def token(server, key=b"k"):
    return int(server.talk(b"gets %s\r\n" % key).split()[4])


def cas(server, unique, more=b""):
    return server.talk(b"cas k 0 0 3 %d%s\r\nnew\r\n" % (unique, more))


@pytest.fixture
def stored(pair):
    assert pair[2].talk(b"set k 0 0 3\r\nold\r\n") == b"STORED\r\n"
    return pair


def test_token_with_backups_is_tagged_above_48_bits(stored):
    primary, _, proxy = stored
    unique = token(proxy)
    assert 1 << 48 <= unique < 1 << 63
    assert unique & LOW == token(primary)
    for request in (b"gats 0 k\r\n",):
        assert int(proxy.talk(request).split()[4]) == unique
    assert proxy.talk(b"mg k c\r\n") == b"HD c%d\r\n" % unique


def test_token_used_twice_works_once(stored):
    proxy = stored[2]
    unique = token(proxy)
    assert cas(proxy, unique) == b"STORED\r\n"
    assert cas(proxy, unique) == b"EXISTS\r\n"
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 3\r\nnew\r\nEND\r\n"
    assert proxy.talk(b"delete k\r\n") == b"DELETED\r\n"
    assert cas(proxy, unique) == b"NOT_FOUND\r\n"


@pytest.mark.parametrize("change", [
    lambda unique: unique & LOW, lambda unique: unique ^ 1 << 48,
    lambda unique: unique ^ 1 << 62, lambda unique: unique | 1 << 63])
def test_token_with_foreign_tag_is_answered_with_exists(stored, change):
    proxy = stored[2]
    foreign = change(token(proxy))
    assert cas(proxy, foreign) == b"EXISTS\r\n"
    assert cas(proxy, foreign, b" noreply") == b""
    assert proxy.talk(b"ms k 1 C%d k O1\r\nx\r\n" % foreign).split()[0] == b"EX"
    assert proxy.talk(b"md k C%d\r\n" % foreign).split()[0] == b"EX"
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 3\r\nold\r\nEND\r\n"


def test_meta_commands_take_and_return_the_token(stored):
    proxy = stored[2]
    unique = token(proxy)
    reply = proxy.talk(b"ms k 1 C%d c\r\n5\r\n" % unique)
    unique = int(reply.split(b" c")[1])
    assert unique == token(proxy)
    reply = proxy.talk(b"ma k C%d c v\r\n" % unique)
    unique = int(reply.split()[2][1:])
    assert unique == token(proxy)
    assert proxy.talk(b"md k C%d\r\n" % unique) == b"HD\r\n"


def test_two_magents_give_the_same_token(stored, stage):
    primary, backup, proxy = stored
    other = stage.magent([primary], [backup])
    assert token(other) == token(proxy)
    assert cas(other, token(proxy)) == b"STORED\r\n"


def test_token_from_before_a_failover_fails(stored):
    primary, backup, proxy = stored
    backup.talk(b"set k 0 0 3\r\nold\r\n" * 5)  # tokens that could match
    before = [token(proxy) + n for n in range(-3, 20)]
    primary.kill()
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 3\r\nold\r\nEND\r\n"
    assert {cas(proxy, unique) for unique in before} == {b"EXISTS\r\n"}
    assert cas(proxy, token(proxy)) == b"STORED\r\n"


def test_token_from_before_a_restart_fails(stored):
    primary, _, proxy = stored
    before = [token(proxy) + n for n in range(-3, 20)]
    primary.restart()
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 3\r\nold\r\nEND\r\n"
    wait_for(lambda: primary.talk(b"get k\r\n") != b"END\r\n", "the rebuild")
    assert {cas(proxy, unique) for unique in before} == {b"EXISTS\r\n"}
    assert cas(proxy, token(proxy)) in (b"STORED\r\n", b"EXISTS\r\n")


def test_token_without_backups_passes_unchanged(stage):
    server = stage.memcached()
    proxy = stage.magent([server])
    proxy.talk(b"set k 0 0 3\r\nold\r\n")
    assert token(proxy) == token(server)
    assert proxy.talk(b"mg k c\r\n") == server.talk(b"mg k c\r\n")
    assert cas(proxy, token(server)) == b"STORED\r\n"
    assert cas(proxy, 1 << 48 | token(server)) == b"EXISTS\r\n"
    assert cas(server, token(proxy)) == b"STORED\r\n"


def test_mg_with_a_foreign_cas_reads_as_memcached_does(pair):
    """mg does not compare."""
    _, _, proxy = pair
    assert proxy.talk(b"set k 0 0 1\r\nv\r\nmg k v C5\r\n") == (
        b"STORED\r\nVA 1\r\nv\r\n")
