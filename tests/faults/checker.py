#!/usr/bin/python3
"""Was every key one register all along?  A linearizability checker.

It reads the history that tests/faults/history.c writes, one line per operation
in the order in which they returned:

    key client op a b call return result quiet

A state is "-" (absent) or "flags:value", with "/" and its marks behind it if it
has any: x is stale, w is won, which means that one client was told to set it.
Values never repeat, so a state also stands for the version that a token names.
a and b are what the operation was given, "-" if nothing.  b is the version
whose token was used: a state without w; "5:v/?" was read by a command that does
not show marks, and "+" is a token that no version has had yet.  Times are
nanoseconds.  quiet is 1 when no other operation of that key was under way as
this one returned: there a history can be cut, and each piece is checked for
itself, from every state in which the one before may have ended.

Results, by operation:

    get gets gat gats   the value that was read
    mg mg:N mg:R        the same, with "/" and the letters of the reply behind
                        it: X stale, W won, Z another one has won
    set                 ok
    add replace append prepend      ok, no (NOT_STORED)
    cas                 ok, exists, none (NOT_FOUND)
    ms ms:E ms:R ms:A ms:P ms:AN ms:PN ms:I
                        ok, no, exists, none.  Behind the colon is the mode, N
                        or I; ms:I has a token.
    incr decr           the number, none
    ma ma:D ma:N        the number, none, exists; ma:N has "by,first number"
    delete touch        ok, none
    md md:I             ok, none, exists
    flush               ?, as it is called, and ok when it is over: two lines
                        for each key, with the same client and call.  In
                        between it is not counted as under way.
    any                 exists is always possible where a token was used
                        ~ it was noreply: answered by what came after it
                        ? no answer: it may happen at any later time, or never

checker.py FILE         checks a whole history
checker.py --follow PREFIX      checks PREFIX.0, PREFIX.1 and so on as they
                        appear and removes them, until PREFIX.end is there
--lossy: a value may be missed at any time, as in a cache without a mirror; but
what was replaced or deleted may not come back.
--several: several magents serve, or one follows another.  What one of them
copies it wins for a moment, if it is stale, so that it is open which client is
told to set it anew.
"""
import argparse
import collections
import itertools
import os
import pathlib
import sys
import time

ABSENT = "-"
NEVER = float("inf")
LIMIT = 300000          # steps of the search for one piece
MANY = 300              # states from which an anomaly is left
RECENT = 40             # operations of a key kept for the report

Op = collections.namedtuple("Op", "client name a b call end result")


# What an operation does to a state: (result, state after it).  Where a state
# has several answers, or one answer leaves several states, VARIANTS has the
# others.

UNCLEAR = None, None    # only VARIANTS knows


def unmarked(state):
    return state[:state.index("/")] if "/" in state else state


def names(token, state):
    """Whether a token is that of a state: True, False, or None if it may be.

    Only what is stale, and the empty value that mg:N makes, can be there again
    in another version.
    """
    value, _, marks = state.partition("/")
    read, _, read_marks = token.partition("/")
    if value != read:
        return False
    if "x" in marks:
        return None if read_marks else False
    if read_marks == "x":
        return False
    return None if value.endswith(":") else True


def with_token(effect, missing="none"):
    """That operation, if the token is right."""
    def tokened(state, a, b):
        if b == ABSENT:
            return effect(state, a, b)
        if state == ABSENT:
            return missing, state
        if names(b, state) is False:
            return "exists", state
        return effect(state, a, b)
    return tokened


def _read(state, a, b):
    return unmarked(state), state


def _mg(state, a, b):
    if "/" not in state:
        return state, state
    value, _, marks = state.partition("/")
    if "w" in marks:
        return value + ("/XZ" if "x" in marks else "/Z"), state
    return value + "/XW", value + "/xw"


def _mg_several_variants(state, a, b):
    """Of a stale item, whoever was told to set it anew before."""
    value, _, marks = state.partition("/")
    if "x" in marks:
        yield value + "/XZ", state
        yield value + "/XW", value + "/xw"


def _mg_make(state, a, b):
    return ("0:/W", "0:/w") if state == ABSENT else _mg(state, a, b)


def _mg_renew_variants(state, a, b):
    """What is left of its time is not known here: it may be short."""
    if state != ABSENT and "/" not in state:
        yield state + "/W", state + "/w"


def _set(state, a, b):
    return "ok", a


def _add(state, a, b):
    return ("ok", a) if state == ABSENT else ("no", state)


def _replace(state, a, b):
    return ("no", state) if state == ABSENT else ("ok", a)


