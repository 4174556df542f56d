"""Two magents before the same servers, and clients that turn from one to the
other: what a Row says fails, in its order, while the load runs.

The address that moves is that of the load: history.c has all of its clients
leave one magent for the other at once.  What was under way then, or as a magent
died, may have been carried out or not, and may still be: the checker knows
that.
"""
import collections
import re
import time

from faults import Isolated, Plain, Scene
from lib.net import wait_for
from lib.servers import TROUBLE, Magent, Memcached
from lib.way import Way

CLIENTS = 16
# Half of the load is on keys that are seldom written: what is old there is
# still there when somebody reads it.
LOAD = dict(clients=CLIENTS, rate=6000, hot=16, cold=2000, hot_share=50,
            limit_ms=5000, flush=0)
SOON = 0.3          # seconds, at most, between one fault and the next
ASLEEP = 4          # seconds that a magent is stopped
REST = 1.2          # seconds without a request, after which a magent looks
AGAIN = 2000        # operations that write again what a magent took with it: see
                    # operations.md, What is not covered
AWAY = 2500         # operations while a server is away, and after its return
READS = 4000        # operations on what the returned server holds
FIRST_USER = 64001  # of the magents that are cut off each by itself


# What the scene is made of

class Mortal(Magent):
    """A magent that may be dead when the scene ends."""

    was_killed = False

    def start(self, port=None):
        self.was_killed = False
        return super().start(port)

    def kill(self):
        self.was_killed = True
        super().kill()

    def close(self):
        if not self.was_killed or self.log.closed:
            super().close()
            return
        output = self.output()
        self.log.close()
        assert not TROUBLE.search(output), output


class Inherited(Memcached):
    """A memcached at an address that another one had before."""

    def __init__(self):
        super().__init__()
        self.other = Memcached()
        self.way = Way()

    @property
    def address(self):
        return self.way.address

    def start(self, port=None):
        super().start(port)
        if port is None:
            self.other.start()
            self.way.lead_to(self)
        return self

    def leave(self):
        """Nobody is at the address."""
        self.way.close()

    def swap(self):
        """The other one gets the address, and still holds what it held when it
        had it before."""
        self.way.close()
        other = self.other
        self.process, other.process = other.process, self.process
        self.port, other.port = other.port, self.port
        self.way.lead_to(self)

    def close(self):
        self.way.close()
        self.other.close()
        super().close()


# How many primaries and backups; and whether a second magent is there, and has
# them the other way round.
Layout = collections.namedtuple("Layout", "primaries backups standby crossed")
LAYOUTS = {"pair": Layout(1, 1, True, False),
           "three": Layout(2, 1, True, False),
           "crossed": Layout(1, 1, True, True),
           "alone": Layout(1, 1, False, False)}

# Which servers can have the fault, and what begins and ends it.
Fault = collections.namedtuple("Fault", "kind begin end")


def nothing(scene, server):
    pass


FAULTS = {
    "no fault": Fault(Plain, nothing, nothing),
    "hung": Fault(Plain, lambda scene, server: server.stop(),
                  lambda scene, server: server.cont()),
    "restarted": Fault(Plain, lambda scene, server: server.kill(),
                       lambda scene, server: server.start(server.port)),
    "cut off": Fault(Isolated,
                     lambda scene, server: server.network.cut("unplugged"),
                     lambda scene, server: server.network.heal()),
    "cut off from active": Fault(
        Isolated, lambda scene, server: scene.cut(server, scene.active),
        lambda scene, server: server.network.heal()),
    "cut off from standby": Fault(
        Isolated, lambda scene, server: scene.cut(server, scene.standby),
        lambda scene, server: server.network.heal()),
    "active cut off": Fault(
        Isolated, lambda scene, server: scene.cut_off(scene.active),
        lambda scene, server: scene.heal_all()),
    "given away": Fault(Inherited, lambda scene, server: server.leave(),
                        lambda scene, server: server.swap())}

