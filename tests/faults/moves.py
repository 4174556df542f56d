"""The address of two hosts moves while the load runs: what happens to the
master, what clients may notice of it, and for how long.

Unlike those of takeover.py, the clients do not know of a move: they connect
again when their connection is reset, or when they have waited.
"""
import collections
import contextlib
import os
import threading
import time

from faults import Network, Scene
from hosts import (ADDRESS, PORT, Cable, Files, Host, Server, Space,
                   SpaceClient, TutorialHost)
from lib.net import wait_for
from takeover import AWAY, LOAD, READS, findings

RATE = 3000                 # operations per second
GIVE_UP_MS = 1000           # of the clients of the load
PATIENCE = 0.5              # of the probe, in seconds
SPLIT = 3                   # seconds until one of two masters gives way
GO_ON = 3                   # seconds, once the address has come
PATIENT = 60                # seconds, for what may be late
AFTERMATH = 3               # seconds in which the last clients notice a move


# Clients

class Shared:
    """The shared address, as clients see it."""

    address = "%s:%d" % (ADDRESS, PORT)


class Probe:
    """A client of the shared address, which connects again when it is not
    served."""

    REQUEST = b"".join(b"set probe:%d 0 0 1\r\nx\r\n" % i for i in range(8))
    REPLY = 8 * b"STORED\r\n"

    def __init__(self, space):
        self.space = space
        self.served = []        # when it has asked, and when all was stored
        self.ends = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ends:
            with contextlib.suppress(OSError, EOFError):
                self._ask()
            time.sleep(0.02)

    def _ask(self):
        with SpaceClient(self.space, (ADDRESS, PORT),
                         timeout=PATIENCE) as client:
            while not self.ends:
                asked = time.monotonic()
                client.send(self.REQUEST)
                if client.read_exactly(len(self.REPLY)) != self.REPLY:
                    return
                self.served.append((asked, time.monotonic()))
                time.sleep(0.02)

    def wait(self, since):
        """When it was first served after it has asked after this moment."""
        wait_for(lambda: self.served and self.served[-1][0] > since,
                 "clients to be served", PATIENT)
        return next(at for asked, at in self.served if asked > since)

    def close(self):
        self.ends = True
        self.thread.join()


# The scene

def is_overloaded():
    """Whether keepalived itself may be late, so that no time says anything."""
    return os.getloadavg()[0] > 4 * os.cpu_count()


# What happens to the master, and the end of that.  wait is how long clients may
# wait, in seconds: keepalived takes a second to miss the other one, and before
# that up to two to have its check fail twice; a check of a magent that is
# stopped takes a second more, and one that is cut off from all servers waits
# for them for a second.  errors: they may get errors and misses until the
# address has moved, because no server can be reached.
Event = collections.namedtuple("Event", "begin end wait errors",
                               defaults=[False])
EVENTS = {
    "killed": Event(Host.kill_magent, Host.restart_magent, 5),
    "stopped": Event(Host.stop_magent, Host.wake_magent, 6),
    "unplugged from clients": Event(Host.unplug_front, Host.heal, 3),
    "cut off from clients": Event(Host.cut_front, Host.heal, 3),
    "cut off from servers": Event(Host.cut_back, Host.heal, 7, True),
    "cut off from both": Event(Host.cut_both, Host.heal_both, 3),
    "keepalived ended": Event(Host.end_keepalived, Host.restart_keepalived,
                              3),
    "check failed": Event(Host.fail_check, Host.pass_check, 5)}

# What happens to a server: what begins and ends it.
FAULTS = {
    "hung": (Server.stop, Server.cont),
    "restarted": (Server.kill, lambda server: server.start(server.port))}

# event: a name of EVENTS; victim: "primary" or "backup"; fault: a name of
# FAULTS, or "no fault".  order: F is the fault of the server, K is when the
# magents know of it, M is the event of the master, S is when the clients are
# served again, B is the return of the server, and R that of the host.
Row = collections.namedtuple("Row", "event victim fault order")


