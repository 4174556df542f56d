#!/usr/bin/python3
"""magent beside twemproxy (nutcracker), haproxy and a direct connection.

Each case is run through each of them in turn, several rounds, by build/load,
which checks every answer.  The numbers are medians over the rounds.  Processor
time is user and system time of the proxy.  Its system calls are counted in a
run of their own, under strace, which is not timed.

All proxies have one thread, and one connection to each server; haproxy, in mode
tcp, has one for each client.  It cannot divide keys among servers, nor can a
direct connection: a dash where there is more than one server.

The load, the proxy and the servers share the processors of this machine.  So
requests per second say what all of them cost together; the processor time is
that of the proxy alone.  It is worth something only while nothing else runs.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/tools")]

import bench_report                                             # noqa: E402
from bench_scene import (MAGENT, PROXIES, TRACED, Failed, Magent,  # noqa: E402
                         Scene, versions)

FILES = 50000           # descriptors of each process, if we may
SIGNALS = signal.SIGHUP, signal.SIGINT, signal.SIGTERM
GOAL = 60               # microseconds that magent may add to the p99


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    what: str
    load: tuple = ()            # options of build/load
    servers: int = 1
    clients: int = 50
    idle: int = 0
    size: int = 100
    backups: int = 0            # of magent; the others cannot have any
    proxies: tuple = PROXIES
    times: int = 1              # as long as other cases

    def can(self, proxy):
        return proxy in self.proxies and (
            self.servers == 1 or proxy in ("magent", "nutcracker"))


def multigets():
    return [Case("multiget-%d-%d" % (keys, servers),
                 "get of %d keys" % keys, ("-k", keys), servers=servers)
            for servers in (2, 4, 64) for keys in (20, 100)]


def sizes():
    return [Case(kind + "-" + name, "%s of %s" % (kind, said), load, size=size)
            for name, said, size in (("10k", "10 KB", 10000),
                                     ("500k", "500 KB", 500000))
            for kind, load in (("get", ()), ("set", ("-s", 100)))]


CASES = [
    Case("get", "get"),
    Case("set", "set", ("-s", 100)),
    Case("mirrored-set", "set; magent: on two", ("-s", 100), backups=1),
    Case("mix", "90 % get, 10 % set", ("-s", 10)),
    Case("pipeline", "get, pipeline of 16", ("-d", 16)),
    *multigets(),
    *sizes(),
    Case("clients-1", "get, 1 client", clients=1),
    Case("clients-2000", "get, 2,000 clients", clients=2000),
    Case("clients-20000", "get, 20,000 clients", clients=20000),
    Case("connect", "connect, get, close", ("-C",)),
    Case("idle-10000", "get, 10,000 idle clients", idle=10000),
    Case("rebuild", "mix, while a rebuild runs", ("-s", 10), backups=1,
         proxies=("magent",)),
    Case("latency", "get, 2,000 a second", ("-r", 2000), times=3),
]


class Progress:
    """What is done, on stderr: one line that changes, if that is a terminal."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def say(self, *words):
        left = ""
        if self.done:
            left = ", %s left" % duration(
                (time.monotonic() - self.start) * (self.total / self.done - 1))
        text = "bench: %3d %%%s: %s" % (
            100 * self.done / self.total, left, " ".join(words))
        print("\r" + text.ljust(78) if self.terminal else text,
              end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def add(self, seconds):
        self.done += seconds

    def end(self):
        if self.terminal:
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr, flush=True)


def duration(seconds):
    return "%.0f s" % seconds if seconds < 100 else "%.0f min" % (seconds / 60)


class Bench:
    def __init__(self, options, files, directory):
        self.options = options
        self.files = files
        self.directory = directory
        self.rows = []
        self.progress = Progress(self.seconds())

    def seconds(self):
        """How long it takes, about."""
        return sum(self._seconds_of(case) for case in self.options.cases)

    def _seconds_of(self, case):
        return sum(self._seconds_of_run(case) * self.options.rounds +
                   (name != "direct") * (TRACED + 0.3)
                   for name in PROXIES if case.can(name))

    def _seconds_of_run(self, case):
        return (self.options.seconds * case.times + 0.15 +
                (case.clients + case.idle) / 15000)

    def run(self):
        for case in self.options.cases:
            with contextlib.ExitStack() as stack:
                self._run_case(case, Scene(stack, case, self.options.seconds,
                                           self.files, self.directory))
        self.progress.end()

    def _run_case(self, case, scene):
        rows = {name: bench_report.Row(case, name, *scene.clients(name))
                if case.can(name) else bench_report.Row(case, name)
                for name in PROXIES}
        self.rows += rows.values()
        names = list(scene.proxies)
        for number in range(self.options.rounds):
            # Each of them is the first one in turn.
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                self.progress.say("%s, %s, round %d" % (
                    case.name, name, number + 1))
                self._try(rows[name], lambda row: row.results.append(
                    scene.run(name)))
                self.progress.add(self._seconds_of_run(case))
        for name in names:
            if name != "direct":
                self.progress.say("%s, %s, system calls" % (case.name, name))
                self._try(rows[name], lambda row: row.set_calls(
                    scene.count_calls(name)))
                self.progress.add(TRACED + 0.3)

    def _try(self, row, deed):
        """One that fails is left out from there on, and the others go on."""
        if row.failure:
            return
        try:
            deed(row)
        except Failed as failure:
            row.failure = str(failure) or "the load ended without a word"


