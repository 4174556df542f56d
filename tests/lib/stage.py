"""Starts servers and clients and ends them all."""
import contextlib
import subprocess

from lib import evidence
from lib.fake import FakeServer
from lib.net import Client
from lib.servers import Magent, Memcached


class Stage(contextlib.ExitStack):
    """Whatever is started on it is ended, by its own pid, when it closes.

    Until then it shows what it knows if the test fails.
    """

    opened = []     # the stages of this process that are not closed

    def __init__(self):
        super().__init__()
        self.things = []
        self.opened.append(self)

    def __exit__(self, *details):
        self.opened.remove(self)
        return super().__exit__(*details)

    def add(self, thing):
        """Close this thing in the end; show it if the test fails."""
        self.callback(thing.close)
        self.show(thing)
        return thing

    def show(self, thing):
        """Show this thing if the test fails, if it has something to show."""
        if hasattr(thing, "evidence"):
            self.things.append(thing)

    def remove(self, thing):
        """Close this thing now."""
        thing.close()
        self.things.remove(thing)

    def evidence(self):
        """The titles and texts of what is on the stage."""
        return evidence.sections(self.things)

    def memcached(self, *options):
        return self.add(Memcached(*options)).start()

    def memcacheds(self, n, *options):
        return [self.memcached(*options) for _ in range(n)]

    def magent(self, primaries, backups=(), *options):
        return self.add(Magent(primaries, backups, *options)).start()

    def fake(self, script=None, **options):
        return self.add(FakeServer(script, **options))

    def client(self, server, **options):
        """A client of a server, or of the unix socket at a path."""
        return self.add(Client(getattr(server, "port", server), **options))


def run_in_network(case, *arguments):
    """Run a case, a function of a stage and these, in the new network that this
    process is alone in.  What the stage knows is printed if it fails."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Stage() as stage:
        try:
            case(stage, *arguments)
        except BaseException:
            for section in stage.evidence():
                print(*section, sep="\n")
            raise
