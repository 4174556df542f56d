"""Commands that their server fails of do not bring down the partner.

Scripted servers close the connection, or hang, at one command.  Its client gets
an error; all others are served as if nothing had happened.
"""
import socket
import threading
import time

import pytest

from lib.net import wait_for

ERROR = b"SERVER_ERROR the servers of this key fail at this command\r\n"


def closes(link):
    link.reset()
    return b""


def ends(link):
    """As closes(), but no reply that is on its way is lost."""
    link.socket.shutdown(socket.SHUT_WR)
    return b""


def hangs(link):
    link.hang()
    return b""


def garbles(link):
    return b"nonsense\r\n"


def poisoned(action, word, command=b""):
    """A script that does this at a command with the word in it."""
    return lambda link, line, data: (
        action(link) if word in line and line.startswith(command) else None)


class Others:
    """Clients that read and write other keys, one command after another."""

    def __init__(self, proxy, count=8):
        self.proxy = proxy
        self.stop = threading.Event()
        self.wrong = []
        self.answers = 0
        self.threads = [threading.Thread(target=self.run, args=(i,))
                        for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        with self.proxy.client() as client:
            while not self.stop.is_set():
                for command, answer in (
                        (b"set k%d 0 0 1\r\nv\r\n" % number, b"STORED\r\n"),
                        (b"mg k%d v\r\n" % number, b"EN\r\n")):
                    got = client.ask(command)
                    if got != answer:
                        self.wrong.append((command, got))
                    self.answers += 1

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.wrong


COMMANDS = [b"set poison 0 0 1\r\nv\r\n", b"get poison\r\n", b"gets poison a\r\n",
            b"gat 10 poison\r\n", b"incr poison 1\r\n", b"delete poison\r\n",
            b"mg poison v\r\n", b"ms poison 1\r\nv\r\n", b"touch poison 1\r\n"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("action", [closes, garbles])
def test_command_that_both_servers_fail_of_is_an_error(stage, action, command):
    name = command.split()[0]
    primary, backup = (stage.fake(poisoned(action, b"poison", name))
                       for _ in range(2))
    proxy = stage.magent([primary], [backup])
    others = Others(proxy)
    with proxy.client() as client:
        # A primary that fails at the delete of a dirty key does not return.
        for _ in range(1 if name == b"delete" else 3):
            wait_for(lambda: proxy.stats("servers")["0:state"] == "up",
                     "the primary")
            assert client.ask(command) == ERROR
    assert others.end() == []
    assert others.answers > 0
    servers = proxy.stats("servers")
    assert servers["1:failures"] == "0" and servers["1:state"] == "up"
    assert int(servers["1:dirty_keys"]) == 0


@pytest.mark.parametrize("word", [b"get", b"gets", b"gat 9"])
def test_get_that_both_servers_fail_of_behind_some_values_has_none(stage, word):
    def script(link, line, _):
        if b"poison" not in line:
            return None
        token = b" 7" if line.startswith(b"gets") else b""
        link.send(b"VALUE a 0 1%s\r\nv\r\n" % token)
        return ends(link)

    primary, backup = stage.fake(script), stage.fake(script)
    proxy = stage.magent([primary], [backup])
    with proxy.client() as client:
        assert client.ask(word + b" a poison b\r\n") == ERROR
        assert client.ask(b"get b\r\n") == b"END\r\n"
    assert proxy.stats("servers")["1:failures"] == "0"


def test_command_that_hangs_both_servers_is_an_error(stage):
    """Each has a thread per connection: the others go on there."""
    primary, backup = (stage.fake(poisoned(hangs, b"poison", b"set"))
                       for _ in range(2))
    proxy = stage.magent([primary], [backup], "-t", 200)
    others = Others(proxy)
    with proxy.client() as client:
        began = time.monotonic()
        assert client.ask(b"set poison 0 0 1\r\nv\r\n") == ERROR
        assert time.monotonic() - began < 3
    assert others.end() == []
    servers = proxy.stats("servers")
    assert servers["1:failures"] == "0" and servers["1:state"] == "up"


@pytest.mark.parametrize("blamed", [0, 1, 7, 19])
def test_suspect_that_is_innocent_is_done_once_and_in_order(stage, blamed):
    """The primary fails at a command of a pipeline: what follows is answered by
    the backup, each command once, in order."""
    primary = stage.fake(poisoned(ends, b"n%d " % blamed, b"set"))
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup])
    backup.talk(b"set counter 0 0 2\r\n10\r\n")
    commands, answers = [], []
    for i in range(20):
        commands.append(b"set n%d 0 0 2\r\n%02d\r\nincr counter 1\r\n"
                        b"get n%d\r\n" % (i, i, i))
        # The primary holds nothing.
        answers.append(b"STORED\r\nNOT_FOUND\r\nEND\r\n" if i < blamed else
                       b"STORED\r\n%d\r\nVALUE n%d 0 2\r\n%02d\r\nEND\r\n"
                       % (11 + i - blamed, i, i))
    with proxy.client() as client:
        client.exchange([b"".join(commands)], b"".join(answers))


