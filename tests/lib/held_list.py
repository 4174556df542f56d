"""The address of a memcached that takes its time to list its keys."""
import contextlib
import socket
import threading

from lib.net import free_port

HEARTBEAT = 0.3     # seconds between two lines of a list that is held


class HeldList:
    """Passes everything on, but of a list of keys first those lines only for
    which passes(line) is true.  The others follow after release().

    Meanwhile the line of the key `sentinel`, which must be there, comes again
    and again, so that the list does not look dead.
    """

    def __init__(self, memcached, passes, sentinel):
        self.memcached = memcached
        self.passes = passes
        self.sentinel = sentinel
        self.is_held = threading.Event()
        self.released = threading.Event()
        self.passed = 0     # lines, before it is released
        self.sockets = []
        self.port = free_port()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self._spawn(self._accept)

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def release(self):
        self.released.set()

    @staticmethod
    def _spawn(target, *arguments):
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(
                    ("127.0.0.1", self.memcached.port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [client, server]
            lists = threading.Event()
            self._spawn(self._requests, client, server, lists)
            self._spawn(self._replies, client, server, lists)

    @staticmethod
    def _requests(client, server, lists):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if b"lru_crawler metadump" in data:
                    lists.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _replies(self, client, server, lists):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if lists.is_set() and data.startswith(b"key="):
                    data = self._hold(client, server, data)
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def _hold(self, client, server, data):
        """The rest of the list, when it is released."""
        while not data.endswith(b"END\r\n"):
            data += server.recv(1 << 16)
        lines = data[:-len(b"END\r\n")].splitlines(True)
        again, = (line for line in lines
                  if line.startswith(b"key=%s " % self.sentinel.encode()))
        first = [line for line in lines if self.passes(line)]
        client.sendall(b"".join(first))
        self.passed = len(first)
        self.is_held.set()
        while not self.released.wait(HEARTBEAT):
            client.sendall(again)
        return b"".join(line for line in lines
                        if not self.passes(line)) + b"END\r\n"

    def close(self):
        """Refuse others, and end all connections."""
        self.released.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
