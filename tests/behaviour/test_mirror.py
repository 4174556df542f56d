"""Each write leaves the primary and the backup with the same value.

Both are asked directly; the effect is on its way when the client is answered,
so they are asked until they agree.
"""
import pytest

from differential import Names, first_difference
from lib.net import wait_for

OLD = b"set k 7 1000 2\r\n10\r\n"      # what k is before each of these
# What is asked, and what both hold of k after it.
SETS = {
    "set": (b"set k 5 100 3\r\nabc\r\n", b"VA 3 kk s3 f5 t100\r\nabc\r\n"),
    "set without end": (b"set k 5 0 0\r\n\r\n", b"VA 0 kk s0 f5 t-1\r\n\r\n"),
    "set expired": (b"set k 5 -1 1\r\nx\r\n", b"EN kk\r\n"),
    "set noreply": (b"set k 1 0 1 noreply\r\nx\r\n",
                    b"VA 1 kk s1 f1 t-1\r\nx\r\n"),
    "add": (b"delete k\r\nadd k 4 50 1\r\nx\r\n",
            b"VA 1 kk s1 f4 t50\r\nx\r\n"),
    "add to a key": (b"add k 4 50 1\r\nx\r\n",
                     b"VA 2 kk s2 f7 t1000\r\n10\r\n"),
    "replace": (b"replace k 4 50 1\r\nx\r\n", b"VA 1 kk s1 f4 t50\r\nx\r\n"),
    "append": (b"append k 9 9 1\r\n1\r\n", b"VA 3 kk s3 f7 t1000\r\n101\r\n"),
    "append noreply": (b"append k 9 9 1 noreply\r\n1\r\n",
                       b"VA 3 kk s3 f7 t1000\r\n101\r\n"),
    "prepend": (b"prepend k 9 9 1\r\n1\r\n",
                b"VA 3 kk s3 f7 t1000\r\n110\r\n"),
    "incr": (b"incr k 5\r\n", b"VA 2 kk s2 f7 t1000\r\n15\r\n"),
    "incr noreply": (b"incr k 5 noreply\r\n",
                     b"VA 2 kk s2 f7 t1000\r\n15\r\n"),
    "decr": (b"incr k 50\r\ndecr k 5\r\n", b"VA 2 kk s2 f7 t1000\r\n55\r\n"),
    "touch": (b"touch k 200\r\n", b"VA 2 kk s2 f7 t200\r\n10\r\n"),
    "touch noreply": (b"touch k 200 noreply\r\n",
                      b"VA 2 kk s2 f7 t200\r\n10\r\n"),
    "gat": (b"gat 300 x k y\r\n", b"VA 2 kk s2 f7 t300\r\n10\r\n"),
    "gats": (b"gats 300 k k\r\n", b"VA 2 kk s2 f7 t300\r\n10\r\n"),
    "delete": (b"delete k\r\n", b"EN kk\r\n"),
    "delete noreply": (b"delete k noreply\r\n", b"EN kk\r\n"),
    "flush_all": (b"flush_all\r\n", b"EN kk\r\n"),
    "flush_all noreply": (b"flush_all noreply\r\n", b"EN kk\r\n"),
    "too large": (b"set k 0 0 2000000\r\n%s\r\n" % (b"x" * 2000000),
                  b"EN kk\r\n"),
    "too large noreply": (b"set k 0 0 2000000 noreply\r\n%s\r\n"
                          % (b"x" * 2000000), b"EN kk\r\n"),
    "too large for the server": (b"set k 0 0 1048570\r\n%s\r\n"
                                 % (b"x" * 1048570), b"EN kk\r\n"),
    "mg T": (b"mg k T400 v\r\n", b"VA 2 kk s2 f7 t400\r\n10\r\n"),
    "mg T quiet": (b"mg k q T400\r\n", b"VA 2 kk s2 f7 t400\r\n10\r\n"),
    "ms": (b"ms k 1 F3 T60\r\nx\r\n", b"VA 1 kk s1 f3 t60\r\nx\r\n"),
    "ms quiet": (b"ms k 1 q F3\r\nx\r\n", b"VA 1 kk s1 f3 t-1\r\nx\r\n"),
    "ms add": (b"md k\r\nms k 1 ME\r\nx\r\n", b"VA 1 kk s1 f0 t-1\r\nx\r\n"),
    "ms replace": (b"ms k 1 MR\r\nx\r\n", b"VA 1 kk s1 f0 t-1\r\nx\r\n"),
    "ms append": (b"ms k 1 MA q\r\n1\r\n",
                  b"VA 3 kk s3 f7 t1000\r\n101\r\n"),
    "ms prepend": (b"ms k 1 MP O1\r\n1\r\n",
                   b"VA 3 kk s3 f7 t1000\r\n110\r\n"),
    "md": (b"md k\r\n", b"EN kk\r\n"),
    "md quiet": (b"md k q\r\n", b"EN kk\r\n"),
    "ma": (b"ma k D5\r\n", b"VA 2 kk s2 f7 t1000\r\n15\r\n"),
    "ma quiet": (b"ma k q\r\n", b"VA 2 kk s2 f7 t1000\r\n11\r\n"),
    "ma decrement": (b"ma k J9 D99 MI v\r\nma k MD D1\r\n",
                     b"VA 3 kk s3 f7 t1000\r\n108\r\n"),
    "ma T": (b"ma k T70\r\n", b"VA 2 kk s2 f7 t70\r\n11\r\n"),
    "ma that makes one": (b"md k\r\nma k N0 J13\r\n",
                          b"VA 2 kk s2 f0 t-1\r\n13\r\n"),
    "two in one packet": (b"set k 0 0 1 noreply\r\na\r\n"
                          b"append k 0 0 1\r\nb\r\n",
                          b"VA 2 kk s2 f0 t-1\r\nab\r\n"),
}


