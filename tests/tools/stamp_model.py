#!/usr/bin/env python3
"""Every interleaving, within bounds, of two magents that share servers.

    stamp_model.py [--world WORLD] [--without RULE] [bounds]

A stamp is an item that both servers of a pair have.  Equal stamps say that each
has what the other one has; of two that differ, the lower one is that of the
server that is behind.  So one magent can learn from the servers what another
one knew.  magent keeps these rules: see the table in doc/architecture.md.

Clients use one magent at a time, and move.  Servers hang, die and are cut off,
stamps are evicted, and there are flush_alls.  What is checked: no client reads
a value that is older than the last one that any client was told to be stored,
or that was there before a flush_all that was answered; and a value that was
stored is there whenever no server is down.

With --marks, a magent that serves leaves a mark of that on each server, and
what a client has read is not taken back either: a write that nobody was told of,
because its magent has died, is on both servers or on none before the next fault.

With --both, both serve all the time: each has clients that write half of the
keys, and reads all.  What it reads of the other half may be old until both trust
all servers again: no rule says otherwise.  But a value that was stored is there
for each client at any time, because the next fault does not come before that.

A world says which servers there are, and which two hold each key:

    pair     one primary, one backup, two keys: what is dirty, what is not
    backups  one primary, two backups, a key on each of both
    shared   two primaries, one backup, a key of each primary

Without one of the RULES there is a violation, which shows what it is for.
"""
import argparse
import collections
import sys

RULES = {
    "bump": "a write that a server has missed gives its partner a new stamp",
    "rebump": "so does each further one, not the first alone",
    "confirm": "the client is told when the stamp is there, not on its way",
    "fence": "who starts, or has rested, asks for the stamps before it serves",
    "fencedown": "... and asks those that it takes to be down",
    "goal": "who has rebuilt gives the stamp that was there at the beginning",
    "claim": "one magent at a time rebuilds a server",
    "recheck": "... and looks, when it has claimed it, whether its stamps are "
               "those that it was judged by",
    "own": "dirty keys are all that a server lacks only if nobody else has "
           "given a stamp since it was whole",
    "strip": "who deletes at a server what it has not missed takes its stamp "
             "away",
    "flushbump": "a flush_all that a server has missed is a write it missed",
    "twin": "a stamp is two items, so that one may be evicted",
    "part": "what is behind one partner loses the keys of that pair, no others",
    "await": "nothing is deleted at a server from which another magent answers, "
             "before that one could see that the server is behind",
    "company": "... and nothing is copied to it before that one sends its effects "
               "there, too, or takes it to be down",
    "mark": "who has not ended well has left a mark: all copies are compared",
    "remark": "a flush_all puts the marks back",
    "doubt": "a server that is away as such a mark is found gets all anew",
    "left": "a flush_all gives no stamp to a server that the other magent fills",
}
WORLDS = {
    # The pairs (primary, backup), and the pair of each key.
    "pair": (((0, 1),), (0, 0)),
    "backups": (((0, 1), (0, 2)), (0, 1)),
    "shared": (((0, 2), (1, 2)), (0, 1)),
}
GONE = -1               # a key that a server does not have
ALL = "all"             # of dirty keys

GHOST = 2               # the mark of a magent that has not ended well

# marks: who has said there that it serves: magents, by number, or GHOST.
Server = collections.namedtuple("Server", "state values stamps marks")
# up: which servers it sends effects to.  lag: of each pair the server that it
# is rebuilding, or None.  dirty: of each pair the keys that its server that is
# down has missed.  known: of each pair the stamp that it gave or saw last.
# foreign: of each pair, whether somebody else has given one since it was whole.
# goal, copy: of the rebuild of each pair.  judged: a server that is behind, and
# by which stamps, until it is claimed; or None.  pend: a write that is answered by
# its authority alone.  links: 0, 1 (cut) or 2 (broken, not noticed yet).
# late: of each pair a stamp that is on its way, and where to, or None.
Magent = collections.namedtuple(
    "Magent", "alive up lag dirty known foreign goal copy pend fenced links "
              "late judged")
World = collections.namedtuple(
    "World", "servers magents active acked version stamp faults moves "
             "evictions flushes halves stored")


def changed(items, i, value):
    return items[:i] + (value,) + items[i + 1:]


