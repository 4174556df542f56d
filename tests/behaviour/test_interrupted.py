"""Calls on sockets are interrupted, or do a few bytes only: all is as ever."""
import pytest

import differential
from lib.inject import SOCKETS, InjectedMagent
from lib.seed import seed


class Stage:
    """Starts what differential.compare() asks for, with disturbed magents."""

    def __init__(self, stage):
        self.stage = stage
        self.memcached = stage.memcached
        self.memcacheds = stage.memcacheds
        self.client = stage.client

    def magent(self, *arguments):
        proxy = self.stage.add(InjectedMagent(*arguments))
        proxy.inject(SOCKETS, 1)
        return proxy.start()


@pytest.mark.parametrize("setup", differential.SETUPS)
def test_random_commands_over_interrupted_sockets_equal_memcached(
        stage, setup):
    trouble = differential.compare(
        Stage(stage), setup, seed(default=1), 2000)
    assert trouble is None, trouble
