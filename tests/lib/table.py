"""The rows of the table of effects: a command, the item that it meets, and
what a lone memcached makes of both.

Commands and items are templates.  {key} is the key, {b} the flag that says that
it is in base64, {right}, {lower}, {higher} and {foreign} are cas tokens, {date}
and {past} times of day.
"""
import base64
import itertools
import re
import time

FUTURE, PAST = 7000, 1000   # seconds from now, of a time of day
TICKS = 2                   # seconds: each server has a tick of its own
FOREIGN = 4242              # a token that no server has given for a key

# No command: what became of the item alone.
NOTHING = "version"

# What there is before the command.  Numbers, so that incr finds some.
ITEMS = {
    "missing": "ms {key} 1 {b}\r\nv\r\nmd {key} {b}",
    "text": "ms {key} 1 {b}F7 T100\r\nv",
    "number": "ms {key} 2 {b}F7 T100\r\n10",
    "no TTL": "ms {key} 2 {b}F7\r\n10",
    "date": "ms {key} 2 {b}F7 T{date}\r\n10",
    "empty": "ms {key} 0 {b}F7 T100\r\n",
    "stale": "ms {key} 2 {b}F7 T100\r\n10\r\nmd {key} {b}I T400",
    "stale, won": "ms {key} 2 {b}F7 T100\r\n10\r\nmd {key} {b}I T400\r\n"
                  "mg {key} {b}",
    "made by mg N": "mg {key} {b}N400",
    "won by mg R": "ms {key} 2 {b}F7 T100\r\n10\r\nmg {key} {b}R500",
}
# Of these there are rows for keys in base64.
ITEMS_BASE64 = {
    "binary": ("missing", "number", "stale", "stale, won", "made by mg N"),
    "text in base64": ("missing", "number"),
}
TIMES = ("50", "0", "-1", "{date}", "{past}")

STORES = ["%s {key} 5 %s 2\r\n42" % words for words in itertools.product(
    ("set", "add", "replace"), TIMES)] + [
    "cas {key} 5 %s 2 {%s}\r\n42" % words for words in (
        ("50", "right"), ("{date}", "right"), ("-1", "right"),
        ("50", "lower"), ("50", "higher"), ("50", "foreign"))]
APPENDS = ["append {key} 9 50 1\r\n5", "prepend {key} 9 50 1\r\n5"]
OTHERS = (
    ["%s {key}" % word for word in ("get", "gets", "get {key}", "delete")] +
    ["%s %s {key}" % words for words in
     itertools.product(("gat", "gats"), TIMES)] +
    ["touch {key} %s" % seconds for seconds in TIMES] +
    ["incr {key} 5", "incr {key} 99", "incr {key} 18446744073709551615",
     "decr {key} 3", "decr {key} 99"])
META_GETS = ["mg {key} {b}%s" % flags for flags in (
    "", "v", "s f t v k O1 c", "q v k", "h l u t", "T300", "v T{date}",
    "T{past} v", "T0 t", "T-1", "N300 v", "N0 t v", "N{date} t v q", "N-1",
    "R500 v", "R5 t", "R500 T300 v", "T300 R200", "N300 R500 t f c v",
    "N300 T200 t", "R500 q k", "u v R500", "E5 v", "T300 q")]
META_DELETES = ["md {key} {b}%s" % flags for flags in (
    "", "q", "k O1", "I", "I T300", "I T{date}", "I T{past}", "I T0", "I T-1",
    "T300", "q I T300", "k O1 I T300", "C{right}", "C{lower}", "C{higher}",
    "C{right} I T300", "I T300 C{lower}", "I T300 C{higher}", "C{foreign}",
    "C{foreign} I", "x")]
META_SETS = ["ms {key} 2 {b}%s\r\n42" % " ".join(flags).strip()
             for flags in itertools.product(("", "MS", "ME", "MR"), (
                 "F5 T50", "T{date}", "T{past} q", "I T50", "C{right} F5",
                 "C{lower}", "C{higher} q", "I C{right} T50",
                 "I C{lower} F5 T50", "C{lower} I T{date}", "I C{higher}",
                 "k O1 c"))]
META_SETS += ["ms {key} 2 {b}%s\r\n42" % flags for flags in (
    "C{foreign}", "I C{foreign}", "MZ", "Ms", "T-1", "F5 T0 k")]
META_APPENDS = ["ms {key} 1 {b}%s\r\n5" % " ".join(flags).strip()
                for flags in itertools.product(("MA", "MP"), (
                    "", "q", "T50 F5", "N300", "N300 F5", "N0 q", "N{date}",
                    "N-1", "C{right}", "C{lower}", "C{higher}", "I", "k O1 c",
                    "C{right} N300", "I C{right}", "I C{lower}",
                    "I C{lower} N300"))]
