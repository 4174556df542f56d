"""An address that can lead to one server and later to another, and what the
servers behind it hold."""
import subprocess

from lib.net import free_port, wait_for
from lib.servers import built

COUNT = 200


class Way:
    """The address of a server, which leads to it when it is opened, and may
    lead to another one later."""

    def __init__(self):
        self.port = free_port()
        self.relay = None

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def lead_to(self, server):
        self.close()
        self.relay = subprocess.Popen(
            [built("relay"), str(self.port), str(server.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.relay.stdout.readline() == "ready\n"

    def close(self):
        """Reset its connections, and refuse others."""
        if self.relay is None:
            return
        self.relay.stdin.write("drop\n")
        self.relay.stdin.flush()
        self.relay.stdout.readline()
        self.relay.kill()
        self.relay.wait()
        self.relay.stdin.close()
        self.relay.stdout.close()
        self.relay = None


def way(stage, server=None):
    new = Way()
    stage.callback(new.close)
    if server:
        new.lead_to(server)
    return new


def put(server, count=COUNT, value=b"v"):
    """Store that many keys of one value."""
    server.talk(b"".join(b"set k%d 0 0 1\r\n%s\r\n" % (i, value)
                         for i in range(count)))


def held(server, count=COUNT):
    """The values of these keys."""
    return [server.talk(b"get k%d\r\n" % i).split(b"\r\n")[1:2]
            for i in range(count)]


def flushes(*servers):
    return [int(server.stats()["cmd_flush"]) for server in servers]


def items(*servers):
    return [server.item_count() for server in servers]


def states(proxy):
    found = proxy.stats("servers")
    return [found[name] for name in found if name.endswith(":state")]


def wait_for_states(proxy, *wanted, timeout=20):
    wait_for(lambda: states(proxy) == list(wanted), "the states %s" % (
        wanted,), timeout)
