"""magent as a process: started by hand, in the foreground and background."""
import contextlib
import os
import pathlib
import pwd
import signal
import subprocess
import tempfile
import time

import pytest

from lib import evidence
from lib.net import Client, free_port, wait_for
from lib.servers import MAGENT, TROUBLE, written

NOUSER, OSERR, CANTCREAT, TEMPFAIL = 67, 71, 73, 75
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def children():
    """The pids of this process's children; a thread may end meanwhile."""
    pids = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pids.update(map(int, (task / "children").read_text().split()))
    return pids


class Run:
    """One run of magent with the words it said on stderr."""

    def __init__(self, *options, port=None, user="root", through=(), **popen):
        """through: the command that starts it, with the one of magent behind."""
        self.port = port or free_port()
        self.log = tempfile.TemporaryFile("a+b")
        self.command = [*through, MAGENT, "-l", "127.0.0.1", "-p", str(self.port),
                        *(["-u", user] if user and os.geteuid() == 0 else []),
                        *map(str, options)]
        popen.setdefault("stderr", self.log)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log, **popen)
        self.pid = self.process.pid

    def output(self):
        return written(self.log).decode(errors="surrogateescape")

    def serves(self):
        try:
            with Client(self.port) as client:
                return client.ask(b"version\r\n").startswith(b"VERSION ")
        except (OSError, EOFError):
            return False

    def ready(self):
        wait_for(lambda: self.process.poll() is not None or self.serves(),
                 "magent to serve")
        assert self.process.poll() is None, self.output()
        return self

    def wait(self):
        """Its exit status."""
        return self.process.wait(30)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def status(self):
        return status_of(self.pid)

    def title(self):
        return "magent on port %s, pid %s, %s" % (
            self.port, self.pid, evidence.status(self.process))

    def evidence(self):
        return evidence.of_magent(self.command, self.is_running(),
                                  self.output(), self.port)

    def is_running(self):
        return self.process.poll() is None

    def close(self):
        if self.log.closed:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        output = self.output()
        self.log.close()
        assert not TROUBLE.search(output), output


class Daemon(Run):
    """A run that goes to the background."""

    def __init__(self, pid_file, *options, **keywords):
        super().__init__("-P", pid_file, *options, **keywords)
        self.pid_file = pathlib.Path(pid_file)
        self.status_of_parent = self.process.wait(30)
        assert self.status_of_parent == 0, self.output()
        self.pid = int(self.pid_file.read_text())

    def wait(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            time.sleep(.01)
        raise TimeoutError("the daemon does not end")

    def title(self):
        return "magent in the background on port %s, %s" % (
            self.port, "pid %d" % self.pid if self.is_running() else "ended")

    def is_running(self):
        return self.pid is not None and os.path.exists("/proc/%d" % self.pid)

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        super().close()


def status_of(pid):
    """/proc/pid/status as a dictionary of lists of words."""
    text = pathlib.Path("/proc/%d/status" % pid).read_text()
    return {name: value.split() for name, value in
            (line.split(":", 1) for line in text.splitlines())}


def last_line(text):
    return text.splitlines()[-1]


def as_nobody():
    os.setgroups([])
    os.setgid(pwd.getpwnam("nobody").pw_gid)
    os.setuid(pwd.getpwnam("nobody").pw_uid)


def connection(port):
    try:
        return Client(port)
    except OSError:
        return None


def refuses(port):
    try:
        Client(port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass        # it closes at this moment
    return False


def admitted(magent):
    """A client that is served, or None.  One that has left may still be
    counted for a moment."""
    client = Client(magent.port)
    with contextlib.suppress(OSError, EOFError):
        if client.ask(b"version\r\n").startswith(b"VERSION "):
            return client
    client.close()
    return None