def _append(state, a, b):
    return ("no", state) if state == ABSENT else ("ok", unmarked(state) + a)


def _prepend(state, a, b):
    if state == ABSENT:
        return "no", state
    flags, _, value = unmarked(state).partition(":")
    return "ok", flags + ":" + a + value


def joined(effect):
    """Append or prepend a, which is "flags:value" for the case that there is
    nothing yet."""
    def join(state, a, b):
        return effect(state, a.partition(":")[2], b)
    return join


def _make_variants(state, a, b):
    """memcached 1.6.18 makes nothing, later ones do."""
    if state == ABSENT and b == ABSENT:
        yield "ok", a


def _set_stale(state, a, b):
    """Stored as stale, if the token is that of an older version."""
    if state == ABSENT:
        return "none", state
    if names(b, state) is not False:
        return UNCLEAR
    if b == "+":
        return "exists", state
    return "ok", as_stale(state, a)


def as_stale(state, a):
    return a + ("/xw" if "w" in state.partition("/")[2] else "/x")


def _set_stale_variants(state, a, b):
    """A copy of the version that is there has a token of its own, so that the
    right one may look like an old one; a cas says exists then."""
    if state != ABSENT and names(b, state) is not False:
        yield "ok", a
        yield "ok", as_stale(state, a)


def count(state, by):
    if state == ABSENT:
        return "none", state
    flags, _, value = unmarked(state).partition(":")
    number = str(by(int(value)))
    return number, flags + ":" + number


def _incr(state, a, b):
    if "/" in state:
        return UNCLEAR
    return count(state, lambda n: (n + int(a)) % (1 << 64))


def _decr(state, a, b):
    if "/" in state:
        return UNCLEAR
    return count(state, lambda n: max(0, n - int(a)))


def _incr_or_make(state, a, b):
    by, first = a.split(",")
    return (first, "0:" + first) if state == ABSENT else _incr(state, by, b)


def counted(effect):
    """A number that is written over the old one keeps the marks, a longer one
    does not."""
    def variants(state, a, b):
        value, _, marks = state.partition("/")
        if marks and (b == ABSENT or names(b, state) is not False):
            number, after = effect(value, a, ABSENT)
            yield number, after
            yield number, after + "/" + marks
    return variants


def _delete(state, a, b):
    return ("none" if state == ABSENT else "ok"), ABSENT


def _mark_stale(state, a, b):
    if state == ABSENT:
        return "none", state
    return "ok", unmarked(state) + "/x"


def _touch(state, a, b):
    return ("none" if state == ABSENT else "ok"), state


def _flush(state, a, b):
    return UNCLEAR


def _flush_variants(state, a, b):
    yield "ok", ABSENT


EFFECTS = {
    "get": _read, "gets": _read, "gat": _read, "gats": _read,
    "mg": _mg, "mg:N": _mg_make, "mg:R": _mg,
    "set": _set, "add": _add, "replace": _replace, "append": _append,
    "prepend": _prepend, "cas": with_token(_set),
    "ms": with_token(_set), "ms:E": _add, "ms:R": with_token(_replace),
    "ms:A": with_token(_append, "no"), "ms:P": with_token(_prepend, "no"),
    "ms:AN": joined(_append), "ms:PN": joined(_prepend), "ms:I": _set_stale,
    "incr": _incr, "decr": _decr, "ma": with_token(_incr),
    "ma:D": with_token(_decr), "ma:N": _incr_or_make,
    "delete": _delete, "md": with_token(_delete),
    "md:I": with_token(_mark_stale), "touch": _touch, "flush": _flush}
VARIANTS = {
    "mg:R": _mg_renew_variants, "ms:AN": _make_variants,
    "ms:PN": _make_variants, "ms:I": _set_stale_variants,
    "incr": counted(_incr), "decr": counted(_decr), "ma": counted(_incr),
    "ma:D": counted(_decr), "ma:N": counted(_incr_or_make),
    "flush": _flush_variants}
READS = frozenset(("get", "gets", "gat", "gats", "touch"))
META_READS = frozenset(("mg", "mg:N", "mg:R"))
COUNTS = frozenset(("incr", "decr", "ma", "ma:D", "ma:N"))
DELETES = frozenset(("delete", "md"))
OPEN = frozenset("~?")


def expect_several(variants):
    """Add to VARIANTS what follows from several magents."""
    for name in META_READS:
        known = variants.get(name)
        variants[name] = (
            _mg_several_variants if known is None else
            lambda *args, known=known: itertools.chain(
                known(*args), _mg_several_variants(*args)))


