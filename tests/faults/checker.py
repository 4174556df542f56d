#!/usr/bin/python3
"""Was every key one register all along?  A linearizability checker.

It reads the history that tests/faults/history.c writes, one line per operation
in the order in which they returned:

    key client op a b call return result quiet

A state is "-" (absent) or "flags:value"; values never repeat, so a state also
stands for the version that a cas token names.  a and b are what the operation
was given, "-" if nothing.  Times are nanoseconds.  quiet is 1 when no other
operation of that key was under way as this one returned: there a history can
be cut, and each piece is checked for itself, from every state in which the one
before may have ended.

Results, by operation:

    get gets gat mg     the state that was read
    set ms              ok
    add replace append prepend      ok, no (NOT_STORED)
    cas                 ok, exists, none (NOT_FOUND); b: the state whose token
                        was used.  exists is always possible.
    incr decr           the number, none
    delete md touch     ok, none
    any                 ~ it was noreply: answered by what came after it
                        ? no answer: it may happen at any later time, or never

checker.py FILE         checks a whole history
checker.py --follow PREFIX      checks PREFIX.0, PREFIX.1 and so on as they
                        appear and removes them, until PREFIX.end is there
--lossy: a value may be missed at any time, as in a cache without a mirror; but
what was replaced or deleted may not come back.
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
RECENT = 40             # operations of a key kept for the report

Op = collections.namedtuple("Op", "client name a b call end result")


# What an operation does to a state: (result, state after it).

def _read(state, a, b):
    return state, state


def _set(state, a, b):
    return "ok", a


def _add(state, a, b):
    return ("ok", a) if state == ABSENT else ("no", state)


def _replace(state, a, b):
    return ("no", state) if state == ABSENT else ("ok", a)


def _append(state, a, b):
    return ("no", state) if state == ABSENT else ("ok", state + a)


def _prepend(state, a, b):
    if state == ABSENT:
        return "no", state
    flags, _, value = state.partition(":")
    return "ok", flags + ":" + a + value


def _cas(state, a, b):
    if state == ABSENT:
        return "none", state
    return ("ok", a) if state == b else ("exists", state)


def _count(state, by):
    if state == ABSENT:
        return "none", state
    flags, _, value = state.partition(":")
    number = str(by(int(value)))
    return number, flags + ":" + number


def _incr(state, a, b):
    return _count(state, lambda n: (n + int(a)) % (1 << 64))


def _decr(state, a, b):
    return _count(state, lambda n: max(0, n - int(a)))


def _delete(state, a, b):
    return ("none" if state == ABSENT else "ok"), ABSENT


def _touch(state, a, b):
    return ("none" if state == ABSENT else "ok"), state


EFFECTS = {"get": _read, "gets": _read, "gat": _read, "mg": _read,
           "set": _set, "ms": _set, "add": _add, "replace": _replace,
           "append": _append, "prepend": _prepend, "cas": _cas, "incr": _incr,
           "decr": _decr, "delete": _delete, "md": _delete, "touch": _touch}
READS = frozenset(("get", "gets", "gat", "mg", "touch"))
OPEN = frozenset("~?")


def step(state, name, a, b, result):
    """The state after an operation; None if it cannot have answered that."""
    answer, after = EFFECTS[name](state, a, b)
    if answer == result or result in OPEN:
        return after
    if result == "exists":
        return state
    return None


def is_idle(op):
    """Whether it left the state alone, whatever that was."""
    if op.result in OPEN:
        return False
    return op.name in READS or op.result in ("no", "none", "exists")


def missed(state, op):
    """The state after an operation that did not find what is there."""
    after = step(ABSENT, op.name, op.a, op.b, op.result)
    if after == ABSENT and op.name not in ("delete", "md"):
        return state
    return after


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
            after = step(state, op.name, op.a, op.b, op.result)
            if after is not None:
                node = (done | 1 << i, after, left)
                if self.idle[i]:
                    return [node]   # to wait with it opens no other way
                nodes.append(node)
            if self.lossy and state != ABSENT:
                after = missed(state, op)
                if after is not None:
                    nodes.append((done | 1 << i, after, left))
        for op in left:
            if op.call <= horizon:
                nodes.append((done, step(state, op.name, op.a, op.b, "?"),
                              left - {op}))
        return nodes


def outcomes(ops, ends, lossy=False):
    return Search(ops, lossy).outcomes(ends)


def as_of(ops, moment):
    """What was known at a moment: later answers had not come."""
    return [op if op.end <= moment else op._replace(result="?", end=NEVER)
            for op in ops if op.call <= moment]


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


class Register:
    """What is known of one key."""

    __slots__ = ("state", "ends", "ops", "recent")

    def __init__(self):
        self.state = ABSENT     # if it is known for sure, or None
        self.ends = None        # the ends that are possible, if not
        self.ops = []           # of the piece that is not complete
        self.recent = collections.deque(maxlen=RECENT)


class Checker:
    """Feed it operations; the anomalies gather in it."""

    def __init__(self, lossy=False):
        self.lossy = lossy
        self.registers = collections.defaultdict(Register)
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
            register.ops.append(Op(client, name, a, b, int(call),
                                   NEVER if result == "?" else int(end),
                                   result))
            if quiet == "1":
                self.close(key, register)

    def close(self, key, register):
        """The key is quiet: check what has gathered."""
        ops, register.ops = register.ops, []
        ends = register.ends or {(register.state, frozenset())}
        try:
            found = outcomes(ops, ends, self.lossy)
        except Undecided:
            self.undecided += 1
            found = self._anything(ops, ends)
        if not found:
            self._complain(key, register, ops, ends)
            found = self._anything(ops, ends)
        register.recent.extend(ops)
        register.state, register.ends = None, found
        if len(found) == 1:
            (state, left), = found
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
        for op in ops:
            if op.name in ("incr", "decr"):
                if op.result.isdigit():
                    flags = [s.partition(":")[0] for s in states
                             if s != ABSENT] or ["0"]
                    states |= {f + ":" + op.result for f in flags}
            elif op.name in ("append", "prepend"):
                states |= {step(s, op.name, op.a, op.b, "?") for s in states}
            elif op.name in READS:
                states |= {op.result} - {"ok", "none", "?", "~"}
            elif op.a != ABSENT:
                states.add(op.a)
        return {(state, frozenset()) for state in states}

    def finish(self):
        for key, register in self.registers.items():
            if register.ops:
                self.close(key, register)

    def summary(self):
        return "checked=%d anomalies=%d undecided=%d" % (
            self.checked, len(self.anomalies), self.undecided)


def with_quiet(ops):
    """The lines of a history, from (key, Op) in any order."""
    ops = sorted(ops, key=lambda pair: pair[1].end)
    lines = []
    for i, (key, op) in enumerate(ops):
        busy = any(k == key and later.call <= op.end
                   for k, later in ops[i + 1:])
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
    parser.add_argument("path")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    checker = Checker(arguments.lossy)
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
