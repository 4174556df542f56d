"""/status.json: what the page of --metrics shows, in each state; and the page
itself, as far as that takes no browser."""
import http.client
import json
import re
import signal
import time

import pytest

from lib.net import wait_for
from lib.servers import ROOT
from lib.way import put, states
from test_metrics import Metered, Quoted, Visitor

SERVER = {"name", "role", "state", "seconds_in_state", "version",
          "primary_part", "backup_part", "answers_part",
          "requests_per_second", "hit_rate", "p50_us", "p99_us", "waiting",
          "connects", "failures", "timeouts", "dirty_keys", "memory",
          "rebuild", "chart"}


class Watched(Metered):
    def status(self):
        code, kind, text = self.ask("/status.json")
        assert (code, kind) == (200, "application/json")
        assert text.isascii() and "<" not in text
        status = json.loads(text)
        assert status["verdicts"]
        for server in status["servers"]:
            assert set(server) == SERVER
        lengths = {len(chart) for chart in status["history"].values()
                   if isinstance(chart, list)}
        assert len(lengths) == 1 and max(lengths) <= 600
        whole = sum(arc["own"] + arc["backups"] + arc["nobody"]
                    for arc in status["ring"])
        assert whole == pytest.approx(1, abs=0.01)
        return status

    def said(self):
        """The sentences, the first one first."""
        return [one["text"] for one in self.status()["verdicts"]]

    def wait_to_say(self, *patterns):
        """These, and no others."""
        def are_said():
            said = self.said()
            return len(said) == len(patterns) and all(
                map(re.match, patterns, said))
        wait_for(are_said, patterns, pause=0.2)


@pytest.fixture
def watched(stage):
    def start(primaries=1, backups=1, *options):
        magent = Watched(stage.memcacheds(primaries),
                         stage.memcacheds(backups), *options)
        stage.add(magent).start()
        wait_for(lambda: states(magent) == ["up"] * (primaries + backups),
                 "all")
        return magent
    return start


def test_sentences_follow_a_server_that_is_killed_and_returns(watched):
    magent = watched()
    server = magent.primaries[0]
    magent.wait_to_say("All is well: each key has two good copies[.]$")
    server.kill()
    magent.wait_to_say("%s is down; its partner answers[.]$" % server.address)
    first = magent.status()["verdicts"][0]
    assert first["level"] == "warning"
    assert first["to_do"].startswith("Start it again: ")
    server.start(server.port)
    magent.wait_to_say("All is well: each key has two good copies[.]$")


def test_keys_without_a_server_come_first_then_a_server_that_is_down(watched):
    magent = watched(2, 2, "-n", 10)
    one, other = magent.primaries
    one.kill()
    magent.wait_to_say("%s is down; its partners answer" % one.address)
    magent.backups[0].kill()
    magent.wait_to_say(
        r"No server is up for \d+ % of the keys, because {} and {} are down: "
        "their reads are misses, and their writes are errors".format(
            one.address, magent.backups[0].address))
    assert magent.status()["verdicts"][0]["level"] == "bad"
    clients = [magent.client() for _ in range(9)]
    magent.wait_to_say("No server is up for ", "9 clients are connected, and "
                       "there may be 10: further ones are refused")
    for client in clients:
        client.close()
    for server in other, magent.backups[1]:
        server.kill()
    magent.wait_to_say("All 4 servers are down: each read is a miss, and each "
                       "write is an error[.]")
    assert all(arc["nobody"] > 0 for arc in magent.status()["ring"])


def test_with_on_down_error_each_read_is_an_error(watched):
    magent = watched(1, 0, "--on-down=error")
    magent.wait_to_say("All is well: .* There are no backups[.]")
    magent.primaries[0].kill()
    magent.wait_to_say("%s is down, and there is no other server: each read "
                       "and each write is an error" %
                       magent.primaries[0].address)


def test_differences_that_the_scrub_has_found_are_said(watched):
    magent = watched()
    put(magent, 20)
    wait_for(lambda: magent.backups[0].item_count() == 20, "the effects")
    magent.backups[0].talk(b"set k1 0 0 3\r\nbad\r\n")
    magent.signal(signal.SIGUSR2)
    magent.wait_to_say("The scrub has found 1 key that was different")
    assert magent.status()["scrub"]["keys_repaired"] == 1


def test_memory_that_is_near_its_limit_is_said(stage, watched):
    magent = watched(1, 1, "-m", 8, "-t", 10000)
    size = 1000 * 1000
    magent.talk(b"set big 0 0 %d\r\n%s\r\n" % (size, bytes(size)))
    stuck = [stage.client(magent, receive_buffer=4096) for _ in range(10)]
    for client in stuck:
        client.send(b"get big\r\n" * 200)
    wait_for(lambda: any(said.startswith("The buffers hold ")
                         for said in magent.said()), "the shortage",
             pause=0.1)


