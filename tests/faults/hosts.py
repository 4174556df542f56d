"""Two hosts with a magent and keepalived each, and the networks around them.

    clients --- front --- host 0, host 1 --- back --- memcacheds

Each of these is a network namespace, and front and back are bridges in one
more.  So addresses, ports and interfaces are those of scripts/keepalived.conf,
whatever else runs here.  A host can be cut off from one side or from both.
"""
import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile

from faults import Network, end_all_in, ip
from lib import evidence
from lib.net import Client, wait_for
from lib.servers import MAGENT, ROOT, TROUBLE, Memcached, Process
from takeover import Mortal

ADDRESS = "10.0.0.100"      # these are in the example
PORT = 11210
CHECK = "/usr/lib/magent/check-magent"

SERVER_PORT = 11211
CLONE_NEWNET = 0x40000000
HOME = pathlib.Path("/var/lib")     # only root can write here


# Networks

def enter(network):
    """Have this thread make its sockets in the network of a descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network, CLONE_NEWNET) == -1:
        raise OSError(ctypes.get_errno(), "setns")


class Space:
    """A network namespace."""

    def __init__(self):
        self.name = "mg%dx%d" % (os.getpid(), next(Network.numbers))
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self):
        return "/run/netns/" + self.name

    def ip(self, *words):
        return ip("-n", self.name, *words).stdout

    def within(self):
        """The words that have a command run there."""
        return "nsenter", "--net=" + self.path

    def socket(self):
        """A socket there."""
        with open("/proc/thread-self/ns/net") as here, open(
                self.path) as there:
            enter(there.fileno())
            try:
                return socket.socket()
            finally:
                enter(here.fileno())

    def close(self):
        """Whatever still runs there ends, too."""
        end_all_in(self.name)
        ip("netns", "del", self.name, check=False)


class Cable:
    """Leads from an interface of a space to a bridge."""

    numbers = itertools.count()

    def __init__(self, switch, bridge, space, interface, address):
        self.switch, self.bridge = switch, bridge
        self.port = "port%d" % next(self.numbers)
        switch.ip("link", "add", self.port, "type", "veth", "peer", "name",
                  interface, "netns", space.name)
        space.ip("addr", "add", address + "/24", "dev", interface)
        space.ip("link", "set", interface, "up")
        self.heal()

    def unplug(self):
        """The interface has no carrier."""
        self.switch.ip("link", "set", self.port, "down")

    def cut(self):
        """The interface notices nothing."""
        self.switch.ip("link", "set", self.port, "nomaster")

    def heal(self):
        self.switch.ip("link", "set", self.port, "master", self.bridge, "up")


class SpaceClient(Client):
    """A client in a space, of a place there."""

    def __init__(self, space, place, timeout=20):
        self.socket = space.socket()
        self.timeout = timeout
        self.pending = bytearray()
        self.ended = False
        try:
            self.socket.settimeout(timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect(place)
        except OSError:
            self.socket.close()
            raise


# Processes

class Server(Memcached):
    """A memcached in a space of its own."""

    def __init__(self, space, host):
        super().__init__()
        self.space, self.host = space, host

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    def start(self, port=None):
        return super().start(port or SERVER_PORT)

    def command(self):
        return [*self.space.within(), "memcached", "-U", "0", "-l", self.host,
                "-u", "root", "-p", str(self.port)]

    def client(self, **options):
        return SpaceClient(self.space, (self.host, self.port), **options)


class Inhabitant(Mortal):
    """A magent of a host, at all of its addresses."""

    listen = ()
    host = "127.0.0.1"

    def __init__(self, space, primaries, backups, *options):
        super().__init__(primaries, backups, *options)
        self.space = space

    def command(self):
        return [*self.space.within(), *super().command()]

    def client(self, **options):
        return SpaceClient(self.space, (self.host, self.port), **options)

    def evidence(self):
        """Without the lines about clients: there are too many."""
        words = re.sub(r".* c#.*\n", "", self.output())
        parts = [evidence.of_magent(self.command(), False, words, self.port)]
        with contextlib.suppress(OSError, EOFError):
            with self.client(timeout=evidence.TIMEOUT) as client:
                for question in b"stats servers\r\n", b"stats\r\n":
                    client.send(question)
                    parts.append(client.read_until(b"END\r\n").decode())
        return "\n".join(parts)


class Keepalived(Process):
    """Has the address be at its host, or not."""

    def __init__(self, space, files):
        super().__init__()
        self.space, self.files = space, files
        # What check-magent asks with.
        self.environment = {**os.environ, "MAGENT": str(files / "magent")}

    def command(self):
        files = self.files
        return [*self.space.within(), "keepalived", "--vrrp", "--dont-fork",
                "--log-console", "--log-detail", "--no-syslog",
                "--use-file=%s" % (files / "keepalived.conf"),
                "--pid=%s" % (files / "keepalived.pid"),
                "--vrrp_pid=%s" % (files / "vrrp.pid")]

    def start(self, port=None):
        return super().start(port or 112)

    def serves(self):
        return (self.files / "vrrp.pid").exists()

    def priority(self):
        """As its script has left it."""
        found = re.findall(r"effective priority from \d+ to (\d+)",
                           self._words())
        return int(found[-1]) if found else 100

    def is_ready(self):
        """Whether the address may come here."""
        words = self._words()
        states = re.findall(r"Entering (\w+) STATE", words)
        return (states[-1:] == ["BACKUP"] and self.priority() == 100 and
                "succeeded" in words)

    def _words(self):
        """What it has said since it was started last."""
        return self.output().rpartition("Starting Keepalived")[2]

    def end(self):
        """The address leaves, if it is here."""
        self.signal(signal.SIGTERM)

    def close(self):
        self.end()
        if self.process is not None:
            self.process.wait(20)       # it has a child of its own
        output = self.output()
        self.log.close()
        assert "SECURITY" not in output, output


class Files:
    """The files of a host, which only root can change: keepalived would run no
    other ones."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(
            prefix="magent-tests-%d-" % os.getpid(), dir=HOME))
        self.path.chmod(0o755)

    def __truediv__(self, name):
        return self.path / name

    def write(self, name, content, mode=0o644):
        """At once, for those that are reading it."""
        draft = self / (name + ".new")
        draft.write_bytes(content)
        draft.chmod(mode)
        draft.rename(self / name)

    def close(self):
        shutil.rmtree(self.path)

    @staticmethod
    def clean_up():
        """Remove what runs that were killed have left."""
        for path in HOME.glob("magent-tests-*-*"):
            if not pathlib.Path("/proc", path.name.split("-")[2]).exists():
                shutil.rmtree(path, ignore_errors=True)


