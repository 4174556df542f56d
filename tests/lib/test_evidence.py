"""A failing test shows what its processes said, and still its own failure."""
import os
import subprocess
import sys

import pytest

from lib.servers import ROOT

HEAD = """
import pytest
from lib.inject import InjectedMagent
from lib.servers import Memcached


class Counter(Memcached):
    def command(self):
        return ["seq", "1000"]

    def serves(self):
        return False


class Broken:
    def close(self):
        pass

    def evidence(self):
        raise ValueError("nothing to be had")


"""


@pytest.fixture(params=[[], ["-n", "2"]], ids=["alone", "xdist"])
def failing(request, tmp_path):
    """Run a failing test in a pytest of its own; what that printed."""
    def run(text):
        (tmp_path / "test_it.py").write_text(HEAD + text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "conftest", "-p",
             "no:cacheprovider", *request.param, "test_it.py"],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout
    return run


def test_failure_with_running_magent_shows_log_and_statistics(failing):
    shown = failing("""
def test_it(stage):
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-v")
    proxy.talk(b"get k\\r\\n")
    assert proxy.port == 0, "the original failure"
""")
    assert "the original failure" in shown
    assert "- memcached on port " in shown
    title = shown.index("- magent on port ")
    assert ", running -" in shown[title:]
    assert " -D -u root " in shown[title:] and " -v\n" in shown[title:]
    assert "running as root" in shown[title:]
    assert "\nstats servers:\nSTAT 0:address 127.0.0.1:" in shown[title:]
    assert "\nstats:\nSTAT pid " in shown[title:]
    assert "STAT cmd_get 1\n" in shown[title:]


def test_failure_after_magent_died_shows_its_status_and_log(failing):
    shown = failing("""
def test_it(stage):
    proxy = stage.add(InjectedMagent([stage.memcached()])).start()
    proxy.kill()
    proxy.talk(b"get k\\r\\n")
""")
    assert "ConnectionRefusedError" in shown
    title = shown.index("- injectedmagent on port ")
    assert ", ended with -9 -" in shown[title:]
    assert "running as root" in shown[title:]
    assert "stats servers:" not in shown


def test_failure_with_stopped_magent_says_that_it_does_not_answer(failing):
    shown = failing("""
def test_it(module_stage):
    proxy = module_stage.magent([module_stage.memcached()])
    proxy.stop()
    assert False, "the original failure"
""")
    assert "the original failure" in shown
    assert "stats servers: no answer: TimeoutError" in shown


def test_failure_with_long_output_shows_its_last_200_lines(failing):
    shown = failing("""
def test_it(stage):
    with pytest.raises(RuntimeError):
        stage.add(Counter()).start()
    assert False, "the original failure"
""")
    assert "(800 earlier lines are left out)\n801\n802\n" in shown
    assert "\n800\n" not in shown and "\n1000\n" in shown


def test_failure_with_broken_evidence_shows_the_rest(failing):
    shown = failing("""
def test_it(stage):
    stage.add(Broken())
    stage.memcached()
    assert False, "the original failure"
""")
    assert "the original failure" in shown
    assert "no evidence: " in shown and "- memcached on port " in shown


def test_failure_in_a_fixture_shows_what_it_has_started(failing):
    shown = failing("""
@pytest.fixture
def broken(stage):
    stage.magent([stage.memcached()])
    raise ValueError("the original failure")


def test_it(broken):
    pass
""")
    assert "the original failure" in shown
    assert "- magent on port " in shown and "\nstats:\n" in shown


def test_failure_with_a_seed_shows_it_and_takes_it(failing, monkeypatch):
    text = """
from lib.seed import seed


def test_it():
    seed(default=7)
    assert False
"""
    monkeypatch.delenv("SEED", raising=False)
    assert "\nseed 7\n" in failing(text)
    monkeypatch.setenv("SEED", "12345")
    assert "\nseed 12345\n" in failing(text)


def test_failure_of_a_scene_shows_its_seed_and_faults(failing):
    shown = failing("""
from faults import Plain, Scene


def test_it(stage):
    scene = Scene(stage, [Plain], [Plain], seed=99, control=False)
    scene.fault(scene.primaries[0], "kill at once")
    assert False, "the original failure"
""")
    assert "the original failure" in shown
    assert "- faults, seed 99, now " in shown
    assert " kill at once of primary 0 (127.0.0.1:" in shown
    assert "- plain on port " in shown and "- magent on port " in shown


def test_passing_test_shows_nothing(tmp_path):
    (tmp_path / "test_it.py").write_text("""
def test_it(stage):
    assert stage.magent([stage.memcached()]).talk(b"get k\\r\\n") == b"END\\r\\n"
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p",
         "no:cacheprovider", "-rA", "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "magent on port" not in done.stdout
