"""Servers with names are found as the system finds them.

Each case runs in a network and with files of its own: /etc/hosts and
/etc/resolv.conf are replaced there, and port 53 is free.
"""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", [
    "hosts_file_that_changes_is_read_again",
    "hosts_file_that_was_empty_at_the_start_is_read_later",
    "name_of_a_search_list_is_found",
    "name_is_found_though_the_first_name_server_is_dead",
    "name_server_that_is_given_later_is_asked",
    "second_address_is_used_while_the_first_is_silent",
    "second_address_is_used_while_the_first_refuses",
    "clients_are_served_while_a_name_is_looked_up",
    "servers_whose_names_are_found_late_keep_what_they_hold",
])
def test_server_by_name(name):
    done = subprocess.run(
        ["unshare", "-m", "-n", sys.executable, __file__, name],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        text=True)
    assert done.returncode == 0, done.stdout


# What follows runs in the namespaces.

class Files:
    """Files that take the place of some in /etc."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory()
        os.chmod(self.directory.name, 0o755)

    def path(self, name):
        return pathlib.Path(self.directory.name, name)

    def put(self, name, text):
        self.path(name).write_text(text)
        os.chmod(self.path(name), 0o644)

    def mount(self, name, text):
        self.put(name, text)
        subprocess.run(["mount", "--bind", self.path(name), "/etc/" + name],
                       check=True)


class NameServer(threading.Thread):
    """Answers queries for the IPv4 addresses of names."""

    def __init__(self, address, names):
        super().__init__(daemon=True)
        self.names = names
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.start()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(512)
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += query[at] + 1
            name = ".".join(labels).lower()
            self.asked.append(name)
            address = self.names.get(name)
            is_a = query[at + 1:at + 3] == b"\0\1"
            code = b"\x81\x80" if address else b"\x81\x83"
            count = b"\0\1" if address and is_a else b"\0\0"
            reply = (query[:2] + code + b"\0\1" + count + b"\0\0\0\0" +
                     query[12:at + 5])
            if address and is_a:
                reply += (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" +
                          socket.inet_aton(address))
            self.socket.sendto(reply, client)


def memcached_at(stage, address, port):
    """A memcached on an address of its own."""
    from lib.servers import Memcached

    class There(Memcached):
        def command(self):
            command = super().command()
            command[command.index("-l") + 1] = address
            return command

        def serves(self):
            try:
                socket.create_connection((address, self.port), 1).close()
            except OSError:
                return False
            return True

    return stage.add(There()).start(port)


class Named:
    """A server as magent's command line names it."""

    def __init__(self, name, port):
        self.address = "%s:%d" % (name, port)


def state(proxy):
    return proxy.stats("servers")["0:state"]


def wait_up(proxy):
    from lib.net import wait_for
    wait_for(lambda: state(proxy) == "up", "the server to be up", timeout=30)


@case
def hosts_file_that_changes_is_read_again(stage, files, port):
    files.mount("hosts", "127.0.0.1 localhost\n127.0.0.2 one.test\n")
    files.mount("resolv.conf", "")
    first = memcached_at(stage, "127.0.0.2", port)
    proxy = stage.magent([Named("one.test", port)])
    wait_up(proxy)
    second = memcached_at(stage, "127.0.0.3", port)
    files.put("hosts", "127.0.0.1 localhost\n127.0.0.3 one.test\n")
    first.kill()
    wait_up_again(proxy)
    assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    with socket.create_connection(("127.0.0.3", port)) as there:
        there.sendall(b"get k\r\n")
        assert there.recv(100).startswith(b"VALUE k")
    assert second.is_running()


def wait_up_again(proxy):
    from lib.net import wait_for
    wait_for(lambda: state(proxy) != "up", "the server to be missed")
    wait_up(proxy)


@case
def hosts_file_that_was_empty_at_the_start_is_read_later(stage, files, port):
    files.mount("hosts", "")
    files.mount("resolv.conf", "")
    memcached_at(stage, "127.0.0.2", port)
    proxy = stage.magent([Named("one.test", port)])
    assert state(proxy) in ("down", "starting")
    files.put("hosts", "127.0.0.2 one.test\n")
    wait_up(proxy)


@case
def name_of_a_search_list_is_found(stage, files, port):
    files.mount("hosts", "127.0.0.1 localhost\n")
    files.mount("resolv.conf", "nameserver 127.0.0.11\n"
                "search first.test second.test\noptions ndots:2\n")
    server = NameServer("127.0.0.11", {"a.one.second.test": "127.0.0.2"})
    memcached_at(stage, "127.0.0.2", port)
    wait_up(stage.magent([Named("a.one", port)]))
    assert "a.one.first.test" in server.asked


