"""What becomes of a key of which the mirror has not done what the authority
did, while the authority of the key changes.
"""
import pathlib
import socket
import sys
import threading
import time

from lib.net import wait_for
from lib.way import states, wait_for_states

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "faults"))
from faults import Front, Fronted  # noqa: E402


def of_key(server):
    """The commands about k that a scripted server got, without their data."""
    return [command.split(b"\r\n")[0] for command in server.commands
            if b" k" in command.split(b"\r\n")[0]]


def test_key_that_a_mirror_has_otherwise_is_deleted_before_others_write_it(
        stage):
    """The mirror has refused an append, and says so when it is the authority:
    what a client sets then is not deleted."""
    released = threading.Event()

    def script(_, line, __):
        if line.startswith(b"append"):
            assert released.wait(20)
            return b"NOT_STORED\r\n"
        return None

    primary, backup = stage.memcached(), stage.fake(script)
    magent = stage.magent([primary], [backup], "-t", 20000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set k 0 0 1\r\na\r\nappend k 0 0 1\r\nb\r\n") == (
        b"STORED\r\nSTORED\r\n")
    wait_for(lambda: b"append k 0 0 1" in of_key(backup), "the effect")
    primary.kill()
    wait_for(lambda: states(magent)[0] == "down", "the failure")
    with magent.client() as client:
        client.send(b"set k 0 0 1\r\nc\r\n")
        magent.stats("")    # it has been read
        released.set()
        assert client.read_line() == b"STORED\r\n"
    assert of_key(backup) == [
        b"set k 0 0 1", b"append k 0 0 1", b"delete k", b"set k 0 0 1"]


def test_returned_server_is_repaired_before_it_answers(stage):
    """An effect that it could not carry out is still on its way when it has all
    keys: it is trusted when that key has been copied once more."""
    copying, go, asked, answer = (threading.Event() for _ in range(4))

    def returned(_, line, __):
        if line.startswith(b"add k"):
            copying.set()
            assert go.wait(20)
        if line.startswith(b"append k"):
            return b"NOT_STORED\r\n"
        return None

    def survivor(line):
        if line.startswith(b"append k"):
            asked.set()
            assert answer.wait(20)

    primary = stage.fake(returned)
    backup = stage.add(Fronted(survivor)).start()
    magent = stage.magent([primary], [backup], "-t", 20000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set k 0 0 1\r\na\r\n") == b"STORED\r\n"
    primary.pid += 1        # it returns without its items
    for link in list(primary.links):
        link.socket.shutdown(socket.SHUT_RDWR)
    assert copying.wait(20)
    with magent.client() as client:
        client.send(b"append k 0 0 1\r\nb\r\n")
        assert asked.wait(20)
        go.set()
        wait_for(lambda: states(magent)[0] == "handback", "the handback")
        answer.set()
        assert client.read_line() == b"STORED\r\n"
    wait_for_states(magent, "up", "up")
    commands = of_key(primary)
    assert commands[commands.index(b"append k 0 0 1"):] == [
        b"append k 0 0 1", b"delete k", b"delete k", b"add k 0 0 2"]


def test_won_item_that_cannot_be_won_on_the_mirror_is_replaced_at_once(stage):
    """It has the right value, so it is not deleted before the copy comes."""
    def script(_, line, __):
        return b"HD\r\n" if line.startswith(b"mg k R") else None

    primary, backup = stage.memcached(), stage.fake(script)
    magent = stage.magent([primary], [backup], "-t", 20000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set k 0 30 1\r\na\r\nmg k R60\r\n") == (
        b"STORED\r\nHD W\r\n")
    wait_for(lambda: len(of_key(backup)) == 5, "the copy")
    commands = of_key(backup)
    assert commands[:3] == [b"set k 0 30 1", b"mg k R65", b"delete k"]
    assert commands[3].startswith(b"add k 0 ")
    assert commands[4].startswith(b"mg k R")


def test_stale_item_that_is_counted_while_it_is_sent_is_the_same_on_both(stage):
    """memcached would forget that it is stale then, and only the authority
    sends it."""
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup], "-t", 20000)
    wait_for_states(magent, "up", "up")
    for key in b"number", b"bnVtYmVy":
        flag = b" b" if key != b"number" else b""
        assert magent.talk(b"set number 0 0 2\r\n41\r\nmd %s%s I\r\n" % (
            key, flag)) == b"STORED\r\nHD\r\n"
        with magent.client() as client:
            client.exchange([b"mg number v\r\nincr number 1\r\n"],
                            b"VA 2 X W\r\n41\r\n42\r\n")
        assert primary.talk(b"mg number v\r\n") == b"VA 2 Z X\r\n42\r\n"
        # To read it meanwhile would have it forgotten, too.
        wait_for(lambda: backup.stats()["incr_hits"] ==
                 primary.stats()["incr_hits"], "the effect")
        assert backup.talk(b"mg number v\r\n") == b"VA 2 Z X\r\n42\r\n"


class Absent(Front):
    """Forgets, when it counts an item, that it is stale: memcached does so by
    chance."""

    def _pass(self, link, line, data):
        reply = super()._pass(link, line, data)
        if line.startswith(b"incr number"):
            super()._pass(link, b"set number 0 0 2\r\n", reply)
        return reply