class TwoHosts(Scene):
    """The hosts, the servers, and the load, which is at the address."""

    host_class = Host
    slack = 0       # seconds that keepalived takes longer than the example

    def __init__(self, stage, seed=None, backups=1, primaries=1):
        Network.clean_up()
        Files.clean_up()
        self.stage = stage
        self.switch = stage.add(Space())
        for bridge in "front", "back":
            self.switch.ip("link", "add", bridge, "type", "bridge",
                           "mcast_snooping", "0")
            self.switch.ip("link", "set", bridge, "up")
        self.clients = stage.add(Space())
        Cable(self.switch, "front", self.clients, "eth0", "10.0.0.10")
        self.hosts = []
        self.server_count = 0
        self.outages = []       # from when until when, and whether with errors
        self.master = None      # the number of the host that clients use
        super().__init__(stage, [self.make_server] * primaries,
                         [self.make_server] * backups, seed=seed,
                         control=False)

    def make_server(self):
        space = self.stage.add(Space())
        self.server_count += 1
        host = "10.0.1.%d" % (10 + self.server_count)
        Cable(self.switch, "back", space, "eth0", host)
        return Server(space, host)

    def add_proxy(self, primaries, backups, *options):
        for number in range(2):
            host = self.host_class(self.stage, self.switch, number)
            self.hosts.append(host)
            self.proxies.append(host.start_magent(primaries, backups))
        for number, host in enumerate(self.hosts):
            host.start_keepalived(number)
        self.stage.callback(self.end_keepaliveds)
        self.find_master()
        self.wait_ready()
        return self.proxies[0]

    def end_keepaliveds(self):
        """All at once: each takes a second."""
        for host in self.hosts:
            host.keepalived.end()

    def find_master(self):
        """Wait until the address is at one host."""
        def found():
            numbers = [number for number, host in enumerate(self.hosts)
                       if host.has_address()]
            return numbers if len(numbers) == 1 else None
        self.master, = wait_for(found, "the address to be at one host",
                                PATIENT, 0.03)
        wait_for(self.proxies[self.master].serves, "magent to serve")
        self.note("host %d is the master" % self.master)

    def wait_ready(self):
        """The address could move."""
        wait_for(self.hosts[1 - self.master].keepalived.is_ready,
                 "the other host to be ready", PATIENT, 0.05)

    def stats(self, argument="", number=0):
        return self.proxies[number].stats(argument)

    def watched(self):
        return [self.master]

    def start_load(self, **options):
        self.probe = self.stage.add(Probe(self.clients))
        return super().start_load(Shared, **{
            **LOAD, "rate": RATE, "several": True, "give_up_ms": GIVE_UP_MS,
            "within": self.clients.within(), **options})

    # What happens

    def lose_master(self, name):
        """The Outage, which has begun."""
        event = EVENTS[name]
        host = self.hosts[self.master]
        return Outage(self, "host %d: %s" % (self.master, name),
                      lambda: event.begin(host), event.wait + self.slack,
                      event.errors)

    def move(self, name):
        """The address leaves the master; clients are served by the other."""
        outage = self.lose_master(name)
        self.master = 1 - self.master
        outage.end(self.hosts[self.master])

    def bring_back(self, number, name):
        """What has happened to a host ends.  If it was cut off from clients, it
        believes to have the address, too; so this may move once more."""
        outage = Outage(self, "host %d: no longer %s" % (number, name),
                        lambda: self.end_event(number, name),
                        SPLIT + self.slack)
        outage.end(self.hosts[self.master])
        self.wait_ready()

    def end_event(self, number, name):
        EVENTS[name].end(self.hosts[number])
        self.find_master()

    def pair_of(self, victim):
        """The server that fails first, and its partner, which fails later."""
        pair = self.primaries[0], self.backups[0]
        return pair if victim == "primary" else pair[::-1]

    def play(self, row):
        """All that fails but for the partner; all is well when this
        returns."""
        victim, _ = self.pair_of(row.victim)
        first = self.master
        outage = None
        for step in row.order:
            if step == "F":
                self.begin(row, victim)
            elif step == "K":
                self.learn(victim)
            elif step == "M":
                outage = self.lose_master(row.event)
                self.master = 1 - first
            elif step == "S":
                outage.end(self.hosts[self.master])
                self.load.work(AWAY)
            elif step == "B":
                self.end(row, victim)
            else:
                assert step == "R"
                self.bring_back(first, row.event)
        self.wait_up(60, [0, 1])

    def begin(self, row, victim):
        if self.outages and self.outages[-1].until is None:
            time.sleep(self.dice.uniform(0, 1))
        self.note("%s: %s" % (self.name(victim), row.fault))
        FAULTS[row.fault][0](victim)

    def learn(self, victim):
        wait_for(lambda: self.states(self.master)[victim.address] != "up",
                 "the fault to be known")
        self.load.work(AWAY)

    def end(self, row, victim):
        self.note("%s is back" % self.name(victim))
        FAULTS[row.fault][1](victim)
        self.load.work(AWAY)

    def failures(self, number):
        """How often each server has failed for a magent."""
        return self.each("failures", number)

    def turn_back(self):
        """The other host is to serve, and whatever it knows of before."""
        first = self.master
        self.move("keepalived ended")
        self.load.work(AWAY)
        self.wait_up()
        self.bring_back(first, "keepalived ended")

    def lose_partner(self, victim):
        """The clients read what the other server holds."""
        _, partner = self.pair_of(victim)
        self.note("kill of %s" % self.name(partner))
        partner.kill()
        self.load.work(READS)

    # The verdict

    def surprises(self, verdict):
        """What clients complain of, but for the time of an outage."""
        return [line for line in verdict.complaints.splitlines()
                if " client " in line and not self.explains(line)]

    def explains(self, line):
        kind, moment, *_ = line.split()
        return any(outage.explains(kind, float(moment))
                   for outage in self.outages)

    def check(self):
        """End the load, which has seen nothing but outages."""
        verdict = self.load.end()
        surprises = self.surprises(verdict)
        assert not surprises and (
            verdict.anomalies == verdict.undecided == 0 and
            verdict.checked == verdict.ops > 0), "%s\n%s\n%s\n%s" % (
                findings(verdict.report), verdict,
                "\n".join(surprises[:20]), verdict.report[:4000])
        return verdict


