"""The page of --metrics in a browser: what it says while servers are killed,
filled and up again, to the eye and to the keyboard."""
import re

import pytest

from lib.held_list import HeldList
from lib.net import wait_for
from lib.page import Page
from lib.servers import ROOT
from lib.way import put, states
from test_metrics import Metered

SIZES = (1280, 900), (390, 844)


@pytest.fixture
def shown(stage):
    """A magent before two memcacheds and their backups, and its page."""
    magent = Metered(stage.memcacheds(2), stage.memcacheds(2), "-t", 1000)
    stage.add(magent).start()
    wait_for(lambda: states(magent) == ["up"] * 4, "all")
    put(magent)
    return magent, stage.add(Page("http://127.0.0.1:%d/" % magent.web))


def card(n):
    return "#cards article:nth-child(%d)" % (n + 1)


def test_page_follows_a_server_that_is_killed_and_returns(shown):
    magent, page = shown
    server = magent.primaries[0]
    page.wait("#sentence", "^All is well: each key has two good copies")
    page.wait(card(0), "up answers for its keys")
    page.wait(card(2), "up holds copies")
    page.wait(card(0), r"Memory\s+\S+ \wB of 64 MB")
    assert "100 %" in page.text("#key")
    server.kill()
    page.wait("#sentence", "^%s is down; its partners answer" %
              re.escape(server.address))
    page.wait("#to-do", "^Start it again")
    page.wait(card(0), "down no connection")
    page.wait("#key", "answered by their backup: [1-9]")
    page.wait("#log", "down, was up")
    server.start(server.port)
    page.wait("#sentence", "^All is well")
    page.wait(card(0), "up answers for its keys")
    page.wait("#log", "up, was handback")
    assert page.faults() == []


def test_page_shows_how_far_a_rebuild_is(stage):
    """The rest of the list of keys comes when it is let go."""
    returned = stage.memcached()
    held = stage.add(HeldList(stage.memcached(), lambda line: b"key=k1" in line,
                              "k1"))
    magent = Metered([returned], [held], "-t", 60000)
    stage.add(magent).start()
    wait_for(lambda: states(magent) == ["up"] * 2, "both")
    put(magent)
    page = stage.add(Page("http://127.0.0.1:%d/" % magent.web))
    page.wait("#sentence", "^All is well")
    returned.restart()
    page.wait("#sentence", "is back, and is being filled: .*; its partner")
    page.wait("#running", r"Copying to %s: [1-9]\d* of about \d+ keys" %
              re.escape(returned.address))
    page.wait(card(0), "rebuild what it lacks is copied")
    page.wait("#key", "answered by their backup: 100 %")
    assert page.wordless() == []
    held.release()
    page.wait("#sentence", "^All is well")
    page.wait("#key", "answered by their primary: 100 %")
    assert page.faults() == []


def test_page_says_that_nobody_answers(shown):
    magent, page = shown
    for server in magent.primaries + magent.backups:
        server.kill()
    page.wait("#sentence", "^All 4 servers are down: each read is a miss")
    page.wait("#key", "answered by nobody: 100 %")
    assert "Do not restart magent" in page.text("#to-do")
    assert page.faults() == []


def test_page_says_that_magent_cannot_be_reached(shown):
    magent, page = shown
    page.wait("#sentence", "^All is well")
    assert page.faults() == []
    magent.stop()
    page.wait("#sentence", "^magent cannot be reached")
    magent.cont()
    page.wait("#sentence", "^All is well")


def test_page_is_used_by_keyboard(shown):
    magent, page = shown
    page.wait("#sentence", "^All is well")

    def tab_to(name):
        for _ in range(40):
            page.press("Tab")
            if page.focused() == name:
                return
        raise AssertionError("no way to " + name)

    tab_to("To the servers")
    page.press("Enter")
    assert page.focused() == "servers"
    tab_to("More")
    page.press("Enter")
    page.wait(card(0), "Answers now for")
    tab_to("In numbers")
    page.press("Enter")
    page.wait("#parts", re.escape(magent.backups[1].address))
    tab_to("few")
    page.press("Space")
    page.wait("#log", r"^Time\s+Level\s+What has happened\s*$")
    page.press("Space")
    page.wait("#log", "ready; servers: 4")
    # It opens what was closed, and that stays open when numbers change.
    page.press("Control+Home")
    magent.backups[0].kill()
    page.wait("#sentence", "is down")
    assert "Answers now for" in page.text(card(0))
    assert page.faults() == []


def test_page_that_is_paused_stays_as_it_is(shown):
    magent, page = shown
    page.wait("#sentence", "^All is well")
    page.click("#pause")
    magent.backups[0].kill()
    wait_for(lambda: "down" in states(magent), "the failure")
    assert page.text("#sentence").startswith("All is well")
    page.click("#pause")
    page.wait("#sentence", "is down")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_and_has_words_for_all_that_is_drawn(shown, scheme):
    magent, page = shown
    page.wait("#sentence", "^All is well")
    page.scheme(scheme)
    for size in SIZES:
        page.resize(*size)
        assert page.overflow() <= 0
    assert page.wordless() == []
    assert "Requests per second, now" in page.attribute("#requests svg",
                                                        "aria-label")
    dark = page.style("body", "background-color") != "rgb(243, 244, 246)"
    assert dark == (scheme == "dark")


def test_names_are_text_and_no_html(stage, tmp_path):
    """The path of a socket may be anything."""
    magent = Metered([stage.memcached()], [])
    name = "unix:%s/<b/id=x>'\"&amp;" % tmp_path
    magent.options = [*magent.options, "-s", name]
    stage.add(magent).start()
    page = stage.add(Page("http://127.0.0.1:%d/" % magent.web))
    page.wait("#sentence", "No server is up for .* of the keys, because unix:")
    assert page.texts("#cards h3")[1] == name
    assert page.texts("#x") == []
    assert page.faults() == []


def test_picture_of_the_documents_is_one():
    picture = (ROOT / "doc/status.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 120 << 10
    assert int.from_bytes(picture[16:20], "big") == 1280
