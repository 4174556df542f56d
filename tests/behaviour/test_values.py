"""Values of every size and content arrive as they were sent."""
import random

import pytest

from lib.seed import seed

TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
MIB = 1 << 20


def stored(server, value, key=b"v"):
    """Store a value; the answer and what a get then says."""
    with server.client() as client:
        client.send(b"set %s 9 0 %d\r\n" % (key, len(value)))
        answer = client.talk(value + b"\r\n")
        return answer, client.talk(b"get %s\r\n" % key)


def found(value, key=b"v"):
    return b"VALUE %s 9 %d\r\n%s\r\nEND\r\n" % (key, len(value), value)


@pytest.mark.parametrize("size", [
    0, 1, 2, 1023, 1024, 2047, 2048, 2049, 4095, 4096, 8191, 16383, 16384,
    16385, 65535, 65536, 65537, 262144, 524288, 1000000, 1048000])
def test_value_of_each_size_is_returned_as_stored(speaker, size):
    value = random.Random(seed(default=size)).randbytes(size)
    assert stored(speaker, value) == (b"STORED\r\n", found(value))
    assert speaker.talk(b"mg v v s\r\n") == (
        b"VA %d s%d\r\n%s\r\n" % (size, size, value))


@pytest.mark.parametrize("value", [
    bytes(range(256)) * 4, b"\r\n" * 100, b"\0" * 100, b"END\r\n",
    b"x\r\nSTORED\r\nEND\r\nflush_all\r\n", b"\x80\x81\xff"])
def test_value_with_any_bytes_is_returned_as_stored(speaker, value):
    assert stored(speaker, value) == (b"STORED\r\n", found(value))


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB,
                                  50 * MIB])
def test_value_too_large_is_refused_and_old_one_is_gone(speaker, size):
    """Refused, swallowed, and the old value is gone."""
    assert speaker.talk(b"set v 0 0 3\r\nold\r\n") == b"STORED\r\n"
    assert stored(speaker, b"version\r\n"[:9] * (size // 9) + b"n" * (size % 9)
                  ) == (TOO_LARGE, b"END\r\n")


@pytest.mark.parametrize("command, kept", [
    (b"add v 0 0 2000000", True), (b"replace v 0 0 2000000", True),
    (b"append v 0 0 2000000", True), (b"prepend v 0 0 2000000", True),
    (b"cas v 0 0 2000000 1", True), (b"ms v 2000000", False),
    (b"ms v 2000000 MA", False), (b"ms v 2000000 ME", False)])
def test_command_with_value_too_large_keeps_or_drops_the_old(
        speaker, command, kept):
    """memcached keeps the old value but for set and ms."""
    speaker.talk(b"set v 0 0 1\r\nx\r\n")
    assert speaker.talk(b"%s\r\n%s\r\nget v\r\n" % (
        command, b"x" * 2000000)) == TOO_LARGE + (
        b"VALUE v 0 1\r\nx\r\nEND\r\n" if kept else b"END\r\n")


def test_noreply_set_of_value_too_large_is_silent(speaker):
    assert speaker.talk(b"set v 0 0 %d noreply\r\n%s\r\nget none\r\n" % (
        2 * MIB, b"x" * (2 * MIB))) == b"END\r\n"


def test_value_grown_by_append_stops_at_the_limit(speaker):
    with speaker.client() as client:
        client.talk(b"set v 0 0 0\r\n\r\n")
        part = b"append v 0 0 300000\r\n%s\r\n" % (b"y" * 300000)
        assert client.talk(part * 3) == b"STORED\r\n" * 3
        assert client.talk(b"mg v s\r\n") == b"HD s900000\r\n"
        assert client.talk(part) == b"NOT_STORED\r\n"
        assert client.talk(b"mg v s\r\n") == b"HD s900000\r\n"


def test_value_of_8_mib_is_stored_with_option_I_16m(stage):
    servers = stage.memcacheds(2, "-I", "16m", "-m", "256")
    proxy = stage.magent(servers[:1], servers[1:], "-I", "16m")
    value = random.Random(seed(default=8)).randbytes(8 * MIB)
    assert stored(proxy, value) == (b"STORED\r\n", found(value))
    for server in servers:
        assert server.talk(b"mg v s\r\n") == b"HD s%d\r\n" % len(value)
    assert stored(proxy, bytes(17 * MIB)) == (TOO_LARGE, b"END\r\n")


def test_value_over_option_I_10k_is_refused(stage):
    proxy = stage.magent([stage.memcached()], [], "-I", "10k")
    assert stored(proxy, b"x" * 10240)[0] == b"STORED\r\n"
    assert stored(proxy, b"x" * 10241) == (TOO_LARGE, b"END\r\n")