class Outage:
    """The time in which clients may lose their connections."""

    def __init__(self, scene, what, do, wait, errors=False):
        """wait: for how many seconds at most.  errors: they may get some."""
        self.scene, self.what, self.wait, self.errors = (
            scene, what, wait, errors)
        self.until = None
        scene.outages.append(self)
        scene.note(what)
        self.since = time.monotonic()
        do()
        self.done = time.monotonic()

    def end(self, host):
        """The host has the address, and clients are served."""
        wait_for(host.has_address, "the address to come", PATIENT, 0.03)
        came = time.monotonic()
        served = self.scene.probe.wait(self.done)
        self.until = time.monotonic()
        said = "%s: the address has come after %.2f s, clients are served " \
            "after %.2f s" % (self.what, came - self.since,
                              served - self.since)
        self.scene.note(said)
        print(said)
        assert is_overloaded() or (
            served < min(self.since + self.wait, came + GO_ON)), said

    def explains(self, kind, moment):
        if not self.since <= moment <= self.until + AFTERMATH:
            return False
        return kind in ("CLOSED", "HUNG") or (kind == "ERROR" and self.errors)


class Tutorial(TwoHosts):
    host_class = TutorialHost
    slack = 5

    def end_event(self, number, name):
        """The address returns to the first host."""
        assert number == 0
        first, other = self.hosts
        EVENTS[name].end(first)
        wait_for(lambda: first.has_address() and not other.has_address(),
                 "the address to return", PATIENT, 0.03)
        self.find_master()

    def wait_ready(self):
        """The other host has it only while it must."""