def step(state, name, a, b, result):
    """The states that can follow an operation that has answered that."""
    ways = [EFFECTS[name](state, a, b)]
    if name in VARIANTS:
        ways += VARIANTS[name](state, a, b)
    if result in OPEN:
        return [after for _, after in ways if after is not None]
    if result == "exists":
        return [state] if b != ABSENT else []
    return [after for answer, after in ways if answer == result]


def is_idle(op):
    """Whether it left the state alone, whatever that was."""
    if op.result in OPEN or op.result.endswith("W"):
        return False
    return (op.name in READS or op.name in META_READS or
            op.result in ("no", "none", "exists"))


def missed(state, op):
    """The states after an operation that did not find what is there."""
    if op.name == "flush":
        return []
    return [state if after == ABSENT and op.name not in DELETES else after
            for after in step(ABSENT, op.name, op.a, op.b, op.result)]


class Undecided(Exception):
    """The search took too long."""


class Search:
    """All ways in which the operations of a piece can have happened.

    A node is (what happened, the state, what of the unanswered is left).
    """

    def __init__(self, ops, lossy=False):
        self.lossy = lossy
        self.unanswered = frozenset(op for op in ops if op.result == "?"
                                    and op.name not in READS)
        self.ops = sorted((op for op in ops if op.result != "?"),
                          key=lambda op: op.call)
        self.idle = [is_idle(op) for op in self.ops]
        self.all = (1 << len(self.ops)) - 1

    def outcomes(self, ends):
        """The ends that can follow from these; an end is (state, unanswered).

        None can: it is not linearizable.
        """
        stack = [(0, state, left | self.unanswered) for state, left in ends]
        seen = set(stack)
        found = set()
        steps = 0
        while stack:
            node = stack.pop()
            if node[0] == self.all:
                found.add(node[1:])
                continue
            steps += 1
            if steps > LIMIT:
                raise Undecided
            for successor in self._successors(*node):
                if successor not in seen:
                    seen.add(successor)
                    stack.append(successor)
        return found

    def _candidates(self, done):
        """What can be next: nothing that is left returned before its call,
        or was asked before it by the same client."""
        horizon = NEVER
        ready = []
        clients = set()
        for i, op in enumerate(self.ops):
            if done >> i & 1:
                continue
            if op.call > horizon:
                break
            if op.client not in clients:
                clients.add(op.client)
                ready.append(i)
            horizon = min(horizon, op.end)
        return ready, horizon

    def _successors(self, done, state, left):
        ready, horizon = self._candidates(done)
        nodes = []
        for i in ready:
            op = self.ops[i]
            then = done | 1 << i
            if op.name == "flush":
                if not any(is_same_flush(op, other) for other in left):
                    return [(then, state, left)]
                continue        # it happens below
            afters = step(state, op.name, op.a, op.b, op.result)
            if afters and self.idle[i]:
                return [(then, state, left)]    # to wait opens no other way
            nodes += [(then, after, left) for after in afters]
            if self.lossy and state != ABSENT:
                nodes += [(then, after, left) for after in missed(state, op)]
        for op in left:
            if op.call <= horizon:
                nodes += [(done, after, left - {op})
                          for after in step(state, op.name, op.a, op.b, "?")]
        return nodes


def is_same_flush(op, other):
    return (other.name == "flush" and other.call == op.call and
            other.client == op.client)


def outcomes(ops, ends, lossy=False):
    return Search(ops, lossy).outcomes(ends)


def as_of(ops, moment):
    """What was known at a moment: later answers had not come."""
    return [op if op.end <= moment else op._replace(result="?", end=NEVER)
            for op in ops if op.call <= moment and (
                op.end <= moment or op.name != "flush" or op.result == "?")]


def minimal(ops, ends, lossy=False):
    """The fewest operations that cannot be, and the one that gave it away."""
    culprit, known = None, ops
    for culprit in sorted(ops, key=lambda op: op.end):
        known = as_of(ops, culprit.end)
        if not outcomes(known, ends, lossy):
            break
    for op in list(known):
        fewer = [other for other in known if other is not op]
        if is_idle(op) and op != culprit and (
                not outcomes(fewer, ends, lossy)):
            known = fewer
    return known, culprit


def show(op, mark=" "):
    words = [op.name] + [word for word in (op.a, op.b) if word != ABSENT]
    end = "..." if op.end == NEVER else "%.6f" % (op.end / 1e9)
    return "%s %.6f %s c%-3s %s -> %s" % (
        mark, op.call / 1e9, end, op.client, " ".join(words), op.result)


