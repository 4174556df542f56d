"""Servers that can be broken, load that leaves a history, and the faults.

Scene puts them together: servers, magent, the load of history.c, the checker
that runs meanwhile, and one fault after another.
"""
import contextlib
import itertools
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from lib import evidence
from lib.fake import FakeServer
from lib.net import Client, free_port, wait_for
from lib.seed import seed as random_seed
from lib.servers import Memcached, built, sanitized, written

TESTS = pathlib.Path(__file__).resolve().parent
TIMEOUT_MS = 250        # magent's, by default
LIMIT_MS = TIMEOUT_MS + 50
FLUSH = 2               # seconds, more or less, between two flush_alls
MEMORY = "/dev/shm"


@contextlib.contextmanager
def in_memory():
    """Temporary files are in memory: a disk that stalls is not the matter."""
    before = tempfile.tempdir
    if os.path.isdir(MEMORY):
        tempfile.tempdir = MEMORY
    try:
        yield
    finally:
        tempfile.tempdir = before


# Servers

class RemoteClient(Client):
    """A client of any address."""

    def __init__(self, place, timeout=20):
        self.socket = socket.create_connection(place, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.pending = bytearray()
        self.ended = False


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_all_in(name):
    """End whatever runs in a network namespace."""
    for pid in ip("netns", "pids", name, check=False).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def can_isolate():
    """Whether network namespaces can be made here."""
    name = "mg%dprobe" % os.getpid()
    if ip("netns", "add", name, check=False).returncode != 0:
        return False
    ip("netns", "del", name)
    return True


class Network:
    """A network namespace with one address, which a veth leads to."""

    numbers = itertools.count()
    reserved = []

    def __init__(self):
        self.clean_up()
        self.name = "mg%dx%d" % (os.getpid(), next(self.numbers))
        self.outside, self.inside = self.name + "a", self.name + "b"
        net = self._reserve()
        self.net = "198.%d.%d.%d/30" % (
            18 + (net >> 14), net >> 6 & 255, net << 2 & 255)
        base, _, last = self.net.partition("/")[0].rpartition(".")
        ours = "%s.%d/30" % (base, int(last) + 1)
        self.host = "%s.%d" % (base, int(last) + 2)
        self._cut_no_user()
        try:
            ip("netns", "add", self.name)
            ip("link", "add", self.outside, "type", "veth",
               "peer", "name", self.inside, "netns", self.name)
            ip("addr", "add", ours, "dev", self.outside)
            ip("-n", self.name, "addr", "add", self.host + "/30",
               "dev", self.inside)
            ip("-n", self.name, "link", "set", "lo", "up")
            ip("-n", self.name, "link", "set", self.inside, "up")
            ip("link", "set", self.outside, "up")
            # Nothing may leave by another way while the link is down.
            ip("route", "replace", "blackhole", self.net, "metric", "4000")
        except subprocess.CalledProcessError:
            self.close()
            raise

    @classmethod
    def _reserve(cls):
        """A number under 1 << 15 that no other run of the tests has."""
        while True:
            net = random.SystemRandom().randrange(1 << 15)
            holder = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                holder.bind("\0magent-tests-net-%d" % net)
                cls.reserved.append(holder)
                return net
            holder.close()

    @staticmethod
    def clean_up():
        """Remove what runs that were killed have left."""
        for name in re.findall(r"^mg(\d+)x(\d+)",
                               ip("netns", "list").stdout, re.MULTILINE):
            if not pathlib.Path("/proc", name[0]).exists():
                end_all_in("mg%sx%s" % name)
                ip("netns", "del", "mg%sx%s" % name, check=False)

    def cut(self, how):
        if how == "down":
            ip("link", "set", self.outside, "down")
        elif how == "unplugged":
            ip("-n", self.name, "link", "set", self.inside, "down")
        else:
            assert how == "blackhole"
            ip("route", "add", "blackhole", self.host)

    def cut_user(self, number):
        """Let no process of this user through, but those of others."""
        ip("rule", "add", "to", self.host, "uidrange",
           "%d-%d" % (number, number), "blackhole")

    def _cut_no_user(self):
        while ip("rule", "del", "to", self.host, check=False).returncode == 0:
            pass

    def heal(self):
        self._cut_no_user()
        ip("route", "del", "blackhole", self.host + "/32", check=False)
        ip("-n", self.name, "link", "set", self.inside, "up")
        ip("link", "set", self.outside, "up")

    def close(self):
        self._cut_no_user()
        ip("route", "del", "blackhole", self.net, "metric", "4000",
           check=False)
        ip("route", "del", "blackhole", self.host + "/32", check=False)
        ip("link", "del", self.outside, check=False)
        ip("netns", "del", self.name, check=False)


class Isolated(Memcached):
    """A memcached in a network of its own."""

    kinds = ("kill at once", "kill", "stop", "down", "unplugged", "blackhole")

    def __init__(self, *options):
        super().__init__(*options)
        self.network = Network()

    @property
    def address(self):
        return "%s:%d" % (self.network.host, self.port)

    def command(self):
        # "ip netns exec" would mount file systems, too, which nobody needs.
        return ["nsenter", "--net=/run/netns/" + self.network.name,
                "memcached", "-U", "0", "-l", self.network.host, "-u", "root",
                "-p", str(self.port), *self.options]

    def client(self, **options):
        return RemoteClient((self.network.host, self.port), **options)

    def close(self):
        super().close()
        self.network.close()


class Relayed(Memcached):
    """A memcached behind a relay that can break connections."""

    kinds = ("kill at once", "kill", "rst", "fin", "hold", "stall")

    def __init__(self, *options):
        super().__init__(*options)
        self.relay = None
        self.relay_port = free_port()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.relay_port

    def start(self, port=None):
        super().start(port)
        if self.relay is None:
            self.relay = subprocess.Popen(
                [built("relay"), str(self.relay_port), str(self.port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self.relay.stdout.readline() == "ready\n"
        return self

    def order(self, command):
        """Have the relay do something; return when it has."""
        self.relay.stdin.write(command + "\n")
        self.relay.stdin.flush()
        assert self.relay.stdout.readline().split() == command.split()[:1]

    def close(self):
        if self.relay is not None:
            self.relay.kill()
            self.relay.wait()
            self.relay.stdin.close()
            self.relay.stdout.close()
        super().close()


class Slow(Relayed):
    """One that gets each piece of requests some ms late."""

    kinds = (*Relayed.kinds, "limp")

    def __init__(self, delay):
        super().__init__()
        self.delay = delay

    def start(self, port=None):
        super().start(port)
        self.order("slow %d" % self.delay)
        return self


class Plain(Memcached):
    """A memcached on the loopback, broken by signals only."""

    kinds = ("kill at once", "kill", "stop")


RETRIEVAL = b"get", b"gets", b"gat", b"gats"     # noreply may be a key


class Front(FakeServer):
    """Passes commands on to a memcached, one at a time, but those refused.

    refuse(line) returns the answer to a command that is not passed on, or
    None.
    """

    def __init__(self, memcached, refuse):
        self.memcached = memcached
        self.refused = 0
        self.refuse_command = refuse
        super().__init__(self._pass)

    def identity(self, line):
        return None

    def of_stamps(self, link, line, data):
        return self._pass_on(link, line, data)

    def _pass(self, link, line, data):
        answer = self.refuse_command(line)
        if answer is not None:
            self.refused += 1
            return answer
        return self._pass_on(link, line, data)

    def _pass_on(self, link, line, data):
        try:
            if not hasattr(link, "upstream"):
                link.upstream = self.memcached.client()
            upstream = link.upstream
            upstream.send(line + data)
            command = line.split()[0]
            if line.endswith(b" noreply\r\n") and command not in RETRIEVAL:
                return b""
            return self._reply(upstream, command)
        except EOFError as error:
            raise OSError("the server has gone") from error

    @staticmethod
    def _reply(upstream, command):
        reply = b""
        while True:
            line = upstream.read_line()
            reply += line
            words = line.rstrip().split(b" ")   # keys may have tabs
            if words[0] == b"VALUE":
                reply += upstream.read_exactly(int(words[3]) + 2)
            elif words[0] == b"VA":
                return reply + upstream.read_exactly(int(words[1]) + 2)
            elif words[0] != b"STAT":
                return reply    # a metadump is one, with bare LFs in it

    def drop(self):
        for link in self.links:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)


class Fronted(Memcached):
    """A memcached behind a front that refuses some commands."""

    kinds = ("kill at once", "kill")

    def __init__(self, refuse):
        super().__init__()
        self.front = Front(self, refuse)

    @property
    def address(self):
        return self.front.address

    def kill(self):
        super().kill()
        self.front.drop()

    def close(self):
        super().close()
        self.front.close()


def old(line):
    """Refuses what memcached 1.4.24 did not have."""
    word = line.split()[0]
    if word == b"version":
        return b"VERSION 1.4.24\r\n"
    if word in (b"mg", b"ms", b"md", b"ma", b"mn", b"me", b"lru_crawler",
                b"gat", b"gats"):
        return b"ERROR\r\n"
    return None


class Busy:
    """Answers BUSY to the first metadumps."""

    def __init__(self, times):
        self.times = times

    def __call__(self, line):
        if line.startswith(b"lru_crawler metadump") and self.times > 0:
            self.times -= 1
            return b"BUSY currently processing crawler request\r\n"
        return None


# Faults

def inflict(server, kind, seconds, dice):
    """Break the server for that long; return when it is whole again."""
    if kind == "kill at once":
        server.restart()
    elif kind == "kill":
        server.kill()
        time.sleep(seconds)
        server.start(server.port)
    elif kind == "stop":
        server.stop()
        time.sleep(seconds)
        server.cont()
    elif kind in ("rst", "fin"):
        server.order("%s %d" % (kind, dice.choice((0, 1, dice.randrange(99),
                                                   dice.randrange(3000)))))
    elif kind == "limp":
        server.order("slow %d" % dice.randrange(TIMEOUT_MS + 50, 600))
        time.sleep(seconds)
        server.order("slow %d" % server.delay)
    elif kind in ("hold", "stall"):
        server.order("%s %d" % (kind, dice.randrange(300)))
        time.sleep(seconds)
        server.order("pass")
    else:
        server.network.cut(kind)
        time.sleep(seconds)
        server.network.heal()


# Load

class Load:
    """history.c, and the checker that follows it.

    flush: seconds between two flush_alls, or 0; delayed: some of them say when.
    meta=True adds the meta commands that make items stale and win them, and q;
    basic=True leaves out all that 1.4 has not, noreply=False what hides errors.
    lossy and several: of the checker.  others: the clients are spread over
    proxy and these.  give_up_ms: how long a client waits before it connects
    again.  within: the words that have a command run elsewhere.
    """

    def __init__(self, proxy, control=None, clients=48, rate=12000, hot=24,
                 cold=200, seed=None, limit_ms=LIMIT_MS, name="", basic=False,
                 lossy=False, hot_share=90, meta=True, flush=0, delayed=False,
                 several=False, others=(), noreply=True, give_up_ms=10000,
                 within=()):
        with in_memory():
            self.directory = tempfile.TemporaryDirectory(prefix="history")
            self.errors = tempfile.TemporaryFile("w+")
        self.prefix = os.path.join(self.directory.name, "h")
        self.seed = random_seed() if seed is None else seed
        command = [*within, built("history"), "-p", proxy.address,
                   *[word for other in others for word in ("-p", other.port)],
                   "-o", self.prefix, "-g", give_up_ms,
                   "-c", clients, "-r", rate, "-k", hot, "-K", cold,
                   "-s", self.seed, "-l", limit_ms, "-n", name,
                   "-x", hot_share, *["-B"] * basic,
                   *["-M"] * (not meta), *["-f", flush] * (flush > 0),
                   *["-D"] * delayed, *["-A"] * (not noreply)]
        if control is not None:
            command += ["-C", control.port]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.checker = subprocess.Popen(
            [sys.executable, str(TESTS / "checker.py"), "--follow",
             self.prefix, *["--lossy"] * lossy, *["--several"] * several],
            stdout=subprocess.PIPE, text=True)
        self.status = {}
        self.marks = []
        self.anomalies = ""
        self.threads = [threading.Thread(target=self._listen, daemon=True),
                        threading.Thread(target=self._hear, daemon=True)]
        for thread in self.threads:
            thread.start()

    def _listen(self):
        for line in self.process.stdout:
            what, *words = line.split()
            numbers = {name: float(number) for name, number in
                       (word.split("=") for word in words)}
            self.status = numbers
            if what == "mark":
                self.marks.append(numbers)

    def _hear(self):
        for line in self.checker.stdout:
            self.anomalies += line

    def is_running(self):
        return self.process.poll() is None

    def order(self, letter):
        self.process.stdin.write(letter)
        self.process.stdin.flush()

    def flush(self, on):
        """Have flush_all be sent now and then, or no more: none is under way
        when this returns."""
        self.order("f" if on else "F")
        wait_for(lambda: on or not self.mark()["flushing"] or
                 not self.is_running(), "the last flush_all")

    def turn_to(self, proxy):
        """Have all clients turn to another one; return when they have."""
        self.order("%dp" % proxy.port)
        self.mark()

    def mark(self):
        """The numbers of the time since the last mark."""
        n = len(self.marks)
        self.order("m")
        wait_for(lambda: len(self.marks) > n, "a mark")
        return self.marks[-1]

    def work(self, count):
        """Wait for that many more operations."""
        goal = self.mark()["ops"] + count
        wait_for(lambda: self.mark()["ops"] >= goal or
                 not self.is_running(), "operations", pause=0.05)

    def title(self):
        return "load, pid %d, %s; checker %s" % (
            self.process.pid, evidence.status(self.process),
            evidence.status(self.checker))

    def evidence(self):
        """What the clients complain of, and what the checker has found."""
        return "\n".join([evidence.command_line(self.process.args),
                          str(self.status),
                          evidence.last_lines(self.complaints()),
                          evidence.last_lines(self.anomalies)])

    def complaints(self):
        return written(self.errors).decode()

    def end(self):
        """Stop, check what is left; the Verdict."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(60)
        if not os.path.exists(self.prefix + ".end"):
            open(self.prefix + ".end", "w").close()     # it has crashed
        self.checker.wait()
        for thread in self.threads:
            thread.join()
        return Verdict(self)

    def close(self):
        for process in (self.process, self.checker):
            process.kill()
            process.wait()
        for thread in self.threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.errors,
                       self.checker.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        self.directory.cleanup()


class Verdict:
    """What a run of the load has come to."""

    def __init__(self, load):
        numbers = load.status
        self.seed = load.seed
        self.exit = load.process.returncode
        self.ops = int(numbers.get("ops", 0))
        self.errors, self.closed, self.hung, self.late = (
            int(numbers.get(name, -1))
            for name in ("errors", "closed", "hung", "late"))
        self.worst_ms = numbers.get("worst_us", 0) / 1000
        self.quiet_ms = numbers.get("worst_quiet_us", 0) / 1000
        self.noise_ms = numbers.get("noise_us", 0) / 1000
        self.cas = (int(numbers.get("cas_stored", 0)),
                    int(numbers.get("cas_refused", 0)))
        self.flushes = int(numbers.get("flushes", 0))
        self.complaints = load.complaints()
        self.report = load.anomalies
        checked = dict(word.split("=") for line in self.report.splitlines()
                       if line.startswith("checked=")
                       for word in line.split())
        self.checked = int(checked.get("checked", 0))
        self.anomalies = int(checked.get("anomalies", -1))
        self.undecided = int(checked.get("undecided", -1))

    def bad_keys(self):
        """The keys of which the checker has found anomalies."""
        return set(re.findall(r"^ANOMALY \d+ key (\S+)", self.report, re.M))

    def faultless(self, undone=0):
        """No more than that many keys have anomalies, and nothing else is."""
        return ((self.anomalies == 0 or
                 0 < len(self.bad_keys()) <= undone) and
                self.undecided == 0 and self.errors == 0 and
                self.closed == 0 and self.hung == 0 and
                self.exit == 0 and self.checked == self.ops > 0)

    def __str__(self):
        return (
            "ops=%d checked=%d anomalies=%d undecided=%d errors=%d closed=%d "
            "hung=%d late=%d worst=%.1fms (%.1f without noise, noise %.1f) "
            "cas=%d/%d refused flushes=%d seed=%d" % (
                self.ops, self.checked, self.anomalies, self.undecided,
                self.errors, self.closed, self.hung, self.late, self.worst_ms,
                self.quiet_ms, self.noise_ms, *self.cas, self.flushes,
                self.seed))


# The whole

class Replacer(threading.Thread):
    """Has a magent replaced in place, again and again."""

    def __init__(self, proxy, seconds):
        super().__init__(daemon=True)
        self.proxy = proxy
        self.seconds = seconds
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(self.seconds):
            self.proxy.signal(signal.SIGHUP)

    def finish(self):
        """How often that was done."""
        self.ended.set()
        self.join()
        return self.count()

    def count(self):
        return self.proxy.output().count(" has taken over ")


class Scene:
    """Servers, magent, its load, and the faults that were inflicted."""

    def __init__(self, stage, primaries, backups, *options, seed=None,
                 control=True):
        """primaries, backups: classes of servers, one for each."""
        self.stage = stage
        self.seed = random_seed() if seed is None else seed
        self.dice = random.Random(self.seed)
        stage.show(self)
        self.faults = []        # (monotonic time, what)
        self.load = None
        self.proxies = []
        self.observers = []     # a client of each magent
        with in_memory():
            self.primaries = [self._start(kind) for kind in primaries]
            self.backups = [self._start(kind) for kind in backups]
            self.servers = self.primaries + self.backups
            self.control = stage.memcached() if control else None
            self.proxy = self.add_proxy(self.primaries, self.backups, *options)
        wait_for(self.is_up, "all servers to be up")

    def _start(self, kind):
        server = kind()
        return self.stage.add(server).start()

    def add_proxy(self, primaries, backups, *options):
        proxy = self.stage.magent(primaries, backups, "-v", *options)
        self.proxies.append(proxy)
        self.observers.append(self.stage.client(proxy))
        return proxy

    def stats(self, argument="", number=0):
        """What a magent says of itself."""
        observer = self.observers[number]
        observer.send(b"stats %s\r\n" % argument.encode())
        text = observer.read_until(b"END\r\n").decode()
        return dict(line.split(" ", 2)[1:]
                    for line in text.splitlines() if line.startswith("STAT "))

    def each(self, what, number=0):
        """This statistic of each server, by its address."""
        stats = self.stats("servers", number)
        return {stats[name.replace(":" + what, ":address")]: value
                for name, value in stats.items() if name.endswith(":" + what)}

    def states(self, number=0):
        return self.each("state", number)

    def connects(self, server):
        """How often it was connected to, identified and drained."""
        return int(self.each("connects")[server.address])

    def watched(self):
        """The numbers of the magents that are to have all servers up."""
        return range(len(self.proxies))

    def is_up(self, numbers=None):
        """Whether all are up, each in the life that it has."""
        lives = {server.address: str(server.pid) for server in self.servers}
        numbers = self.watched() if numbers is None else numbers
        return all(
            state == "up" for number in numbers
            for state in self.states(number).values()) and all(
                life.split("/")[0] == lives[address] for number in numbers
                for address, life in self.each("incarnation", number).items())

    def failovers(self):
        return [int(self.stats("", number)["failovers"])
                for number in self.watched()]

    def start_load(self, proxy=None, flush=FLUSH, **options):
        """With flush=0 what was filled in remains."""
        self.load = Load(proxy or self.proxy, self.control, flush=flush,
                         seed=self.dice.randrange(1 << 30), **options)
        self.stage.add(self.load)
        # Every key exists before the first fault.
        self.load.work(3000)
        return self.load

    def note(self, what):
        self.faults.append((time.monotonic(), what))

    def name(self, server):
        group = self.primaries if server in self.primaries else self.backups
        return "%s %d (%s)" % (
            "primary" if group is self.primaries else "backup",
            group.index(server), server.address)

    def fault(self, server, kind, seconds=(0.3, 1), wait=True):
        """One fault, and (wait) until all servers are up again."""
        before = self.failovers()
        seconds = self.dice.uniform(*seconds)
        if kind not in ("kill", "kill at once"):
            seconds += 0.1      # it is found after a timeout
        self.inflict(server, kind, seconds)
        if wait:
            if not self.is_seen(before):
                # A magent that was held up meanwhile has not waited so long.
                self.inflict(server, kind, 4 * seconds)
                assert self.is_seen(before), "%s of %s is not seen" % (
                    kind, self.name(server))
            self.wait_up()

    def inflict(self, server, kind, seconds):
        self.note("%s of %s, %.2f s" % (kind, self.name(server), seconds))
        inflict(server, kind, seconds, self.dice)
        self.note("%s is whole" % self.name(server))

    def is_seen(self, before):
        """Whether there have been failovers since then, or are within 5 s."""
        try:
            wait_for(lambda: all(
                now > then for now, then in zip(self.failovers(), before)),
                "the failovers", 5)
        except TimeoutError:
            return False
        return True

    def wait_up(self, timeout=30, numbers=None):
        """Looks twice: at the first, magent may not yet have read what tells it of
        the fault.  If a server has got another life, magent knows that."""
        numbers = self.watched() if numbers is None else numbers
        try:
            wait_for(lambda: self.is_up(numbers) and self.is_up(numbers),
                     "all servers to be up", timeout, 0.02)
        except TimeoutError:
            raise AssertionError("not up again: %s" % [
                self.states(number) for number in numbers]) from None
        self.note("all up")

    def title(self):
        return "faults, seed %d, now %.3f" % (self.seed, time.monotonic())

    def evidence(self):
        """The last faults."""
        return "\n".join("%.3f %s" % fault for fault in self.faults[-40:])

    def check(self, late=True, undone=0):
        """End the load; it must have seen nothing of the faults, but that the
        writes of so many keys may be undone."""
        verdict = self.load.end()
        found = "%s\n%s" % (verdict, verdict.report[:4000])
        assert verdict.faultless(undone), found
        # The noise was measured in a third of the processes that are in the
        # way of a request; sanitizers make their own.
        assert not late or sanitized() or (
            verdict.worst_ms < LIMIT_MS + 3 * verdict.noise_ms), found
        return verdict

    def diverged(self):
        """Keys that their servers do not hold alike, with what they hold."""
        wait_for(lambda: all(
            value == "0" for number in self.watched()
            for name, value in self.stats("servers", number).items()
            if name.endswith(":waiting")), "the last effects")
        held = {}
        for server in self.servers:
            for key, value in contents(server).items():
                held.setdefault(key, []).append(value)
        return {key: values for key, values in held.items()
                if len(values) != 2 or values[0] != values[1]}


def keys_of(server):
    """The keys in a server, written as in a metadump, but for those of
    proxies."""
    with server.client() as client:
        client.send(b"lru_crawler metadump hash\r\n")
        dump = client.read_until(b"END\r\n")
    return re.findall(rb"^key=(?!magent%3A)(\S+)", dump, re.MULTILINE)


def unescape(key):
    return re.sub(rb"%([0-9A-Fa-f]{2})",
                  lambda match: bytes([int(match[1], 16)]), key)


def contents(server):
    """{key: (flags, value)} of a server."""
    held = {}
    keys = list(map(unescape, keys_of(server)))
    with server.client() as client:
        for i, key in enumerate(keys):
            if i % 500 == 0:
                client.send(b"".join(b"get %s\r\n" % some
                                     for some in keys[i:i + 500]))
            line = client.read_line()
            if line == b"END\r\n":
                continue
            _, _, flags, length = line.split(b" ")
            value = client.read_exactly(int(length) + 2)[:-2]
            held[key] = int(flags), value.rstrip(b" ")
            client.read_line()
    return held


def fill(proxy, count, size=100, prefix=b"fill"):
    """Store that many keys."""
    with proxy.client() as client:
        for start in range(0, count, 1000):
            n = min(1000, count - start)
            client.exchange([b"".join(
                b"set %s:%d 0 0 %d\r\n%s\r\n" % (
                    prefix, i, size, (b"%d." % i).ljust(size, b"v"))
                for i in range(start, start + n)) + b"mn\r\n"], b"MN\r\n")


def missing(proxy, count, prefix=b"fill"):
    """How many of them are not there."""
    found = 0
    with proxy.client() as client:
        for start in range(0, count, 100):
            client.send(b"get %s\r\n" % b" ".join(
                b"%s:%d" % (prefix, i)
                for i in range(start, min(count, start + 100))))
            found += client.read_until(b"END\r\n").count(b"VALUE ")
    return count - found
