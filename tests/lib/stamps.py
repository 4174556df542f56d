"""What magents keep on the servers."""
import hashlib
import re
import sys

from lib.net import wait_for


class Bond:
    """The stamps of two partners, as the servers have them."""

    def __init__(self, one, other):
        self.servers = one, other
        names = " ".join(sorted(server.address for server in self.servers))
        digest = hashlib.md5(names.encode()).digest()[:8]
        self.name = b"%016x" % int.from_bytes(digest, sys.byteorder)
        self.keys = [b"magent:%s:%d" % (self.name, twin) for twin in (1, 2)]

    def twins(self, server):
        """Its two items; None if one is not there."""
        found = values(server, self.keys)
        return [int(found[key]) if key in found else None
                for key in self.keys]

    def stamp(self, server):
        return max(twin or 0 for twin in self.twins(server))

    def are_equal(self):
        """Both servers have all items, and they are equal."""
        found = {twin for server in self.servers
                 for twin in self.twins(server)}
        return len(found) == 1 and None not in found

    def wait(self):
        """Wait until the stamps are equal."""
        wait_for(self.are_equal, "equal stamps")
        return self


def values(server, keys):
    """The values of those that are there, by key."""
    with server.client() as client:
        client.send(b"get %s\r\n" % b" ".join(keys))
        text = client.read_until(b"END\r\n")
    return dict(re.findall(rb"VALUE (\S+) \d+ \d+\r\n(.*?)\r\n", text))
