"""One memcached that is given under two names, and two that look like one."""
import os
import subprocess
import time

import pytest

from lib.net import wait_for
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
    assert server.stats()["curr_items"] == "0"


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


def test_two_processes_that_say_the_same_of_themselves_are_no_alias(stage):
    """As in containers: pid 1, one version, started in the same second."""
    fakes = [stage.fake() for _ in range(3)]
    for fake in fakes:
        fake.pid, fake.born = 1, fakes[0].born
    magent = stage.magent(fakes[:2], fakes[2:])
    wait_for(lambda: sum(command.startswith(b"delete magent:")
                         for fake in fakes for command in fake.commands) >= 6,
             "each two to be compared, and what was set to be deleted")
    assert warnings(magent) == []


class Contained(Memcached):
    """A memcached with pid 1."""

    def command(self):
        return ["unshare", "-p", "-f", "--kill-child", *super().command()]

    def serves(self):
        try:
            return self.stats()["pid"] == "1"
        except (OSError, EOFError):
            return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_memcacheds_of_two_containers_are_no_alias(stage):
    if subprocess.run(["unshare", "-p", "-f", "true"],
                      stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no process namespaces here")

    def start_of(server):
        stats = server.stats()
        return int(stats["time"]) - int(stats["uptime"])

    servers = [stage.add(Contained()) for _ in range(2)]
    for _ in range(10):
        for server in servers:
            server.start(server.port)
        if start_of(servers[0]) == start_of(servers[1]):
            break
        for server in servers:
            server.kill()
    magent = stage.magent(servers)
    key = b"set a 0 0 1\r\nx\r\n"
    wait_for(lambda: all(server.stats()["delete_misses"] == "1" or
                         server.stats()["delete_hits"] == "1"
                         for server in servers), "the comparison")
    assert magent.talk(key) == b"STORED\r\n"
    assert warnings(magent) == []


def test_server_hung_in_the_comparison_delays_nobody(stage):
    def hang(link, line, _):
        return link.hang() if line.startswith(b"set magent:") else None
    fakes = [stage.fake(hang), stage.fake(hang)]
    for fake in fakes:
        fake.pid, fake.born = 1, fakes[0].born
    magent = stage.magent(fakes, [stage.memcached()])
    start = time.monotonic()
    for i in range(20):
        assert magent.talk(b"set k%d 0 0 1\r\nx\r\n" % i) == b"STORED\r\n"
    assert time.monotonic() - start < 3
    assert warnings(magent) == []