class Model:
    def __init__(self, args):
        # What the scrub does about a magent that serves, too, is not in here.
        assert not (args.both and args.marks)
        self.pairs, self.keys = WORLDS[args.world]
        self.args = args
        self.without = args.without
        self.server_count = 1 + max(max(pair) for pair in self.pairs)

    def has(self, rule):
        return rule != self.without

    def begin(self):
        n = len(self.pairs)
        marks = frozenset({0} if self.args.marks and self.has("mark") else ())
        server = Server("up", (0,) * len(self.keys), (1,) * n, marks)
        magent = Magent(True, (True,) * self.server_count, (None,) * n,
                        (frozenset(),) * n, (1,) * n, (False,) * n, (0,) * n,
                        (None,) * n, None, True, (0,) * self.server_count,
                        (None,) * n, None)
        return World((server,) * self.server_count, (magent,) * 2, 0,
                     (0,) * len(self.keys), 1, 2, self.args.faults,
                     self.args.moves, self.args.evictions, self.args.flushes,
                     frozenset(), (False,) * len(self.keys))

    # What is what

    def pairs_of(self, x):
        return [p for p, pair in enumerate(self.pairs) if x in pair]

    def keys_of(self, p):
        return [k for k, pair in enumerate(self.keys) if pair == p]

    def other(self, p, x):
        one, two = self.pairs[p]
        return two if x == one else one

    def has_clients(self, w, i):
        return i == w.active or self.args.both

    def serves(self, w, i):
        return self.has_clients(w, i) and w.magents[i].fenced

    def is_writer(self, w, i, k):
        return i == (k % 2 if self.args.both else w.active)

    def may_be_old(self, w, i, k):
        """Whether only the other magent may know yet what was done to k."""
        is_ours = self.is_writer(w, i, k) and not (
            self.args.flushes and i != w.active)
        return self.args.both and not is_ours and not self.is_whole(w)

    def may_be_gone(self, w, i, k):
        """The same; or k may be on servers that are down."""
        if not self.args.both:
            return not self.is_whole(w)
        return self.args.flushes > 0 and self.may_be_old(w, i, k)

    def reaches(self, w, i, x):
        return w.servers[x].state == "up" and not w.magents[i].links[x]

    def authority(self, m, p):
        """A server that is rebuilt answers if the other one is away."""
        mirrors = [x for x in self.pairs[p] if m.up[x]]
        trusted = [x for x in mirrors if m.lag[p] != x]
        return (trusted or mirrors or [None])[0]

    # Changes

    def put(self, w, x, keys=(), value=GONE, p=None, stamp=0):
        server = w.servers[x]
        values, stamps = server.values, server.stamps
        for k in keys:
            values = changed(values, k, value)
        if p is not None:
            stamps = changed(stamps, p, stamp)
        return w._replace(servers=changed(
            w.servers, x, server._replace(values=values, stamps=stamps)))

    def with_magent(self, w, i, **what):
        return w._replace(magents=changed(
            w.magents, i, w.magents[i]._replace(**what)))

    def set_pair(self, w, i, p, **what):
        """Change what magent i knows of one pair."""
        m = w.magents[i]
        return self.with_magent(w, i, **{
            name: changed(getattr(m, name), p, value)
            for name, value in what.items()})

    def bump(self, w, i, p, at):
        """A new stamp for the pair at its authority.  Its answer tells whether
        somebody else has given one since the last that this magent knows."""
        foreign = (w.magents[i].foreign[p] or
                   w.servers[at].stamps[p] != w.magents[i].known[p])
        if self.has("confirm"):
            w = self.put(w, at, p=p, stamp=w.stamp)
        else:
            w = self.set_pair(w, i, p, late=(at, w.stamp))
        w = self.set_pair(w, i, p, known=w.stamp, foreign=foreign)
        return w._replace(stamp=w.stamp + 1)

    def become_whole(self, w, i, p, stamp):
        return self.set_pair(w, i, p, lag=None, dirty=frozenset(), goal=0,
                             known=stamp, foreign=False, copy=None)

    def set_up(self, w, i, x, up):
        m = w.magents[i]
        w = self.with_magent(w, i, up=changed(m.up, x, up))
        if not up and m.judged and m.judged[0] == x:
            w = self.with_magent(w, i, judged=None)
        if not up:
            for p in self.pairs_of(x):
                w = self.set_pair(w, i, p, copy=None,
                                  lag=None if m.lag[p] == x else m.lag[p])
        return w

    # Servers

    def is_whole(self, w):
        """Whether the next fault may come."""
        return (all(server.state == "up" for server in w.servers) and
                all(m.alive and m.fenced and all(m.up) and
                    not any(lag is not None for lag in m.lag)
                    for i, m in enumerate(w.magents)
                    if self.has_clients(w, i)) and
                not any(any(magent.links) for magent in w.magents) and
                not any(GHOST in server.marks for server in w.servers) and
                all(self.stamps_of(w, p)[0] == self.stamps_of(w, p)[1]
                    for p in range(len(self.pairs))))

    def stamps_of(self, w, p):
        one, two = self.pairs[p]
        return w.servers[one].stamps[p], w.servers[two].stamps[p]

    def faults(self, w):
        for x, server in enumerate(w.servers):
            if server.state != "up":
                yield "%d is well again" % x, w._replace(servers=changed(
                    w.servers, x, server._replace(state="up")))
        if not w.faults or not self.is_whole(w):
            return
        w = w._replace(faults=w.faults - 1)
        for x, server in enumerate(w.servers):
            yield "%d hangs" % x, w._replace(servers=changed(
                w.servers, x, server._replace(state="hung")))
            dead = Server("dead", (GONE,) * len(self.keys),
                          (0,) * len(self.pairs), frozenset())
            yield "%d is killed" % x, w._replace(
                servers=changed(w.servers, x, dead),
                magents=tuple(
                    m._replace(links=changed(m.links, x, 2))
                    if m.alive and m.up[x] else m for m in w.magents))
            for i, m in enumerate(w.magents):
                if self.args.split:
                    yield "%d is cut off from %d" % (i, x), self.with_magent(
                        w, i, links=changed(m.links, x, 1))

    def evictions(self, w):
        """One item of a stamp is lost; the other one is there until the next
        probe, which puts it back."""
        if not w.evictions:
            return
        for x, server in enumerate(w.servers):
            for p in self.pairs_of(x):
                if server.stamps[p] and x not in w.halves:
                    yield "%d loses half of stamp %d" % (x, p), self.lose(
                        w._replace(evictions=w.evictions - 1), x, p)

    def lose(self, w, x, p):
        if not self.has("twin"):
            return self.put(w, x, p=p)
        return w._replace(halves=w.halves | {x})

    # Magents: life

    def compare(self, w, i, up):
        """Which servers are not trusted by what the stamps say: of each pair
        the one whose stamp is lower."""
        up = list(up)
        for p, (one, two) in enumerate(self.pairs):
            a, b = self.stamps_of(w, p)
            if not (self.reaches(w, i, one) and self.reaches(w, i, two)):
                continue
            if a != b:
                up[one if a < b else two] = False
        return tuple(up)

    def start(self, w, i):
        up = tuple(self.reaches(w, i, x) for x in range(self.server_count))
        w = self.with_magent(
            w, i, alive=True, up=up, fenced=False,
            **{name: value for name, value in self.begin().magents[0]
               ._asdict().items() if name in (
                   "lag", "dirty", "foreign", "goal", "copy", "pend",
                   "judged")})
        for p, (one, two) in enumerate(self.pairs):
            if up[one] and up[two] and self.stamps_of(w, p) == (0, 0):
                w = self.put(w, one, p=p, stamp=w.stamp)
                w = self.put(w, two, p=p, stamp=w.stamp)
                w = w._replace(stamp=w.stamp + 1)
            a, b = self.stamps_of(w, p)
            w = self.set_pair(
                w, i, p, known=max(a * up[one], b * up[two]),
                foreign=not (up[one] and up[two] and a == b))
        return w

    def life(self, w, i):
        m = w.magents[i]
        for p, late in enumerate(m.late):
            if late is None:
                continue
            if m.links[late[0]] == 2:
                yield "has not stamped %d" % late[0], self.set_pair(
                    w, i, p, late=None)
            elif self.reaches(w, i, late[0]):
                new = self.put(w, late[0], p=p, stamp=late[1])
                yield "has stamped %d" % late[0], self.set_pair(
                    new, i, p, late=None)
        if not m.alive:
            yield "starts", self.start(w, i)
            return
        for x, link in enumerate(m.links):
            if link == 1:
                yield "reaches %d again" % x, self.with_magent(
                    w, i, links=changed(m.links, x, 0))
        if w.moves:
            yield "dies", self.with_magent(
                self.leave_marks(w, i)._replace(moves=w.moves - 1), i,
                alive=False,
                up=(False,) * self.server_count, pend=None,
                dirty=self.begin().magents[0].dirty,
                lag=(None,) * len(self.pairs), copy=(None,) * len(self.pairs),
                goal=(0,) * len(self.pairs), known=(0,) * len(self.pairs),
                foreign=(False,) * len(self.pairs), fenced=False, judged=None,
                links=tuple(link % 2 for link in m.links))
        if w.moves and i == w.active and w.magents[1 - i].alive and \
                m.pend is None and not self.args.both:
            yield "rests: the clients move", self.with_magent(
                w._replace(moves=w.moves - 1, active=1 - i), 1 - i,
                fenced=False)

    def fence(self, w, i):
        m = w.magents[i]
        if m.fenced or not self.has_clients(w, i):
            return
        reached = [self.reaches(w, i, x) for x in range(self.server_count)]
        w = self.with_magent(w, i, fenced=True)
        if not self.has("fence"):
            yield "does not look", w
            return
        up = [reached[x] and m.up[x] for x in range(self.server_count)]
        if self.has("fencedown") and not any(
                lag is not None for lag in m.lag):
            up = reached
        up = self.compare(w, i, up)
        if not self.has("fencedown"):
            # Somebody has to answer.
            for one, two in self.pairs:
                if not up[one] and not up[two]:
                    up = tuple(up[x] or m.up[x] and reached[x]
                               for x in range(self.server_count))
        for x in range(self.server_count):
            if m.up[x] and not up[x]:
                w = self.set_up(w, i, x, False)
        w = self.with_magent(w, i, up=up)
        for p, (one, two) in enumerate(self.pairs):
            a, b = self.stamps_of(w, p)
            if up[one] and up[two] and m.lag[p] is None:
                w = self.become_whole(w, i, p, a)
            elif up[one] or up[two]:
                seen = a if up[one] else b
                if seen != m.known[p]:
                    w = self.set_pair(w, i, p, foreign=True, known=seen)
                w = self.doubt(w, i, p, one if up[one] else two)
        yield "is fenced", self.say(w, i)

    # Magents: marks

    def say(self, w, i):
        """Who serves says so on each server, before the first request."""
        if not self.args.marks or not self.has("mark"):
            return w
        up = w.magents[i].up
        return w._replace(servers=tuple(
            server._replace(marks=server.marks | {i})
            if up[x] and self.reaches(w, i, x) else server
            for x, server in enumerate(w.servers)))

    def doubt(self, w, i, p, at):
        """The partner of the server `at` is away.  It may lack what somebody has
        written who has not ended well."""
        if self.has("doubt") and w.servers[at].marks - {i}:
            w = self.bump(w, i, p, at)
            w = self.set_pair(w, i, p, foreign=True)
        return w

    @staticmethod
    def leave_marks(w, i):
        """Magent i has died; if it starts again, it is another one."""
        return w._replace(servers=tuple(
            server._replace(marks=server.marks - {i} | {GHOST})
            if i in server.marks else server for server in w.servers))

    def drop_mark(self, w, i, mark):
        return w._replace(servers=tuple(
            server._replace(marks=server.marks - {mark})
            if self.reaches(w, i, x) else server
            for x, server in enumerate(w.servers)))

    def marks(self, w, i):
        m = w.magents[i]
        if not self.args.marks or m.pend is not None:
            return
        if not self.has_clients(w, i):
            yield "takes its mark away", self.drop_mark(w, i, i)
        elif m.fenced:
            yield "says that it serves", self.say(w, i)
            if any(GHOST in server.marks for server in w.servers) and all(
                    self.sees_stamps(w, i, p) and
                    len(set(self.stamps_of(w, p))) == 1
                    for p in range(len(self.pairs))):
                yield "compares all copies", self.compare_copies(w, i)

    def compare_copies(self, w, i):
        """Another magent has not ended well."""
        for k, p in enumerate(self.keys):
            x = self.authority(w.magents[i], p)
            w = self.put(w, self.other(p, x), (k,), w.servers[x].values[k])
        return self.drop_mark(w, i, GHOST)

    # Magents: servers that go and come

    def sees(self, w, i):
        m = w.magents[i]
        for x in range(self.server_count):
            if m.up[x] and not self.reaches(w, i, x):
                links = m.links
                if links[x] == 2:
                    links = changed(links, x, 0)
                pend = m.pend
                if pend is not None and pend[2] == x:
                    pend = None
                yield "sees %d down" % x, self.set_up(self.with_magent(
                    w, i, links=links, pend=pend), i, x, False)
            elif not m.up[x] and self.reaches(w, i, x) and m.pend is None:
                if m.judged and m.judged[0] == x:
                    yield from self.claim(w, i, x)
                else:
                    yield from self.return_of(w, i, x)
            elif m.judged and m.judged[0] == x:
                yield "loses %d" % x, self.with_magent(w, i, judged=None)

    def return_of(self, w, i, x):
        """x is back.  It becomes a mirror, if all its pairs allow that."""
        m = w.magents[i]
        before = w
        what = []
        for p in self.pairs_of(x):
            y = self.other(p, x)
            if not m.up[y]:
                if self.reaches(w, i, y):
                    return      # it is asked first
                if self.has_old(w, i, p, x) and not self.serves(w, i):
                    return      # who serves is to decide that
                w = self.come_alone(w, i, p, x)
                what.append("alone")
                continue
            if not self.reaches(w, i, y):
                return          # that is noticed first
            mine, theirs = w.servers[x].stamps[p], w.servers[y].stamps[p]
            if mine == theirs:
                w = self.become_whole(w, i, p, mine)
                what.append("whole")
            elif not self.serves(w, i):
                return
            elif not self.has("bump") and not m.dirty[p]:
                w = self.set_pair(w, i, p, lag=None)
                what.append("believed")
            else:
                w, how = self.begin_rebuild(w, i, p, x)
                what.append(how)
        if any(how.startswith("rebuilt") for how in what):
            if self.has("await") and self.is_in_use(before, 1 - i, x):
                return
            yield "judges that %d is behind" % x, self.with_magent(
                before, i, judged=(x, before.servers[x].stamps))
            return
        yield "%d is back: %s" % (x, ", ".join(what)), self.with_magent(
            w, i, up=changed(w.magents[i].up, x, True))

    def claim(self, w, i, x):
        """x was judged to be behind, some time ago."""
        m = w.magents[i]
        if self.has("claim") and any(w.magents[1 - i].lag[p] == x
                                     for p in self.pairs_of(x)):
            yield from self.follow(w, i, x)
            return
        if self.has("recheck") and w.servers[x].stamps != m.judged[1]:
            yield "finds %d changed" % x, self.with_magent(w, i, judged=None)
            return
        what = []
        for p in self.pairs_of(x):
            y = self.other(p, x)
            if not m.up[y] or not self.reaches(w, i, y):
                # That is noticed first.
                yield "gives %d up" % x, self.with_magent(w, i, judged=None)
                return
            if w.servers[y].stamps[p] == m.judged[1][p]:
                w = self.become_whole(w, i, p, m.judged[1][p])
                what.append("whole")
            else:
                w, how = self.begin_rebuild(w, i, p, x)
                what.append(how)
        yield "claims %d: %s" % (x, ", ".join(what)), self.with_magent(
            w, i, judged=None, up=changed(w.magents[i].up, x, True))

    def follow(self, w, i, x):
        """The other magent rebuilds x, and both serve: each sends x its
        effects, as soon as nothing there is old."""
        m = w.magents[i]
        if not self.args.both or m.pend is not None:
            return
        for p in self.pairs_of(x):
            mine = w.servers[x].stamps[p]
            theirs = w.servers[self.other(p, x)].stamps[p]
            if mine == theirs:
                w = self.become_whole(w, i, p, mine)
            elif mine == 0 and m.up[self.other(p, x)]:
                w = self.set_pair(w, i, p, lag=x, dirty=frozenset(),
                                  copy=("follow", ()))
            else:
                return
        yield "follows %d" % x, self.with_magent(
            w, i, judged=None, up=changed(m.up, x, True))

    def is_in_use(self, w, i, x):
        """Whether magent i answers from x, and will see that x is behind."""
        return w.magents[i].up[x] and self.serves(w, i) and any(
            self.sees_stamps(w, i, p) for p in self.pairs_of(x))

    def sees_stamps(self, w, i, p):
        """Whether both servers of the pair should be equal, and can be asked
        that."""
        m = w.magents[i]
        return m.lag[p] is None and all(
            m.up[x] and self.reaches(w, i, x) for x in self.pairs[p])

    @staticmethod
    def has_old(w, i, p, x):
        """Whether x may have old values, as far as magent i knows.  It has none
        if it has the stamp that its partner was given for them: then somebody
        has rebuilt it."""
        m = w.magents[i]
        return bool(m.dirty[p]) and w.servers[x].stamps[p] < m.known[p]

    def come_alone(self, w, i, p, x):
        """Nobody has what x lacks: it goes on without what may be old."""
        if self.has_old(w, i, p, x):
            dirty = w.magents[i].dirty[p]
            w = self.put(w, x, self.keys_of(p) if dirty == ALL else dirty)
        return self.set_pair(w, i, p, dirty=frozenset(), lag=None, copy=None)

    def begin_rebuild(self, w, i, p, x):
        m = w.magents[i]
        y = self.other(p, x)
        goal = w.servers[y].stamps[p]
        is_own = not self.has("own") or (
            goal == m.known[p] and not m.foreign[p])
        has_rest = w.servers[x].stamps[p] != 0
        if m.dirty[p] and m.dirty[p] != ALL and is_own and has_rest:
            keys, how = sorted(m.dirty[p]), "rebuilt in part"
        else:
            keys, how = self.keys_of(p), "rebuilt"
        drops = keys
        if not self.has("part"):
            drops = range(len(self.keys))
        w = self.put(w, x, drops)
        if how == "rebuilt" and self.has("strip"):
            w = self.put(w, x, p=p)
        return self.set_pair(
            w, i, p, lag=x, goal=goal,
            copy=("begin" if self.args.both else "next", tuple(keys))), how

    def probe(self, w, i):
        m = w.magents[i]
        if m.pend is not None:
            return
        for p, (one, two) in enumerate(self.pairs):
            a, b = self.stamps_of(w, p)
            for x in (one, two):
                if m.up[x] and self.reaches(w, i, x) and x in w.halves:
                    yield "completes the stamps of %d" % x, w._replace(
                        halves=w.halves - {x})
            if self.sees_stamps(w, i, p) and a != b:
                x = one if a < b else two
                yield "probes: %d is behind" % x, self.set_up(w, i, x, False)

    # Magents: rebuilds

    def rebuilds(self, w, i):
        m = w.magents[i]
        for p, x in enumerate(m.lag):
            if x is None:
                continue
            y = self.other(p, x)
            if not (m.up[x] and m.up[y] and self.reaches(w, i, x) and
                    self.reaches(w, i, y)):
                continue
            step = m.copy[p]
            if step is not None and step[0] == "follow":
                yield from self.go_on_following(w, i, p, x)
            elif step is not None and step[0] == "begin":
                yield from self.begin_to_copy(w, i, p, x, step[1])
            elif step is None:
                # The source was away, and is back: from the beginning.
                again, _ = self.begin_rebuild(w, i, p, x)
                yield "goes on with %d" % x, again
            elif step[0] == "next" and step[1]:
                k = step[1][0]
                yield "reads %d for %d" % (k, x), self.set_pair(
                    w, i, p, copy=("add", step[1], w.servers[y].values[k]))
            elif step[0] == "add":
                k = step[1][0]
                new = w
                if w.servers[x].values[k] == GONE:
                    new = self.put(w, x, (k,), step[2])
                yield "adds %d to %d" % (k, x), self.set_pair(
                    new, i, p, copy=("next", step[1][1:]))
            elif m.pend is None:
                yield from self.end_rebuild(w, i, p, x, y)

    def go_on_following(self, w, i, p, x):
        one, two = self.stamps_of(w, p)
        if one == two:
            yield "has seen %d become whole" % x, self.become_whole(
                w, i, p, one)
        elif w.magents[1 - i].lag[p] != x:
            yield "gives %d up" % x, self.set_up(w, i, x, False)

    def begin_to_copy(self, w, i, p, x, keys):
        """The other magent serves, too."""
        other = w.magents[1 - i]
        if self.has("company") and self.serves(w, 1 - i) and \
                other.up[x] and other.lag[p] != x:
            return
        if w.servers[self.other(p, x)].stamps[p] != w.magents[i].goal[p]:
            w = self.set_pair(w, i, p, foreign=True)
            w, _ = self.begin_rebuild(w, i, p, x)
            yield "starts over with %d" % x, w
        else:
            yield "begins to copy to %d" % x, self.set_pair(
                w, i, p, copy=("next", keys))

    def end_rebuild(self, w, i, p, x, y):
        m = w.magents[i]
        now = w.servers[y].stamps[p]
        if now == m.goal[p] or not self.has("goal"):
            new = self.put(w, x, p=p, stamp=now)
            yield "hands back %d" % x, self.become_whole(new, i, p, now)
        elif not self.has_clients(w, i):
            yield "gives %d up" % x, self.set_up(w, i, x, False)
        else:
            new = self.set_pair(w, i, p, foreign=True)
            new, _ = self.begin_rebuild(new, i, p, x)
            yield "starts over with %d" % x, new

    # Clients

    def serve(self, w, i):
        m = w.magents[i]
        if not self.serves(w, i):
            return
        for k, p in enumerate(self.keys):
            x = self.authority(m, p)
            if x is None or not self.reaches(w, i, x):
                continue
            value = w.servers[x].values[k]
            if value == GONE and w.stored[k] and \
                    not self.may_be_gone(w, i, k):
                yield "LOST: %d has no %d" % (x, k), None
            if value != GONE and value < w.acked[k] and \
                    not self.may_be_old(w, i, k):
                yield "OLD: %d reads %d of %d, was told %d" % (
                    i, value, k, w.acked[k]), None
            if value > w.acked[k] and self.args.marks and m.pend is None:
                yield "reads %d of %d" % (value, k), w._replace(
                    acked=changed(w.acked, k, value))
            if self.is_writer(w, i, k) and m.pend is None and \
                    w.version <= self.args.writes:
                new = self.put(w, x, (k,), w.version)
                yield "writes %d as %d to %d" % (k, w.version, x), \
                    self.with_magent(new, i, pend=(k, w.version, x))._replace(
                        version=w.version + 1)
        # A write while there is a flush_all is one of one key at once.
        if w.flushes and i == w.active and not any(
                magent.pend for magent in w.magents):
            yield from self.flush(w, i)

    def miss(self, w, i, p, at, key):
        """The other server of the pair has missed a write that `at` has."""
        m = w.magents[i]
        dirty = m.dirty[p]
        first = not dirty
        if self.has("bump") and (first or self.has("rebump")):
            w = self.bump(w, i, p, at)
        new = ALL if key is None or dirty == ALL else dirty | {key}
        return self.set_pair(w, i, p, dirty=new)

    def answers(self, w, i):
        m = w.magents[i]
        if m.pend is None:
            return
        k, version, x = m.pend
        p = self.keys[k]
        y = self.other(p, x)
        if m.up[y]:
            if not self.reaches(w, i, y):
                return          # that is noticed first
            new = self.put(w, y, (k,), version)
        elif not self.reaches(w, i, x):
            return
        else:
            new = self.miss(w, i, p, x, k)
        if self.is_writer(w, i, k):
            new = new._replace(
                acked=changed(new.acked, k, max(new.acked[k], version)),
                stored=changed(new.stored, k, True))
        yield "answers %d" % version, self.with_magent(new, i, pend=None)

    def flush(self, w, i):
        m = w.magents[i]
        mirrors = [x for x in range(self.server_count) if m.up[x]]
        if not all(self.reaches(w, i, x) for x in mirrors):
            return
        for one, two in self.pairs:
            if not (m.up[one] or m.up[two]):
                return          # it is refused
        for x in mirrors:
            w = self.put(w, x, range(len(self.keys)))
            if not self.has("remark"):
                w = w._replace(servers=changed(
                    w.servers, x, w.servers[x]._replace(marks=frozenset())))
        for p, pair in enumerate(self.pairs):
            up = [x for x in pair if m.up[x]]
            if len(up) == 2:
                w = self.flush_pair(w, i, p)
            elif self.has("flushbump"):
                w = self.miss(w, i, p, up[0], None)
            else:
                w = self.set_pair(w, i, p, dirty=ALL)
        yield "flushes", w._replace(
            flushes=w.flushes - 1, version=w.version + 1,
            acked=(w.version,) * len(self.keys),
            stored=(False,) * len(self.keys))

    def flush_pair(self, w, i, p):
        """Both are empty, and equal; unless the other magent is about to add
        something to one of them."""
        m = w.magents[i]
        is_followed = m.copy[p] is not None and m.copy[p][0] == "follow"
        for x in self.pairs[p]:
            is_left = is_followed and m.lag[p] == x and self.has("left")
            w = self.put(w, x, p=p, stamp=0 if is_left else w.stamp)
        w = self.set_pair(w, i, p, known=w.stamp, goal=w.stamp)
        if m.copy[p] is not None and not is_followed:
            w = self.set_pair(w, i, p, copy=("next", ()))
        return w._replace(stamp=w.stamp + 1)

    # Exploring

    def steps(self, w):
        yield from self.faults(w)
        yield from self.evictions(w)
        for i, m in enumerate(w.magents):
            ways = [self.life]
            if m.alive:
                ways += [self.serve, self.answers]
                # What it asks about stamps comes behind what it has sent.
                if not any(m.late):
                    ways += [self.fence, self.sees, self.probe, self.rebuilds,
                             self.marks]
            for way in ways:
                for what, new in way(w, i):
                    yield "%d %s" % (i, what), new

    @staticmethod
    def canonical(w):
        """Of stamps, only their order and which are equal matters."""
        seen = {0}
        for server in w.servers:
            seen.update(server.stamps)
        for m in w.magents:
            seen.update(m.known)
            seen.update(m.goal)
            seen.update(late[1] for late in m.late if late is not None)
            seen.update(m.judged[1] if m.judged else ())
        rank = {stamp: i for i, stamp in enumerate(sorted(seen))}

        def ranks(stamps):
            return tuple(rank[stamp] for stamp in stamps)
        return w._replace(
            servers=tuple(s._replace(stamps=ranks(s.stamps))
                          for s in w.servers),
            magents=tuple(m._replace(known=ranks(m.known),
                                     goal=ranks(m.goal),
                                     judged=m.judged and (
                                         m.judged[0], ranks(m.judged[1])),
                                     late=tuple(
                                         late and (late[0], rank[late[1]])
                                         for late in m.late))
                          for m in w.magents),
            stamp=len(rank))

    def explore(self, is_deep=False):
        """The steps to a violation, or None; and how many states there are.
        They are the fewest steps that do it, unless is_deep: that finds some
        much earlier."""
        first = self.canonical(self.begin())
        came = {first: None}
        queue = collections.deque([first])
        while queue and len(came) < self.args.max:
            w = queue.pop() if is_deep else queue.popleft()
            for what, new in self.steps(w):
                if new is None:
                    path = [what]
                    while came[w] is not None:
                        what, w = came[w]
                        path.append(what)
                    return path[::-1], len(came)
                new = self.canonical(new)
                if new not in came:
                    came[new] = (what, w)
                    queue.append(new)
        return None, len(came)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", choices=WORLDS, default="pair")
    parser.add_argument("--without", choices=RULES)
    parser.add_argument("--writes", type=int, default=3)
    parser.add_argument("--faults", type=int, default=1)
    parser.add_argument("--moves", type=int, default=1)
    parser.add_argument("--evictions", type=int, default=0)
    parser.add_argument("--flushes", type=int, default=0)
    parser.add_argument("--split", action="store_true",
                        help="each magent may be cut off by itself")
    parser.add_argument("--both", action="store_true",
                        help="each magent serves, and has half of the keys; "
                             "not with --marks")
    parser.add_argument("--marks", action="store_true",
                        help="who serves leaves a mark")
    parser.add_argument("--max", type=int, default=3000000)
    return parser.parse_args()


def main():
    args = arguments()
    path, states = Model(args).explore()
    if path is None:
        print("no violation in %s %d states" % (
            "all" if states < args.max else "the first", states))
        return 0
    print("violation after %d states:" % states)
    for step in path:
        print("   ", step)
    return 1


if __name__ == "__main__":
    sys.exit(main())
