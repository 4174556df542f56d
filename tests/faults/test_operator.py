"""Servers are taken out for maintenance under load, and no client sees it.

The load and the checker are those of the faults: the history of each key must
be that of one register that nothing ever happened to.
"""
import pytest

from faults import Plain, Replacer, Scene, fill, missing
from lib.net import Client, wait_for
from lib.servers import sanitized

ROUNDS = 1 if sanitized() else 3
KEYS = 1000


@pytest.fixture
def scene(stage, tmp_path):
    """Two primaries and two backups, each of which may be taken out."""
    path = tmp_path / "admin"
    scene = Scene(stage, [Plain] * 2, [Plain] * 2, "--admin=%s" % path)
    operator = stage.add(Client(path, timeout=60))

    def say(server, word):
        scene.note("%s of %s" % (word, scene.name(server)))
        return operator.ask(b"server %s %s\r\n" % (
            server.address.encode(), word.encode()))

    scene.say = say
    fill(scene.proxy, KEYS)
    return scene


def group(scene, role):
    return scene.primaries if role == "primary" else scene.backups


def check(scene, were_flushed=False):
    verdict = scene.check(late=False)
    assert verdict.errors == verdict.anomalies == verdict.closed == 0
    assert scene.diverged() == {}
    assert were_flushed or missing(scene.proxy, KEYS) == 0


def is_held(scene, server):
    return scene.each("held")[server.address] == "yes"


@pytest.mark.parametrize("role", ["primary", "backup"])
def test_memcached_is_drained_replaced_and_let_in_again(scene, role):
    """Drain, stop the process, start an empty one on its port, up."""
    scene.start_load(flush=0)
    for i in range(ROUNDS):
        victim = group(scene, role)[i % 2]
        assert scene.say(victim, "drain") == b"OK\r\n"
        assert is_held(scene, victim)
        victim.kill()
        scene.load.work(1000)
        victim.start(victim.port)
        assert scene.say(victim, "up") == b"OK\r\n"
        scene.wait_up()
        scene.load.work(1000)
    check(scene)
    stats = scene.stats("")
    # Nothing failed, and nothing was asked twice.
    assert stats["server_failures"] == stats["server_timeouts"] == "0"


@pytest.mark.parametrize("word", ["drain", "down"])
@pytest.mark.parametrize("role", ["primary", "backup"])
def test_server_that_is_out_for_a_moment_is_whole_again(scene, role, word):
    scene.start_load()
    for i in range(3 * ROUNDS):
        victim = group(scene, role)[i % 2]
        assert scene.say(victim, word) == b"OK\r\n"
        assert is_held(scene, victim)
        scene.load.work(500)
        assert scene.say(victim, "up") == b"OK\r\n"
        scene.wait_up()
    check(scene, were_flushed=True)


@pytest.mark.parametrize("role", ["primary", "backup"])
def test_server_is_filled_anew(scene, role):
    scene.start_load(flush=0)
    for i in range(ROUNDS):
        victim = group(scene, role)[i % 2]
        before = scene.connects(victim)
        assert scene.say(victim, "rebuild") == b"OK\r\n"
        wait_for(lambda: scene.connects(victim) > before, "the return")
        scene.wait_up()
        scene.load.work(500)
    check(scene)


def test_words_and_replacements_of_magent_do_not_mix(scene):
    """Any word at any moment of a handover: what was answered with OK is so in
    the next program."""
    scene.start_load(flush=0)
    replacer = Replacer(scene.proxy, 0.7)
    replacer.start()
    for _ in range(30 * ROUNDS):
        victim = scene.dice.choice(scene.servers)
        word = scene.dice.choice(["drain", "down", "rebuild", "up", "up"])
        if scene.say(victim, word) == b"OK\r\n" and word != "rebuild":
            assert is_held(scene, victim) == (word != "up")
        scene.load.work(100)
    wait_for(lambda: replacer.count() > 0, "a replacement")
    replacer.finish()
    for server in scene.servers:
        assert scene.say(server, "up") == b"OK\r\n"
    scene.wait_up()
    check(scene)


def test_both_of_two_partners_in_turn(scene):
    """Each is drained as soon as the other one is back, and lacks nothing of what
    was written meanwhile."""
    scene.start_load(flush=0)
    for i in range(2 * ROUNDS):
        for victim in scene.primaries[0], scene.backups[0]:
            wait_for(lambda: scene.say(victim, "drain") == b"OK\r\n",
                     "the partners to be up", timeout=60)
            assert scene.say(victim, "up") == b"OK\r\n"
    scene.wait_up()
    check(scene)
