#!/usr/bin/env python3
"""The same random commands to a memcached and through magent: same replies.

    tests/tools/differential.py [--long] [--seed N] [--commands N]

One stream of well-formed and malformed commands goes, batch by batch, to a
plain memcached and to a magent, there cut into several writes.  The replies
have to be equal byte for byte.  What may differ is named in same_header():
cas uniques, which are renamed, and times, which may be a second apart.
tests/exceptions.md says what the stream leaves out, and why.
"""
import argparse
import collections
import contextlib
import itertools
import random
import re
import sys
import time

from lib.net import wait_for
from lib.stage import Stage

# Nothing in the background may hold an item: an incr or decr then makes a new
# one, without the trailing spaces.
QUIET = "-o", "no_lru_crawler,no_lru_maintainer"
SETUPS = {"one server": (1, 0), "four servers": (4, 0),
          "four servers and a backup": (4, 1),
          "three servers, two backups, four connections each":
              (3, 2, "-i", "4")}
HISTORY = 60            # batches kept for a reproduction
SHOWN = 40              # lines of it that are printed
FAR = 1 << 40           # from a cas unique to one never given out
FOREVER = 100000        # seconds that do not run out during a run

Cas = collections.namedtuple("Cas", "key offset")
Command = collections.namedtuple("Command", "parts alone reads counts",
                                 defaults=(False, (), None))
Batch = collections.namedtuple("Batch", "commands cuts")


# What is sent

KEYS = ([b"key:%d" % i for i in range(40)]
        + [b"\x01\x10\xff", b"tab\there", "schl\u00fcssel".encode(),
           b"k" * 250, b"%s%n", b"get", b"noreply", b"0"])
COUNTERS = [b"counter:%d" % i for i in range(8)]
LARGE = [b"large:0", b"large:1"]
ENCODED = [b"Zm9v", b"YmluYXJ5", b"AQL/", b"a2V5OjE="]
BAD_KEY = b"b" * 251
STORAGE = [b"set", b"add", b"replace", b"append", b"prepend"]