class Anomaly:
    def __init__(self, key, ops, ends, recent, lossy):
        self.key = key
        self.ops, self.culprit = minimal(ops, ends, lossy)
        self.states = sorted({state for state, _ in ends})
        self.recent = recent
        self.time = self.culprit.end

    def __str__(self):
        lines = ["key %s" % self.key]
        lines += [show(op) for op in self.recent[-12:]]
        lines.append("  here it was %s" % " or ".join(self.states))
        lines += [show(op, ">" if op == self.culprit else "|")
                  for op in sorted(self.ops, key=lambda op: op.call)]
        return "\n".join(lines)


class Moment:
    """When a flush_all can have happened, by what all keys show.

    A key that was quiet as it began, and had a value, bounds it: who reads this
    value is ahead of it, and who finds nothing is behind it if nobody deletes.
    What one key shows of itself is found elsewhere.
    """

    def __init__(self, flush):
        self.flush = flush
        self.ahead = self.behind = None     # (key, operation)

    def learn(self, key, state, ops):
        reads = [op for op in ops if op.name in READS or op.name in META_READS]
        for op in reads:
            if unmarked(op.result) == unmarked(state) and (
                    self.ahead is None or op.call > self.ahead[1].call):
                self.ahead = key, op
        if any(op.name in DELETES for op in ops):
            return
        for op in reads:
            if op.result in (ABSENT, "none") and (
                    self.behind is None or op.end < self.behind[1].end):
                self.behind = key, op

    def is_possible(self):
        return self.ahead is None or self.behind is None or (
            self.ahead[0] == self.behind[0]) or (
            self.ahead[1].call <= self.behind[1].end)


class Halves:
    """The anomaly of a flush_all that was not one moment."""

    def __init__(self, moment):
        self.key, self.culprit = moment.ahead
        self.moment = moment
        self.time = self.culprit.end

    def __str__(self):
        return "\n".join([
            "key %s is there when key %s is gone" % (
                self.key, self.moment.behind[0]),
            show(self.moment.flush), show(self.moment.behind[1]),
            show(self.culprit, ">")])


class Register:
    """What is known of one key."""

    __slots__ = ("state", "ends", "ops", "recent", "before", "beside",
                 "is_guess")

    def __init__(self):
        self.state = ABSENT     # if it is known for sure, or None
        self.ends = None        # the ends that are possible, if not
        self.ops = []           # of the piece that is not complete
        self.recent = collections.deque(maxlen=RECENT)
        self.before = None      # the state as a flush_all began, if known
        self.beside = []        # operations since then
        self.is_guess = False   # ends may lack some: a piece is undecided