class Host:
    """Has the example of scripts/, and only the path of check-magent is
    another one."""

    def __init__(self, stage, switch, number):
        self.stage = stage
        self.space = stage.add(Space())
        self.front = Cable(switch, "front", self.space, "eth0",
                           "10.0.0.%d" % (number + 1))
        self.back = Cable(switch, "back", self.space, "eth1",
                          "10.0.1.%d" % (number + 1))
        self.files = stage.add(Files())
        self.files.write("magent", pathlib.Path(MAGENT).read_bytes(), 0o755)
        self.keepalived = Keepalived(self.space, self.files)

    def start_magent(self, primaries, backups):
        self.magent = self.stage.add(
            Inhabitant(self.space, primaries, backups, "-v"))
        return self.magent.start(PORT)

    def start_keepalived(self, number):
        self.pass_check()
        text = (ROOT / "scripts" / "keepalived.conf").read_text()
        assert text.count(CHECK) == 1
        self.files.write("keepalived.conf", text.replace(
            CHECK, str(self.files / "check-magent")).encode())
        self.stage.add(self.keepalived).start()

    def has_address(self):
        return ADDRESS + "/" in self.space.ip("addr", "show", "dev", "eth0")

    def wait_address_left(self):
        wait_for(lambda: not self.has_address(), "the address to leave",
                 pause=0.03)

    # What may happen to it, and the end of that

    def kill_magent(self):
        self.magent.kill()

    def restart_magent(self):
        self.magent.start(self.magent.port)

    def stop_magent(self):
        self.magent.stop()

    def wake_magent(self):
        self.magent.cont()

    def end_keepalived(self):
        self.keepalived.end()
        self.wait_address_left()

    def restart_keepalived(self):
        self.keepalived.process.wait(20)
        self.keepalived.start()

    def fail_check(self):
        self.files.write("check-magent", b"#!/bin/sh\nexit 1\n", 0o755)
        self.wait_address_left()

    def pass_check(self):
        check = ROOT / "scripts" / "check-magent"
        self.files.write("check-magent", check.read_bytes(), 0o755)

    def unplug_front(self):
        self.front.unplug()

    def cut_front(self):
        self.front.cut()

    def cut_back(self):
        self.back.cut()

    def cut_both(self):
        self.front.cut()
        self.back.cut()

    def heal(self):
        self.front.heal()
        self.back.heal()

    def heal_both(self):
        """When the check has failed; or clients could return to a magent that
        has no servers yet."""
        wait_for(lambda: self.keepalived.priority() < 100,
                 "the check to fail")
        self.heal()


