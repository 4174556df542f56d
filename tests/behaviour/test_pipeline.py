"""Pipelines of any depth, and connections that end in the middle of one."""
import pytest

from differential import Names, Stream, first_difference
from lib.seed import seed
from lib.servers import sanitized

END = b"md marker O0\r\n", b"NF O0\r\n"


def mixed(count):
    """That many mixed commands that need no answer to be made."""
    stream = Stream(seed(default=15))
    kinds = (stream.get, stream.store, stream.touch, stream.delete, stream.mg,
             stream.verbosity, stream.mn, stream.me)
    made = []
    while len(made) < count:
        command = stream.choice(kinds)()
        made.append(command if isinstance(command, bytes) else
                    b"".join(p for p in command.parts if isinstance(p, bytes)))
    return b"".join(made)


@pytest.mark.parametrize("shards", [1, 4])
def test_100000_commands_in_one_write_get_memcacheds_replies(stage, shards):
    plain, *servers = stage.memcacheds(1 + shards)
    proxy = stage.magent(servers)
    data = mixed(10000 if sanitized() else 100000)
    replies = [server.talk(data, marker=END[0], answer=END[1])
               for server in (plain, proxy)]
    assert first_difference(*replies, Names()) is None


def test_get_after_noreply_set_in_one_packet_finds_the_value(speaker):
    with speaker.client() as client:
        for i in range(500):
            value = b"%d" % i
            assert client.talk(
                b"set p 0 0 %d noreply\r\n%s\r\nget p\r\n" % (
                    len(value), value)) == (
                b"VALUE p 0 %d\r\n%s\r\nEND\r\n" % (len(value), value))


def test_half_close_after_pipeline_gets_all_answers(stage):
    proxy = stage.magent(stage.memcacheds(3))
    sets = b"".join(b"set h%d 0 0 3\r\nabc\r\n" % i for i in range(1000))
    gets = b"".join(b"get h%d\r\n" % i for i in range(1000))
    with proxy.client() as client:
        client.send(sets + gets)
        client.half_close()
        assert client.read_to_end() == b"STORED\r\n" * 1000 + b"".join(
            b"VALUE h%d 0 3\r\nabc\r\nEND\r\n" % i for i in range(1000))


def test_half_close_inside_a_request_gets_answers_to_whole_ones(speaker):
    with speaker.client() as client:
        client.send(b"set h 0 0 1\r\nx\r\nget h\r\nset h 0 0 100\r\nabc")
        client.half_close()
        assert client.read_to_end() == (
            b"STORED\r\nVALUE h 0 1\r\nx\r\nEND\r\n")
    assert speaker.talk(b"get h\r\n") == b"VALUE h 0 1\r\nx\r\nEND\r\n"


def test_quit_after_requests_closes_after_their_answers(speaker):
    with speaker.client() as client:
        client.send(b"set q 0 0 1\r\nx\r\nget q\r\nquit\r\nget q\r\n")
        assert client.read_to_end() == (
            b"STORED\r\nVALUE q 0 1\r\nx\r\nEND\r\n")


def test_client_leaving_before_its_answers_gives_them_to_nobody(stage):
    """Its writes happen, in order; nobody else gets its answers."""
    servers = stage.memcacheds(3)
    proxy = stage.magent(servers)
    with proxy.client() as stays:
        for i in range(100):
            with proxy.client() as leaves:
                leaves.send(b"incr none 1\r\nget a b c d e f\r\n" * 20
                            + b"set left 0 0 3\r\n%03d\r\n" % i)
            assert stays.talk(b"get nothing\r\n") == b"END\r\n"
    with proxy.client() as client:
        assert client.talk(b"mg none q\r\n") == b""


def test_pipelines_of_50_clients_do_not_mix(stage):
    proxy = stage.magent(stage.memcacheds(2))
    clients = [stage.client(proxy) for _ in range(50)]
    for i, client in enumerate(clients):
        client.send(b"".join(
            b"set m%d 0 0 6\r\n%02d%04d\r\nget m%d\r\n" % (i, i, n, i)
            for n in range(200)))
    for i, client in enumerate(clients):
        assert client.talk(b"") == b"".join(
            b"STORED\r\nVALUE m%d 0 6\r\n%02d%04d\r\nEND\r\n" % (i, i, n)
            for n in range(200))