@case
def name_is_found_though_the_first_name_server_is_dead(stage, files, port):
    files.mount("hosts", "127.0.0.1 localhost\n")
    files.mount("resolv.conf", "nameserver 127.0.0.10\n"
                "nameserver 127.0.0.11\noptions timeout:1\n")
    hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hole.bind(("127.0.0.10", 53))
    NameServer("127.0.0.11", {"one.test": "127.0.0.2"})
    memcached_at(stage, "127.0.0.2", port)
    wait_up(stage.magent([Named("one.test", port)]))


@case
def name_server_that_is_given_later_is_asked(stage, files, port):
    """As a DHCP client writes resolv.conf: it is empty, then it is not."""
    files.mount("hosts", "127.0.0.1 localhost\n")
    files.mount("resolv.conf", "")
    NameServer("127.0.0.11", {"one.test": "127.0.0.2"})
    memcached_at(stage, "127.0.0.2", port)
    proxy = stage.magent([Named("one.test", port)])
    assert state(proxy) in ("down", "starting")
    files.put("resolv.conf", "nameserver 127.0.0.11\n")
    wait_up(proxy)


@case
def second_address_is_used_while_the_first_is_silent(stage, files, port):
    files.mount("hosts", "127.0.0.5 one.test\n127.0.0.6 one.test\n")
    files.mount("resolv.conf", "")
    silent = socket.socket()
    silent.bind(("127.0.0.5", port))
    silent.listen(0)
    full = []
    for _ in range(4):      # more connections than its backlog holds
        full.append(socket.socket())
        full[-1].setblocking(False)
        full[-1].connect_ex(("127.0.0.5", port))
    memcached_at(stage, "127.0.0.6", port)
    wait_up(stage.magent([Named("one.test", port)]))


@case
def second_address_is_used_while_the_first_refuses(stage, files, port):
    files.mount("hosts", "127.0.0.5 one.test\n127.0.0.6 one.test\n")
    files.mount("resolv.conf", "")
    memcached_at(stage, "127.0.0.6", port)
    proxy = stage.magent([Named("one.test", port)])
    wait_up(proxy)
    assert proxy.stats("servers")["0:timeouts"] == "0"


@case
def clients_are_served_while_a_name_is_looked_up(stage, files, port):
    files.mount("hosts", "127.0.0.1 localhost\n")
    files.mount("resolv.conf", "nameserver 127.0.0.10\n")
    hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hole.bind(("127.0.0.10", 53))
    proxy = stage.magent([Named("one.test", port)], [stage.memcached()])
    longest = 0
    for _ in range(50):
        start = time.monotonic()
        assert proxy.talk(b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
        longest = max(longest, time.monotonic() - start)
    assert longest < 2, longest


class SlowNameServer(NameServer):
    """Answers after a while."""

    def run(self):
        time.sleep(1)
        super().run()


@case
def servers_whose_names_are_found_late_keep_what_they_hold(
        stage, files, port):
    files.mount("hosts", "127.0.0.1 localhost\n")
    files.mount("resolv.conf", "nameserver 127.0.0.11\noptions timeout:3\n")
    hosts = {"one.test": "127.0.0.2", "two.test": "127.0.0.3"}
    for address in hosts.values():
        memcached_at(stage, address, port)
        assert ask(address, port, b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
    SlowNameServer("127.0.0.11", hosts)
    proxy = stage.magent([Named("one.test", port)], [Named("two.test", port)],
                         "-t", 100)
    assert state(proxy) in ("starting", "down")
    wait_up(proxy)
    assert proxy.talk(b"get k\r\n") == b"VALUE k 0 1\r\nv\r\nEND\r\n"
    for address in hosts.values():
        assert b"cmd_flush 0\r\n" in ask(address, port, b"stats\r\n")
        assert ask(address, port, b"get k\r\n").startswith(b"VALUE")


def ask(address, port, request):
    """What a server there answers, in one packet."""
    with socket.create_connection((address, port)) as there:
        there.sendall(request)
        return there.recv(1 << 16)


def main(name):
    tests = pathlib.Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(tests))
    from lib.net import free_port
    from lib.stage import run_in_network
    run_in_network(CASES[name], Files(), free_port())


if __name__ == "__main__":
    main(sys.argv[1])