def raise_files():
    """How many descriptors this process, and those it starts, may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in FILES, hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def prepare(builds_magent):
    """Install what is missing, and build."""
    subprocess.run(["bash", "-euc", """
        . scripts/common
        need gcc libc6-dev make libevent-dev uthash-dev memcached nutcracker \
            haproxy strace
        make -s build/load "$@"
        """, "bench", *["magent"] * builds_magent], cwd=ROOT, check=True,
        stdin=subprocess.DEVNULL, stdout=sys.stderr)


def end_children():
    """What a signal has kept from being ended where it was started."""
    children = pathlib.Path("/proc/self/task/%d/children" % os.getpid())
    for pid in map(int, children.read_text().split()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def on_signal(number, _):
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, "bench: %s\n" % message)


def positive(kind):
    def parse(text):
        number = kind(text)
        if not 0 < number < 1e6:
            raise ValueError
        return number
    parse.__name__ = "number"
    return parse


def place(text):
    """A file that can be written."""
    if not os.access(os.path.dirname(text) or ".", os.W_OK):
        raise argparse.ArgumentTypeError("cannot write %s" % text)
    return pathlib.Path(text)


def program(text):
    if not os.path.isfile(text) or not os.access(text, os.X_OK):
        raise argparse.ArgumentTypeError("%s is not a program" % text)
    return os.path.abspath(text)


def case_of(name):
    for case in CASES:
        if case.name == name:
            return case
    raise argparse.ArgumentTypeError("no case %s: see --list" % name)


def parse(arguments):
    parser = Parser(prog="scripts/bench", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round: a minute")
    add("--rounds", type=positive(int), metavar="N", help="(default 5)")
    add("--seconds", type=positive(float), metavar="S",
        help="of each run (default 2)")
    add("--case", type=case_of, action="append", dest="cases", metavar="NAME",
        help="only this one; repeat for each")
    add("--list", action="store_true", help="print the names of the cases")
    add("--csv", type=place, metavar="FILE", help="write all results")
    add("--svg", type=place, metavar="FILE", help="draw them")
    add("--magent", type=program, metavar="PROGRAM",
        help="(default: that of this tree)")
    options = parser.parse_args(arguments)
    options.cases = options.cases or CASES
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.2 if options.quick else 2)
    return options


def judge_latency(rows):
    """What magent adds to the latency of a direct connection."""
    runs = {row.proxy: row.results for row in rows
            if row.case.name == "latency"}
    if not runs.get("magent") or not runs.get("direct"):
        return
    added = statistics.median(
        ours.p99 - theirs.p99
        for ours, theirs in zip(runs["magent"], runs["direct"]))
    print("\nlatency: the p99 of magent is %.0f us over that of a direct "
          "connection, %s %d us" % (
              added, "within the" if added <= GOAL else "MORE THAN the", GOAL))


def report(bench, command):
    options, rows = bench.options, bench.rows
    print("%s\n%s\n" % (command, versions()))
    print(bench_report.table(rows))
    if any(row.is_short() for row in rows):
        print("clients: as many as fit into the limit of %d descriptors; "
              "haproxy needs two for each." % bench.files)
    judge_latency(rows)
    if options.csv:
        options.csv.write_text(bench_report.csv_of(rows))
    if options.svg:
        options.svg.write_text(
            bench_report.picture(rows, command, versions()))
    return 1 if any(row.failure for row in rows) else 0


def measure(options, command):
    prepare(builds_magent=not options.magent)
    Magent.program = options.magent or MAGENT
    with tempfile.TemporaryDirectory(prefix="magent-bench-") as directory:
        bench = Bench(options, raise_files(), pathlib.Path(directory))
        print("bench: %d cases, %d rounds of %g seconds: about %s" % (
            len(options.cases), options.rounds, options.seconds,
            duration(bench.seconds())), file=sys.stderr)
        bench.run()
    return report(bench, command)


def main(arguments):
    options = parse(arguments)
    if options.list:
        print("\n".join(case.name for case in options.cases))
        return 0
    for number in SIGNALS:
        # With nohup it is to go on; in the background it is to end.
        if number != signal.SIGHUP or (
                signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, on_signal)
    try:
        return measure(options, " ".join(["scripts/bench", *arguments]))
    except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    finally:
        end_children()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
