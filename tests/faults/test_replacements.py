"""A magent is replaced in place, again and again, under load: while its servers
fail and return, and while there is nothing else to notice."""
import itertools

import pytest

from faults import (TIMEOUT_MS, Isolated, Plain, Replacer, Scene, can_isolate,
                    fill, missing)
from lib.servers import sanitized

FAULTS = 2 if sanitized() else 4
OFTEN = 0.7 if sanitized() else 0.3     # seconds between two replacements
ALONE = 5 if sanitized() else 20


def inflict_beside_replacements(scene, victims, kind):
    """Faults of one server after the other, at least FAULTS, and as many more as
    come until the magent has been replaced twice."""
    replacer = Replacer(scene.proxy, OFTEN)
    replacer.start()
    for number, victim in enumerate(itertools.cycle(victims)):
        if number >= FAULTS and replacer.count() > 1:
            break
        scene.fault(victim, kind)
    replacer.finish()


@pytest.mark.parametrize("role", ["primary", "backup"])
@pytest.mark.parametrize("kind", ["kill", "stop"])
def test_faults_beside_replacements_are_not_seen(stage, kind, role):
    scene = Scene(stage, [Plain] * 2, [Plain] * 2)
    fill(scene.proxy, 1000)
    scene.start_load(flush=0)
    group = scene.primaries if role == "primary" else scene.backups
    inflict_beside_replacements(scene, group, kind)
    scene.check()
    assert missing(scene.proxy, 1000) == 0
    assert scene.diverged() == {}


@pytest.mark.skipif(not can_isolate(), reason="cannot make network namespaces")
def test_server_that_is_cut_off_beside_replacements_is_not_seen(stage):
    scene = Scene(stage, [Isolated], [Isolated])
    fill(scene.proxy, 1000)
    scene.start_load(flush=0)
    inflict_beside_replacements(scene, scene.servers, "unplugged")
    scene.check()
    assert missing(scene.proxy, 1000) == 0
    assert scene.diverged() == {}


def test_replacements_are_not_seen(stage):
    """Nor does any request wait for long."""
    scene = Scene(stage, [Plain] * 2, [Plain])
    fill(scene.proxy, 1000)
    scene.start_load(flush=0.5)
    replacer = Replacer(scene.proxy, OFTEN)
    replacer.start()
    while replacer.count() < ALONE:
        scene.load.work(1000)
    replacer.finish()
    verdict = scene.check()
    # A server that is not run for so long is given up.
    if verdict.noise_ms < TIMEOUT_MS / 4:
        assert scene.stats()["failovers"] == "0"
        assert verdict.late == 0 or sanitized()
