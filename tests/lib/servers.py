"""The processes under test: memcached and magent, each by its own pid."""
import contextlib
import functools
import os
import pathlib
import re
import signal
import subprocess
import time
import tempfile

from lib import evidence
from lib.net import Client, free_port, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAGENT = os.environ.get("MAGENT", str(ROOT / "magent"))

TROUBLE = re.compile(
    r"Sanitizer|runtime error:|Assertion .* failed|stack smashing|\*\*\* ")


@functools.lru_cache(maxsize=None)
def sanitized():
    """Whether magent was built with sanitizers: slow, and large in memory."""
    return b"__asan_init" in pathlib.Path(MAGENT).read_bytes()


def built_load():
    """The load generator of the tests."""
    return built("load", "-I", str(ROOT), str(ROOT / "tests/tools/stream.c"))


def built(name, *options):
    """The program, or what else the options say, made of name.c of the tests."""
    source, = (ROOT / "tests").glob("*/%s.c" % name)
    program = ROOT / "build" / name
    if not program.exists() or (
            program.stat().st_mtime < source.stat().st_mtime):
        program.parent.mkdir(exist_ok=True)
        draft = "%s.%d" % (program, os.getpid())
        subprocess.run(
            ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-pthread",
             *options, "-o", draft, str(source)], check=True)
        os.replace(draft, program)
    return str(program)


def written(log):
    """What a file holds that a child writes to, and moves the offset of."""
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0)


class Process:
    """A child that listens on a port of 127.0.0.1."""

    environment = None      # that of this process

    def __init__(self):
        self.process = None
        self.port = None
        self.log = tempfile.TemporaryFile("a+b")

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def start(self, port=None):
        """Start on this port, or on any; return when it serves."""
        self.port = port or free_port()
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, env=self.environment)
        wait_for(lambda: self.serves() or not self.is_running(),
                 "%s to serve" % self.command())
        if not self.is_running():
            raise RuntimeError("%s ended with %s:\n%s" % (
                self.command(), self.process.returncode, self.output()))
        return self

    def serves(self):
        try:
            self.client().close()
        except OSError:
            return False
        return True

    def command(self):
        raise NotImplementedError

    def output(self):
        return written(self.log).decode(errors="replace")

    def title(self):
        return "%s on port %s, pid %s, %s" % (
            type(self).__name__.lower(), self.port,
            self.process and self.pid, evidence.status(self.process))

    def evidence(self):
        return "%s\noutput:\n%s" % (
            evidence.command_line(self.command()),
            evidence.last_lines(self.output()) or "(none)")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_running():
            self.process.send_signal(number)

    def kill(self):
        """End it at once and reap it."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self):
        """SIGSTOP; return when it has stopped."""
        self.signal(signal.SIGSTOP)
        self.wait_stopped()

    def wait_stopped(self):
        wait_for(lambda: self._state() == "T", "pid to stop")

    def cont(self):
        self.signal(signal.SIGCONT)

    def _state(self):
        stat = pathlib.Path("/proc/%d/stat" % self.pid).read_text()
        return stat.rsplit(")", 1)[1].split()[0]

    def client(self, **options):
        return Client(self.port, **options)

    def talk(self, data, **options):
        with self.client() as client:
            return client.talk(data, **options)

    def stats(self, argument=""):
        """The answer to stats as a dictionary of strings."""
        with self.client() as client:
            client.send(("stats %s\r\n" % argument).encode())
            text = client.read_until(b"END\r\n").decode()
        return dict(line.split(" ", 2)[1:]
                    for line in text.splitlines() if line.startswith("STAT "))

    def _memory(self, name):
        status = pathlib.Path("/proc/%d/status" % self.pid).read_text()
        return int(re.search(name + r":\s+(\d+) kB", status).group(1)) << 10

    def rss(self):
        """Resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_rss(self):
        """The most that it has been."""
        return self._memory("VmHWM")

    def cpu_seconds(self):
        fields = pathlib.Path("/proc/%d/stat" % self.pid).read_text()
        user, system = fields.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Memcached(Process):
    def __init__(self, *options):
        super().__init__()
        self.options = options

    def command(self):
        return ["memcached", "-U", "0", "-l", "127.0.0.1", "-u", "root",
                "-p", str(self.port), *self.options]

    def serves(self):
        try:
            return self.stats().get("pid") == str(self.pid)
        except (OSError, EOFError):
            return False

    def restart(self):
        """Kill this process and start another, empty, on the same port."""
        self.kill()
        return self.start(self.port)

    def item_count(self):
        """How many items it has, but for those that proxies keep on it."""
        lines = self.listed().splitlines()
        return sum(line.startswith(b"key=") and b"=magent%3A" not in line
                   for line in lines)

    def listed(self):
        """What metadump says, when nobody else has asked for it."""
        while True:
            with self.client() as client:
                client.send(b"lru_crawler metadump hash\r\n")
                said = client.read_until(b"\r\n")      # END, or BUSY
            if not said.startswith(b"BUSY"):
                return said
            time.sleep(0.05)

    def holds(self, key):
        """Value, flags and TTL of a key as this server has them."""
        return self.talk(b"mg %s s v f t\r\n" % key)

    def close(self):
        self.kill()
        self.log.close()


class Magent(Process):
    listen = "-l", "127.0.0.1"

    def __init__(self, primaries, backups=(), *options):
        super().__init__()
        self.primaries = primaries
        self.backups = backups
        self.options = options

    def command(self):
        servers = [word for flag, group in
                   (("-s", self.primaries), ("-b", self.backups))
                   for server in group for word in (flag, server.address)]
        return [MAGENT, "-D", "-u", "root", *self.listen,
                "-p", str(self.port), *servers, *map(str, self.options)]

    def evidence(self):
        return evidence.of_magent(self.command(), self.is_running(),
                                  self.output(), self.port)

    def terminate(self):
        """SIGTERM; its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            doing = self.doing()
            self.kill()
            return "nothing within 20 s of SIGTERM: %s" % doing

    def doing(self):
        """What the kernel says of a process that does not end."""
        said = []
        for name in "stat", "wchan", "syscall":
            with contextlib.suppress(OSError):
                path = pathlib.Path("/proc/%d/%s" % (self.pid, name))
                said.append("%s %s" % (name, path.read_text().strip()))
        return "; ".join(said)

    def close(self):
        if self.process is None or self.log.closed:
            return
        was_running = self.is_running()
        code = self.terminate()
        output = self.output()
        self.log.close()
        assert was_running, "magent ended with %s:\n%s" % (code, output)
        assert code == 0, "SIGTERM: %s\n%s" % (code, output)
        assert not TROUBLE.search(output), output