# The hosts of a tutorial

TUTORIAL = """\
global_defs {
    enable_script_security
    script_user root
}

vrrp_instance magent {
    state %(state)s
    interface eth0
    virtual_router_id 52
    priority %(priority)d
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        %(address)s/24
    }
    notify_master "%(files)s/start"
    notify_backup "%(files)s/end"
    notify_fault "%(files)s/end"
    notify_stop "%(files)s/end"
}
"""
START = """\
#!/bin/sh
exec %(magent)s -u root -v -l %(address)s -p %(port)d %(servers)s \\
    -P %(files)s/magent.pid --log-file=%(files)s/magent.log
"""
END = """\
#!/bin/sh
if [ -e %(files)s/magent.pid ]; then
    kill -9 "$(cat %(files)s/magent.pid)"
    rm %(files)s/magent.pid
fi
"""


class Started(Inhabitant):
    """A magent that is started by keepalived, at the shared address."""

    host = ADDRESS

    def __init__(self, space, files, primaries, backups):
        super().__init__(space, primaries, backups)
        self.files = files
        self.port = PORT

    def is_running(self):
        return (self.files / "magent.pid").exists()

    def output(self):
        path = self.files / "magent.log"
        return path.read_text() if path.exists() else ""

    def servers(self):
        return " ".join(
            "%s %s" % (flag, server.address) for flag, group in
            (("-s", self.primaries), ("-b", self.backups)) for server in group)

    def title(self):
        return "magent of %s" % self.files.path

    def close(self):
        """It ends with the space."""
        self.log.close()
        assert not TROUBLE.search(self.output()), self.output()


class TutorialHost(Host):
    """keepalived starts magent when the address has come, and kills it when it
    leaves.  The first host has it whenever it can."""

    def start_magent(self, primaries, backups):
        self.magent = self.stage.add(
            Started(self.space, self.files, primaries, backups))
        return self.magent

    def start_keepalived(self, number):
        words = {"state": ("MASTER", "BACKUP")[number], "address": ADDRESS,
                 "priority": (100, 90)[number], "port": PORT,
                 "files": self.files.path, "magent": self.files / "magent",
                 "servers": self.magent.servers()}
        self.files.write("start", (START % words).encode(), 0o755)
        self.files.write("end", (END % words).encode(), 0o755)
        self.files.write("keepalived.conf", (TUTORIAL % words).encode())
        self.stage.add(self.keepalived).start()