def wait_for_effects(magent):
    """What a client was answered is in the FIFO of the mirror; look at what it
    has once only, because that wins a stale item."""
    wait_for(lambda: magent.stats("servers")["1:waiting"] == "0", "the effects")


def forgetful(stage):
    memcached = stage.add(Fronted(lambda line: None))
    memcached.front.close()
    memcached.front = Absent(memcached, lambda line: None)
    return memcached.start()


def test_stale_item_that_the_mirror_forgets_is_stale_on_both(stage):
    primary, backup = stage.memcached(), forgetful(stage)
    magent = stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    for last, seen in ((b"W", b"VA 2 X W\r\n42\r\n"),
                       (b"Z", b"VA 2 Z X\r\n42\r\n")):
        assert magent.talk(b"set number 0 0 2\r\n41\r\nmd number I\r\n") == (
            b"STORED\r\nHD\r\n")
        if last == b"Z":
            assert magent.talk(b"mg number\r\n") == b"HD X W\r\n"
        assert magent.talk(b"incr number 1\r\nmg number v\r\n") == (
            b"42\r\n" + seen)
        wait_for_effects(magent)
        assert backup.talk(b"mg number v\r\n") == b"VA 2 Z X\r\n42\r\n"


def test_stale_item_that_the_authority_forgets_is_forgotten_on_both(stage):
    primary, backup = forgetful(stage), stage.memcached()
    magent = stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set number 0 0 2\r\n41\r\nmd number I\r\n"
                       b"incr number 1\r\n") == b"STORED\r\nHD\r\n42\r\n"
    # Nobody knows yet.
    assert magent.talk(b"mg number v\r\n") == b"VA 2\r\n42\r\n"
    wait_for_effects(magent)
    assert backup.talk(b"mg number v\r\n") == b"VA 2\r\n42\r\n"


def test_item_that_was_forgotten_to_be_stale_is_won_as_a_fresh_one_on_both(
        stage):
    """Otherwise the mirror would say until it is repaired that it is stale."""
    primary, backup = forgetful(stage), stage.memcached()
    magent = stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set number 0 0 2\r\n41\r\nmd number I\r\n"
                       b"incr number 1\r\ntouch number 50\r\n") == (
        b"STORED\r\nHD\r\n42\r\nTOUCHED\r\n")
    assert magent.talk(b"mg number v R100\r\n") == b"VA 2 W\r\n42\r\n"
    wait_for_effects(magent)
    assert backup.talk(b"mg number v\r\n") == b"VA 2 Z\r\n42\r\n"
    assert magent.stats()["mirror_mismatches"] == "0"


def test_nobody_waits_for_a_backup_that_his_key_is_not_on(stage):
    primary, slow, other = stage.memcacheds(3)
    magent = stage.magent([primary], [slow, other], "-t", 20000)
    wait_for_states(magent, "up", "up", "up")
    keys = [b"k%d" % i for i in range(50)]
    for key in keys:
        assert magent.talk(b"set %s 0 0 1\r\nv\r\n" % key) == b"STORED\r\n"
    wait_for(lambda: sum(server.item_count()
                         for server in (slow, other)) == len(keys), "the effects")
    theirs = [key for key in keys
              if other.talk(b"get %s\r\n" % key) != b"END\r\n"]
    assert 0 < len(theirs) < len(keys)
    slow.stop()
    primary.kill()
    wait_for(lambda: states(magent)[0] == "down", "the failure")
    with magent.client() as client:
        began = time.monotonic()
        for key in theirs:
            client.exchange([b"get %s\r\n" % key],
                            b"VALUE %s 0 1\r\nv\r\nEND\r\n" % key)
        assert time.monotonic() - began < 10
    slow.cont()


class Forgetful(Front):
    """Carries out one read of k, and closes the connection in place of the
    reply."""

    forgets = False

    def _pass(self, link, line, data):
        reply = super()._pass(link, line, data)
        if self.forgets and line.startswith(b"mg k k f t"):
            self.forgets = False
            link.socket.shutdown(socket.SHUT_RDWR)
        return reply


def test_token_that_a_lost_copy_has_won_is_given_back(stage):
    """The survivor fails before it has answered the read of a stale item, and is
    back with it: the next client is told to set it anew."""
    primary, backup = stage.add(Fronted(lambda line: None)), stage.memcached()
    primary.front.close()
    primary.front = Forgetful(primary, lambda line: None)
    primary.start()
    magent = stage.magent([primary], [backup], "-t", 5000)
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"set k 0 0 1\r\nv\r\nmd k I\r\n") == (
        b"STORED\r\nHD\r\n")
    primary.front.forgets = True
    backup.restart()
    wait_for(lambda: not primary.front.forgets, "the copy")
    wait_for_states(magent, "up", "up")
    assert magent.talk(b"mg k v\r\n") == b"VA 1 X W\r\nv\r\n"
    assert magent.talk(b"mg k v\r\n") == b"VA 1 Z X\r\nv\r\n"
