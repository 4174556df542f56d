"""Starts servers and clients and ends them all."""
import contextlib

from lib.fake import FakeServer
from lib.net import Client
from lib.servers import Magent, Memcached


class Stage(contextlib.ExitStack):
    """Whatever is started on it is ended, by its own pid, when it closes."""

    def _closing(self, thing):
        self.callback(thing.close)
        return thing

    def memcached(self, *options):
        return self._closing(Memcached(*options)).start()

    def memcacheds(self, n, *options):
        return [self.memcached(*options) for _ in range(n)]

    def magent(self, primaries, backups=(), *options):
        return self._closing(Magent(primaries, backups, *options)).start()

    def fake(self, script=None, **options):
        return self._closing(FakeServer(script, **options))

    def client(self, server, **options):
        """A client of a server, or of the unix socket at a path."""
        return self._closing(Client(getattr(server, "port", server), **options))
