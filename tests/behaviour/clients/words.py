"""words.py KIND PORT: driven as test_clients_restart.py says.

KIND is meta, which speaks as Dalli 5 does; nginx, whose memcached module reads
what this program writes; or tools, those of libmemcached.
"""
import ctypes
import http.client
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from lib.net import free_port       # noqa: E402

KIND, PORT = sys.argv[1], int(sys.argv[2])
TIMEOUT = 20


class Link:
    """A connection on which commands are written and lines are read."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), TIMEOUT)
        self.file = self.socket.makefile("rb")

    def ask(self, text):
        self.socket.sendall(text.encode())
        return self.line()

    def line(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection was closed")
        return line.decode().rstrip("\r\n")

    def data(self, length):
        return self.file.read(length + 2).decode()[:-2]


def yes(line, good, *bad):
    if line != good and line not in bad:
        raise ValueError(line)
    return "yes" if line == good else "no"


class Meta:
    """The commands of Dalli 5; it asks for the version first."""

    def __init__(self):
        self.link = Link()
        if not self.link.ask("version\r\n").startswith("VERSION "):
            raise ValueError("version")

    def store(self, key, value, mode):
        return yes(self.link.ask("ms %s %d c F0 T0 %s\r\n%s\r\n" % (
            key, len(value), mode, value)).split()[0], "HD", "NS")

    def set(self, key, value):
        return self.store(key, value, "MS")

    def add(self, key, value):
        return self.store(key, value, "ME")

    def append(self, key, value):
        return self.store(key, value, "MA")

    def sets(self, *words):
        """Quiet ones, and mn: an answer would be an error."""
        line = self.link.ask("".join(
            "ms %s %d F0 T0 MS q\r\n%s\r\n" % (key, len(value), value)
            for key, value in zip(words[::2], words[1::2])) + "mn\r\n")
        return yes(line, "MN")

    def deletes(self, *keys):
        """How many of them were not there."""
        line = self.link.ask("".join("md %s q\r\n" % key for key in keys) +
                             "mn\r\n")
        missing = 0
        while line != "MN":
            if line != "NF":
                raise ValueError(line)
            missing += 1
            line = self.link.line()
        return str(missing)

    def get(self, key):
        line = self.link.ask("mg %s v f\r\n" % key)
        return "-" if line == "EN" else self.value(line)

    def value(self, line):
        words = line.split()
        if words[0] != "VA":
            raise ValueError(line)
        return self.link.data(int(words[1]))

    def many(self, *keys):
        line = self.link.ask("".join("mg %s v f k q s\r\n" % key
                                     for key in keys) + "mn\r\n")
        found = {}
        while line != "MN":
            key = next(word[1:] for word in line.split()[2:]
                       if word[0] == "k")
            found[key] = self.value(line)
            line = self.link.line()
        return " ".join(found.get(key, "-") for key in keys)

    def delete(self, key):
        return yes(self.link.ask("md %s\r\n" % key), "HD", "NF")

    def incr(self, key, n):
        line = self.link.ask("ma %s v D%s MI\r\n" % (key, n))
        return "-" if line == "NF" else self.value(line)

    def touch(self, key, ttl):
        return yes(self.link.ask("mg %s T%s\r\n" % (key, ttl)), "HD", "EN")


def with_parent():
    """The child is killed when this process ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


CONFIGURATION = """
daemon off;
master_process off;
error_log stderr;
pid %(path)s/pid;
events { }
http {
	access_log off;
	client_body_temp_path %(path)s/body;
	proxy_temp_path %(path)s/proxy;
	fastcgi_temp_path %(path)s/fastcgi;
	uwsgi_temp_path %(path)s/uwsgi;
	scgi_temp_path %(path)s/scgi;
	upstream magent {
		server 127.0.0.1:%(port)d;
		keepalive 2;
	}
	server {
		listen 127.0.0.1:%(http)d;
		location / {
			set $memcached_key $arg_key;
			memcached_pass magent;
			memcached_read_timeout 20s;
			default_type text/plain;
		}
	}
}
"""


class Nginx:
    """An application writes, and nginx reads."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        path = pathlib.Path(self.folder.name) / "nginx.conf"
        path.write_text(CONFIGURATION % {
            "path": self.folder.name, "port": PORT, "http": self.port})
        self.process = subprocess.Popen(
            ["nginx", "-p", self.folder.name, "-e", "stderr", "-c", path],
            stdin=subprocess.DEVNULL, stdout=sys.stderr,
            preexec_fn=with_parent)
        self.http = http.client.HTTPConnection("127.0.0.1", self.port,
                                               timeout=TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                self.http.connect()
                break
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.link = Link()

    def set(self, key, value):
        return yes(self.link.ask("set %s 0 0 %d\r\n%s\r\n" % (
            key, len(value), value)), "STORED")

    def delete(self, key):
        return yes(self.link.ask("delete %s\r\n" % key), "DELETED",
                   "NOT_FOUND")

    def get(self, key):
        self.http.request("GET", "/?key=" + key)
        answer = self.http.getresponse()
        text = answer.read().decode()
        if answer.status not in (200, 404):
            raise ValueError("%d %s" % (answer.status, text))
        return text if answer.status == 200 else "-"


class Tools:
    """Each command is a process."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()

    def run(self, name, *words):
        """Its status, and what it prints."""
        done = subprocess.run(
            [name, "--servers=127.0.0.1:%d" % PORT, *words], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=TIMEOUT)
        return done.returncode, done.stdout, done.stderr

    def store(self, key, value, *how):
        path = pathlib.Path(self.folder.name) / key
        path.write_text(value)
        return self.run("memccp", *how, str(path))

    def set(self, key, value):
        status, _, error = self.store(key, value)
        if status != 0:
            raise ValueError(error)
        return "yes"

    def get(self, key):
        status, text, error = self.run("memccat", key)
        if status != 0 and error:
            raise ValueError(error)
        return text.rstrip("\n") or "-"

    def has(self, key):
        return "no" if self.run("memcexist", key)[0] else "yes"

    def touch(self, key, ttl):
        return "no" if self.run("memctouch", "--expire=" + ttl, key)[0] else (
            "yes")

    def delete(self, key):
        return "no" if self.run("memcrm", key)[0] else "yes"


def main():
    kind = {"meta": Meta, "nginx": Nginx, "tools": Tools}[KIND]()
    for line in sys.stdin:
        method, *words = line.split()
        try:
            answer = getattr(kind, method)(*words)
        except Exception as error:
            answer = "error: %r" % error
        print(answer, flush=True)


main()
