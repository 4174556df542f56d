"""--metrics: what Prometheus and load balancers read, and what others may try."""
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from lib.net import free_port, wait_for
from lib.servers import MAGENT, Magent, Memcached, sanitized
from lib.way import states

NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
LABEL = NAME + r'="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(r"(%s)(?:\{(%s(?:,%s)*)\})? (-?[0-9.]+)" % (
    NAME, LABEL, LABEL))
PARTS = ("", "_total", "_bucket", "_sum", "_count")    # of a name
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Metered(Magent):
    """Answers HTTP, too."""

    def __init__(self, *arguments, listens="%d"):
        super().__init__(*arguments)
        self.web = free_port()
        self.options = [*self.options, "--metrics=" + listens % self.web]

    def ask(self, path, method="GET", timeout=20, at="127.0.0.1", **headers):
        """Status, type and body."""
        connection = http.client.HTTPConnection(at, self.web, timeout=timeout)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return (answer.status, answer.getheader("Content-Type"),
                    answer.read().decode())
        finally:
            connection.close()

    def files(self):
        """Its descriptors."""
        return os.listdir("/proc/%d/fd" % self.pid)

    def samples(self, **headers):
        """The numbers by name and labels."""
        return parse(self.ask("/metrics", **headers)[2])


def parse(text):
    """Checks each line; a sample belongs to the family before it."""
    samples, family, seen = {}, None, set()
    for line in text.splitlines():
        if line == "# EOF":
            continue
        if line.startswith("# "):
            _, word, family, _ = line.split(" ", 3)
            if word == "HELP":
                assert family not in seen
                seen.add(family)
            continue
        name, labels, number = SAMPLE.fullmatch(line).groups()
        assert name in [family + part for part in PARTS], line
        key = name if labels is None else "%s{%s}" % (name, labels)
        assert key not in samples, line
        samples[key] = float(number)
    return samples


@pytest.fixture
def metered(stage):
    """Starts one before a primary and a backup, which are its first things."""
    def start(*options):
        magent = Metered(stage.memcacheds(1), stage.memcacheds(1), *options)
        stage.add(magent).start()
        wait_for(lambda: states(magent) == ["up", "up"], "both")
        return magent
    return start