class Stream:
    """Random batches of commands; the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.choice = self.random.choice
        self.below = self.random.randrange
        self.kinds, weights = zip(
            (self.get, 16), (self.gat, 4), (self.store, 20), (self.cas, 4),
            (self.arithmetic, 8), (self.touch, 4), (self.delete, 5),
            (self.mg, 12), (self.ms, 9), (self.md, 4), (self.ma, 6),
            (self.mn, 1), (self.me, 1), (self.verbosity, .3),
            (self.malformed, 5), (self.flush, .05), (self.large, .1))
        self.weights = list(itertools.accumulate(weights))

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def batch(self):
        """Commands for one pipeline and how many writes to cut it into."""
        n = self.choice((1, 2, 5, 20, 60, 150))
        commands, read = [], set()
        while len(commands) < n:
            command = self.command()
            if command.alone and commands:
                break
            if command.counts in read:
                continue    # memcached pads or not by what it has sent
            commands.append(command)
            read.update(command.reads)
            if command.alone:
                break
        return Batch(commands, self.choice((0, 0, 0, 1, 3, 12)))

    def command(self):
        kind = self.random.choices(self.kinds, cum_weights=self.weights)[0]
        made = kind()
        return Command((made,)) if isinstance(made, bytes) else made

    # Words of a command

    def key(self):
        return self.choice(COUNTERS if self.chance(15) else KEYS)

    def line(self, *words, noreply=10):
        """The words with an end of line as clients write it."""
        if self.chance(noreply):
            words += (b"noreply",)
        space = b"  " if self.chance(3) else b" "
        line = space.join(words)
        if self.chance(5):
            line += b" "
        return line + (b"\n" if self.chance(5) else b"\r\n")

    def exptime(self):
        pick = self.below(20)
        if pick < 12:
            return b"0"
        if pick < 17:
            return b"%d" % (FOREVER + self.below(FOREVER))
        if pick == 17:
            return b"%d" % (time.time() + 30 * FOREVER)
        return self.choice((b"-1", b"4294967295", b"2678400"))

    def ttl(self):
        return b"0" if self.chance(40) else b"%d" % (
            FOREVER + self.below(FOREVER))

    def flags(self):
        return b"0" if self.chance(60) else b"%d" % self.choice(
            (1, 16, 65535, 65536, 2147483648, 4294967295))

    def value(self, key, added=False):
        """A value; one that is added to another makes that no number.

        memcached reads on behind an item that an incr meets with blanks only
        or a number above 2^63.
        """
        if added or (key in COUNTERS and self.chance(20)):
            return b"a" + self.value(None)
        if key in COUNTERS:
            return b"%d" % self.choice((0, 1, 9, 10, 99, self.below(1 << 62)))
        pick = self.below(20)
        if pick < 5:
            return b"%d" % self.choice((0, 1, 9, 10, 99, self.below(1 << 62)))
        if pick < 8:
            return self.choice((b"", b"\r\n", b"\0", b"END\r\n", b" 12",
                                b"VALUE key:1 0 1\r\nx\r\nEND\r\n"))
        if pick < 19:
            return self.random.randbytes(self.below(64))
        return self.random.randbytes(self.below(3000))

    def delta(self):
        return b"%d" % self.choice(
            (0, 1, 1, 1, 5, 100, 1000, self.below(1 << 32)))

    # Commands

    def get(self):
        return self.retrieve(self.choice((b"get", b"gets")), most=60)

    def gat(self):
        return self.retrieve(self.choice((b"gat", b"gats")), self.exptime(),
                             most=6)

    def retrieve(self, *words, most):
        n = 1 if self.chance(60) else self.below(1, most)
        keys = [self.key() for _ in range(n)]
        return Command((self.line(*words, *keys, noreply=0),), reads=keys)

    def store(self):
        name, key = self.choice(STORAGE), self.key()
        value = self.value(key, added=name in (b"append", b"prepend"))
        return self.line(name, key, self.flags(), self.exptime(),
                         b"%d" % len(value)) + value + b"\r\n"

    def cas(self):
        key = self.key()
        value = self.value(key)
        head = b"cas %s %s %s %d " % (
            key, self.flags(), self.exptime(), len(value))
        return Command((head, self.unique(key),
                        self.line(b"") + value + b"\r\n"))

    def unique(self, key):
        return Cas(key, FAR if self.chance(20) else 0)

    def arithmetic(self):
        key = self.choice(COUNTERS)
        line = self.line(self.choice((b"incr", b"decr")), key, self.delta())
        return Command((line,), counts=key)

    def touch(self):
        return self.line(b"touch", self.key(), self.exptime())

    def delete(self):
        zero = (b"0",) if self.chance(20) else ()
        return self.line(b"delete", self.key(), *zero)

    def verbosity(self):
        return self.line(b"verbosity", b"0")

    def flush(self):
        return self.line(b"flush_all", *self.choice(((), (b"0",), (b"-1",))))

    def large(self):
        key = self.choice(LARGE)
        if self.chance(40):
            return Command((b"get %s\r\n" % key,), True)
        size = self.choice((4000, 16300, 20000, 70000, 600000, 1000000,
                            (1 << 20) - 200, 1 << 20, (1 << 20) + 1, 3 << 20))
        value = bytes([self.below(256)]) * size
        head = self.choice((b"set %s 0 0 %d", b"set %s 0 0 %d noreply",
                            b"append %s 0 0 %d", b"add %s 0 0 %d",
                            b"ms %s %d", b"ms %s %d MA")) % (key, size)
        return Command((head + b"\r\n", value + b"\r\n"), True)

    # Meta commands

    def meta_flags(self, letters, with_value):
        """Some flags, each once, and the rest that takes a value."""
        flags = [bytes([c]) for c in letters if self.chance(25)]
        flags += [flag for flag in with_value if self.chance(20)]
        if self.chance(20):
            flags.append(b"O%d" % self.below(100000))
        if self.chance(3):
            flags.append(self.choice((b"z", b"v", b"W", b"X", b"Z", b"P1",
                                      b"L2", b"Tx", b"")))
        self.random.shuffle(flags)
        return flags

    def meta(self, name, key, flags, size=(), cas=2):
        """The line of a meta command; its C, if any, is put in later."""
        words = (name, key, *size, *flags)
        parts = (self.line(*words, noreply=0),)
        if self.chance(cas):
            parts = (b" ".join(words) + b" C", self.unique(key),
                     self.line(b"", noreply=0))
        return Command(parts, reads=(key,) if name == b"mg" else (),
                       counts=key if name == b"ma" else None)

    def meta_key(self):
        """A key and, now and then, the flag that it is encoded."""
        if self.chance(5):
            return self.choice(ENCODED), [b"b"]
        return self.key(), []

    def mg(self):
        key, flags = self.meta_key()
        numbers = [b"R30", b"R%d" % (9 * FOREVER), b"T" + self.ttl()]
        if key not in COUNTERS:     # no number but nothing is made
            numbers.append(b"N" + self.ttl())
        return self.meta(b"mg", key, flags + self.meta_flags(
            b"cfhklqstv", numbers))

    def ms(self):
        key, flags = self.meta_key()
        mode = b"M" + self.choice((b"E", b"A", b"P", b"R", b"S", b"e", b"a",
                                   b"append", b"Z"))
        flags += self.meta_flags(
            b"ckqI", (b"F" + self.flags(), b"T" + self.ttl(), mode))
        value = self.value(key, added=mode in flags)
        command = self.meta(b"ms", key, flags, (b"%d" % len(value),), cas=15)
        return Command((*command.parts, value + b"\r\n"))

    def md(self):
        key, flags = self.meta_key()
        return self.meta(b"md", key, flags + self.meta_flags(
            b"kqI", (b"T" + self.ttl(),)), cas=15)

    def ma(self):
        key = self.choice(COUNTERS)
        flags = self.meta_flags(
            b"ckqtv", (
                b"N" + self.ttl(), b"J" + self.delta(), b"D" + self.delta(),
                b"T" + self.ttl(), b"M" + self.choice((
                    b"I", b"D", b"+", b"-", b"i", b"incr"))))
        if any(flag[:1] == b"N" for flag in flags):    # exceptions.md 16
            flags = [flag for flag in flags if flag != b"q"]
        return self.meta(b"ma", key, flags, cas=10)

    def mn(self):
        return self.line(b"mn", noreply=0)

    def me(self):
        return self.line(b"me", self.key(), noreply=0)

    # What is wrong

    def malformed(self):
        made = self.choice(MALFORMED)
        if b"{" in made:
            made = made.replace(b"{key}", self.key())
        # A get of a bad key makes memcached forget the replies before it.
        return Command((made + b"\r\n",), BAD_KEY in made)


class ClassicStream(Stream):
    """Commands that magent can have carried out by old servers.

    version: the first one of those memcacheds, three numbers.
    """

    def __init__(self, seed, version):
        self.has_touch = version >= (1, 4, 8)
        self.has_gat = version >= (1, 5, 3)
        self.has_unsigned = version >= (1, 4, 27)
        super().__init__(seed)

    def flags(self):
        """Client flags above 2^31 came back with a sign."""
        flags = super().flags()
        return flags if self.has_unsigned or int(flags) < 1 << 31 else b"5"

    def gat(self):
        return super().gat() if self.has_gat else self.get()

    def touch(self):
        return super().touch() if self.has_touch else self.get()

    def me(self):
        return self.get()

    def large(self):
        """Which values fit into a slab was another matter in each version."""
        return self.get()

    def meta_key(self):
        """Of a key that is set as it is and in base64 the reply tells how."""
        if self.chance(5):
            return self.choice(ENCODED[:-1]), [b"b"]
        return self.key(), []

    def mg(self):
        key, flags = self.meta_key()
        asked = self.meta_flags(b"cfkqsv", ())
        if self.chance(20) and (self.has_gat or (self.has_touch and not any(
                flag[:1] in (b"c", b"f", b"s", b"v") for flag in asked))):
            asked.append(b"T" + self.ttl())
        return self.meta(b"mg", key, flags + asked, cas=0)

    def ms(self):
        key, flags = self.meta_key()
        mode = b"M" + self.choice((b"E", b"A", b"P", b"R", b"S", b"e", b"Z"))
        flags += self.meta_flags(
            b"kqI", (b"F" + self.flags(), b"T" + self.ttl(), mode))
        value = self.value(key, added=mode in flags)
        may_compare = mode not in flags and b"I" not in flags
        command = self.meta(b"ms", key, flags, (b"%d" % len(value),),
                            cas=15 * may_compare)
        return Command((*command.parts, value + b"\r\n"))

    def md(self):
        key, flags = self.meta_key()
        return self.meta(b"md", key, flags + self.meta_flags(
            b"kq", (b"T" + self.ttl(),)), cas=0)

    def ma(self):
        flags = self.meta_flags(
            b"kqv", (b"J" + self.delta(), b"D" + self.delta(),
                     b"M" + self.choice((b"I", b"D", b"+", b"-", b"i"))))
        return self.meta(b"ma", self.choice(COUNTERS), flags, cas=0)


MALFORMED = [
    b"", b"foo", b"{key}", b"GET {key}", b"get", b"gets", b"gat", b"gats",
    b"gat abc {key}", b"get\t{key}", b"set", b"set {key}", b"set {key} 0 0",
    b"set {key} 0 0 -1", b"set {key} 0 0 x", b"set {key} 0 0 2147483648",
    b"set {key} 0 0 1\r\n12", b"set {key} 0 0 0\r\nx", b"add {key} 0",
    b"cas {key} 0 0 1", b"cas {key} 0 0 -1 1", b"append", b"incr",
    b"incr {key}", b"incr {key} x", b"incr {key} 1x", b"decr {key} -1",
    b"incr {key} 18446744073709551616", b"delete", b"delete {key} 5",
    b"delete {key} noreplY", b"delete {key} 0 0 0 0", b"touch", b"touch {key}",
    b"touch {key} x", b"verbosity", b"flush_all x", b"mg", b"mg {key} v v",
    b"mg {key} !", b"mg {key} S1", b"mg ??? b", b"ms", b"ms {key}",
    b"ms {key} x", b"ms {key} -1", b"md", b"ma", b"ma {key} Dx", b"me",
    b"get " + BAD_KEY, b"gets {key} " + BAD_KEY, b"gat 0 " + BAD_KEY,
    b"delete " + BAD_KEY, b"incr " + BAD_KEY + b" 1",
    b"touch " + BAD_KEY + b" 0", b"mg " + BAD_KEY + b" v", b"md " + BAD_KEY,
    b"ma " + BAD_KEY, b"slabs", b"lru", b"misbehave",
]


# What comes back

BLOCK = re.compile(rb"(?:VALUE \S+ \d+|VA) (\d+)[^\r\n]*\r\n")


def elements(reply):
    """Cut a reply into lines, each with the data block it announces."""
    at, found = 0, []
    while at < len(reply):
        end = reply.find(b"\n", at) + 1 or len(reply)
        block = BLOCK.match(reply, at, end)
        if block:
            end += int(block.group(1)) + 2
        found.append(reply[at:end])
        at = end
    return found


class Names:
    """Which cas unique of the one side is which of the other."""

    def __init__(self):
        self.same = {}
        self.of_key = {}

    def match(self, a, b, key=None):
        if len(self.same) > 100000:
            self.same.clear()
        if self.same.setdefault(a, b) != b:
            return False
        if key is not None:
            before = self.of_key.get(key, (a, b))
            if (before[0] == a) != (before[1] == b):
                return False
            self.of_key[key] = (a, b)
        return True

    def render(self, command, side):
        """The bytes of a command for a side, 0 or 1.

        Empty if it needs the cas unique of a key for which none was seen.
        """
        words = []
        for part in command.parts:
            if isinstance(part, Cas):
                known = self.of_key.get(part.key)
                if known is None:
                    return b""
                part = b"%d" % (int(known[side]) + part.offset)
            words.append(part)
        return b"".join(words)


def near(a, b):
    return abs(int(a) - int(b)) <= 3    # their clocks tick on their own


def same_header(a, b, names):
    """Whether two lines differ only in cas uniques and by a second."""
    a, b = a.split(b" "), b.split(b" ")
    if len(a) != len(b) or a[0] != b[0]:
        return False
    if a[0] == b"VALUE" and len(a) == 5:
        return a[:4] == b[:4] and names.match(a[4], b[4], a[1])
    if a[0] == b"ME":
        return all(map(same_debug_word, a, b))
    if a[0] in (b"VA", b"HD", b"NS", b"EX", b"NF"):
        return same_meta(a, b, names)
    return a == b


def same_meta(a, b, names):
    key = next((word[1:] for word in a[1:] if word[:1] == b"k"), None)
    first = 2 if a[0] == b"VA" else 1
    return a[:first] == b[:first] and all(
        same_flag(x, y, names, None if b"b" in a else key)
        for x, y in zip(a[first:], b[first:]))


def same_flag(a, b, names, key):
    if a[:1] != b[:1]:
        return False
    if a[:1] == b"c" and a != b"c0" and b != b"c0":
        return names.match(a[1:], b[1:], key)
    if a[:1] == b"t":
        return near(a[1:], b[1:])
    return a == b or a[:1] == b"l"


def same_debug_word(a, b):
    if a.startswith(b"exp=") and a != b"exp=-1":
        return near(a[4:], b[4:])
    return a == b or a.startswith((b"la=", b"cas="))


def same_element(a, b, names):
    plain = b" c" not in a and not a.startswith(b"VALUE")
    if plain and a == b:
        return True
    head_a, end_a, data_a = a.partition(b"\r\n")
    head_b, end_b, data_b = b.partition(b"\r\n")
    return (end_a + data_a == end_b + data_b
            and same_header(head_a, head_b, names))


def first_difference(a, b, names):
    """The elements that differ first, or None."""
    for pair in itertools.zip_longest(elements(a), elements(b), fillvalue=b""):
        if not same_element(*pair, names):
            return pair
    return None


# Both sides

class Comparison:
    """A memcached and a magent, and what each said last."""

    def __init__(self, plain, proxy):
        self.servers = plain, proxy
        self.clients = []
        self.names = Names()
        self.markers = itertools.count()
        self.connect()

    def connect(self):
        self.close()
        self.clients = [server.client(timeout=10) for server in self.servers]

    def close(self):
        for client in self.clients:
            client.close()

    def run(self, batch):
        """Send a batch to both; the pair of elements that differ, or None."""
        marker = b"O%d" % next(self.markers)
        replies = [self.replies(side, batch, marker) for side in (0, 1)]
        return first_difference(*replies, self.names)

    def replies(self, side, batch, marker):
        data = b"".join(self.names.render(command, side)
                        for command in batch.commands)
        data += b"md marker %s\r\n" % marker
        pieces = cut(data, batch.cuts) if side else [data]
        client = self.clients[side]
        try:
            return client.exchange(pieces, b"NF %s\r\n" % marker)
        except TimeoutError:
            return bytes(client.pending) + b"(nothing more)"

    def reset(self):
        """Forget every key and every token."""
        for server in self.servers:
            server.talk(b"".join(
                [b"md %s q\r\n" % key for key in KEYS + COUNTERS + LARGE]
                + [b"md %s b q\r\n" % key for key in ENCODED]))
        self.names = Names()
        self.connect()

    def fails(self, batches):
        """Whether the batches, from nothing, end in a difference."""
        self.reset()
        return next(filter(None, map(self.run, batches)), None)


def cut(data, cuts):
    """The data in several pieces, at places that depend on it alone."""
    cuts = min(cuts, len(data) - 1)
    places = sorted(random.Random(len(data)).sample(range(1, len(data)), cuts))
    return [data[a:b] for a, b in zip([0] + places, places + [len(data)])]


# A smaller case

def minimise(batches, fails, seconds=30):
    """As few commands as still make a difference; none if it does not recur."""
    deadline = time.monotonic() + seconds
    size = 1
    while not fails(batches[-size:]):
        if size >= len(batches):
            return []
        size *= 4
    batches = batches[-size:]
    step = sum(len(batch.commands) for batch in batches)
    while step and time.monotonic() < deadline:
        smaller = next((b for b in without(batches, step) if fails(b)), None)
        if smaller is None:
            step //= 2
        else:
            batches = smaller
    return batches


def without(batches, step):
    """The batches without each run of step commands."""
    total = sum(len(batch.commands) for batch in batches)
    for start in range(0, total, step):
        left, at = [], 0
        for batch in batches:
            keep = [c for i, c in enumerate(batch.commands, at)
                    if not start <= i < start + step]
            at += len(batch.commands)
            if keep:
                left.append(Batch(keep, batch.cuts))
        yield left


def shown(data, most=300):
    text = repr(bytes(data))
    return text if len(text) <= most else "%s ... (%d bytes)" % (
        text[:most], len(data))


def describe(batches):
    lines = []
    for batch in batches:
        lines.append("one pipeline, cut in %d:" % (batch.cuts + 1))
        lines += ["    " + " ".join(
            "<last cas of %r + %d>" % part if isinstance(part, Cas)
            else shown(part) for part in command.parts)
            for command in batch.commands]
    return lines[-SHOWN:]


def report(comparison, history, difference, title):
    small = minimise(list(history), comparison.fails)
    again = comparison.fails(small) if small else None
    plain, proxy = again or difference
    return "\n".join(
        [title, "memcached: " + shown(plain), "magent:    " + shown(proxy)]
        + (["It takes:"] if small else ["It did not recur; the last batch:"])
        + describe(small or list(history)[-1:]))


def strays(primaries, backups):
    """What a backup holds of a key otherwise than its primary.

    It may lack the key: an effect that does not fit deletes it there.  Who won
    or lost the right to renew a value (W, Z) is known to the primary alone.
    """
    found = []
    for key in KEYS + COUNTERS + LARGE + [key + b" b" for key in ENCODED]:
        held, copies = (
            [re.sub(b"^(VA [^\r]*?)(?: [WZ])+", rb"\1",
                    server.talk(b"mg %s f t v\r\n" % key)) for server in group]
            for group in (primaries, backups))
        found += [(key, held, copy) for copy in copies
                  if copy != b"EN\r\n" and not any(
                      same_element(copy, other, Names()) for other in held)]
    return found


def compare(stage, setup, seed, commands):
    """Compare that many commands; None, or a report of the difference."""
    primaries, backups, *options = SETUPS[setup]
    plain, *servers = stage.memcacheds(1 + primaries + backups, *QUIET)
    return compare_servers(
        stage, plain, servers[:primaries], servers[primaries:], *options,
        stream=Stream(seed), commands=commands,
        title="%s, seed %d" % (setup, seed))


def compare_servers(stage, plain, primaries, backups, *options, stream,
                    commands, title):
    """The same with these servers."""
    proxy = stage.magent(primaries, backups, *options)
    history = collections.deque(maxlen=HISTORY)
    with contextlib.closing(Comparison(plain, proxy)) as comparison:
        while commands > 0:
            batch = stream.batch()
            history.append(batch)
            difference = comparison.run(batch)
            if difference:
                return report(comparison, history, difference, title)
            commands -= len(batch.commands)
    # The last effects may still be on their way.
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not strays(primaries, backups),
                 "the backup to agree", timeout=5)
        return None
    return "%s: a backup holds another value: %r" % (
        title, strays(primaries, backups))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true",
                        help="ten million commands")
    parser.add_argument("--seed", type=int, default=random.getrandbits(32))
    parser.add_argument("--commands", type=int, default=200000)
    options = parser.parse_args()
    commands = 10000000 if options.long else options.commands
    for setup in SETUPS:
        with Stage() as stage:
            trouble = compare(stage, setup, options.seed,
                              commands // len(SETUPS))
        if trouble:
            sys.exit(trouble)
    print("seed %d: %d commands, no difference" % (options.seed, commands))


if __name__ == "__main__":
    main()
