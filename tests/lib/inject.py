"""magent with faults of the system: see tests/tools/inject.c."""
import mmap
import os
import struct
import tempfile

from lib.servers import Magent, built, sanitized

COUNTDOWN, NO_MEMORY, SOCKETS, STOP = range(4)


class InjectedMagent(Magent):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.file = tempfile.NamedTemporaryFile()
        self.file.truncate(8 * 4)
        self.page = mmap.mmap(self.file.fileno(), 8 * 4)
        self.environment = dict(
            os.environ, INJECT=self.file.name,
            LD_PRELOAD=built("inject", "-shared", "-fPIC", "-ldl"))
        if sanitized():
            # Ours goes first, and calls the sanitizer's.
            self.environment["ASAN_OPTIONS"] = "verify_asan_link_order=0"

    def serves(self):
        """It may bind its port, and then find that it cannot go on.  The keys
        are on all servers, also on those that it has not connected to."""
        try:
            with self.client() as client:
                return client.exchange([b"get a b c d e f g h\r\nmn\r\n"],
                                       b"MN\r\n").endswith(b"MN\r\n")
        except ConnectionError:
            return False

    def inject(self, which, number):
        struct.pack_into("=q", self.page, 8 * which, number)

    def left(self):
        """How many allocations are left until one fails."""
        return struct.unpack_from("=q", self.page, 8 * COUNTDOWN)[0]

    def close(self):
        if self.file.closed:
            return
        for which in COUNTDOWN, NO_MEMORY, SOCKETS, STOP:
            self.inject(which, 0)
        super().close()
        self.page.close()
        self.file.close()