META_COUNTS = ["ma {key} {b}%s" % flags for flags in (
    "", "v", "q", "D5 t c v k O1", "D99 v", "MD D3 v", "M- D99", "M+", "MX",
    "T300 v", "T{date} t", "T0", "T-1", "N300 v", "N300 J13 t v", "N0 J13",
    "N{date} J13 t", "N300 J13 q", "N-1 J13", "N300 J99 MD D3 T50 v",
    "J13", "C{right} D5 v", "C{lower} v", "C{higher}", "C{foreign}",
    "C{right} N300 J13 v")]


MAKERS = ("set", "add", "replace", "append", "prepend", "cas", "incr", "decr",
          "ms", "ma")


def noreply(command):
    line, end, data = command.partition("\r\n")
    return line + " noreply" + end + data


CLASSIC = STORES + APPENDS + OTHERS + [
    noreply(command) for command in STORES + APPENDS + OTHERS
    if command.split()[0] not in ("get", "gets", "gat", "gats")]
META = ([NOTHING] + META_GETS + META_DELETES + META_SETS + META_APPENDS +
        META_COUNTS)

# Large items, and commands that make them larger: 25,000 bytes, and then
# 45,000.  The servers take 64 KiB; one with the smaller limit takes 32 KiB.
LIMIT, SMALLER_LIMIT = 64 << 10, 32 << 10
LARGE_ITEMS = {
    "missing": ITEMS["missing"],
    "large": "ms {key} 25000 {b}F7 T100\r\n" + "a" * 25000,
}
LARGE = [command + "c" * 20000 for command in (
    "append {key} 0 0 20000\r\n", "prepend {key} 0 0 20000 noreply\r\n",
    "ms {key} 20000 {b}MA\r\n", "ms {key} 20000 {b}MP q\r\n",
    "ms {key} 20000 {b}MA N300\r\n", "ms {key} 20000 {b}MA C{right}\r\n")]
LARGE += [command + "d" * 45000 for command in (
    "set {key} 5 50 45000\r\n", "add {key} 5 50 45000\r\n",
    "replace {key} 5 50 45000 noreply\r\n",
    "cas {key} 5 50 45000 {right}\r\n", "ms {key} 45000 {b}F5 T50\r\n",
    "ms {key} 45000 {b}MR\r\n", "ms {key} 45000 {b}ME q\r\n",
    "ms {key} 45000 {b}MA N300\r\n",
    "ms {key} 45000 {b}I C{lower} T50\r\n")]
# Too large: for a server, which counts key and header; and for magent.
LARGE += ["%s%s" % (command.replace("N", str(n)), "e" * n)
          for n in (LIMIT - 8, 100000) for command in (
              "set {key} 5 50 N\r\n", "set {key} 5 50 N noreply\r\n",
              "add {key} 5 50 N\r\n", "append {key} 5 50 N\r\n",
              "ms {key} N {b}F5\r\n", "ms {key} N {b}MA q\r\n",
              "ms {key} N {b}I C{lower}\r\n",
              "cas {key} 5 50 N {right}\r\n")]
LARGE += [NOTHING, "incr {key} 5", "touch {key} 300", "mg {key} {b}T300",
          "delete {key}"]

KEYS = {
    "text": lambda name: (name, ""),
    "binary": lambda name: (encode(b"\0\1\xff" + name.encode()), "b "),
    "text in base64": lambda name: (encode(name.encode()), "b "),
}


def encode(key):
    return base64.b64encode(key).decode()


