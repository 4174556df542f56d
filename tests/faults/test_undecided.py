"""A write that no server has answered: both of its servers have failed.

It may have been carried out by either of them, or by none.  Whatever became of
it, both are equal in the end, and the value does not go away for it.
"""
import pytest

from faults import Plain, Scene
from lib.net import wait_for


def states(scene):
    found = scene.stats("servers")
    return [found["%d:state" % i] for i in range(2)]


def values(scene):
    """What magent, and then what each server has of the key."""
    found = []
    for server in [scene.proxy, *scene.primaries, *scene.backups]:
        with server.client() as client:
            found.append(client.talk(b"mg key v\r\n"))
    return found


@pytest.fixture
def scene(stage):
    scene = Scene(stage, [Plain], [Plain], control=False)
    with scene.proxy.client() as client:
        assert client.ask(b"set key 0 0 3\r\nold\r\n") == b"STORED\r\n"
    return scene


OLD, NEW, NONE = b"VA 3\r\nold\r\n", b"VA 3\r\nnew\r\n", b"EN\r\n"


@pytest.mark.parametrize("first", ["primary", "backup"])
def test_value_that_was_written_at_one_of_both_is_on_both_or_none(
        scene, first):
    primary, backup = scene.primaries[0], scene.backups[0]
    primary.stop()
    wait_for(lambda: states(scene) == ["down", "up"], "the primary to be down")
    scene.proxy.talk(b"get key\r\n")      # it does not rest
    backup.stop()
    with scene.proxy.client() as client:
        assert client.ask(b"set key 0 0 3\r\nnew\r\n").startswith(
            b"SERVER_ERROR ")
    order = [primary, backup] if first == "primary" else [backup, primary]
    order[0].cont()
    at = 0 if first == "primary" else 1
    wait_for(lambda: states(scene)[at] == "up", "the first to be back")
    # The primary was not sent it; the backup carries it out.
    value = OLD if first == "primary" else NEW
    with scene.proxy.client() as client:
        assert client.talk(b"mg key v\r\n") == value
    order[1].cont()
    scene.wait_up()
    assert values(scene) == [value] * 3


def test_value_whose_write_both_have_lost_is_there_when_one_is_back(scene):
    primary, backup = scene.primaries[0], scene.backups[0]
    primary.stop()
    backup.stop()
    with scene.proxy.client() as client:
        client.send(b"set key 0 0 3\r\nnew\r\n")
        wait_for(lambda: states(scene)[0] == "down", "the primary to be down",
                 pause=0.001)
        backup.kill()
        assert client.read_line().startswith(b"SERVER_ERROR ")
    primary.cont()
    wait_for(lambda: states(scene)[0] == "up", "the primary to be back")
    with scene.proxy.client() as client:
        assert client.talk(b"mg key v\r\n") == NEW
    backup.start(backup.port)
    scene.wait_up()
    assert values(scene) == [NEW] * 3


def test_later_write_of_the_same_key_is_not_undone(scene):
    """The key was written at the backup while the primary was down, so the
    value of the primary is old, whatever has become of the last write."""
    primary, backup = scene.primaries[0], scene.backups[0]
    primary.stop()
    wait_for(lambda: states(scene) == ["down", "up"], "the primary to be down")
    with scene.proxy.client() as client:
        assert client.ask(b"set key 0 0 3\r\nmid\r\n") == b"STORED\r\n"
        backup.stop()
        assert client.ask(b"set key 0 0 3\r\nnew\r\n").startswith(
            b"SERVER_ERROR ")
        primary.cont()
        wait_for(lambda: states(scene)[0] == "up", "the primary to be back")
        assert client.talk(b"mg key v\r\n") == NONE
    backup.cont()
    scene.wait_up()
    assert values(scene) == [NEW] * 3
