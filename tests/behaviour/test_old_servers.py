"""Servers from before today's meta commands, or with parts switched off.

They are fronts before the memcached that is installed: see faults/old.py.
"""
import pytest

import differential
from lib.net import wait_for
from old import Old

VERSIONS = "1.4.5", "1.4.15", "1.4.31", "1.5.6", "1.6.9"
NEW = "1.6.18"
TOO_OLD = (b"SERVER_ERROR the memcached of this key is too old for this "
           b"command\r\n")
NO_CAS = b"SERVER_ERROR the memcached of this key runs without cas (-C)\r\n"
# Commands that such a server would read as other ones.
SMUGGLED = b"flush_all"
BINARY = b"YSBi"        # "a b": a key that needs base64


# A front takes its time, and this machine may be busy.
PATIENCE = "-t", "5000"


def number(version):
    return tuple(map(int, version.split(".")))


def start(stage, version, *options):
    """A memcached of that version, as far as it can be told from outside."""
    if version == NEW:
        return stage.memcached(*options)
    return stage.add(Old(version, *options)).start()


def is_up(proxy):
    return {value for name, value in proxy.stats("servers").items()
            if name.endswith(":state")} == {"up"}


def wait_up(proxy):
    wait_for(lambda: is_up(proxy), "the servers to be up", timeout=20)


def failures(proxy):
    return [value for name, value in proxy.stats("servers").items()
            if name.endswith(":failures")]


def single(stage, version, *options):
    """A memcached of that version, and a magent before it."""
    server = start(stage, version, *options)
    return server, stage.magent([server], [], *PATIENCE)


def pair_of(stage, primary, backup, *options):
    """A pair of these versions, and a magent before them."""
    servers = start(stage, primary), start(stage, backup)
    proxy = stage.magent(servers[:1], servers[1:], *(options or PATIENCE))
    wait_up(proxy)
    return (*servers, proxy)


def settled(proxy):
    """No server owes an answer."""
    return all(value == "0" for name, value in proxy.stats("servers").items()
               if name.endswith(":waiting"))


def unharmed(server):
    """No data was carried out, and nothing was sent that is not understood."""
    assert server.stats()["cmd_flush"] == "0"
    if isinstance(server, Old):
        assert not [command for command in server.commands()
                    if SMUGGLED == command.strip()]
        assert server.front.refused_commands() == []


# What a meta command gets from a server that does not know it.

SAME = [
    (b"ms k 2 T100 F4294967295 k Ox\r\nhi\r\n", b"HD kk Ox\r\n"),
    (b"mg k s v f k Oab\r\n", b"VA 2 s2 f4294967295 kk Oab\r\nhi\r\n"),
    (b"mg k\r\n", b"HD\r\n"),
    (b"mg azA= b k v\r\n", b"EN kazA= b\r\n"),
    (b"ms azA= 1 b k\r\n0\r\n", b"HD kazA= b\r\n"),
    (b"mg azA= b f v k\r\n", b"VA 1 f0 kazA= b\r\n0\r\n"),
    (b"get k0\r\n", b"VALUE k0 0 1\r\n0\r\nEND\r\n"),
    (b"ms k 1 MA\r\n!\r\n", b"HD\r\n"),
    (b"ms k 1 MP O7\r\n<\r\n", b"HD O7\r\n"),
    (b"mg k v q\r\n", b"VA 4\r\n<hi!\r\n"),
    (b"ms k 1 ME k\r\n0\r\n", b"NS kk\r\n"),
    (b"ms n 1 ME q\r\n9\r\n", b""),
    (b"ms x 1 MR Oz\r\n9\r\n", b"NS Oz\r\n"),
    (b"ms x 1 MA q\r\n9\r\n", b"NS\r\n"),
    (b"ma n k O1\r\n", b"HD kn O1\r\n"),
    (b"ma n v D5\r\n", b"VA 2\r\n15\r\n"),
    (b"ma n MD D2 v Oq\r\n", b"VA 2 Oq\r\n13\r\n"),
    (b"ma n q\r\n", b""),
    (b"ma x k\r\n", b"NF kx\r\n"),
    (b"ma k\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric "
     b"value\r\n"),
    (b"md x k Ob\r\n", b"NF kx Ob\r\n"),
    (b"md n q\r\n", b""),
    (b"mg n v q\r\n", b""),
    (b"mg n k O2\r\n", b"EN kn O2\r\n"),
    (b"md k\r\n", b"HD\r\n"),
    # A key that the server cannot have is not there.
    (b"mg YSBi b v k\r\n", b"EN kYSBi b\r\n"),
]