class Checker:
    """Feed it operations; the anomalies gather in it."""

    def __init__(self, lossy=False):
        self.lossy = lossy
        self.registers = collections.defaultdict(Register)
        self.moment = Moment(None)
        self.anomalies = []
        self.checked = 0
        self.undecided = 0

    def feed(self, lines):
        registers = self.registers
        effects = EFFECTS
        for line in lines:
            (key, client, name, a, b, call, end, result,
             quiet) = line.rstrip("\n").split(" ")
            self.checked += 1
            register = registers[key]
            if quiet == "1" and register.state is not None and (
                    not register.ops):
                # Nearly all: alone, in a state that is known.
                answer, after = effects[name](register.state, a, b)
                if answer == result:
                    register.state = after
                    register.recent.append(
                        (client, name, a, b, call, end, result))
                    continue
            op = Op(client, name, a, b, int(call),
                    NEVER if result == "?" else int(end), result)
            if name == "flush":
                self.note_flush(key, register, op, quiet == "1")
            elif register.before is not None:
                register.beside.append(op)
            register.ops.append(op)
            if quiet == "1":
                self.close(key, register)

    def note_flush(self, key, register, op, is_quiet):
        """A flush_all begins or ends."""
        state, register.before = register.before, None
        beside, register.beside = register.beside, []
        if op.result == "?":
            # The empty value of an mg:N can be there again.
            if is_quiet and not register.ops and register.state and (
                    not unmarked(register.state).endswith((ABSENT, ":"))):
                register.before = register.state
            return
        if self.moment.flush is None or self.moment.flush.call != op.call:
            self.moment = Moment(op)
        if state is None or not is_quiet or self.lossy or (
                not self.moment.is_possible()):
            return
        self.moment.learn(key, state, beside)
        if not self.moment.is_possible():
            self.anomalies.append(Halves(self.moment))

    def close(self, key, register):
        """The key is quiet: check what has gathered."""
        ops, register.ops = register.ops, []
        ends = register.ends or {(register.state, frozenset())}
        try:
            found = outcomes(ops, ends, self.lossy)
        except Undecided:
            self.undecided += 1
            found = self._anything(ops, ends)
            register.is_guess = True
        if not found and register.is_guess:
            found = self._anything(ops, ends)
        elif not found:
            self._complain(key, register, ops, ends)
            found = self._anything(ops, ends)
        register.recent.extend(ops)
        register.state, register.ends = None, found
        if len(found) == 1:
            (state, left), = found
            register.is_guess = False
            if not left:
                register.state, register.ends = state, None

    def _complain(self, key, register, ops, ends):
        recent = [op if isinstance(op, Op) else Op(
            *op[:4], int(op[4]), int(op[5]), op[6]) for op in register.recent]
        self.anomalies.append(Anomaly(key, ops, ends, recent, self.lossy))

    @staticmethod
    def _anything(ops, ends):
        """Go on from any state that was heard of."""
        states = {ABSENT} | {state for state, _ in ends}
        flushes = {op for _, left in ends for op in left} | set(ops)
        for op in ops:
            if op.name in COUNTS:
                if op.result.isdigit():
                    flags = [s.partition(":")[0] for s in states
                             if s != ABSENT] or ["0"]
                    states |= {f + ":" + op.result for f in flags}
            elif op.name in READS or op.name in META_READS:
                states |= {op.result} - {"ok", "none", "?", "~"}
            elif op.a != ABSENT and len(states) < MANY:
                states |= {after for state in states for after in step(
                    state, op.name, op.a, ABSENT, "?")} | (
                        {op.a} if ":" in op.a else set())
        if any("/" in state for state in states) or any(
                op.name in ("md:I", "ms:I") for op in ops):
            states = {unmarked(state) + marks for state in states
                      for marks in ("", "/x", "/w", "/xw")
                      if state != ABSENT} | {ABSENT}
        left = frozenset(
            op for op in flushes if op.name == "flush" and op.result == "?"
            and not any(other.result == "ok" and is_same_flush(op, other)
                        for other in ops))
        return {(state, left) for state in states}

    def finish(self):
        for key, register in self.registers.items():
            if register.ops:
                self.close(key, register)

    def summary(self):
        return "checked=%d anomalies=%d undecided=%d" % (
            self.checked, len(self.anomalies), self.undecided)


def with_starts(ops):
    """Each flush has a line for its start, too."""
    for key, op in ops:
        if op.name == "flush" and op.result == "ok":
            yield op.call, key, op._replace(result="?", end=NEVER)
        yield (op.call if op.name == "flush" and op.result == "?"
               else op.end), key, op


def with_quiet(ops):
    """The lines of a history, from (key, Op) in any order."""
    told = sorted(with_starts(ops), key=lambda entry: entry[0])
    lines = []
    for i, (moment, key, op) in enumerate(told):
        busy = any(k == key and later.call <= moment and later.name != "flush"
                   for _, k, later in told[i + 1:])
        lines.append(" ".join(map(str, (
            key, *op[:5], 0 if op.end == NEVER else op.end, op.result,
            int(not busy)))))
    return lines


def check(ops, lossy=False):
    """The Checker that has seen (key, Op) pairs."""
    checker = Checker(lossy)
    checker.feed(with_quiet(ops))
    checker.finish()
    return checker


def follow(checker, prefix, say):
    """Check the pieces of a history as they appear, and remove them."""
    end = pathlib.Path(prefix + ".end")
    for number in itertools.count():
        piece = pathlib.Path("%s.%d" % (prefix, number))
        while not piece.exists():
            if end.exists() and not piece.exists():
                return
            time.sleep(0.05)
        with open(piece, encoding="latin-1", newline="\n") as lines:
            checker.feed(lines)
        piece.unlink()
        say()


def main():
    parser = argparse.ArgumentParser(description="check a history")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--lossy", action="store_true")
    parser.add_argument("--several", action="store_true")
    parser.add_argument("path")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    checker = Checker(arguments.lossy)
    if arguments.several:
        expect_several(VARIANTS)
    told = 0

    def say():
        nonlocal told
        for anomaly in checker.anomalies[told:]:
            print("ANOMALY %d %s" % (anomaly.time, anomaly), flush=True)
        told = len(checker.anomalies)

    if arguments.follow:
        os.nice(5)
        follow(checker, arguments.path, say)
    else:
        with open(arguments.path, encoding="latin-1",
                  newline="\n") as lines:
            checker.feed(lines)
    checker.finish()
    say()
    print(checker.summary())
    return 1 if checker.anomalies or checker.undecided else 0


if __name__ == "__main__":
    sys.exit(main())
