"""What a request costs, in instructions outside the kernel: their number does
not depend on the machine, and hardly on what else runs there."""
import pathlib
import re
import subprocess
import tempfile

import pytest

from lib.servers import Magent, built_load, sanitized

pytestmark = [
    pytest.mark.skipif(sanitized(), reason="instructions of the sanitizer"),
    pytest.mark.skipif(not pathlib.Path("/usr/bin/valgrind").exists(),
                       reason="there is no valgrind"),
]


class Counted(Magent):
    """Runs under callgrind."""

    def __init__(self, directory, *arguments):
        super().__init__(*arguments)
        self.file = pathlib.Path(tempfile.mkdtemp(dir=directory)) / "callgrind"

    def command(self):
        return ["valgrind", "-q", "--tool=callgrind",
                "--callgrind-out-file=%s" % self.file, *super().command()]

    def _control(self, what):
        subprocess.run(["callgrind_control", what, str(self.pid)], check=True,
                       stdout=subprocess.DEVNULL)

    def instructions(self, load):
        """How many it executes while the load runs."""
        self._control("-z")
        load()
        dumps = set(self._dumps())
        self._control("-d")
        new, = set(self._dumps()) - dumps
        return int(re.search(r"^totals: (\d+)", new.read_text(), re.M)[1])

    def _dumps(self):
        return self.file.parent.glob(self.file.name + ".*")


def cost(proxy, requests, *options, clients=50):
    """Instructions for each request."""
    words = ["-p", proxy.port, "-c", clients, "-n", requests, *options]
    with subprocess.Popen([built_load(), "-w", *map(str, words)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as load:
        def run():
            load.stdin.write("\n")
            load.stdin.flush()
            assert load.stdout.readline().startswith("requests ")
        try:
            assert load.stdout.readline() == "ready\n"
            return proxy.instructions(run) / requests
        finally:
            load.kill()


@pytest.fixture
def magent(stage, tmp_path):
    def start(backups=0, servers=2):
        return stage.add(Counted(
            tmp_path, stage.memcacheds(servers), stage.memcacheds(backups),
            "-t", 8000, "-n", 10000)).start()
    return start


@pytest.mark.parametrize("backups, requests, options, limit", [
    (0, 8000, [], 3080),
    (0, 8000, ["-s", "100"], 3290),
    (1, 8000, ["-s", "100"], 4180),
    (0, 2000, ["-k", "20"], 22330),
    (0, 1000, ["-k", "100"], 97530),
    (0, 16000, ["-d", "16"], 2460),
], ids=["get", "set", "mirrored set", "get of 20 keys", "get of 100 keys",
        "pipelined get"])
def test_request_takes_few_instructions(magent, backups, requests, options,
                                        limit):
    found = cost(magent(backups), requests, *options)
    print("%.0f instructions" % found)
    assert found < 1.05 * limit


@pytest.mark.parametrize("options", [[], ["-s", 100]], ids=["get", "set"])
def test_many_clients_or_servers_make_no_request_dearer(magent, stage, options):
    """With as many requests on the way to each server, or more."""
    few = magent()
    usual = cost(few, 8000, *options)
    dearer = {
        "2000 clients": cost(few, 20000, *options, clients=2000),
        "5000 idle clients": cost(few, 8000, "-i", 5000, *options),
    }
    stage.remove(few)
    dearer["64 servers"] = cost(magent(servers=64), 15000, *options,
                                clients=1600)
    print(usual, dearer)
    assert max(dearer.values()) < 1.1 * usual
