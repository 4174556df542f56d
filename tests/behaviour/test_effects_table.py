"""Each command, with each flag, on an item in each state, while the mirror is
in each state: the answers, and in the end both servers, are those of one lone
memcached that was sent the same.

A world is a pair with a magent before it, and the state of its mirror.  All
rows of lib/table.py are sent through it at once, each with keys of its own.
"""
import os
import re
import struct
import tempfile
import time

import pytest

from lib.held_list import HeldList
from lib.net import wait_for
from lib.servers import Memcached, built
from lib.table import (LIMIT, NOTHING, SMALLER_LIMIT, TICKS, base64_rows,
                       forgotten_base64_rows, large_rows, rows,
                       rows_with_dates, same, seconds_left, wanted_reply,
                       with_ttl)
from lib.way import states, wait_for_states, way

SENTINEL = b"sentinel"
HOUR = 3600
SHOWN = 150         # failures of a world


class World:
    """Both servers are up."""

    # The mirror has lost the items when the commands come.
    mirror_lacks = False
    # It learns from reads what it lacks.
    learns = False
    # It is up when the commands come.
    is_mirrored = True
    # The items are there before the mirror is in its state.
    items_first = True
    # The tokens are those of the server that is the authority then.
    tokens_first = True
    # Flags of which one server does not know what the other one has counted.
    ignored = ""
    # The keys of a row: for the looks during, after the return, after the end
    # of the authority.
    letters = "ac"
    # Without the thread that sorts items: while it holds one, incr makes a new
    # item of it, which is not won by anybody.
    memory = ("-I", str(LIMIT), "-o",
              "no_lru_maintainer,slab_chunk_max=%d" % SMALLER_LIMIT)

    def __init__(self, stage):
        self.stage = stage
        self.lone = self.single()
        self.authority = self.primary()
        self.mirror = self.backup()
        self.proxy = stage.magent(*self.lists(), "-t", 20000, "-I", LIMIT)
        wait_for_states(self.proxy, "up", "up")
        self.proxy.talk(b"set %s 0 0 1\r\nx\r\n" % SENTINEL)
        self.lone.talk(b"set %s 0 0 1\r\nx\r\n" % SENTINEL)

    def single(self):
        """The lone memcached."""
        return self.stage.memcached(*self.memory)

    def primary(self):
        return self.stage.memcached(*self.memory)

    def backup(self):
        return self.stage.memcached(*self.memory)

    def lists(self):
        return [self.authority], [self.mirror]

    def begin(self, table):
        """Bring the mirror into the state of this world."""

    def end(self):
        """Let the mirror be up again."""

    def kill(self):
        """End the authority."""
        at = int(self.lists()[1] == [self.authority])
        self.authority.kill()
        wait_for(lambda: states(self.proxy)[at] != "up", "its end")

    def may_lack(self, row, held):
        """Whether the mirror may lack what the authority holds."""
        return (self.mirror_lacks and row.item != "missing" and
                not row.stored_whole(held))

    def may_hold(self, row, found, held):
        """Whether the mirror may have learned this."""
        if not (self.learns and row.is_read and found.startswith(b"VA") and
                held.startswith(b"VA")):
            return False
        left = seconds_left(held)
        return (0 <= seconds_left(found) <= (1e9 if left < 0 else left) and
                same(found, with_ttl(held, seconds_left(found))))

    def settle(self):
        """Wait for all effects, for repairs, and for repairs of these."""
        for i in range(3):
            self.proxy.talk(b"set barrier 0 0 1\r\n%d\r\n" % i)
            wait_for(lambda: b"\r\n%d\r\n" % i in self.mirror.holds(
                b"barrier"), "the mirror")


class Evicted(World):
    """The mirror has lost the keys, and nobody knows."""
    mirror_lacks = True

    def begin(self, table):
        self.settle()
        ask(self.mirror, [row.render("md {key} {b}", letter)
                          for letter in self.letters for row in table])


