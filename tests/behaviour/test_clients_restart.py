"""Clients of applications, of which each works in peace, and while the primary
is killed and started again: they see no error and no wrong value, and all that
they have stored is there.

A program in tests/behaviour/clients/ drives the library.  It gets an operation
in words and says its answer in one line:

    set, add, append KEY VALUE      yes, or no if it was not stored
    get KEY                         the value, or -
    many KEY...                     the values, or - for each that is not there
    delete KEY, touch KEY TTL       yes, or no if it was not there
    incr KEY NUMBER                 the sum, or -

and error: and what the library says.  One client is alone with its keys; so
what it must be told is what a dictionary says.  scripts/test-clients installs
the libraries and runs these tests and those of test_real_clients.py.
"""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading

import pytest

from lib.net import wait_for
from lib.servers import ROOT
from lib.way import states
from test_real_clients import Driven

HERE = pathlib.Path(__file__).parent / "clients"
NUMBERS = ["n%d" % i for i in range(4)]
WORDS = ["key-%d" % i for i in range(24)]


def node(package):
    """The package is where scripts/test has put it, or where NODE_PATH says."""
    path = os.environ.get("NODE_PATH") or str(ROOT / "build-npm/node_modules")
    if not os.path.exists(os.path.join(path, package)):
        pytest.skip("%s of npm is not installed" % package)
    return ["env", "NODE_PATH=" + path, "node", str(HERE / "words.js"),
            package]


def java():
    return ["java", "-cp",
            "/usr/share/java/bsh.jar:/usr/share/java/spymemcached.jar",
            "bsh.Interpreter", str(HERE / "words.bsh")]


def go():
    """The library of Debian is below /usr/share/gocode."""
    source, program = HERE / "words.go", ROOT / "build" / "words-go"
    if shutil.which("go") is None or not os.path.exists(
            "/usr/share/gocode/src/github.com/bradfitz/gomemcache"):
        pytest.skip("golang and gomemcache are not installed")
    if not program.exists() or (
            program.stat().st_mtime < source.stat().st_mtime):
        program.parent.mkdir(exist_ok=True)
        draft = "%s.%d" % (program, os.getpid())
        subprocess.run(
            ["go", "build", "-o", draft, str(source)], check=True,
            env={**os.environ, "GO111MODULE": "off",
                 "GOCACHE": str(ROOT / "build" / "go-cache"),
                 "GOPATH": "/usr/share/gocode", "GOFLAGS": ""})
        os.replace(draft, program)
    return [str(program)]


def python(kind, program):
    def command():
        if shutil.which(program) is None:
            pytest.skip("%s is not installed" % program)
        return [sys.executable, str(HERE / "words.py"), kind]
    return command


ALL = "set add append get many delete incr touch"
# For each client: its command, what it can do, and how many operations it gets.
CLIENTS = {
    "node-memcached": (lambda: node("memcached"), ALL, 240),
    "node-memcache-client": (lambda: node("memcache-client"), ALL, 240),
    "gomemcache": (go, "set add get many delete incr", 240),
    "spymemcached": (java, ALL, 160),
    "nginx": (python("nginx", "nginx"), "set get delete", 240),
    "libmemcached-tools": (python("tools", "memccat"),
                           "set get has delete touch", 48),
    "meta-as-dalli-5": (python("meta", sys.executable),
                        ALL + " sets deletes", 240),
}


