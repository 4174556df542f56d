"""Fixtures: what a test starts is ended after it, whatever happens."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "tools"), str(HERE / "faults")]

from lib.stage import Stage  # noqa: E402


TABLES = "test_takeover", "test_returns"    # long ones, of faults


def pytest_addoption(parser):
    parser.addoption("--thinned", action="store_true",
                     help="of long tables of faults, each third row")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("thinned"):
        return
    rows = [item for item in items
            if item.path.stem in TABLES and hasattr(item, "callspec")]
    others = set(rows) - set(rows[::3])
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "alone: times are judged, so that nothing else may run "
        "beside it but others of these")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what is on the stages of the test, before they close."""
    report = (yield).get_result()
    if not report.failed or call.when == "teardown":
        return
    used = [thing for thing in getattr(item, "funcargs", {}).values()
            if isinstance(thing, Stage)]
    for stage in used or list(Stage.opened):
        report.sections += stage.evidence()


@pytest.fixture
def stage():
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module")
def module_stage():
    with Stage() as stage:
        yield stage


@pytest.fixture(scope="module", params=["memcached", "magent"])
def speaker(request, module_stage):
    """A memcached, and a magent before one: both must say the same."""
    memcached = module_stage.memcached()
    if request.param == "memcached":
        return memcached
    return module_stage.magent([memcached])


@pytest.fixture(scope="module")
def proxy(module_stage):
    """A magent before one memcached."""
    return module_stage.magent([module_stage.memcached()])


@pytest.fixture
def pair(stage):
    """A primary, its backup and a magent before them."""
    primary, backup = stage.memcacheds(2)
    return primary, backup, stage.magent([primary], [backup])