@pytest.fixture(scope="module")
def trio(module_stage):
    primary, backup = module_stage.memcacheds(2)
    return primary, backup, module_stage.magent([primary], [backup])


def holds(server, key=b"k"):
    return server.talk(b"mg %s k s f t v\r\n" % key)


def same(*replies):
    return all(first_difference(replies[0], other, Names()) is None
               for other in replies[1:])


def both_hold(primary, backup, expected, key=b"k"):
    def agree():
        return same(expected, holds(primary, key), holds(backup, key))
    try:
        wait_for(agree, "agreement", timeout=5)
    except TimeoutError:
        assert [holds(primary, key), holds(backup, key)] == [expected] * 2


@pytest.mark.parametrize("name", SETS)
def test_write_of_each_kind_leaves_both_servers_alike(trio, name):
    primary, backup, proxy = trio
    request, expected = SETS[name]
    assert proxy.talk(OLD) == b"STORED\r\n"
    proxy.talk(request)
    both_hold(primary, backup, expected)


@pytest.mark.parametrize("command", [
    b"cas k 3 60 3 %s\r\nnew\r\n", b"cas k 3 60 3 %s noreply\r\nnew\r\n",
    b"ms k 3 F3 T60 C%s\r\nnew\r\n", b"ms k 3 F3 T60 q C%s\r\nnew\r\n"])
def test_cas_valid_then_stale_leaves_both_servers_alike(trio, command):
    primary, backup, proxy = trio
    proxy.talk(OLD)
    token = proxy.talk(b"gets k\r\n").split()[4]
    proxy.talk(command % token)
    both_hold(primary, backup, b"VA 3 kk s3 f3 t60\r\nnew\r\n")
    proxy.talk(command % token)     # stale now
    both_hold(primary, backup, b"VA 3 kk s3 f3 t60\r\nnew\r\n")


def test_set_with_base64_key_is_on_both_servers(trio):
    primary, backup, proxy = trio
    assert proxy.talk(b"ms a2V5 3 b T90 F2\r\nabc\r\n") == b"HD\r\n"
    both_hold(primary, backup, b"VA 3 ka2V5 b s3 f2 t90\r\nabc\r\n",
              key=b"a2V5 b")


def test_gat_of_several_keys_touches_each_on_both_servers(trio):
    primary, backup, proxy = trio
    proxy.talk(b"set m1 0 0 1\r\n1\r\nset m2 0 0 1\r\n2\r\n")
    proxy.talk(b"gat 500 m1 none m2\r\n")
    for n in (b"1", b"2"):
        both_hold(primary, backup, b"VA 1 km%s s1 f0 t500\r\n%s\r\n" % (n, n),
                  key=b"m" + n)


@pytest.mark.parametrize("command", [
    b"incr k 1\r\n", b"decr k 1\r\n", b"ma k\r\n", b"incr k 1 noreply\r\n"])
def test_incr_with_another_number_on_mirror_is_repaired_there(trio, command):
    primary, backup, proxy = trio
    proxy.talk(OLD)
    both_hold(primary, backup, b"VA 2 kk s2 f7 t1000\r\n10\r\n")
    backup.talk(b"set k 0 0 2\r\n77\r\n")
    proxy.talk(command)
    assert holds(primary).startswith(b"VA ")
    both_hold(primary, backup, holds(primary))