class Model:
    """What one memcached would say."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.held = {}

    def line(self, operations):
        """An operation, and the answer to it."""
        name = self.random.choice(operations)
        return getattr(self, name)()

    def key(self):
        return self.random.choice(WORDS)

    def value(self):
        length = self.random.choice((1, 30, 30, 30, 5000))
        return "".join(self.random.choices("abcxyz0189", k=length))

    def put(self, name, may):
        """Store if may says so of what is there."""
        key, value = self.key(), self.value()
        done = may(key)
        if done:
            self.held[key] = value
        return "%s %s %s" % (name, key, value), "yes" if done else "no"

    def set(self):
        return self.put("set", lambda key: True)

    def add(self):
        return self.put("add", lambda key: key not in self.held)

    def append(self):
        key, value = self.key(), "+"
        done = key in self.held
        if done:
            self.held[key] += value
        return "append %s %s" % (key, value), "yes" if done else "no"

    def sets(self):
        pairs = [(key, self.value()) for key in self.random.sample(WORDS, 5)]
        self.held.update(pairs)
        return "sets " + " ".join(map(" ".join, pairs)), "yes"

    def get(self):
        key = self.random.choice(WORDS + NUMBERS)
        return "get " + key, self.held.get(key, "-")

    def has(self):
        key = self.key()
        return "has " + key, "yes" if key in self.held else "no"

    def many(self, *keys):
        keys = keys or self.random.sample(WORDS, 7)
        return "many " + " ".join(keys), " ".join(
            self.held.get(key, "-") for key in keys)

    def delete(self):
        key = self.key()
        done = self.held.pop(key, None)
        return "delete " + key, "no" if done is None else "yes"

    def deletes(self):
        keys = self.random.sample(WORDS, 4)
        gone = [self.held.pop(key, None) for key in keys]
        return "deletes " + " ".join(keys), str(gone.count(None))

    def incr(self):
        key, by = self.random.choice(NUMBERS), self.random.randrange(1, 99)
        if key not in self.held:
            return "incr %s %d" % (key, by), "-"
        self.held[key] = str(int(self.held[key]) + by)
        return "incr %s %d" % (key, by), self.held[key]

    def touch(self):
        key = self.key()
        return "touch %s 3000" % key, "yes" if key in self.held else "no"


class Play:
    """A client that does what the model does, and must say the same."""

    def __init__(self, stage, name, proxy):
        command, operations, self.count = CLIENTS[name]
        self.operations = operations.split()
        self.client = stage.add(Driven(command(), proxy.port))
        self.model = Model(name)
        if "incr" in self.operations:
            for key in NUMBERS[1:]:
                self.model.held[key] = "5"
                self.ask("set %s 5" % key, "yes")

    def ask(self, line, answer):
        said = self.client.ask(line)
        assert said == answer, "%.99s\n%s" % (line, self.client.output())

    def go_on(self, count):
        for _ in range(count):
            self.ask(*self.model.line(self.operations))

    def check_all(self):
        """All keys, one by one and at once."""
        keys = WORDS + NUMBERS
        for key in keys:
            self.ask("get " + key, self.model.held.get(key, "-"))
        if "many" in self.operations:
            self.ask(*self.model.many(*keys))

    def check_held(self, *servers):
        """What the servers themselves have."""
        assert len(self.model.held) > 5
        for key, value in self.model.held.items():
            for server in servers:
                said = server.talk(b"get %s\r\n" % key.encode()).decode()
                assert said.split("\r\n")[1:2] == [value], key


@pytest.mark.parametrize("name", CLIENTS)
def test_client_in_peace_sees_what_it_has_stored(stage, pair, name):
    primary, backup, proxy = pair
    play = Play(stage, name, proxy)
    play.go_on(play.count)
    play.check_all()
    play.check_held(primary, backup)
    assert proxy.stats()["failovers"] == "0"


@pytest.mark.parametrize("name", CLIENTS)
def test_client_with_primary_killed_and_restarted_sees_no_error(
        stage, pair, name):
    """It goes on all the time.  In the end the primary has all alone."""
    primary, backup, proxy = pair
    play = Play(stage, name, proxy)
    play.go_on(play.count // 4)
    for do in primary.kill, lambda: primary.start(primary.port):
        thread = threading.Thread(target=do)
        thread.start()
        play.go_on(play.count // 4)
        thread.join()
        play.go_on(play.count // 8)
    wait_for(lambda: states(proxy) == ["up", "up"], "the return")
    play.check_all()
    play.check_held(primary, backup)
    assert proxy.stats()["failovers"] == "1"
    backup.kill()
    play.check_all()
    play.go_on(play.count // 8)
