"""Gets of one key that follow each other reach a server as one command."""
import pytest

from lib.net import wait_for

WARM = b"get warm\r\n" * 40     # a client that is served may have more under way


def value(key, data=b"x", flags=0):
    return b"VALUE %s %d %d\r\n%s\r\n" % (key, flags, len(data), data)


def served(stage, proxy):
    client = stage.client(proxy)
    assert client.talk(WARM) == b"END\r\n" * 40
    return client


@pytest.fixture
def recorded(stage):
    """A scripted server that notes its commands, and a client of the magent."""
    server = stage.fake()
    client = served(stage, stage.magent([server]))
    server.commands.clear()
    return server, client


def test_gets_in_a_row_share_one_command(recorded):
    server, client = recorded
    assert client.talk(b"get a\r\nget b\r\nget  c \r\n") == b"END\r\n" * 3
    assert server.commands == [b"get a b c\r\n"]


def test_gets_of_several_clients_share_a_command_and_count_each(stage):
    """The server is silent; what comes meanwhile is sent as far as it can be,
    and a client's get joins that of another one which came in the same turn."""
    server = stage.memcached()
    proxy = stage.magent([server], [], "-t", 10000)
    clients = [stage.client(proxy) for _ in range(100)]
    for client in clients:
        assert client.talk(b"get none\r\n") == b"END\r\n"
    before = int(server.stats()["cmd_get"])
    proxy.stop()
    for i, client in enumerate(clients):
        client.send(b"set k%d 0 0 2\r\n%02d\r\n" % (i % 10, i)
                    if i < 10 else b"get k%d\r\n" % (i % 10))
    proxy.cont()
    for i, client in enumerate(clients):
        assert client.read_line() == (
            b"STORED\r\n" if i < 10 else b"VALUE k%d 0 2\r\n" % (i % 10))
        if i >= 10:
            assert client.read_line() == b"%02d\r\n" % (i % 10)
            assert client.read_line() == b"END\r\n"
    assert int(server.stats()["cmd_get"]) == before + 90


def test_gets_around_other_commands_do_not_overtake_them(recorded):
    server, client = recorded
    assert client.talk(
        b"get a\r\nget b\r\nset b 0 0 1\r\ny\r\nget b\r\nget c\r\n"
        b"gets c\r\ngets d\r\nget e\r\nmg f\r\nget g\r\nget h i\r\nget j\r\n"
    ) == (b"END\r\n" * 2 + b"STORED\r\n" + b"END\r\n" * 5 + b"EN\r\n" +
          b"END\r\n" * 3)
    assert server.commands == [
        b"get a b\r\n", b"set b 0 0 1\r\ny\r\n", b"get b c\r\n",
        b"gets c d\r\n", b"get e\r\n", b"mg f\r\n", b"get g\r\n",
        b"get h i\r\n", b"get j\r\n"]


def test_shared_get_of_long_keys_stays_within_2048_bytes(recorded):
    server, client = recorded
    keys = [b"%0250d" % i for i in range(30)]
    assert client.talk(b"".join(b"get %s\r\n" % key for key in keys)) == (
        b"END\r\n" * 30)
    lines = list(server.commands)
    assert max(map(len, lines)) <= 2048 and len(lines) == 4
    assert b"".join(lines).replace(b"get", b"").split() == keys


@pytest.mark.parametrize("name", [b"get", b"gets"])
@pytest.mark.parametrize("keys", [b"abc", b"nnnn", b"na", b"an", b"ana",
                                  b"aa", b"nabn", b"aabbna", b"bnbnab"])
def test_gets_in_a_row_each_have_their_own_answer(speaker, name, keys):
    """As memcached's; n stands for a miss."""
    client = speaker.client()
    assert client.talk(b"".join(b"set %c 7 0 1 noreply\r\n%c\r\n" % (c, c)
                                for c in b"abc")) == b""
    assert client.talk(WARM) == b"END\r\n" * 40
    replies = client.talk(b"".join(
        b"%s %c\r\n" % (name, c) for c in keys)).split(b"END\r\n")
    assert replies.pop() == b"" and len(replies) == len(keys)
    for c, reply in zip(keys, replies):
        if c == ord("n"):
            assert reply == b""
            continue
        head, data, nothing = reply.split(b"\r\n")
        assert head.split()[:4] == [b"VALUE", b"%c" % c, b"7", b"1"]
        assert len(head.split()) == (5 if name == b"gets" else 4)
        assert data == b"%c" % c and nothing == b""
    client.close()