def test_start_and_stop_are_said(stage):
    primary, backup = stage.memcacheds(2)
    backup.stop()
    magent = Watched([primary], [backup], "-t", 3000, "--shutdown-delay=30")
    stage.add(magent).start()
    assert magent.said() == [
        "magent has just started, and waits for its servers to answer."]
    backup.cont()
    magent.wait_to_say("All is well")
    magent.signal(signal.SIGTERM)
    magent.wait_to_say("magent was told to stop")


def test_servers_are_asked_for_their_memory_while_somebody_looks(watched):
    magent = watched()

    def memory():
        return magent.status()["servers"][0]["memory"]

    wait_for(memory, "the answer", pause=0.2)
    put(magent, 100)
    wait_for(lambda: memory()["items"] >= 100, "the items", pause=0.2)
    assert memory()["limit_bytes"] == 64 << 20
    assert memory()["evictions"] == 0


def test_numbers_are_those_of_clients(watched):
    magent = watched()
    with magent.client() as client:
        def is_shown():
            client.talk(b"set a 0 0 1\r\nx\r\nget a\r\nget b\r\nget a\r\n")
            status = magent.status()
            history = status["history"]
            return (sum(history["hits"]) >= 10 and
                    sum(history["misses"]) >= 5 and status["hit_rate"] and
                    status["clients"] == 1 and history["clients"][-1] == 1 and
                    status["p99_us"] >= status["p50_us"] > 0 and
                    status["servers"][0]["requests_per_second"] > 0 and
                    status["servers"][0]["p50_us"] > 0 and
                    status["servers"][0]["chart"])
        wait_for(is_shown, "the numbers", pause=0.2)
    status = magent.status()
    assert status["hit_rate"] == pytest.approx(0.66, abs=0.1)
    assert status["servers"][0]["hit_rate"] == pytest.approx(0.66, abs=0.1)
    assert status["servers"][1]["hit_rate"] is None


def test_parts_of_the_keys_are_those_of_the_ring(watched):
    magent = watched(3, 2)
    servers = magent.status()["servers"]
    assert sum(one["primary_part"] for one in servers) == pytest.approx(
        1, abs=0.01)
    assert sum(one["backup_part"] for one in servers) == pytest.approx(
        1, abs=0.01)
    count = 2000
    with magent.client() as client:
        client.talk(b"".join(b"set k%d 0 0 1\r\nx\r\n" % i
                             for i in range(count)))
    for server, shown in zip(magent.primaries, servers):
        assert server.item_count() / count == pytest.approx(
            shown["primary_part"], abs=0.05)


def test_address_of_any_characters_is_a_string(stage, tmp_path):
    server = stage.add(Quoted(tmp_path, 'a"\\<b>&\'')).start()
    magent = stage.add(Watched([server], [])).start()
    name = magent.status()["servers"][0]["name"]
    assert name == server.address
    server.kill()
    wait_for(lambda: magent.said()[0].startswith(name[:80] + " is down"),
             "its name", pause=0.2)


def test_log_lines_are_the_last_50(watched):
    magent = watched()
    log = magent.status()["log"]
    assert any(line["text"].startswith("ready; servers: 2") for line in log)
    assert {line["level"] for line in log} == {"info"}
    for _ in range(8):
        magent.backups[0].restart()
        wait_for(lambda: states(magent) == ["up", "up"], "its return")
    log = magent.status()["log"]
    assert len(log) == 50
    assert [line["time"] for line in log] == sorted(
        (line["time"] for line in log), reverse=True)
    assert {line["level"] for line in log} == {"info", "warning"}
    for line in log[:5]:
        assert line["text"] in magent.output()


def test_page_may_load_nothing(watched):
    magent = watched()
    connection = http.client.HTTPConnection("127.0.0.1", magent.web)
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode()
    policy = answer.getheader("Content-Security-Policy")
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert text == (ROOT / "client/status.html").read_text()
    assert len(text.encode()) < 25 << 10
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|"
                         r"\beval\b", text)
    assert set(re.findall(r"https?://[^\s'\"]+", text)) == {
        "http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", ["/", "/status.json"])
def test_head_is_answered_without_a_body(watched, path):
    status, _, body = watched().ask(path, "HEAD")
    assert (status, body) == (200, "")


def test_status_is_written_twice_a_second_at_most(watched):
    magent = watched()
    start = time.monotonic()
    texts = {magent.ask("/status.json")[2] for _ in range(40)}
    assert len(texts) <= (time.monotonic() - start) / 0.5 + 1


def test_those_who_do_not_read_it_are_let_go(stage, watched):
    magent = watched()
    many = [stage.add(Visitor(magent,
                              b"GET /status.json HTTP/1.1\r\n\r\n" * 200))
            for _ in range(40)]
    assert magent.talk(b"mn\r\n") == b"MN\r\n"
    assert magent.ask("/healthz", timeout=60)[0] == 200
    wait_for(lambda: len(magent.files()) < 25, "their descriptors",
             timeout=60)
    assert many


