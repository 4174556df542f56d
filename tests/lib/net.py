"""Loopback ports and a client that deals in bytes."""
import random
import select
import socket
import time

TIMEOUT = 20
# What does not come in so many times as long will not come: a machine may do
# many things beside the tests.
PATIENCE = 3

_reserved = {}
_random = random.SystemRandom()


def free_port():
    """A TCP port that is free and stays ours while this process runs.

    The ports lie below the ephemeral range, where an outgoing connection could
    take the place of a server that is down.  An abstract unix socket named
    after the port keeps other runs of the tests away.
    """
    while True:
        port = _random.randrange(10000, 32000)
        if port not in _reserved and _is_free(port) and _reserve(port):
            return port


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _reserve(port):
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind("\0magent-tests-%d" % port)
    except OSError:
        holder.close()
        return False
    _reserved[port] = holder
    return True


def wait_for(condition, what, timeout=TIMEOUT, pause=0.01):
    """Wait until condition() is true and return what it returned."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError("waited %s s for: %s" % (timeout, what))
        time.sleep(pause)


class Client:
    """A connection to a port of 127.0.0.1, or to a unix socket's path.

    Every wait ends after the timeout with an exception.
    """

    def __init__(self, address, timeout=TIMEOUT, receive_buffer=None):
        local = isinstance(address, int)
        self.socket = socket.socket(
            socket.AF_INET if local else socket.AF_UNIX)
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", address) if local else str(address))
        if local:
            self.socket.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.pending = bytearray()
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def _receive(self):
        """Take in what has arrived; False at the end of the connection."""
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.pending += data
        self.ended = not data
        return not self.ended

    def _take(self, n):
        taken = bytes(self.pending[:n])
        del self.pending[:n]
        return taken

    def read_until(self, sentinel):
        """Everything up to and with sentinel."""
        start = 0
        while True:
            at = self.pending.find(sentinel, start)
            if at >= 0:
                return self._take(at + len(sentinel))
            start = max(0, len(self.pending) - len(sentinel))
            if not self._receive():
                raise EOFError("closed after %r" % bytes(self.pending))

    def read_line(self):
        return self.read_until(b"\r\n")

    def read_exactly(self, n):
        while len(self.pending) < n:
            if not self._receive():
                raise EOFError("closed after %r" % bytes(self.pending))
        return self._take(n)

    def read_to_end(self):
        """All that comes before the other side closes."""
        while self._receive():
            pass
        return self._take(len(self.pending))

    def ask(self, data):
        """Send one command and read its reply of one line."""
        self.send(data)
        return self.read_line()

    def exchange(self, pieces, answer):
        """Send the pieces, each in a write of its own, while reading.

        Ends when what was read ends in answer, or with the connection.
        """
        todo = [memoryview(piece) for piece in pieces]
        todo.reverse()
        poll = select.poll()
        deadline = time.monotonic() + self.timeout
        self.socket.setblocking(False)
        try:
            while not self.pending.endswith(answer):
                poll.register(self.socket, select.POLLIN |
                              (select.POLLOUT if todo else 0))
                left = deadline - time.monotonic()
                events = poll.poll(max(0, left) * 1000)
                if not events:
                    raise TimeoutError(
                        "no answer after %r" % bytes(self.pending[-200:]))
                if events[0][1] & select.POLLOUT:
                    self._send_some(todo)
                if events[0][1] & ~select.POLLOUT and not self._receive():
                    break
        finally:
            self.socket.settimeout(self.timeout)
        return self._take(len(self.pending))

    def _send_some(self, todo):
        try:
            n = self.socket.send(todo[-1])
        except (BrokenPipeError, ConnectionResetError):
            todo.clear()
            return
        if n == len(todo[-1]):
            todo.pop()
        else:
            todo[-1] = todo[-1][n:]

    def talk(self, data, marker=b"mn\r\n", answer=b"MN\r\n"):
        """All that data is answered with, up to the answer to a marker.

        What was answered before the connection ended, if it did.
        """
        reply = self.exchange([data + marker], answer)
        return reply[:-len(answer)] if reply.endswith(answer) else reply
