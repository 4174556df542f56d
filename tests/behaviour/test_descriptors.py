"""Limits of open files and clients: what happens when none is left."""
import contextlib
import os
import pathlib
import re
import resource
import time

import pytest

from lib.daemon import admitted, as_nobody, needs_root
from lib.net import Client, wait_for

pytestmark = pytest.mark.usefixtures("reaper")


def open_files_limit(pid):
    text = pathlib.Path("/proc/%d/limits" % pid).read_text()
    return list(map(int, re.search(
        r"Max open files\s+(\d+)\s+(\d+)", text).groups()))


def low_limit(soft, hard, user=lambda: None):
    def set_limit():
        user()      # it reads files, for which there must be room
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return set_limit


def test_soft_limit_of_files_is_raised_for_option_n(run):
    magent = run("-n", "500", preexec_fn=low_limit(64, 1000)).ready()
    soft, hard = open_files_limit(magent.pid)
    assert 500 < soft <= 1000
    assert "open files" not in magent.output()


@needs_root
def test_hard_limit_of_files_is_raised_by_root(run):
    try:
        magent = run("-n", "2000", user="nobody",
                     preexec_fn=low_limit(64, 100)).ready()
    except AssertionError:
        pytest.skip("this root may not")
    if "open files" not in magent.output():
        assert open_files_limit(magent.pid)[0] > 2000


@needs_root
def test_limit_of_files_that_cannot_be_raised_is_logged(run):
    magent = run("-n", "2000", user=None,
                 preexec_fn=low_limit(100, 200, as_nobody)).ready()
    assert open_files_limit(magent.pid) == [200, 200]
    assert re.search(r"the limit of 200 open files leaves room for \d+ "
                     r"clients, not for -n 2000", magent.output())


def test_client_over_option_n_is_refused_and_place_is_reused(run):
    """As with memcached: a client too many gets an error line, and the place of
    one that has left is free again."""
    magent = run("-n", "3").ready()
    clients = [wait_for(lambda: admitted(magent), "a place")
               for _ in range(3)]
    for _ in range(20):
        with Client(magent.port) as refused:
            assert refused.read_to_end() == \
                b"ERROR Too many open connections\r\n"
    clients.pop().close()
    clients.append(wait_for(lambda: admitted(magent), "a place"))
    for client in clients:
        assert client.ask(b"version\r\n").startswith(b"VERSION ")
    for client in clients:
        client.close()


def cpu_seconds(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text()
    user, system = fields.rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def stats_of(client):
    client.send(b"stats\r\n")
    return client.read_until(b"END\r\n")


def test_magent_without_descriptors_serves_on_and_recovers(run):
    """It pauses accepting, serves on, and recovers within a second or two."""
    magent = run().ready()
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(Client(magent.port))
        old.ask(b"version\r\n")
        used = len(os.listdir("/proc/%d/fd" % magent.pid))
        limit = resource.prlimit(magent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(magent.pid, resource.RLIMIT_NOFILE,
                         (used + 3, limit[1]))
        waiting = [stack.enter_context(Client(magent.port))
                   for _ in range(30)]
        before = cpu_seconds(magent.pid)
        started = time.monotonic()
        while time.monotonic() - started < 1:
            assert old.ask(b"version\r\n").startswith(b"VERSION ")
            time.sleep(.05)
        assert cpu_seconds(magent.pid) - before < .3
        assert b"STAT accepting_conns 0\r\n" in stats_of(old)
        resource.prlimit(magent.pid, resource.RLIMIT_NOFILE, limit)
        for client in waiting:
            assert client.ask(b"version\r\n").startswith(b"VERSION ")
        assert b"STAT accepting_conns 1\r\n" in stats_of(old)
