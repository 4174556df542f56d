"""Limits at the numbers of daily life: readers, clients, storms, descriptors.

With NUMBERS=full the long ones run as long as scripts/numbers says.
"""
import contextlib
import os
import pathlib
import resource
import subprocess
import time

import pytest

from lib.daemon import admitted
from lib.net import Client, wait_for
from lib.servers import built, sanitized

FULL = os.environ.get("NUMBERS") == "full"
MIB = 1 << 20
TOO_MANY = b"ERROR Too many open connections\r\n"
SLOW = 4 if sanitized() else 1      # times that it takes, about


pytestmark = pytest.mark.usefixtures("enough_files")


def slowest(proxy, rounds=300):
    """The 99th percentile of set and get, in seconds."""
    times = []
    with proxy.client() as client:
        for i in range(rounds):
            start = time.monotonic()
            assert client.talk(b"set s 0 0 1\r\n%d\r\nget s\r\n" % (i % 10)) == (
                b"STORED\r\nVALUE s 0 1\r\n%d\r\nEND\r\n" % (i % 10))
            times.append(time.monotonic() - start)
    return sorted(times)[rounds * 99 // 100]


def test_1000_clients_that_ask_for_10_gb_each_and_read_nothing(stage):
    """10,000 values of 1 MB for each of them.  The budget holds; others wait
    until those that read nothing are closed, and then for nobody."""
    size = 1000 * 1000
    count = 1000 // SLOW
    proxy = stage.magent([stage.memcached()], [], "-m", 64, "-t", 5000)
    proxy.talk(b"set big 0 0 %d\r\n%s\r\n" % (size, bytes(size)))
    for _ in range(3):
        proxy.talk(b"get big\r\n")
    before = proxy.rss()
    clients = [stage.client(proxy, receive_buffer=4096) for _ in range(count)]
    for client in clients:
        client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.send(b"get big\r\n" * 10000)
    with proxy.client(timeout=90) as other:
        for _ in range(10):
            assert other.talk(b"set s 0 0 1\r\nx\r\n") == b"STORED\r\n"
    # Replies become errors at three times -m; each client takes some besides.
    assert proxy.peak_rss() - before < 4 * 64 * MIB or sanitized()
    for client in clients:
        client.close()
    wait_for(lambda: proxy.stats()["curr_connections"] == "1", "their end")
    assert slowest(proxy) < SLOW


def stats(client):
    client.send(b"stats\r\n")
    text = client.read_until(b"END\r\n").decode()
    return dict(line.split(" ", 2)[1:] for line in text.splitlines()
                if line.startswith("STAT "))


def test_5000_clients_over_option_n_are_refused_and_counted(stage):
    proxy = stage.magent([stage.memcached()], [], "-n", 100)
    clients = [stage.add(wait_for(lambda: admitted(proxy), "a place"))
               for _ in range(100)]
    rejected = int(stats(clients[0])["rejected_connections"])
    for i in range(0, 5000, 250):
        more = [Client(proxy.port) for _ in range(250)]
        for client in more:
            assert client.read_to_end() == TOO_MANY
            client.close()
    said = stats(clients[0])
    assert int(said["rejected_connections"]) == rejected + 5000
    assert said["curr_connections"] == said["max_connections"] == "100"
    for i in range(20):
        clients.pop().close()
        wait_for(lambda: stats(clients[0])["curr_connections"] == "99",
                 "the place", pause=0)
        clients.append(stage.client(proxy))
        assert clients[-1].talk(b"get k\r\n") == b"END\r\n"


def test_storm_of_clients_leaves_nothing_behind(stage):
    """20,000 in a second come and go."""
    proxy = stage.magent([stage.memcached()])
    files = pathlib.Path("/proc/%d/fd" % proxy.pid)
    # The port goes first: 127.0.0.1 is where it listens.
    storm = [built("storm"), str(proxy.port), str(20000 // SLOW)]
    subprocess.run([*storm, "2"], check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: proxy.stats()["curr_connections"] == "1", "their end")
    before, used = proxy.rss(), len(list(files.iterdir()))
    with proxy.client() as client:
        running = stage.enter_context(subprocess.Popen(
            [*storm, "600" if FULL else "5"], stdout=subprocess.PIPE))
        while running.poll() is None:
            start = time.monotonic()
            assert client.talk(b"set k 0 0 1\r\nx\r\nget k\r\n") == (
                b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n")
            assert time.monotonic() - start < SLOW
            time.sleep(0.05)
        assert running.returncode == 0
    print("connections in a second:", int(running.stdout.read()))
    wait_for(lambda: proxy.stats()["curr_connections"] == "1", "their end")
    wait_for(lambda: len(list(files.iterdir())) <= used, "no more files", 5)
    assert proxy.rss() - before < 2 * MIB or sanitized()


def limit_files(proxy, soft):
    hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (soft, hard))


def state(client):
    client.send(b"stats servers\r\n")
    text = client.read_until(b"END\r\n").decode()
    return [line.split()[2] for line in text.splitlines()
            if ":state " in line]


def test_servers_return_although_clients_take_all_40_descriptors(stage):
    """prlimit --nofile=40: clients wait, at little cost; a server that was
    restarted is connected to; when some leave, others come at once."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    first = stage.client(proxy)
    wait_for(lambda: state(first) == ["up", "up"], "both servers")
    limit_files(proxy, 40)
    clients = [stage.client(proxy) for _ in range(100)]
    for client in clients:
        client.send(b"version\r\n")
    wait_for(lambda: b"accepting_conns 0" in first.talk(b"stats\r\n"),
             "the pause")
    before = proxy.cpu_seconds()
    time.sleep(2)       # the time over which the load is measured
    assert proxy.cpu_seconds() - before < 0.1
    for server in primary, backup:
        server.restart()
        wait_for(lambda: state(first) == ["up", "up"] and
                 server.stats()["total_connections"] > "2", "the return")
    assert first.talk(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    wait_for(lambda: primary.holds(b"k") == backup.holds(b"k") != b"EN\r\n",
             "the effect")
    served = [client for client in clients if is_answered(client, 0)]
    assert 0 < len(served) < 40
    waiting = [client for client in clients if client not in served]
    for client in served:
        client.close()
    start = time.monotonic()
    assert is_answered(waiting[0], 5)
    assert time.monotonic() - start < SLOW
    limit_files(proxy, 200)
    for client in waiting[1:]:
        assert is_answered(client, 5)
    assert b"accepting_conns 1" in first.talk(b"stats\r\n")


def is_answered(client, timeout):
    client.socket.settimeout(timeout or 0.01)
    try:
        return client.read_line().startswith(b"VERSION")
    except (TimeoutError, BlockingIOError):
        return False
