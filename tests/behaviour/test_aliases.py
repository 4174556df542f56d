"""One memcached that is given under two names, and two that look like one."""
import os
import socket
import subprocess
import time

import pytest

from lib.net import free_port, wait_for
from lib.servers import Memcached


class Named:
    """A server under another name."""

    def __init__(self, server, host):
        self.address = "%s:%d" % (host, server.port)


def warnings(magent):
    return [line.split("warning: ", 1)[1]
            for line in magent.output().splitlines()
            if "is the same process" in line]


@pytest.mark.parametrize("as_backup", [False, True])
def test_process_under_two_names_is_warned_of(stage, as_backup):
    server = stage.memcached()
    other = Named(server, "localhost")
    magent = stage.magent(*([server], [other]) if as_backup else
                          ([server, other],))
    wait_for(lambda: warnings(magent), "the warning")
    text = "is the same process as %s: each write is done twice"
    assert warnings(magent)[0] in (
        "s %s: %s" % (server.address, text % other.address),
        "s %s: %s" % (other.address, text % server.address))
    assert server.item_count() == 0


def test_process_under_two_names_is_warned_of_again_when_it_is_another(stage):
    """Each life of the server is looked at when it is identified."""
    server = stage.memcached()
    magent = stage.magent([server], [Named(server, "localhost")])
    wait_for(lambda: warnings(magent), "the warning")
    said = len(warnings(magent))
    server.restart()
    wait_for(lambda: len(warnings(magent)) > said, "the warning")


def test_process_in_both_lists_under_one_name_is_not_warned_of(stage):
    server = stage.memcached()
    magent = stage.magent([server], [server])
    assert magent.talk(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
    wait_for(lambda: magent.stats("servers")["0:state"] == "up", "the server")
    assert warnings(magent) == []


def alike(stage, n, script=None):
    """Servers that say the same of themselves, as those of containers: pid 1,
    one version, one port inside, started in the same second."""
    fakes = [stage.fake(script) for _ in range(n)]
    settings = {"tcpport": 11211, "item_size_max": 1048576}
    for fake in fakes:
        fake.pid, fake.born = 1, fakes[0].born
        fake._settings = lambda: settings
    return fakes


def test_two_processes_that_say_the_same_of_themselves_are_no_alias(stage):
    fakes = alike(stage, 3)
    magent = stage.magent(fakes[:2], fakes[2:])
    wait_for(lambda: sum(command.startswith(b"delete magent:")
                         for fake in fakes for command in fake.commands) >= 6,
             "each two to be compared, and what was set to be deleted")
    assert warnings(magent) == []


class Contained(Memcached):
    """A memcached with pid 1, on an address of its own."""

    def __init__(self, host):
        super().__init__()
        self.host = host

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    def command(self):
        command = super().command()
        command[command.index("-l") + 1] = self.host
        return ["unshare", "-p", "-f", "--kill-child", *command]

    def stats(self, argument=""):
        with socket.create_connection((self.host, self.port)) as connection:
            connection.sendall(b"stats\r\n")
            lines = connection.makefile("r")
            return dict(line.split()[1:3] for line in
                        iter(lines.readline, "END\n"))

    def serves(self):
        try:
            return self.stats()["pid"] == "1"
        except OSError:
            return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_memcacheds_of_two_containers_are_no_alias(stage):
    """All that they say of themselves may be the same, also the port."""
    if subprocess.run(["unshare", "-p", "-f", "true"],
                      stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no process namespaces here")

    def start_of(server):
        stats = server.stats()
        return int(stats["time"]) - int(stats["uptime"])

    servers = [stage.add(Contained("127.0.0.%d" % n)) for n in (2, 3)]
    port = free_port()
    for _ in range(20):
        for server in servers:
            server.start(port)
        if start_of(servers[0]) == start_of(servers[1]):
            break
        for server in servers:
            server.kill()
    magent = stage.magent(servers)
    wait_for(lambda: all(
        int(server.stats()["delete_misses"]) +
        int(server.stats()["delete_hits"]) > 0 for server in servers),
        "the comparison")
    assert magent.talk(b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"
    assert warnings(magent) == []


def test_server_hung_in_the_comparison_delays_nobody(stage):
    def hang(link, line, _):
        return link.hang() if line.startswith(b"set magent:") else None
    fakes = alike(stage, 2, hang)
    magent = stage.magent(fakes, [stage.memcached()])
    start = time.monotonic()
    for i in range(20):
        assert magent.talk(b"set k%d 0 0 1\r\nx\r\n" % i) == b"STORED\r\n"
    assert time.monotonic() - start < 3
    assert warnings(magent) == []
