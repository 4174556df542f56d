"""The seed of a random test, so that its failure can be repeated."""
import os
import random
import sys


def seed(default=None):
    """SEED of the environment, or else the default, or else a random number.

    It is printed, and pytest shows what a failing test has printed.
    """
    number = int(os.environ.get("SEED") or (
        random.SystemRandom().randrange(1 << 30) if default is None
        else default))
    print("seed %d" % number, file=sys.stderr)
    return number
