"""Stop single threads of a process."""
import contextlib
import ctypes
import functools
import os
import pathlib
import subprocess

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4


def _ptrace(request, thread):
    if libc.ptrace(request, thread, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "ptrace %d" % request)


@functools.lru_cache(maxsize=None)
def can_stop():
    """Whether this process may do so."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        with stopped(child.pid):
            return True
    except OSError:
        return False
    finally:
        child.kill()
        child.wait()


def named(pid, name):
    """The threads that have this name, in the order of their numbers."""
    tasks = pathlib.Path("/proc/%d/task" % pid)
    return sorted(int(task.name) for task in tasks.iterdir()
                  if (task / "comm").read_text().strip() == name)


@contextlib.contextmanager
def stopped(thread):
    """The thread is stopped, and the others go on."""
    _ptrace(SEIZE, thread)
    _ptrace(INTERRUPT, thread)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        _ptrace(DETACH, thread)
