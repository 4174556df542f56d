"""Fixtures of the tests of magent as a process."""
import ctypes
import os
import pathlib
import resource
import signal
import tempfile

import pytest

from lib.daemon import Daemon, Run, children


@pytest.fixture(scope="module")
def reaper():
    """Daemons become children of this process, which gets their status, and
    ends those that a failed test has lost."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    before = children()
    yield
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ctypes.CDLL(None).prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.fixture
def enough_files():
    """For thousands of clients of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def memcached(module_stage):
    return module_stage.memcached()


@pytest.fixture
def open_directory():
    """A directory that every user may search."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


@pytest.fixture
def run(stage, memcached):
    """Start magent in the foreground before one memcached."""
    def start(*options, **keywords):
        return stage.add(
            Run("-D", "-s", memcached.address, *options, **keywords))
    return start


@pytest.fixture
def daemon(stage, memcached, tmp_path):
    """Start magent in the background before one memcached."""
    def start(*options, pid_file=tmp_path / "pid", **keywords):
        return stage.add(Daemon(pid_file, "-s", memcached.address, *options,
                                **keywords))
    return start
