"""200,000 random commands: magent answers as memcached does.

DIFFERENTIAL says how many, SEED which; a build with sanitizers does fewer.
"""
import os

import pytest

import differential
from lib.seed import seed
from lib.servers import sanitized


@pytest.mark.parametrize("setup", differential.SETUPS)
def test_random_commands_get_the_replies_of_memcached(stage, setup):
    default = 30000 if sanitized() else 200000
    commands = int(os.environ.get("DIFFERENTIAL", default))
    trouble = differential.compare(
        stage, setup, seed(default=1), commands // len(differential.SETUPS))
    assert trouble is None, trouble