# layout, and who fails: a name of LAYOUTS, and "primary" or "backup"; fault and
# event: names of FAULTS and EVENTS; order: F, M and B, for the fault of the
# server, the event of the magents and the return of the server, and K where a
# magent knows of the fault: it has answered writes that the server missed.
Row = collections.namedtuple("Row", "layout victim fault event order",
                             defaults=["FKMB"])


class Takeover(Scene):
    """The servers, one or two magents, and the load, which is at the active
    one."""

    def __init__(self, stage, layout, kind, seed=None):
        """kind: the class of all servers."""
        self.layout = LAYOUTS[layout]
        self.has_users = kind is Isolated
        self.active = 0
        self.lonely = None      # who is cut off from all servers
        self.asleep = {}        # until when, of the magents that are stopped
        self.drops = 0          # magents that were killed under their clients
        super().__init__(stage, [kind] * self.layout.primaries,
                         [kind] * self.layout.backups, seed=seed,
                         control=False)
        if self.layout.standby:
            lists = self.primaries, self.backups
            self.add_proxy(*(lists[::-1] if self.layout.crossed else lists))
        wait_for(lambda: self.is_up(self.running()), "all servers to be up")

    def add_proxy(self, primaries, backups, *options):
        user = str(FIRST_USER + len(self.proxies))
        options += ("-u", user, "-g", user) if self.has_users else ()
        proxy = self.stage.add(Mortal(primaries, backups, "-v", *options))
        self.proxies.append(proxy.start())
        return proxy

    @property
    def standby(self):
        return (self.active + 1) % len(self.proxies)

    def running(self):
        return [number for number, proxy in enumerate(self.proxies)
                if proxy.is_running() and number not in self.asleep]

    def watched(self):
        return [self.active]

    def stats(self, argument="", number=0):
        return self.proxies[number].stats(argument)

    def cut(self, server, number):
        """Cut a server off from one magent."""
        server.network.cut_user(FIRST_USER + number)

    def cut_off(self, number):
        """Cut one magent off from all servers."""
        self.lonely = number
        for server in self.primaries + self.backups:
            self.cut(server, number)

    def heal_all(self):
        """The end of that, when it is known."""
        wait_for(lambda: "up" not in self.states(self.lonely).values(),
                 "all servers to be away")
        for server in self.primaries + self.backups:
            server.network.heal()

    def start_load(self, proxy=None, **options):
        return super().start_load(proxy, **{
            **LOAD, "several": True, **options})

    # Events of the magents

    def kill(self, number):
        self.note("magent %d is killed" % number)
        self.drops += number == self.active
        self.proxies[number].kill()

    def start(self, number):
        self.note("magent %d is started" % number)
        self.proxies[number].start(self.proxies[number].port)

    def move(self):
        """The clients turn to the other magent."""
        self.active = self.standby
        self.note("the clients turn to magent %d" % self.active)
        self.load.turn_to(self.proxies[self.active])

    def kill_and_move(self):
        self.kill(self.active)
        self.move()

    def stop_and_move(self):
        self.note("magent %d is stopped" % self.active)
        self.proxies[self.active].stop()
        self.asleep[self.active] = time.monotonic() + ASLEEP
        self.move()

    def restart(self):
        self.kill(self.active)
        self.start(self.active)

    def restart_both(self):
        for number in self.standby, self.active:
            self.kill(number)
        for number in self.active, self.standby:
            self.start(number)

    def restart_standby(self):
        self.kill(self.standby)
        self.start(self.standby)

    def move_to_restarted_standby(self):
        self.restart_standby()
        self.kill_and_move()

    def move_there_and_back(self):
        self.move()
        back = time.monotonic() + REST
        while time.monotonic() < back:
            self.load.work(AWAY)
        self.move()

    # The scene

    def pair_of(self, victim):
        """The server that fails first, and its partner, which fails later."""
        pair = self.primaries[0], self.backups[0]
        return pair if victim == "primary" else pair[::-1]

    def play(self, row, numbers=None):
        """All that fails but for the partner, which is up when this returns,
        as is the server that has returned: in these magents, or else in the
        active one."""
        victim, _ = self.pair_of(row.victim)
        if row.fault == "given away":
            self.age(victim)
        steps = {"F": self.begin, "K": self.learn, "B": self.end,
                 "M": lambda row, victim: EVENTS[row.event](self)}
        for i, step in enumerate(row.order):
            if i > 0 and step in "FM":
                time.sleep(self.dice.uniform(0, SOON))
            if row.order[:i] == "M" and row.event == "killed":
                self.load.work(AGAIN)
            steps[step](row, victim)
        self.load.work(AWAY)
        self.wait_up(numbers=numbers)
        if row.event != "stopped longer" and self.wake():
            self.wait_up(numbers=self.running())

    def begin(self, row, victim):
        self.note("%s: %s" % (self.name(victim), row.fault))
        FAULTS[row.fault].begin(self, victim)

    def learn(self, row, victim):
        wait_for(lambda: any(
            self.states(number)[victim.address] != "up"
            for number in self.running()), "the fault to be known")
        self.note("it is known")

    def end(self, row, victim):
        self.load.work(AWAY)
        FAULTS[row.fault].end(self, victim)
        self.note("%s is back" % self.name(victim))

    def age(self, victim):
        """Another process gets the address: what this one holds is old when it
        gets it back."""
        victim.swap()
        self.wait_up(numbers=self.running())
        self.load.work(AWAY)

    def wake(self):
        """The magents that are stopped go on; returns whether there was one."""
        woken = sorted(self.asleep)
        for number in woken:
            time.sleep(max(0, self.asleep[number] - time.monotonic()))
            self.note("magent %d goes on" % number)
            self.proxies[number].cont()
        self.asleep.clear()
        if woken:
            self.load.work(AWAY)
        return bool(woken)

    def lose_partner(self, row):
        """The clients read what the returned server holds."""
        _, partner = self.pair_of(row.victim)
        self.note("kill of %s" % self.name(partner))
        partner.kill()
        self.load.work(READS)
        if self.wake():
            self.load.work(READS)

    def recover(self, row):
        """Everybody runs and is up again."""
        _, partner = self.pair_of(row.victim)
        partner.start(partner.port)
        for number, proxy in enumerate(self.proxies):
            if not proxy.is_running():
                self.start(number)
        self.wait_up(numbers=self.running())

    def is_good(self, verdict):
        """Each client, and the one that sends flush_alls, has lost its
        connection with each magent that was killed under it, and perhaps the
        next one, which that one had not accepted yet.  It has noticed nothing
        else."""
        return (verdict.anomalies == verdict.undecided == 0 and
                verdict.errors == verdict.hung == 0 and
                verdict.closed <= 2 * (CLIENTS + 1) * self.drops and
                verdict.exit == (verdict.closed > 0) and
                verdict.checked == verdict.ops > 0)

    def check(self):
        """End the load, which must have seen nothing."""
        verdict = self.load.end()
        assert self.is_good(verdict), "%s\n%s\n%s" % (
            findings(verdict.report), verdict, verdict.report[:4000])
        return verdict


EVENTS = {"no event": lambda scene: None,
          "move": Takeover.move,
          "killed": Takeover.kill_and_move,
          "stopped": Takeover.stop_and_move,
          "stopped longer": Takeover.stop_and_move,
          "there and back": Takeover.move_there_and_back,
          "fresh standby": Takeover.move_to_restarted_standby,
          "restarted": Takeover.restart,
          "both restarted": Takeover.restart_both,
          "standby restarted": Takeover.restart_standby}


def findings(report):
    """What the checker has found, in a line: the answers that cannot be."""
    answers = collections.Counter()
    for name, answer in re.findall(
            r"^> \S+ \S+ c\d+ +(\S+).* -> (\S+)$", report, re.M):
        if answer in ("-", "none"):
            answer = "nothing"
        elif answer not in ("ok", "no", "exists"):
            answer = "a wrong value"
        answers["%s: %s" % (name, answer)] += 1
    keys = set(re.findall(r"^ANOMALY \d+ key (\S+)", report, re.M))
    return "%d keys; %s" % (len(keys), ", ".join(
        "%s %d" % answer for answer in answers.most_common()))
