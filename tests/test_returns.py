"""A server that returns is never believed too early: faults under load.

Many clients work on few keys while servers fail and come back, one at a time
and again as soon as all are up; the history of each key must be that of one
register that nothing ever happened to.
"""
import itertools

import pytest

from faults import (Front, Isolated, Load, Plain, Relayed, Scene, can_isolate,
                    contents, fill, inflict, missing)

FAULTS = 4              # of each kind and role

KINDS = [(kind, server) for server, kinds in (
    (Isolated, Isolated.kinds), (Relayed, ("rst", "fin", "hold", "stall")))
    for kind in kinds]

needs_network = pytest.mark.skipif(
    not can_isolate(), reason="cannot make network namespaces")


@needs_network
@pytest.mark.parametrize("role", ["primary", "backup"])
@pytest.mark.parametrize("kind, server", KINDS,
                         ids=[kind for kind, _ in KINDS])
def test_faults(stage, kind, server, role):
    scene = Scene(stage, [server] * 2, [server] * 2)
    fill(scene.proxy, 1000)
    scene.start_load()
    group = scene.primaries if role == "primary" else scene.backups
    for victim in itertools.islice(itertools.cycle(group), FAULTS):
        scene.fault(victim, kind)
    scene.check()
    assert missing(scene.proxy, 1000) == 0
    assert scene.diverged() == {}


def test_checker_sees_a_restart(stage):
    """The load and the checker find what they are for: an empty memcached."""
    server = stage.memcached()
    load = Load(server, clients=10, rate=5000)
    stage.callback(load.close)
    load.work(2000)
    server.restart()
    load.work(2000)
    verdict = load.end()
    assert verdict.anomalies > 0 and verdict.closed > 0
    assert "-> -" in verdict.report