def test_metrics_are_those_of_stats(metered):
    magent = metered()
    with magent.client() as client:
        for line, answer in ((b"set a 0 0 1\r\nx\r\n", b"STORED\r\n"),
                             (b"get a b\r\n", b"END\r\n"),
                             (b"incr b 1\r\n", b"NOT_FOUND\r\n")):
            client.send(line)
            client.read_until(answer)
    status, kind, _ = magent.ask("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples, stats = magent.samples(), magent.stats()
    for name, number in (
            ('commands_total{command="get",result="hit"}', "get_hits"),
            ('commands_total{command="get",result="miss"}', "get_misses"),
            ('commands_total{command="set",result="any"}', "cmd_set"),
            ('commands_total{command="incr",result="miss"}', "incr_misses"),
            ("mirror_effects_total", "mirror_effects"),
            ("uncovered_pairs", "uncovered_pairs"),
            ("client_connections_limit", "max_connections")):
        assert samples["magent_" + name] == int(stats[number]), name
    assert samples['magent_commands_total{command="get",result="hit"}'] == 1


def buckets(samples, name, labels):
    """Of one histogram: its ends in seconds, and how many are not longer."""
    found = {}
    for key, number in samples.items():
        match = re.fullmatch(r'%s_bucket\{%s,le="([^"]+)"\}' % (
            name, re.escape(labels)), key)
        if match:
            found[float(match[1])] = number
    return found


@pytest.mark.parametrize("headers", [{}, {"Accept": OPEN}])
def test_histograms_are_those_of_prometheus(metered, headers):
    magent = metered()
    for _ in range(10):
        assert magent.talk(b"get a\r\n") == b"END\r\n"
    samples = magent.samples(**headers)
    name, labels = "magent_command_duration_seconds", 'command="get"'
    found = buckets(samples, name, labels)
    ends = list(found)
    assert ends == sorted(ends) and ends[0] == 5e-05
    assert ends[-2:] == [10, float("inf")] and len(ends) == 18
    counts = list(found.values())
    assert counts == sorted(counts) and counts[-1] == 10
    assert samples["%s_count{%s}" % (name, labels)] == 10
    assert 0 < samples["%s_sum{%s}" % (name, labels)] < 10
    labels = 'server="%s",role="primary"' % magent.primaries[0].address
    found = buckets(samples, "magent_backend_request_duration_seconds",
                    labels)
    assert found[float("inf")] >= 10
    assert samples["magent_backend_misses_total{%s}" % labels] == 10


def test_servers_are_shown_with_their_states(metered):
    magent = metered()
    primary, backup = magent.primaries[0], magent.backups[0]
    labels = ['server="%s",role="%s"' % (server.address, role)
              for server, role in ((primary, "primary"), (backup, "backup"))]

    def is_up(which):
        samples = magent.samples()
        one_hot = [samples['magent_backend_state{%s,state="%s"}' % (
            labels[which], state)] for state in (
                "down", "starting", "identify", "drain", "invalidate",
                "rebuild", "handback", "up")]
        assert sum(one_hot) == 1
        return samples["magent_backend_up{%s}" % labels[which]]

    def shares():
        return [magent.samples()["magent_backend_key_share{%s}" % label]
                for label in labels]

    wait_for(lambda: is_up(0) == is_up(1) == 1, "both to be up", pause=0.3)
    assert shares() == [1, 0]
    primary.kill()
    wait_for(lambda: shares() == [0, 1], "the backup to answer", pause=0.3)
    primary.start(primary.port)
    wait_for(lambda: shares() == [1, 0] and is_up(0) == 1,
             "the primary to be filled", pause=0.3)
    backup.kill()
    wait_for(lambda: is_up(1) == 0, "the failure", pause=0.3)
    assert is_up(0) == 1
    errors = 'magent_backend_errors_total{%s,reason="failure"}' % labels[1]
    assert magent.samples()[errors] >= 1
    backup.start(backup.port)
    wait_for(lambda: is_up(1) == 1, "the return", pause=0.3)


def test_open_metrics_are_given_to_those_who_accept_them(metered):
    magent = metered()
    status, kind, text = magent.ask("/metrics", Accept=OPEN + ",*/*;q=0.1")
    assert (status, kind) == (200, OPEN)
    assert text.endswith("\n# EOF\n") and text.count("# EOF") == 1
    assert "# TYPE magent_commands counter\n" in text
    assert {re.sub(r'(le="\d+)\.0"', r'\1"', name)
            for name in parse(text)} == set(magent.samples())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")
def test_promtool_has_nothing_to_say(metered):
    text = metered().ask("/metrics")[2]
    result = subprocess.run(["promtool", "check", "metrics"], input=text,
                            text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    assert (result.returncode, result.stdout) == (0, "")


class Quoted(Memcached):
    """Its address has what has to be escaped."""

    def __init__(self, path, name='a"\\b'):
        super().__init__()
        self.path = "%s/%s" % (path, name)

    address = property(lambda self: "unix:" + self.path)

    def command(self):
        return ["memcached", "-U", "0", "-u", "root", "-s", self.path]

    def serves(self):
        with socket.socket(socket.AF_UNIX) as one:
            return one.connect_ex(self.path) == 0


class Traced(Metered):
    """Its calls to the system are written to a file."""

    def command(self):
        return ["strace", "-D", "-e", "trace=bind", "-o", self.trace,
                *super().command()]


@pytest.mark.skipif(sanitized(), reason="strace and the sanitizers disagree")
@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
def test_port_of_the_clients_is_opened_last(stage, tmp_path):
    """Whoever waits for it may use the others at once."""
    admin, stats = tmp_path / "admin", free_port()
    magent = Traced([stage.memcached()], [], "--admin=%s" % admin,
                    "--stats-port=%d" % stats)
    magent.trace = str(tmp_path / "trace")
    stage.add(magent).start()
    bound = [re.search(r"htons\((\d+)\)|sun_path=\"([^\"]+)\"", line)
             for line in pathlib.Path(magent.trace).read_text().splitlines()
             if " = 0" in line]
    names = [one[1] or one[2] for one in bound if one]
    assert {str(magent.web), str(stats)} < set(names)
    assert any(str(admin) in name for name in names)
    assert names[-1] == str(magent.port)


def test_address_of_any_characters_is_a_label(stage, tmp_path):
    server = stage.add(Quoted(tmp_path)).start()
    magent = stage.add(Metered([server], [])).start()
    escaped = server.address.replace("\\", "\\\\").replace('"', '\\"')
    name = 'magent_backend_up{server="%s",role="primary"}' % escaped
    assert name in magent.samples()


def test_health_is_that_of_the_keys(metered):
    magent = metered()
    assert magent.ask("/healthz")[::2] == (
        200, "every key has a server that is up\n")
    for server in magent.primaries + magent.backups:
        server.kill()
    wait_for(lambda: magent.ask("/healthz")[0] == 503, "the failure")
    assert magent.ask("/healthz")[2] == (
        "no server is up for the keys of 1 pairs of servers\n")


def test_it_is_not_ready_while_it_starts_and_while_it_stops(stage):
    primary, backup = stage.memcacheds(2)
    backup.stop()
    magent = Metered([primary], [backup], "-t", 3000, "--shutdown-delay=30")
    stage.add(magent).start()
    assert magent.ask("/readyz")[::2] == (503, "starting\n")
    assert magent.ask("/healthz")[0] == 200
    backup.cont()
    wait_for(lambda: magent.ask("/readyz")[::2] == (200, "ready\n"),
             "it to be ready", pause=0.1)
    magent.signal(signal.SIGTERM)
    wait_for(lambda: magent.ask("/readyz")[::2] == (503, "stopping\n"),
             "it to stop", pause=0.1)
    assert magent.talk(b"mn\r\n") == b"MN\r\n"


@pytest.mark.parametrize("method, path, status", [
    ("HEAD", "/metrics", 200), ("GET", "/x", 404), ("GET", "/metrics/x", 404),
    ("DELETE", "/metrics", 501), ("GET", "/" + "x" * 9000, 400)])
def test_other_requests_are_refused(metered, method, path, status):
    answer = metered().ask(path, method)
    assert answer[0] == status
    assert method != "HEAD" or answer[2] == ""


# Names in Host, which a page of somebody else can have stand for 127.0.0.1

PAPERS = ["/", "/status.json", "/metrics"]
OURS = ["127.0.0.1:%d", "127.0.0.1", "10.0.0.5:80", "[::1]:%d", "[::1]",
        "localhost", "localhost:%d", "LOCALHOST", "a.localhost:1", "cache1",
        socket.gethostname() + ":%d", ""]
THEIRS = ["evil.example:%d", "evil.example", "evil.example.",
          "localhost.evil.example", "127.0.0.1.evil.example:%d"]


def filled_in(host, magent):
    return host % magent.web if "%d" in host else host


def test_names_of_others_are_refused_where_only_this_machine_asks(metered):
    magent = metered()
    for host in OURS:
        for path in PAPERS:
            assert magent.ask(path, Host=filled_in(host, magent))[0] == 200
    for host in THEIRS:
        answers = [magent.ask(path, Host=filled_in(host, magent))
                   for path in PAPERS]
        for status, kind, text in answers:
            assert (status, kind) == (403, "text/plain; charset=utf-8")
            assert "localhost, an IP address or the name of this" in text
        for path in "/healthz", "/readyz":
            assert magent.ask(path, Host=filled_in(host, magent))[0] == 200
    with socket.create_connection(("127.0.0.1", magent.web)) as one:
        one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert one.recv(15) == b"HTTP/1.0 200 OK"


@pytest.mark.parametrize("listens, at", [("0.0.0.0:%d", "127.0.0.1"),
                                         ("[::]:%d", "::1")])
def test_any_name_may_be_right_where_others_ask_too(stage, listens, at):
    magent = Metered([stage.memcached()], [], listens=listens)
    stage.add(magent).start()
    for path in PAPERS:
        assert magent.ask(path, at=at, Host="cache1.example.com")[0] == 200


@pytest.mark.parametrize("listens, at", [
    ("[::1]:%d", "::1"), ("localhost:%d", "localhost"),
    ("127.0.0.2:%d", "127.0.0.2")])
def test_all_of_loopback_is_this_machine(stage, listens, at):
    magent = Metered([stage.memcached()], [], listens=listens)
    stage.add(magent).start()
    for host, status in (("evil.example", 403), ("localhost", 200)):
        assert magent.ask("/metrics", at=at, Host=host)[0] == status


class Visitor:
    """A connection that sends this, and then a byte now and then."""

    def __init__(self, magent, text):
        self.socket = socket.create_connection(("127.0.0.1", magent.web))
        self.socket.sendall(text)

    def has_ended(self):
        """Sends one more byte."""
        try:
            self.socket.sendall(b"x")
            self.socket.settimeout(0.01)
            return self.socket.recv(1000) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self):
        self.socket.close()


@pytest.mark.parametrize("text", [
    b"", b"GET /metrics HTTP/1.1\r\nHost: ", b"\0\xff" * 100, b"GET /\r\n"])
def test_those_who_say_little_are_let_go(stage, metered, text):
    """And nobody else has to wait for much longer than they may stay."""
    magent = metered()
    visitors = [stage.add(Visitor(magent, text)) for _ in range(40)]
    open_files = len(magent.files())
    assert magent.talk(b"mn\r\n") == b"MN\r\n"
    assert open_files < 60
    assert magent.ask("/healthz", timeout=60)[0] == 200
    wait_for(lambda: all(visitor.has_ended() for visitor in visitors),
             "them to be let go", timeout=60)
    wait_for(lambda: len(magent.files()) < 25, "their descriptors")


def test_those_who_ask_all_the_time_wait_for_their_turn(metered):
    """A page costs something: 4 are let in between two ticks of 250 ms."""
    magent = metered()
    start = time.monotonic()
    for _ in range(21):
        assert magent.ask("/metrics")[0] == 200
    assert time.monotonic() - start > 1


def test_each_paper_is_written_once_in_a_second_for_all_who_ask(metered):
    """Each time it is written it is another one: the clients say so."""
    magent = metered()
    papers = {("/metrics", ""): [], ("/metrics", OPEN): [],
              ("/status.json", ""): []}
    start = time.monotonic()
    while time.monotonic() < start + 4:
        for (path, accepted), texts in papers.items():
            assert magent.talk(b"get a\r\n") == b"END\r\n"
            texts.append(magent.ask(path, Accept=accepted)[2])
    seconds = time.monotonic() - start
    for texts in papers.values():
        assert len(texts) > 10
        assert 3 <= len(set(texts)) <= seconds + 1


def test_answer_that_is_not_read_is_given_up(stage, metered):
    magent = metered()
    many = [stage.add(Visitor(magent, b"GET /metrics HTTP/1.1\r\n\r\n" * 500))
            for _ in range(8)]
    assert magent.ask("/healthz", timeout=60)[0] == 200
    wait_for(lambda: len(magent.files()) < 25, "their descriptors",
             timeout=60)
    assert many


# Options

@pytest.mark.parametrize("address, why", [
    ("", "--metrics"), ("x", "has no port"), ("127.0.0.1", "has no port"),
    ("[::1]", "has no port"), ("127.0.0.1:0", "port"), ("70000", "port"),
    ("unix:/tmp/x", "is no port"), ("127.0.0.1:x", "port"),
    ("nowhere.invalid:9150", "nowhere.invalid")])
def test_wrong_address_is_refused(address, why):
    result = subprocess.run(
        [MAGENT, "-D", "-u", "root", "-p", str(free_port()), "-s",
         "127.0.0.1:1", "--metrics=" + address], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=20)
    lines = [line for line in result.stdout.splitlines()
             if "warning" not in line]
    assert result.returncode in (64, 71) and len(lines) == 1
    assert why in lines[0]


def test_port_that_is_taken_is_refused(stage):
    taken = stage.memcached()
    result = subprocess.run(
        [MAGENT, "-D", "-u", "root", "-p", str(free_port()), "-s",
         "127.0.0.1:1", "--metrics=%d" % taken.port], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=20)
    assert result.returncode == 71
    assert ("--metrics 127.0.0.1: cannot listen on 127.0.0.1 port %d: " %
            taken.port) in result.stdout


def test_a_replacement_keeps_the_port(metered, tmp_path):
    magent = metered()
    before = magent.output().count("has taken over")
    magent.signal(signal.SIGHUP)
    wait_for(lambda: magent.output().count("has taken over") > before,
             "the replacement")
    assert magent.ask("/readyz")[0] == 200


def test_port_comes_and_goes_with_the_options(stage, tmp_path):
    options, port = tmp_path / "options", free_port()
    options.write_text("")
    magent = Metered([stage.memcached()], [], "-c", str(options))
    magent.options.pop()
    stage.add(magent).start()
    magent.web = port

    def replace(text):
        before = magent.output().count("has taken over")
        options.write_text(text)
        magent.signal(signal.SIGHUP)
        wait_for(lambda: magent.output().count("has taken over") > before,
                 "the replacement")

    with pytest.raises(ConnectionRefusedError):
        magent.ask("/readyz")
    replace("metrics %d\n" % port)
    assert magent.ask("/readyz")[0] == 200
    replace("")
    with pytest.raises(ConnectionRefusedError):
        magent.ask("/readyz")
    options.write_text("metrics %d\n" % stage.memcached().port)
    magent.signal(signal.SIGHUP)
    wait_for(lambda: "cannot be replaced" in magent.output(), "the refusal")