class Row:
    """A command that meets an item under a kind of key.

    For each letter of a world it has a key of its own, with which the same is
    done: one is looked at while the world is as it is, others later.
    """

    def __init__(self, number, command, item, kind="text", items=ITEMS):
        self.number = number
        self.command = command
        self.item = item
        self.kind = kind
        self.before = items[item]
        self.words = command.split("\r\n")[0].replace("{b}", "").split()
        self.data = command.partition("\r\n")[2].encode()
        self.needs_token = any(
            "{%s}" % name in command for name in ("right", "lower", "higher"))
        self.is_foreign = "{foreign}" in command
        self.is_read = self.words[0] in ("get", "gets", "gat", "gats", "mg")
        self.has_vivify = self.words[0] in ("mg", "ma") and any(
            word[0] == "N" for word in self.words[2:])
        self.makes_item = self.words[0] in MAKERS or self.has_vivify
        self.is_append = (self.words[0] in ("append", "prepend") or
                          "MA" in self.words or "MP" in self.words)

    def __str__(self):
        shown = self.command.replace("\r\n", "\\r\\n")
        if len(shown) > 50:
            shown = shown[:47] + "..."
        return "%s | %s | %s" % (shown, self.item, self.kind)

    def has_token(self):
        """Whether the token that it needs can be had without a change: of a
        stale item under a key in base64 it cannot."""
        return not (self.needs_token and self.item == "stale" and
                    self.kind != "text")

    def loses_base64(self):
        """Whether memcached forgets that the key was in base64: of an item that
        mg or ma makes, or that becomes longer.  It answers a flag k with the
        bytes of the key then."""
        return (self.item == "made by mg N" or self.has_vivify or
                self.is_append or "D99" in self.words)

    def has_dates(self):
        return any(name in text for name in ("{date}", "{past}")
                   for text in (self.command, self.before))

    def key(self, letter):
        return KEYS[self.kind]("%s%04d" % (letter, self.number))

    def render(self, template, letter, token=0):
        key, b = self.key(letter)
        return (template.format(
            key=key, b=b, right=token, lower=token - 1, higher=token + 1,
            foreign=FOREIGN, date=DATE, past=DATE - FUTURE - PAST)
            + "\r\n").encode()

    def in_base64(self, reply, letter):
        """A reply that has the bytes of the key, with the key in base64."""
        key, b = self.key(letter)
        if not b:
            return reply
        return reply.replace(b" k" + base64.b64decode(key),
                             b" k%s b" % key.encode())

    def stored_whole(self, held):
        """Whether the command has put a whole value there, which is held."""
        return (self.data and not self.is_append and
                held.endswith(b"\r\n%s\r\n" % self.data))


DATE = int(time.time()) + FUTURE


def rows():
    """The rows for small items."""
    return [Row(i, command, item) for i, (command, item) in enumerate(
        itertools.product(CLASSIC + META, ITEMS))]


def rows_with_dates():
    return [row for row in rows() if row.has_dates()]


def all_base64_rows():
    found = [Row(i, command, item, kind) for i, (kind, command, item) in
             enumerate((kind, command, item)
                       for kind, items in ITEMS_BASE64.items()
                       for command in META for item in items)]
    return [row for row in found if row.has_token()]


def base64_rows():
    """The rows for keys in base64."""
    return [row for row in all_base64_rows() if not row.loses_base64()]


def forgotten_base64_rows():
    """Those after which memcached does not know that the key was in base64."""
    return [row for row in all_base64_rows() if row.loses_base64()]


def large_rows():
    return [Row(i, command, item, items=LARGE_ITEMS) for i, (command, item) in
            enumerate(itertools.product(LARGE, LARGE_ITEMS))]


# Replies

def wanted_reply(row, reply):
    """What magent says where the lone memcached gave this reply: the same, but
    for what is in exceptions.md."""
    if row.is_foreign:
        return foreign_reply(row)
    if row.words[0] == "ma" and "q" in row.words and reply == b"HD\r\n":
        return b""
    return reply


def foreign_reply(row):
    """To a token of another server."""
    if row.words[0] == "cas":
        return b"" if row.words[-1] == "noreply" else b"EXISTS\r\n"
    return b"EX\r\n"


def same(a, b, ignored="", seconds=TICKS):
    """Whether two replies are the same but for cas tokens, so many seconds, and
    the flags that are ignored."""
    if a == b:
        return True
    a, b = a.split(b"\r\n"), b.split(b"\r\n")
    return len(a) == len(b) and all(
        same_line(x, y, ignored, seconds) for x, y in zip(a, b))


def same_line(a, b, ignored, seconds):
    if a == b:
        return True
    a, b = a.split(), b.split()
    if len(a) != len(b) or not a or a[0] != b[0]:
        return False
    if a[0] == b"VALUE":
        return a[:4] == b[:4]
    return a[0] in (b"VA", b"HD") and all(
        same_flag(x.decode(), y.decode(), ignored, seconds)
        for x, y in zip(a, b))


def same_flag(a, b, ignored, seconds):
    if a == b:
        return True
    if a[0] != b[0] or not (is_number(a[1:]) and is_number(b[1:])):
        return False
    if a[0] in "tl" and "-" not in a + b:
        return abs(int(a[1:]) - int(b[1:])) <= seconds or a[0] in ignored
    return a[0] == "c" or a[0] in ignored


def is_number(text):
    return re.fullmatch(r"-?\d+", text) is not None


def seconds_left(held):
    """The TTL of what a server holds; -1: no end."""
    return int(re.search(rb" t(-?\d+)", held).group(1))


def with_ttl(held, seconds):
    return re.sub(rb" t-?\d+", b" t%d" % seconds, held, count=1)