REFUSED = [
    b"ms k 1 c\r\n1\r\n", b"ms k 1 MA N30\r\n1\r\n", b"ms k 1 MR C1\r\n1\r\n",
    b"ms k 1 I C1\r\n1\r\n", b"ms YSBi 1 b\r\n1\r\n", b"md YSBi b\r\n",
    b"md k I T30\r\n", b"md k C1\r\n", b"ma k N0\r\n", b"ma k T30\r\n",
    b"ma k t\r\n", b"ma k v c\r\n", b"ma YSBi b v\r\n", b"mg k t v\r\n",
    b"mg k N30 v\r\n", b"mg k h l\r\n", b"mg k R30\r\n", b"me k\r\n",
    b"ms k 9 MA N30\r\nflush_all\r\n",
]


@pytest.mark.parametrize("version", VERSIONS)
def test_meta_commands_to_old_server_are_carried_out_by_classic_ones(
        stage, version):
    """Each gets the reply of 1.6.18."""
    plain, (server, proxy) = stage.memcached(), single(stage, version)
    for command, want in SAME:
        assert proxy.talk(command) == want, command
        # Of an item with a key in base64, memcached says so itself.
        assert plain.talk(command) == want, command
    unharmed(server)


@pytest.mark.parametrize("version", VERSIONS)
def test_meta_commands_that_old_server_cannot_do_are_refused(stage, version):
    """The server is sent nothing, and the item stays as it was."""
    server, proxy = single(stage, version)
    proxy.talk(b"set k 7 0 1\r\n1\r\n")
    before = len(server.commands())
    for command in REFUSED:
        assert proxy.talk(command) == TOO_OLD, command
    assert len(server.commands()) == before
    assert proxy.talk(b"mg k v f\r\n") == b"VA 1 f7\r\n1\r\n"
    unharmed(server)
    assert failures(proxy) == ["0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_touch_and_gat_are_refused_where_the_server_has_none(stage, version):
    server, proxy = single(stage, version)
    proxy.talk(b"set k 7 0 1\r\n1\r\n")
    has_touch, has_gat = number(version) >= (1, 4, 8), number(version) >= (
        1, 5, 3)
    value, miss = b"VALUE k 7 1\r\n1\r\n", TOO_OLD
    for command, able, want in [
            (b"touch k 100\r\n", has_touch, b"TOUCHED\r\n"),
            (b"mg k T100\r\n", has_touch, b"HD\r\n"),
            (b"mg x T100 k\r\n", has_touch, b"EN kx\r\n"),
            (b"mg k T100 v f\r\n", has_gat, b"VA 1 f7\r\n1\r\n"),
            (b"mg azA= b T100 v\r\n", has_gat, b"EN\r\n"),
            (b"gat 100 k\r\n", has_gat, value + b"END\r\n"),
            (b"gat 100 x k y\r\n", has_gat, value + b"END\r\n")]:
        assert proxy.talk(command) == (want if able else miss), command
    assert proxy.talk(b"touch k 100 noreply\r\nget k\r\n") == value + b"END\r\n"
    unharmed(server)


@pytest.mark.parametrize("version", VERSIONS)
def test_cas_by_meta_commands_compares_on_old_server(stage, version):
    server, proxy = single(stage, version)
    proxy.talk(b"set k 0 0 1\r\n1\r\n")
    token = proxy.talk(b"mg k c\r\n").split()[1]
    assert token == b"c" + proxy.talk(b"gets k\r\n").split()[4]
    command = b"ms k 1 C%s Oo\r\n2\r\n" % token[1:]
    assert proxy.talk(command) == b"HD Oo\r\n"
    assert proxy.talk(command) == b"EX Oo\r\n"
    assert proxy.talk(b"md k\r\n") == b"HD\r\n"
    assert proxy.talk(command) == b"NF Oo\r\n"
    unharmed(server)


# Pairs

MIXED = [(version, NEW) for version in VERSIONS] + [
    (NEW, version) for version in VERSIONS] + [("1.4.15", "1.6.9")]


@pytest.mark.parametrize("primary,backup", MIXED)
def test_data_of_clients_is_never_a_command(stage, primary, backup):
    """flush_all as the value of every command that has one."""
    first, second, proxy = pair_of(stage, primary, backup)
    proxy.talk(b"set other 0 0 1\r\nv\r\n")
    for key in b"k", b"azA=":
        b64 = b" b" * (key == b"azA=")
        for mode in b"", b" MA", b" MP", b" MR", b" ME", b" T30 F7", b" MA N9":
            assert b"ERROR\r" not in proxy.talk(
                b"ms %s 9%s%s\r\nflush_all\r\n" % (key, b64, mode)), mode
    proxy.talk(b"ms YSBi 9 b\r\nflush_all\r\n")
    wait_for(lambda: settled(proxy), "the last effects")
    for server in first, second:
        unharmed(server)
        assert server.talk(b"get other\r\n").startswith(b"VALUE")
    assert failures(proxy) == ["0", "0"]


def held(server, key):
    """Value and flags of a key as this server has them."""
    return server.talk(b"get %s\r\n" % key)


@pytest.mark.parametrize("primary,backup", MIXED)
def test_primary_killed_leaves_right_values_on_the_backup(
        stage, primary, backup):
    """Values right: what the backup answers is what was written last, or a
    miss where the two cannot be equal."""
    first, second, proxy = pair_of(stage, primary, backup)
    is_new = primary == NEW
    proxy.talk(b"ms a 1 F9\r\n1\r\nms a 1 MA\r\n2\r\nms a 1 MP\r\n0\r\n"
               b"ms n 1\r\n5\r\nma n D6\r\nma n MD\r\n"
               b"ms azA= 2 b F3\r\nxy\r\nms azA= 1 b MA\r\nz\r\n"
               b"ms d 1\r\n1\r\nmd d\r\nms r 1\r\n1\r\nms r 1 MR\r\n2\r\n")
    # What an old server cannot do the same is deleted there.
    proxy.talk(b"set v 0 0 1\r\n1\r\nset i 0 0 1\r\n1\r\nset t 0 0 1\r\n1\r\n")
    news = [proxy.talk(command) for command in (
        b"ma v N0 T50 v\r\n", b"md i I T30\r\n", b"ma t T50 v\r\n")]
    assert (TOO_OLD in news) != is_new
    wait_for(lambda: settled(proxy), "the last effects")
    first.kill()
    assert proxy.talk(b"mg a v f\r\n") == b"VA 3 f9\r\n012\r\n"
    assert proxy.talk(b"mg n v\r\n") == b"VA 2\r\n10\r\n"
    assert proxy.talk(b"mg azA= b v f\r\n") == b"VA 3 f3\r\nxyz\r\n"
    assert proxy.talk(b"get d r k0\r\n") == (
        b"VALUE r 0 1\r\n2\r\nVALUE k0 3 3\r\nxyz\r\nEND\r\n")
    for key, new in (b"v", b"2"), (b"i", b"1"), (b"t", b"2"):
        value = proxy.talk(b"get %s\r\n" % key)
        allowed = [b"END\r\n", b"VALUE %s 0 1\r\n%s\r\nEND\r\n" % (
            key, new if is_new else b"1")]
        assert value in allowed, key
    unharmed(second)


def test_backup_that_cannot_hold_one_key_stays_backup_of_the_others(stage):
    primary, backup, proxy = pair_of(stage, NEW, "1.4.15")
    for i in range(3):
        assert proxy.talk(b"ms YSBi 1 b\r\n%d\r\n" % i) == b"HD\r\n"
    proxy.talk(b"ma YSBi b\r\nmg YSBi b T30\r\nmd YSBi b\r\n"
               b"ms YSBi 1 b MA\r\n3\r\nset k 0 0 1\r\nv\r\n")
    wait_for(lambda: settled(proxy), "the effects")
    assert held(backup, b"k") == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    assert proxy.stats()["mirror_mismatches"] == "0"
    primary.kill()
    assert proxy.talk(b"mg YSBi b v\r\n") == b"EN\r\n"
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    assert proxy.talk(b"ms YSBi 1 b\r\n3\r\n") == TOO_OLD
    unharmed(backup)


@pytest.mark.parametrize("version", ["1.4.15", "1.6.9"])
def test_command_that_fails_over_is_translated_for_the_other_server(
        stage, version):
    """A 1.6.18 that hangs has the command, and an old one carries it out."""
    primary, backup, proxy = pair_of(stage, NEW, version, "-t", "500")
    proxy.talk(b"set k 0 0 1\r\n1\r\nset n 0 0 1\r\n1\r\n")
    wait_for(lambda: settled(proxy), "the effects")
    primary.stop()
    assert proxy.talk(b"mg k v k\r\nms k 9 MA Oo\r\nflush_all\r\n"
                      b"ma n v\r\nma n t v\r\nmd k k\r\n") == (
        b"VA 1 kk\r\n1\r\nHD Oo\r\nVA 1\r\n2\r\n" + TOO_OLD + b"HD kk\r\n")
    unharmed(backup)


@pytest.mark.parametrize("old,new", [("1.5.6", NEW), ("1.6.9", NEW)])
def test_key_that_needs_base64_is_left_out_when_old_server_returns(
        stage, old, new):
    """Written while it was down, such a key is no reason not to come back."""
    primary, backup, proxy = pair_of(stage, old, new)
    primary.kill()
    assert proxy.talk(b"ms YSBi 1 b\r\n1\r\nms azA= 1 b\r\n2\r\n") == (
        b"HD\r\nHD\r\n")
    primary.start(primary.port)
    wait_up(proxy)
    unharmed(primary)
    assert proxy.talk(b"mg YSBi b v\r\n") == b"EN\r\n"
    assert proxy.talk(b"mg azA= b v\r\n") == b"VA 1\r\n2\r\n"
    assert backup.talk(b"mg YSBi b v\r\n") == b"VA 1\r\n1\r\n"


# Without cas

@pytest.mark.parametrize("version", ["1.4.15", "1.5.6", "1.6.9", NEW])
def test_cas_on_server_without_cas_is_refused(stage, version):
    """Before 1.6 such a server says STORED without comparing."""
    _, proxy = single(stage, version, "-C")
    proxy.talk(b"set k 0 0 1\r\n1\r\n")
    assert proxy.talk(b"gets k\r\n") == b"VALUE k 0 1 0\r\n1\r\nEND\r\n"
    for command in (b"cas k 0 0 1 0\r\n2\r\n", b"cas k 0 0 1 7\r\n2\r\n",
                    b"ms k 1 C0\r\n2\r\n", b"md k C0\r\n", b"ma k C0\r\n"):
        assert proxy.talk(command) == NO_CAS, command
    assert proxy.talk(b"cas k 0 0 1 0 noreply\r\n2\r\nget k\r\n") == (
        b"VALUE k 0 1\r\n1\r\nEND\r\n")


@pytest.mark.parametrize("version", ["1.4.15", NEW])
def test_cas_after_failover_to_backup_without_cas_is_not_stored(
        stage, version):
    primary, backup = stage.memcached(), start(stage, version, "-C")
    proxy = stage.magent([primary], [backup], *PATIENCE)
    wait_up(proxy)
    proxy.talk(b"set k 0 0 1\r\n1\r\n")
    token = proxy.talk(b"gets k\r\n").split()[4]
    assert proxy.talk(b"cas k 0 0 1 %s\r\n2\r\n" % token) == b"STORED\r\n"
    token = proxy.talk(b"gets k\r\n").split()[4]
    primary.kill()
    for command in (b"cas k 0 0 1 %s\r\n3\r\n", b"ms k 1 C%s\r\n3\r\n"):
        assert proxy.talk(command % token) == NO_CAS
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 1\r\n2\r\nEND\r\n"


# Flags that are newer than 1.6.18

@pytest.mark.parametrize("command,error", [
    (b"ms k 1 E5\r\n1\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    (b"mg k E5 N30\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    (b"md k I E5\r\n", b"CLIENT_ERROR invalid or duplicate flag\r\n"),
    (b"ma k E5\r\n", b"CLIENT_ERROR invalid or duplicate flag\r\n"),
    (b"md k x\r\n", b"CLIENT_ERROR invalid or duplicate flag\r\n"),
    (b"mg k x\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    (b"ms k 1 k E5 k\r\n1\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    (b"ms k 1 k k E5\r\n1\r\n", b"CLIENT_ERROR duplicate flag\r\n"),
    (b"ms k 1 E5 MX\r\n1\r\n", b"CLIENT_ERROR invalid flag\r\n")])
def test_newer_flag_gets_the_error_of_the_server_that_lacks_it(
        speaker, command, error):
    assert speaker.talk(command) == error


def answers_of_newer(link, line, data):
    return {b"ms": b"HD\r\n", b"md": b"HD\r\n", b"ma": b"HD\r\n",
            b"mg": b"EN\r\n"}.get(line.split()[0])


def test_newer_flags_are_forwarded_to_a_newer_server(stage):
    server = stage.fake(answers_of_newer, version="1.6.27")
    proxy = stage.magent([server])
    commands = [b"ms k 1 E5\r\n1\r\n", b"md k x\r\n", b"md k I E7 x\r\n",
                b"mg k N30 E5\r\n"]
    for command in commands:
        assert b"ERROR" not in proxy.talk(command)
    assert server.commands == commands


def test_chosen_cas_is_refused_where_keys_have_two_servers(stage):
    """Tokens there have the tag of their server."""
    servers = [stage.fake(answers_of_newer, version="1.6.27")
               for _ in range(2)]
    proxy = stage.magent(servers[:1], servers[1:])
    assert proxy.talk(b"ms k 1 E5\r\n1\r\n") == b"CLIENT_ERROR invalid flag\r\n"
    assert proxy.talk(b"md k x\r\n") == b"HD\r\n"
    wait_for(lambda: servers[1].commands, "the effect")
    assert servers[0].commands == [b"md k x\r\n"]


# All of it at random

@pytest.mark.parametrize("primary,backup", [
    (version, None) for version in VERSIONS] + MIXED)
def test_random_commands_over_old_servers_get_the_replies_of_1_6_18(
        stage, primary, backup):
    first = start(stage, primary, *differential.QUIET)
    backups = [start(stage, backup, *differential.QUIET)] if backup else []
    lowest = min(map(number, filter(None, (primary, backup))))
    trouble = differential.compare_servers(
        stage, stage.memcached(*differential.QUIET), [first], backups,
        *PATIENCE, stream=differential.ClassicStream(1, lowest), commands=2500,
        title="%s, %s" % (primary, backup))
    assert trouble is None, trouble
    for server in [first, *backups]:
        if isinstance(server, Old):
            assert server.front.refused_commands() == []