def test_shared_get_of_large_values_answers_each_client_whole(stage, pair):
    """The server stops between two values of a shared reply."""
    proxy = pair[2]
    values = {b"big%d" % i: bytes([97 + i]) * 700000 for i in range(12)}
    for key, data in values.items():
        assert proxy.talk(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(data), data)
                          ) == b"STORED\r\n"
    client = served(stage, proxy)
    assert client.talk(b"".join(b"get %s\r\n" % key for key in values)) == (
        b"".join(value(key, data) + b"END\r\n"
                 for key, data in values.items()))


@pytest.fixture
def scripted(stage):
    """A scripted primary whose backup has a to d, and a client."""
    primary, backup = stage.fake(), stage.memcached()
    client = served(stage, stage.magent([primary], [backup]))
    for c in b"abcd":
        assert backup.talk(b"set %c 0 0 1\r\nB\r\n" % c) == b"STORED\r\n"
    primary.commands.clear()
    return primary, client


ASKED = b"get a\r\nget b\r\nget c\r\nget d\r\n"


def ask(scripted, said, then="hang"):
    """What the client gets when the primary says this, and then ends so."""
    primary, client = scripted

    def script(link, line, _):
        if not line.startswith(b"get"):
            return None
        primary.refuse()
        link.send(said)
        getattr(link, then)()
        return b""
    primary.script = script
    reply = client.talk(ASKED)
    assert primary.commands[0] == b"get a b c d\r\n"
    return reply


def answers(text):
    """P: the primary's value; B: the backup's; -: a miss."""
    return b"".join(
        (b"" if c == ord("-") else value(b"%c" % key, b"%c" % c)) + b"END\r\n"
        for key, c in zip(b"abcd", text))


A, B, C, D = (value(b"%c" % key, b"P") for key in b"abcd")


@pytest.mark.parametrize("then", ["hang", "reset", "close"])
@pytest.mark.parametrize("said, heard", [
    (b"", b"BBBB"), (A[:-1], b"BBBB"), (A, b"PBBB"), (A + B[:9], b"PBBB"),
    (B, b"-PBB"), (A + C, b"P-PB"), (A + B + C + D, b"PPPB"),
    (D, b"---B"), (D + b"EN", b"---B"), (A + b"EN", b"PBBB")])
def test_shared_get_cut_short_is_completed_by_the_backup(
        scripted, said, heard, then):
    """A get that has its whole value keeps it; the backup answers the others."""
    assert ask(scripted, said, then) == answers(heard)


@pytest.mark.parametrize("said, heard", [
    (value(b"x"), b"BBBB"), (value(b"aa"), b"BBBB"), (A + A, b"PBBB"),
    (B + A, b"-PBB"), (D + D, b"---B"), (D + A, b"---B"),
    (D + b"ERROR\r\n", b"---B"), (A + b"STORED\r\n", b"PBBB"),
    (A + b"\r\n", b"PBBB"), (A + b"VALUE b 0 1048577\r\n", b"PBBB")])
def test_shared_get_with_unasked_reply_is_completed_by_the_backup(
        scripted, said, heard):
    assert ask(scripted, said) == answers(heard)


def test_error_in_shared_get_goes_to_all_that_are_left(stage):
    error = b"SERVER_ERROR out of memory writing get response\r\n"
    server = stage.fake(lambda link, line, data:
                        A + error if line == b"get a b c d\r\n" else None)
    proxy = stage.magent([server])
    client = served(stage, proxy)
    assert client.talk(ASKED) == A + b"END\r\n" + error * 3
    assert client.talk(b"get a\r\n") == b"END\r\n"
    wait_for(lambda: proxy.stats("servers")["0:state"] == "up", "it stays up")


def test_stats_count_each_of_the_shared_gets(stage):
    proxy = stage.magent([stage.memcached()])
    client = served(stage, proxy)
    assert client.talk(b"stats reset\r\n") == b"RESET\r\n"
    assert client.talk(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert client.talk(b"get a\r\nget b\r\nget a\r\ngets a\r\ngets c\r\n")
    stats = proxy.stats()
    assert [stats[name] for name in ("cmd_get", "get_hits", "get_misses")] == [
        "5", "3", "2"]