class Filling(World):
    """The mirror has returned empty, and nothing was copied yet."""
    mirror_lacks = True
    letters = "abc"

    def lists(self):
        return [self.list], [self.mirror]

    def primary(self):
        memcached = super().primary()
        self.list = self.stage.add(
            HeldList(memcached, self.is_copied, SENTINEL.decode()))
        return memcached

    @staticmethod
    def is_copied(line):
        return line.startswith(b"key=" + SENTINEL)

    def begin(self, table):
        self.settle()
        self.mirror.restart()
        assert self.list.is_held.wait(20)
        wait_for(lambda: self.progress() >= self.list.passed, "the copies")
        assert states(self.proxy) == ["up", "rebuild"]

    def progress(self):
        found = self.proxy.stats("servers")
        return int(found.get("1:rebuild_keys_done", 0))

    def end(self):
        assert states(self.proxy) == ["up", "rebuild"]
        self.list.release()
        wait_for_states(self.proxy, "up", "up")
        self.mirror_lacks = False

    def kill(self):
        self.authority.kill()
        self.list.close()
        wait_for(lambda: states(self.proxy)[0] != "up", "its end")


class Filled(Filling):
    """The mirror has returned empty.  All was copied; the list has not
    ended."""
    mirror_lacks = False

    @staticmethod
    def is_copied(line):
        return True


class Lazy(World):
    """The mirror has returned empty, and its partner lists no keys."""
    mirror_lacks = True
    learns = True

    def primary(self):
        return self.stage.memcached(*self.memory, "-o", "no_lru_crawler")

    def begin(self, table):
        self.settle()
        self.mirror.restart()
        wait_for(lambda: "do not list" in self.proxy.output(), "its state")
        assert states(self.proxy) == ["up", "rebuild"]


class Away(World):
    """The mirror is cut off, and comes back with what it had."""
    is_mirrored = False
    letters = "abc"

    def backup(self):
        memcached = super().backup()
        self.way = way(self.stage, memcached)
        return memcached

    def lists(self):
        return [self.authority], [self.way]

    def begin(self, table):
        self.settle()
        self.way.close()
        wait_for_states(self.proxy, "up", "down")

    def end(self):
        self.way.lead_to(self.mirror)
        wait_for_states(self.proxy, "up", "up")


class Dead(World):
    """The mirror is dead, and comes back empty."""
    is_mirrored = False
    letters = "abc"

    def begin(self, table):
        self.settle()
        self.mirror.kill()
        wait_for(lambda: "down" in states(self.proxy), "its end")

    def end(self):
        self.mirror.start(self.mirror.port)
        wait_for_states(self.proxy, "up", "up")


class BackupAnswers(Dead):
    """The primary is dead, and the backup is the authority."""
    items_first = False

    def lists(self):
        return [self.mirror], [self.authority]


class FailedOver(BackupAnswers):
    """The primary has died after it has made the items.  That one has hit and
    has read them, the backup does not know."""
    items_first = True
    tokens_first = False
    ignored = "hl"


