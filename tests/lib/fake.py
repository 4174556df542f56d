"""A scripted server, for what a real memcached will not do."""
import contextlib
import os
import re
import socket
import struct
import threading
import time

from lib.net import free_port

# What a dull, empty memcached says.
ANSWERS = {
    b"get": b"END\r\n", b"gets": b"END\r\n",
    b"gat": b"END\r\n", b"gats": b"END\r\n",
    b"set": b"STORED\r\n", b"add": b"STORED\r\n", b"replace": b"STORED\r\n",
    b"append": b"STORED\r\n", b"prepend": b"STORED\r\n", b"cas": b"STORED\r\n",
    b"incr": b"NOT_FOUND\r\n", b"decr": b"NOT_FOUND\r\n",
    b"touch": b"NOT_FOUND\r\n", b"delete": b"NOT_FOUND\r\n",
    b"mg": b"EN\r\n", b"ms": b"HD\r\n", b"md": b"NF\r\n", b"ma": b"NF\r\n",
    b"me": b"EN\r\n", b"mn": b"MN\r\n",
    b"flush_all": b"OK\r\n", b"verbosity": b"OK\r\n",
    b"lru_crawler": b"END\r\n",
}
LENGTH_AT = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4,
             b"prepend": 4, b"cas": 4, b"ms": 2}


def is_of_proxies(words):
    """Whether a command is about stamps."""
    return len(words) > 1 and re.match(
        rb"magent:([0-9a-f]{16}:|active$|serving\d$)", words[1]) is not None


class Stamps:
    """What proxies keep on a server; it is never said to have ended."""

    def __init__(self):
        self.items = {}

    def answer(self, words, data):
        command, key = words[:2]
        if command == b"get":
            return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (
                key, len(self.items[key]), self.items[key])
                for key in words[1:] if key in self.items) + b"END\r\n"
        if key == b"magent:active":
            return b"STORED\r\n"        # that ends soon
        if command == b"set" or (command == b"add" and key not in self.items):
            self.items[key] = data[:-2]
            return b"STORED\r\n"
        if command == b"add":
            return b"NOT_STORED\r\n"
        if key not in self.items:
            return b"NOT_FOUND\r\n"
        if command == b"delete":
            del self.items[key]
            return b"DELETED\r\n"
        assert command == b"incr", command
        self.items[key] = b"%d" % (int(self.items[key]) + int(words[2]))
        return self.items[key] + b"\r\n"


class Link:
    """One connection to the scripted server."""

    def __init__(self, server, connection):
        self.server = server
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = connection.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def drip(self, data, pause):
        for i in range(len(data)):
            self.send(data[i:i + 1])
            time.sleep(pause)

    def reset(self):
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        """Close with FIN, or with RST after reset()."""
        self.reader.close()
        self.socket.close()

    def hang(self):
        """Neither read nor answer until the server ends."""
        self.server.ending.wait()

    def run(self):
        try:
            while not self.server.ending.is_set():
                command, line, data = self._next()
                if command is None:
                    break
                self._answer(command, line, data)
        except (OSError, ValueError):
            pass        # the other side, or the script, closed it
        finally:
            self.close()

    def _next(self):
        line = self.reader.readline()
        words = line.split()
        if not words:
            return None, None, None
        data = b""
        at = LENGTH_AT.get(words[0])
        if at and len(words) > at:
            data = self.reader.read(int(words[at]) + 2)
        if not is_of_proxies(words):
            self.server.received += line + data
        return words[0], line, data

    def _answer(self, command, line, data):
        if is_of_proxies(line.split()):
            self.send(self.server.of_stamps(self, line, data))
            return
        identity = self.server.identity(line)
        if identity is not None:
            self.send(identity)
            return
        self.server.commands.append(line + data)
        script = self.server.script
        reply = script(self, line, data) if script else None
        if reply is None:
            reply = ANSWERS.get(command, b"ERROR\r\n")
        self.send(reply)


class FakeServer:
    """Listens like a memcached, identifies itself, then follows a script.

    script(link, line, data) returns the bytes to answer with, None for what an
    empty memcached says, or sends and closes by itself and returns b"".  It may
    be replaced at any time.  Every byte that came is in received, every command
    but those that identify in commands; neither has what is about stamps, which
    it keeps as any memcached does.
    """

    link = Link

    def __init__(self, script=None, version="1.6.18"):
        self.script = script
        self.version = version
        self.pid = 1000 + os.getpid() % 10000
        self.born = time.time()
        self.received = bytearray()
        self.commands = []
        self.links = []
        self.ending = threading.Event()
        self.port = free_port()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self._spawn(self._accept)

    @property
    def pid(self):
        return self._pid

    @pid.setter
    def pid(self, pid):
        """Another process has none of what the one before had."""
        self._pid = pid
        self.stamps = Stamps()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def title(self):
        return "scripted server on port %d" % self.port

    def evidence(self):
        """Its last commands."""
        last = [bytes(command[:200]) for command in self.commands[-20:]]
        return "\n".join(["%d connections, %d bytes, %d commands; the last:" % (
            len(self.links), len(self.received), len(self.commands)),
            *map(repr, last)])

    def _spawn(self, target):
        threading.Thread(target=target, daemon=True).start()

    def _accept(self):
        while not self.ending.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            link = self.link(self, connection)
            self.links.append(link)
            self._spawn(link.run)

    def of_stamps(self, link, line, data):
        return self.stamps.answer(line.split(), data)

    def identity(self, line):
        """What it says of itself; None if line asks for something else."""
        words = line.split()
        if words == [b"version"]:
            return b"VERSION %s\r\n" % self.version.encode()
        if words[0] != b"stats":
            return None
        lines = {b"": self._general, b"settings": self._settings}.get(
            b" ".join(words[1:]), dict)()
        return b"".join(b"STAT %s %s\r\n" % (name.encode(), str(value).encode())
                        for name, value in lines.items()) + b"END\r\n"

    def _general(self):
        now = time.time()
        return {"pid": self.pid, "uptime": int(now) - int(self.born) + 1,
                "time": int(now), "version": self.version,
                "curr_connections": len(self.links), "total_connections": 10,
                "cmd_get": 0, "cmd_set": 0, "bytes_read": len(self.received),
                "bytes_written": len(self.received), "total_items": 0,
                "curr_items": 0, "bytes": 0, "limit_maxbytes": 67108864,
                "threads": 4, "evictions": 0}

    def _settings(self):
        return {"maxbytes": 67108864, "maxconns": 1024, "cas_enabled": "yes",
                "item_size_max": 1048576, "inter": "127.0.0.1"}

    def refuse(self):
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def close(self):
        self.ending.set()
        self.refuse()
        for link in self.links:
            with contextlib.suppress(OSError):
                link.socket.shutdown(socket.SHUT_RDWR)
