"""Several magents serve clients from the same servers at the same time: one on
each web server, or one for each half of the keys.
"""
import signal

import pytest

from faults import Load, Plain
from lib.net import wait_for
from lib.servers import sanitized
from takeover import LOAD, READS, Row, Takeover

WORK = 15000            # operations


def scrub(scene):
    """Have both copies of each key compared, by the first magent."""
    proxy = scene.proxies[0]
    done = int(proxy.stats()["scrub_passes"])
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: int(proxy.stats()["scrub_passes"]) > done, "the pass", 60)


def test_clients_of_two_magents_share_their_keys(stage):
    """Each reads what any other one has written.  What was written in the same
    millisecond may be in another order on the mirror, until a pass ends."""
    scene = Takeover(stage, "three", Plain)
    scene.start_load(others=scene.proxies[1:], clients=48, rate=12000)
    scene.load.work(WORK // 5 if sanitized() else WORK)
    scene.check()
    scrub(scene)
    assert scene.diverged() == {}


@pytest.mark.parametrize("victim", ["primary", "backup"])
def test_magent_of_half_of_the_keys_is_killed(stage, victim):
    """Its clients turn to the one of the other half, which has the servers the
    other way round; then a server fails."""
    scene = Takeover(stage, "crossed", Plain)
    other = stage.add(Load(scene.proxies[1], **LOAD, name="other:"))
    scene.start_load()
    other.work(READS)
    scene.kill_and_move()
    scene.wait_up()
    scene.lose_partner(Row("crossed", victim, "no fault", "killed"))
    other.work(READS)
    scene.check()
    verdict = other.end()
    assert verdict.faultless(), "%s\n%s" % (verdict, verdict.report[:4000])