class SmallerLimit(World):
    """The mirror takes smaller values only."""

    def backup(self):
        return self.stage.memcached("-I", str(SMALLER_LIMIT), "-o",
                                    "no_lru_maintainer,slab_chunk_max=%d" % (
                                        SMALLER_LIMIT // 2))

    def may_lack(self, row, held):
        return len(held) > SMALLER_LIMIT


class NoRoom(World):
    """The mirror has no room, and makes none."""

    def backup(self):
        return self.stage.memcached(*self.memory, "-M", "-m", "2")

    def begin(self, table):
        super().settle()
        reply, n = b"", 0
        while b"SERVER_ERROR" not in reply:
            reply = self.mirror.talk(b"".join(
                b"set f%05d 0 0 2\r\nxx\r\n" % i for i in range(n, n + 5000)))
            n += 5000

    def settle(self):
        for i in range(3):
            self.proxy.talk(b"touch barrier %d\r\n" % (1000 * i + 1000))
            wait_for(lambda: same(b"VA 1 s1 f0 t%d\r\n2\r\n" % (
                1000 * i + 1000), self.mirror.talk(b"mg barrier s f t v\r\n")),
                "the mirror")

    def may_lack(self, row, held):
        return row.makes_item


# Servers whose clocks differ

class Off(Memcached):
    """Its clock is so many seconds ahead."""

    def __init__(self, seconds, *options):
        super().__init__(*options)
        self.file = tempfile.NamedTemporaryFile()
        self.file.write(struct.pack("=q", seconds))
        self.file.flush()
        self.environment = dict(
            os.environ, CLOCK=self.file.name,
            LD_PRELOAD=built("clock", "-shared", "-fPIC", "-ldl"))

    def close(self):
        super().close()
        self.file.close()


def off(world, seconds):
    return world.stage.add(Off(seconds, *world.memory)).start()


class MirrorAhead(World):
    def backup(self):
        return off(self, HOUR)


class MirrorBehind(World):
    def backup(self):
        return off(self, -HOUR)


class AuthorityAhead(World):
    def single(self):
        return off(self, HOUR)

    primary = single


class AwayAhead(Away):
    """The mirror, with a clock of its own, comes back with what it had."""

    def backup(self):
        memcached = off(self, HOUR)
        self.way = way(self.stage, memcached)
        return memcached


class DeadBehind(Dead):
    def backup(self):
        return off(self, -HOUR)


# Asking

def ask(server, commands):
    """The answers to these commands, in their order."""
    reply = server.talk(b"".join(command + b"mn\r\n" for command in commands),
                        marker=b"md none Ofinal\r\n",
                        answer=b"NF Ofinal\r\n")
    replies = reply.split(b"MN\r\n")
    assert len(replies) == len(commands) + 1, (len(commands), reply[-500:])
    return replies[:-1]


def look(server, table, letter):
    """What a server holds under the keys of a letter.  This read wins what
    there is to win."""
    return ask(server, [row.render("mg {key} {b}s f t v", letter)
                        for row in table])


class Trial:
    """One world and its table.

    What is written to magent and to the lone memcached in turn lives as long on
    both but for the time that this took; and what is read, too.
    """

    def __init__(self, world, table):
        self.world = world
        self.table = table
        self.failures = []
        self.known = {}
        self.seconds = 0        # that writing took

    def run(self):
        world = self.world
        if not world.items_first:
            world.begin(self.table)
        self.make_items()
        tokens = world.tokens_first and self.tokens()
        if world.items_first:
            world.begin(self.table)
        self.send_commands(*(tokens or self.tokens()))
        if world.is_mirrored:
            world.settle()
        self.compare("a", world.is_mirrored, "now")
        world.end()
        world.settle()
        if "b" in world.letters:
            self.compare("b", True, "returned")
        world.kill()
        self.compare_with("c", world.proxy, "failed over", True)
        return self.failures

    def each(self):
        return [(row, letter) for letter in self.world.letters
                for row in self.table]

    def make_items(self):
        commands = [row.render(row.before, letter)
                    for row, letter in self.each()]
        began = time.monotonic()
        replies = [ask(server, commands)
                   for server in (self.world.proxy, self.world.lone)]
        self.seconds += time.monotonic() - began
        for (row, _), *both in zip(self.each(), *replies):
            self.judge(row, "item", *both)

    def tokens(self):
        """The token of each row and letter, of magent and of the lone one."""
        commands = [b"gets %s\r\n" % SENTINEL] + [
            row.render("mg {key} {b}c" if row.key(letter)[1] else "gets {key}",
                       letter) if row.needs_token else b""
            for row, letter in self.each()]
        return [[token_in(reply, replies[0]) for reply in replies[1:]]
                for replies in (ask(self.world.proxy, commands),
                                ask(self.world.lone, commands))]

    def send_commands(self, tokens, lone_tokens):
        world = self.world
        began = time.monotonic()
        replies = ask(world.proxy, [
            row.render(row.command, letter, token)
            for (row, letter), token in zip(self.each(), tokens)])
        wanted = ask(world.lone, [
            b"" if row.is_foreign else
            row.render(row.command, letter, token)
            for (row, letter), token in zip(self.each(), lone_tokens)])
        self.seconds += time.monotonic() - began
        for (row, letter), reply, want in zip(self.each(), replies, wanted):
            want = wanted_reply(row, want)
            if letter == "a" and row.command != NOTHING and not same(
                    reply, row.in_base64(want, letter)):
                self.judge(row, "reply", reply, want)

    def compare(self, letter, is_mirrored, when):
        self.compare_with(letter, self.world.authority, "authority, " + when,
                          False)
        if is_mirrored:
            self.compare_with(letter, self.world.mirror, "mirror, " + when,
                              True)

    def compare_with(self, letter, server, where, is_mirror):
        """Compare what a server holds under the keys of a letter with what the
        lone one holds."""
        began, held = self.held(letter)
        found = look(server, self.table, letter)
        seconds = time.monotonic() - began
        for row, one, other in zip(self.table, found, held):
            if not (is_mirror and self.may_be(row, one, other)):
                self.judge(row, where, one, other, seconds)

    def held(self, letter):
        """What the lone one holds, and since when it is known: it is asked
        once, because that wins what there is to win."""
        if letter not in self.known:
            began = time.monotonic()
            self.known[letter] = began, look(self.world.lone, self.table,
                                             letter)
        return self.known[letter]

    def may_be(self, row, found, held):
        world = self.world
        return (found.startswith(b"EN") and world.may_lack(row, held) or
                world.may_hold(row, found, held))

    def is_known(self, row, where, found, wanted):
        """Whether doc/architecture.md says that they differ: a stale item that a
        copy has read has another cas token, before 1.6.27; a key that the
        mirror lacked may still lack when it has to answer."""
        return (
            isinstance(self.world, Filled) and row.item == "stale" and
            re.search(r"\{(right|higher)\}", row.command) is not None or
            where == "failed over" and found.startswith(b"EN") and
            self.world.mirror_lacks and row.item != "missing")

    def judge(self, row, where, found, wanted, seconds=0):
        if self.is_known(row, where, found, wanted):
            return
        if not same(found, wanted, self.world.ignored,
                    TICKS + self.seconds + seconds):
            self.failures.append("%s | %s | %s | %s" % (
                row, where, short(found), short(wanted)))


def token_in(reply, spare):
    """The cas token of a reply, or that of the spare one."""
    words = re.search(rb"VALUE \S+ \d+ \d+ (\d+)| c(\d+)", reply)
    if words is None:
        words = re.search(rb"VALUE \S+ \d+ \d+ (\d+)", spare)
    return int(next(word for word in words.groups() if word))


def short(reply):
    text = reply.decode("latin-1").replace("\r\n", "\\r\\n")
    return text if len(text) <= 70 else text[:67] + "..."


def judge(world, table):
    failures = Trial(world, table).run()
    if os.environ.get("TABLE"):
        with open(os.environ["TABLE"], "a") as file:
            file.writelines("%s | %s\n" % (type(world).__name__, failure)
                            for failure in failures)
    if failures:
        pytest.fail("%s, %d rows; these differ, %d:\n"
                    "command | item | key | where | magent | lone\n%s" % (
                        type(world).__name__, len(table), len(failures),
                        "\n".join(failures[:SHOWN])), pytrace=False)


def worlds(*classes):
    return pytest.mark.parametrize("world", classes, ids=lambda world:
                                   world.__name__)


@worlds(World, Evicted, Filling, Filled, Lazy, Away, Dead, BackupAnswers,
        FailedOver, NoRoom)
def test_each_command_leaves_both_servers_as_it_leaves_one(stage, world):
    judge(world(stage), rows())


@worlds(World, SmallerLimit, Evicted, Filling, Filled, Away, FailedOver)
def test_large_values_are_on_both_servers_as_on_one(stage, world):
    judge(world(stage), large_rows())


@worlds(World, Evicted, Filling, Filled, Lazy, Away, Dead, FailedOver)
def test_keys_in_base64_are_on_both_servers_as_on_one(stage, world):
    judge(world(stage), base64_rows())


@worlds(World, Filling, Away, FailedOver)
def test_keys_whose_base64_is_forgotten_are_on_both_as_on_one(stage, world):
    judge(world(stage), forgotten_base64_rows())


@worlds(MirrorAhead, MirrorBehind, AuthorityAhead, AwayAhead, DeadBehind)
def test_times_of_day_are_as_far_away_on_both_servers(stage, world):
    """What is to end at a time of day ends on both after as many seconds, also
    if the clock of one of them is wrong."""
    judge(world(stage), rows_with_dates())
