"""The servers of a case of bench.py, the proxies before them, and one run."""
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time

from lib.net import free_port, wait_for
from lib.servers import MAGENT, ROOT, Memcached, Process

LOAD = str(ROOT / "build/load")
PROXIES = "nutcracker", "magent", "haproxy", "direct"
OTHER_FILES = 200       # descriptors of a process that are not for clients
BACKLOG = 4096          # connections that wait to be accepted, everywhere
FILLED = 64 << 20       # bytes of values at most, for large ones
TRACED = 0.2            # seconds for which system calls are counted
REBUILT = 100000        # keys for each second of a run beside a rebuild


@dataclasses.dataclass
class Result:
    """One run; times are in microseconds, None is not known."""
    rate: float
    p50: float
    p99: float
    p999: float
    cpu: float = None           # for a request
    calls: float = None         # for a request


class Failed(Exception):
    pass


def versions():
    """Of the machine, and of what is compared on it."""
    def version(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return re.search(r"\d+\.\d+\.\d+|$", done.stdout).group()
    models = re.findall(r"^model name\s*: (.*)",
                        pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return "%d x %s; magent %s, nutcracker %s, haproxy %s, memcached %s" % (
        os.cpu_count(), models[0] if models else "processor",
        version(Magent.program, "-V"), version("nutcracker", "-V"),
        version("haproxy", "-v"), version("memcached", "-V"))


class Server(Memcached):
    def __init__(self, files):
        super().__init__("-m", "1024", "-b", str(BACKLOG), "-c", str(files))


class Proxy(Process):
    """In front of servers; direct is the first of these itself."""

    def __init__(self, servers, backups, files, directory):
        super().__init__()
        self.servers = servers
        self.backups = backups
        self.clients = files - OTHER_FILES
        self.file = directory / type(self).__name__.lower()

    def cpu(self):
        """Its processor time in seconds: see clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def close(self):
        self.kill()
        self.log.close()


class Direct(Proxy):
    def start(self):
        self.port = self.servers[0].port
        return self

    def cpu(self):
        return None


class Magent(Proxy):
    program = MAGENT

    def command(self):
        servers = [word for flag, group in (("-s", self.servers),
                                            ("-b", self.backups))
                   for server in group for word in (flag, server.address)]
        return [self.program, "-D", "-u", str(os.geteuid()), "-l", "127.0.0.1",
                "-p", str(self.port), "-n", str(self.clients), *servers]


class Nutcracker(Proxy):
    def command(self):
        return ["nutcracker", "-c", str(self.file), "-o",
                str(self.file) + ".log", "-p", str(self.file) + ".pid",
                "-a", "127.0.0.1", "-s", str(self.stats_port)]

    def start(self):
        port, self.stats_port = free_port(), free_port()
        self.file.write_text(
            "bench:\n  listen: 127.0.0.1:%d\n  hash: md5\n"
            "  distribution: ketama\n  backlog: %d\n  servers:\n%s" % (
                port, BACKLOG, "".join("   - %s:1\n" % server.address
                                       for server in self.servers)))
        return super().start(port)


class Haproxy(Proxy):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.clients //= 2      # each has a connection to the server, too

    def command(self):
        return ["haproxy", "-db", "-f", str(self.file)]

    def start(self):
        port = free_port()
        self.file.write_text(
            "global\n nbthread 1\n maxconn %d\ndefaults\n mode tcp\n"
            " timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
            "listen bench\n bind 127.0.0.1:%d backlog %d\n server one %s\n" % (
                self.clients, port, BACKLOG, self.servers[0].address))
        return super().start(port)


KINDS = {"nutcracker": Nutcracker, "magent": Magent, "haproxy": Haproxy,
         "direct": Direct}


class Load:
    """build/load, connected and ready to run."""

    def __init__(self, port, *options):
        self.process = subprocess.Popen(
            [LOAD, "-w", "-p", str(port), *map(str, options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        self._line()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self.process.stderr.read().strip())
        return line.split()

    def run(self):
        """What it found, by name; its connections are open afterwards."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        words = self._line()
        return dict(zip(words[::2], map(float, words[1::2])))


class Scene:
    """The servers of a case, and the proxies in front of them."""

    def __init__(self, stack, case, seconds, files, directory):
        self.case = case
        self.seconds = seconds * case.times
        self.filled = set()

        self.servers, self.backups = [
            [self._begin(stack, Server(files)) for _ in range(n)]
            for n in (case.servers, case.backups)]
        self.proxies = {
            name: self._begin(stack, KINDS[name](
                self.servers, self.backups if name == "magent" else [], files,
                directory)) for name in PROXIES if case.can(name)}

    def _begin(self, stack, process):
        stack.callback(process.close)
        return process.start()

    def clients(self, name):
        """How many ask, and how many are idle: those that fit."""
        room = self.proxies[name].clients
        return (min(self.case.clients, room),
                min(self.case.idle, max(0, room - self.case.clients)))

    def load(self, name, seconds):
        keys = min(10000, FILLED // self.case.size)
        if self.case.name == "rebuild":
            keys = max(50000, int(REBUILT * self.seconds))
            self._restart(keys)
        asking, idle = self.clients(name)
        options = ["-c", asking, "-i", idle, "-t", seconds, "-K", keys,
                   "-v", self.case.size, *self.case.load]
        if name in self.filled:
            options.append("-f")
        self.filled.add(name)
        return Load(self.proxies[name].port, *options)

    def _restart(self, keys):
        """Have the primary rebuilt from the backup, which has all keys."""
        magent = self.proxies["magent"]
        if "magent" not in self.filled:
            with Load(magent.port, "-K", keys):
                self.filled.add("magent")
        self.servers[0].restart()
        wait_for(lambda: self._state() == "rebuild", "the rebuild")

    def _state(self):
        return self.proxies["magent"].stats("servers")["0:state"]

    def run(self, name):
        proxy = self.proxies[name]
        with self.load(name, self.seconds) as load:
            before = proxy.cpu()
            found = load.run()
            after = proxy.cpu()
            if self.case.name == "rebuild" and self._state() != "rebuild":
                raise Failed("the rebuild ended before the run did")
        return Result(
            found["rate"], found["p50"], found["p99"], found["p999"],
            None if before is None else
            1e6 * (after - before) / found["requests"])

    def count_calls(self, name):
        """System calls of the proxy for each request, or None."""
        proxy = self.proxies[name]
        if name == "direct":
            return None
        with self.load(name, TRACED) as load, Tracer(proxy.pid) as tracer:
            requests = load.run()["requests"]
            return tracer.calls() / requests


class Tracer:
    """strace, which counts the system calls of all threads of a process."""

    def __init__(self, pid):
        self.process = subprocess.Popen(
            ["strace", "-f", "-c", "-p", str(pid)], stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stderr.readline()
        if "attached" not in line:
            raise Failed(line.strip())
        return self

    def calls(self):
        self.process.send_signal(signal.SIGINT)
        text = self.process.communicate()[1]
        # percent, seconds, microseconds for a call, calls, perhaps errors
        total, = [line for line in text.splitlines()
                  if line.endswith(" total")]
        return int(total.split()[3])

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