@pytest.mark.parametrize("command", [
    b"append k 0 0 1\r\nx\r\n", b"prepend k 0 0 1\r\nx\r\n",
    b"ms k 1 MA\r\nx\r\n", b"incr k 1\r\n", b"touch k 100\r\n",
    b"gat 100 k\r\n", b"ma k\r\n"])
def test_change_of_key_that_mirror_lacks_has_it_copied(trio, command):
    """It must not make the key by itself: it does not know the old value."""
    primary, backup, proxy = trio
    proxy.talk(OLD)
    both_hold(primary, backup, b"VA 2 kk s2 f7 t1000\r\n10\r\n")
    backup.talk(b"delete k\r\n")
    proxy.talk(command)
    assert holds(primary).startswith(b"VA")
    both_hold(primary, backup, holds(primary))


def test_delete_of_key_that_only_the_mirror_has_removes_it(trio):
    primary, backup, proxy = trio
    backup.talk(OLD)
    primary.talk(b"delete k\r\n")
    assert proxy.talk(b"delete k\r\n") == b"NOT_FOUND\r\n"
    both_hold(primary, backup, b"EN kk\r\n")


def test_invalidated_value_is_not_fresh_on_the_mirror(trio):
    primary, backup, proxy = trio
    proxy.talk(OLD)
    both_hold(primary, backup, b"VA 2 kk s2 f7 t1000\r\n10\r\n")
    assert proxy.talk(b"md k I T30\r\n") == b"HD\r\n"
    wait_for(lambda: backup.talk(b"mg k\r\n") in (b"EN\r\n", b"HD W X\r\n",
                                                 b"HD Z X\r\n"),
             "the stale mark or no value")


def test_value_stored_as_stale_is_not_fresh_on_the_mirror(trio):
    """ms with I and an older token stores what is marked as stale."""
    primary, backup, proxy = trio
    proxy.talk(OLD)
    token = proxy.talk(b"gets k\r\n").split()[4]
    proxy.talk(OLD)
    assert proxy.talk(b"ms k 1 I C%s\r\nz\r\n" % token) == b"HD\r\n"
    proxy.talk(b"set other 0 0 5\r\nstale\r\n")
    wait_for(lambda: b"stale" in holds(backup, b"other"), "the set")
    assert b" X" in primary.talk(b"mg k v\r\n")
    assert backup.talk(b"mg k v\r\n") in (
        b"EN\r\n", b"VA 1 X W\r\nz\r\n", b"VA 1 W X\r\nz\r\n")


def test_thousand_writes_of_two_clients_end_alike_on_both_servers(trio):
    """From two clients, to one key: the last on one is the last on both."""
    primary, backup, proxy = trio
    with proxy.client() as one, proxy.client() as other:
        for i in range(500):
            for name, client in ((b"a", one), (b"b", other)):
                client.send(b"set k 0 0 4 noreply\r\n%s%03d\r\n" % (name, i))
        assert one.talk(b"") == other.talk(b"") == b""
    proxy.talk(b"set end 0 0 1\r\nx\r\n")
    wait_for(lambda: holds(backup, b"end").startswith(b"VA"), "the last set")
    assert holds(primary) == holds(backup)


def test_keys_of_four_primaries_and_two_backups_are_on_one_of_each(stage):
    """Every key is on one primary and one backup, with the same value."""
    servers = stage.memcacheds(6)
    proxy = stage.magent(servers[:4], servers[4:])
    keys = [b"key:%d" % i for i in range(300)]
    proxy.talk(b"".join(b"set %s 1 0 %d\r\n%s\r\n" % (key, len(key), key)
                        for key in keys))
    request = b"get " + b" ".join(keys) + b"\r\n"

    def found(group):
        values = b"".join(server.talk(request) for server in group)
        return sorted(word for word in values.split() if word in keys)
    everything = sorted(keys * 2)       # in the head and as the value
    assert found(servers[:4]) == everything
    wait_for(lambda: found(servers[4:]) == everything, "all effects")


def test_servers_in_both_lists_hold_two_copies_of_each_key(stage):
    """As a backup it holds what the others are primary for."""
    servers = stage.memcacheds(3)
    proxy = stage.magent(servers, servers)
    keys = [b"key:%d" % i for i in range(200)]
    proxy.talk(b"".join(b"set %s 0 0 1\r\nx\r\n" % key for key in keys))
    wait_for(lambda: sum(server.talk(b"get %s\r\n" % b" ".join(keys)).count(
        b"VALUE") for server in servers) == 2 * len(keys), "two copies of each")