def test_other_gets_of_the_same_command_are_answered(stage):
    """Gets of many clients are one command to a server: one of them is to
    blame."""
    primary, backup = (stage.fake(poisoned(closes, b"poison"))
                       for _ in range(2))
    proxy = stage.magent([primary], [backup])
    with proxy.client() as client:
        gets = [b"get a%d\r\n" % i for i in range(30)]
        gets.insert(17, b"get poison\r\n")
        client.send(b"mn\r\n" + b"".join(gets))
        assert client.read_line() == b"MN\r\n"
        answers = [client.read_line() for _ in gets]
    assert answers.count(ERROR) == 1 and answers[17] == ERROR
    assert answers.count(b"END\r\n") == 30
    assert proxy.stats("servers")["1:failures"] == "0"


def test_key_of_unanswered_write_is_not_dirty_on_both_servers(stage):
    """Both servers fail, one after the other, with the same write unanswered:
    the copy of the one that is back first is not thrown away."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 200)
    with proxy.client() as client:
        assert client.ask(b"set k 0 0 1\r\n1\r\n") == b"STORED\r\n"
        primary.stop()
        backup.stop()
        assert client.ask(b"set k 0 0 1\r\n2\r\n").startswith(b"SERVER_ERROR")
        dirty = lambda: [int(proxy.stats("servers")["%d:dirty_keys" % i])
                         for i in range(2)]
        # One, if the backup has failed at the write alone.
        assert sum(dirty()) <= 1
        primary.cont()
        backup.cont()
        wait_for(lambda: all(proxy.stats("servers")["%d:state" % i] == "up"
                             for i in range(2)), "both servers")
        client.send(b"get k\r\n")
        assert client.read_until(b"END\r\n") in (
            b"VALUE k 0 1\r\n1\r\nEND\r\n", b"VALUE k 0 1\r\n2\r\nEND\r\n")


def test_commands_that_were_not_sent_make_no_key_dirty(stage):
    """A thousand sets wait behind one of 1 MB that the primary does not read:
    only what it may have read is in doubt."""
    def stuck(link, line, data):
        if line.startswith(b"get stuck"):
            link.hang()
            return b""
        return None

    primary, backup = stage.fake(stuck), stage.memcached()
    proxy = stage.magent([primary], [backup], "-t", 300)
    with proxy.client() as client, proxy.client() as another:
        another.send(b"get stuck\r\n")
        large = b"x" * 1000000
        client.send(b"".join(b"set large%d 0 0 1000000\r\n%s\r\n" % (i, large)
                             for i in range(12)))
        for i in range(12):
            assert client.read_line() == b"STORED\r\n"
    # Written after it was down, all of them; but none twice.
    assert int(proxy.stats("servers")["0:dirty_keys"]) <= 12


@pytest.mark.parametrize("command", [b"add", b"delete"])
def test_server_that_fails_at_one_key_in_its_return_comes_back(stage, command):
    """It fails at the copy, or at the delete, of one key each time: the third
    failure is the last one, and the other keys are there."""
    primary = stage.fake(poisoned(closes, b"poison", command))
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup])
    state = lambda: proxy.stats("servers")["0:state"]
    wait_for(lambda: state() == "up", "the primary")
    with proxy.client() as client:
        for link in primary.links:
            link.socket.shutdown(socket.SHUT_RDWR)
        for key in b"poison", b"k1", b"k2":
            assert client.ask(b"set %s 0 0 1\r\nv\r\n" % key) == b"STORED\r\n"
    left_out = command == b"add"
    wait_for(lambda: state() == "up" and (
        "1 keys were not copied" in proxy.output()) == left_out, "its return")
    added = [line.split()[1] for line in primary.commands
             if line.startswith(b"add ")]
    assert added.count(b"poison") == (3 if left_out else 1)
    assert {b"k1", b"k2"} <= set(added)
    assert any(line.startswith(b"flush_all")
               for line in primary.commands) != left_out


def test_survivor_that_fails_at_one_key_is_read_without_it(stage):
    """The survivor fails each time it is asked for one key by the rebuild of
    its partner: after the third time the key is left out."""
    primary, backup = stage.memcached(), stage.fake(
        poisoned(closes, b"poison", b"mg"))
    keys = [b"poison", b"k1", b"k2"]
    proxy = stage.magent([primary], [backup])
    states = lambda: [proxy.stats("servers")["%d:state" % i] for i in range(2)]
    with proxy.client() as client:
        primary.kill()
        wait_for(lambda: states()[0] == "down", "the end of the primary")
        for key in keys:
            assert client.ask(b"set %s 0 0 1\r\nv\r\n" % key) == b"STORED\r\n"
        plain = backup.script

        def lists(link, line, data):
            if line.startswith(b"lru_crawler"):
                return b"".join(b"key=%s exp=-1 la=1 cas=1 fetch=no cls=1 "
                                b"size=70\r\n" % key for key in keys
                                ) + b"END\r\n"
            return plain(link, line, data)
        backup.script = lists
        primary.start(primary.port)
    wait_for(lambda: states() == ["up", "up"], "both servers", timeout=40)
