"""Calls on sockets are interrupted, or do a few bytes only: all is as ever."""
import pytest

import differential
from lib.inject import SOCKETS, InjectedMagent


class Stage:
    """Starts what differential.compare() asks for, with disturbed magents."""

    def __init__(self, stage):
        self.stage = stage
        self.memcached = stage.memcached
        self.memcacheds = stage.memcacheds
        self.client = stage.client

    def magent(self, *arguments):
        proxy = InjectedMagent(*arguments)
        self.stage.callback(proxy.close)
        proxy.inject(SOCKETS, 1)
        return proxy.start()


@pytest.mark.parametrize("setup", differential.SETUPS)
def test_replies_are_memcacheds(stage, setup):
    trouble = differential.compare(Stage(stage), setup, 1, 2000)
    assert trouble is None, trouble
