"""Memcacheds of before, as fronts before the one that is installed.

Each version refuses what it did not have, in its own words, and reads the data
of an ms that it does not know as commands.  tests/tools/old_versions.py asks
real ones, if there are some, and this front, the same things, and compares the
answers: it was run with 1.4.5, 1.4.15, 1.4.31, 1.5.2, 1.5.6, 1.6.2 and 1.6.9.
"""
import re

from faults import Front, Fronted
from lib.fake import LENGTH_AT, Link

ERROR = b"ERROR\r\n"
INVALID = b"CLIENT_ERROR invalid flag\r\n"
FORMAT = b"CLIENT_ERROR bad command line format\r\n"
META = b"mg", b"ms", b"md", b"ma", b"me", b"mn"
SINCE = {b"touch": (1, 4, 8), b"gat": (1, 5, 3), b"gats": (1, 5, 3),
         **dict.fromkeys(META, (1, 6, 0))}
NEW_MS = 1, 6, 10       # ms with a plain length, HD, b
UNSIGNED = 1, 4, 27     # client flags are written without a sign
HAS_FLUSH_SETTING = 1, 4, 17
METADUMP = 1, 4, 31
METADUMP_ON = 1, 5, 0   # the crawler runs by default
METADUMP_HASH = 1, 6, 9
CHECKS_ANY_CAS = 1, 6, 0    # with -C: cas is EXISTS, and not STORED


def words_of(line):
    """Keys may have tabs in them."""
    return [word for word in line.rstrip(b"\r\n").split(b" ") if word]


class OldLink(Link):
    """Reads the data of those commands that its version has data for."""

    def _next(self):
        line = self.reader.readline()
        self.server.received += line
        words = words_of(line)
        if not line:
            return None, None, None
        data = b""
        at = LENGTH_AT.get(words[0]) if words else None
        if at and words[0] != b"ms" and len(words) > at:
            data = self.reader.read(int(words[at]) + 2)
        elif at and words[0] == b"ms" and self.server.has_new_ms():
            data = self.reader.read(int(words[at]) + 2)
        self.server.received += data
        return words[0] if words else b"", line, data


class OldFront(Front):
    """Passes on what its version understands."""

    link = OldLink

    def __init__(self, memcached, version, has_cas=True):
        self.number = tuple(map(int, version.split(".")))
        self.has_cas = has_cas
        self.unknown = []
        super().__init__(memcached, self._refuse)
        self.version = version

    def has_new_ms(self):
        return self.number >= NEW_MS

    def refused_commands(self):
        """Those that it did not understand."""
        return self.unknown

    def _refuse(self, line):
        if words_of(line) == [b"version"]:
            return b"VERSION %s\r\n" % self.version.encode()
        answer = self._answer_unknown(line)
        if answer is not None:
            self.unknown.append(line)
        return answer

    def _answer_unknown(self, line):
        words = words_of(line)
        if not words:
            return ERROR
        if self.number < SINCE.get(words[0], (0,)):
            return ERROR
        if words[0] in META and self.number < NEW_MS:
            return self._refuse_early_meta(words)
        if words[0] == b"lru_crawler":
            return self._refuse_crawler(words)
        return None

    @staticmethod
    def _refuse_early_meta(words):
        """1.6.0 to 1.6.9: the length of ms is a flag S, and there is no b."""
        if words[0] == b"ms":
            return INVALID
        if words[0] == b"mg" and len(words) < 3:
            return FORMAT
        if b"b" in words[2:] and words[0] in (b"mg", b"md", b"ma"):
            return INVALID if words[0] == b"mg" else (
                b"CLIENT_ERROR invalid or duplicate flag\r\n")
        return None

    def _refuse_crawler(self, words):
        if self.number < METADUMP:
            return ERROR
        if self.number < METADUMP_ON:
            return b"CLIENT_ERROR lru crawler disabled\r\n"
        if words[2:] == [b"hash"] and self.number < METADUMP_HASH:
            return b"BADCLASS invalid class id\r\n"
        return None

    def _pass(self, link, line, data):
        words = words_of(line)
        if words[:1] == [b"cas"] and not self.has_cas and (
                self.number < CHECKS_ANY_CAS):
            line = b" ".join([b"replace", *words[1:5]]) + b"\r\n"
            return super()._pass(link, line, data).replace(
                b"NOT_STORED", b"NOT_FOUND")
        return self._reword(words, super()._pass(link, line, data))

    def _reword(self, words, reply):
        """What memcached 1.6.18 has said in the words of this version."""
        if reply.startswith(b"VALUE") and self.number < UNSIGNED:
            return re.sub(rb"(VALUE [^ \r\n]+ )(\d+)", signed, reply)
        if words[:2] == [b"stats", b"settings"] and (
                self.number < HAS_FLUSH_SETTING):
            return re.sub(rb"STAT flush_enabled \w+\r\n", b"", reply)
        if not words or words[0] not in (b"mg", b"md", b"ma") or (
                self.number >= NEW_MS):
            return reply
        if reply.startswith(b"EN"):
            return b"EN\r\n"
        if words[0] == b"mg":
            return re.sub(rb"^HD", b"OK", reply)
        return re.sub(rb"^(?:HD|(NF))(.*?)\r\n",
                      lambda match: b"%s %s\r\n" % (
                          match[1] or b"OK", match[2]), reply)


def signed(match):
    flags = int(match[2])
    return match[1] + b"%d" % (flags - (flags >> 31 << 32))


class Old(Fronted):
    """A memcached of that version, as far as it can be told from outside."""

    def __init__(self, version, *options):
        super().__init__(None)
        self.options = options
        self.front.close()
        self.front = OldFront(self, version, "-C" not in options)

    def commands(self):
        """The commands that it was sent, but for those that identify it."""
        return [command for command in self.front.commands
                if command.split()[:1] not in ([b"version"], [b"stats"])]
