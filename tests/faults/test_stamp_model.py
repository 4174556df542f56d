"""The rules of stamps hold in all interleavings, and each of them is needed."""
import argparse
import os

import pytest

import stamp_model
import without_rules
from lib.servers import sanitized

# The processors have more to do with the sanitizers.
pytestmark = pytest.mark.skipif(sanitized(), reason="runs no magent")

SMALL = {"world": "pair", "without": None, "writes": 2, "faults": 1, "moves": 1,
         "evictions": 0, "flushes": 0, "split": False, "both": False,
         "marks": False, "max": 1000000}
BOTH = {"both": True, "moves": 0, "writes": 1}
MARKS = {"marks": True, "writes": 1}
# For each rule, where a violation is found without it.
NEEDED = {
    "bump": {},
    "rebump": {"split": True, "moves": 2},
    "confirm": {"moves": 2},
    "fence": {},
    "fencedown": {"faults": 2},
    "goal": {"writes": 3},
    "claim": {"writes": 3},
    "recheck": {},
    "own": {"writes": 3},
    "strip": {"moves": 3},
    "flushbump": {"flushes": 1},
    "twin": {"evictions": 1},
    "part": {"world": "backups"},
    "await": BOTH,
    "company": BOTH,
    "left": {**BOTH, "flushes": 1},
    "mark": MARKS,
    "doubt": MARKS,
    "remark": {**MARKS, "writes": 3, "flushes": 1},
}
# A violation that is found sooner by few steps than by many.
SHALLOW = {"remark"}


@pytest.fixture(autouse=True)
def in_the_background():
    """It only computes: the tests beside it measure time."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def explore(is_deep=False, **bounds):
    return stamp_model.Model(
        argparse.Namespace(**{**SMALL, **bounds})).explore(is_deep)


@pytest.mark.parametrize("world", stamp_model.WORLDS)
def test_nothing_old_is_read_in_any_interleaving(world):
    path, states = explore(world=world)
    assert path is None
    assert states > 10000


@pytest.mark.parametrize("bounds", [
    {**BOTH, "flushes": 1}, {**BOTH, "writes": 2, "split": True},
    {**BOTH, "moves": 1}, MARKS], ids=["flush", "split", "death", "marks"])
@pytest.mark.parametrize("world", ["pair", "shared"])
def test_so_it_is_with_two_that_serve_and_with_marks(world, bounds):
    path, states = explore(world=world, **bounds)
    assert path is None
    assert states > 1000


@pytest.mark.parametrize("rule", stamp_model.RULES)
def test_rule_is_needed(rule):
    path, _ = explore(rule not in SHALLOW, without=rule, **NEEDED[rule])
    assert path is not None


@pytest.mark.parametrize("rule", without_rules.RULES)
def test_rule_can_be_switched_off_in_the_sources(rule, tmp_path):
    """tests/tools/without_rules.py knows where each of them is kept."""
    without_rules.copy_sources(tmp_path)
    without_rules.switch_off(rule, tmp_path)
