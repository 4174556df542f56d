"""scripts/bench: its table, CSV and picture; what it leaves behind; and that
build/load, which it measures with, takes no wrong answer for a right one."""
import contextlib
import csv
import os
import pathlib
import re
import signal
import subprocess
import time
import uuid
import xml.etree.ElementTree

import pytest

from lib.servers import MAGENT, ROOT, built_load

BENCH = str(ROOT / "scripts/bench")
PROXIES = ["nutcracker", "magent", "haproxy", "direct"]

needs_others = pytest.mark.skipif(
    not all(pathlib.Path(path).exists() for path in (
        "/usr/sbin/nutcracker", "/usr/sbin/haproxy", "/usr/bin/strace")),
    reason="scripts/bench would install nutcracker, haproxy and strace")


def bench(*options):
    return subprocess.run([BENCH, "--magent", MAGENT, *map(str, options)],
                          capture_output=True, text=True, timeout=120)


def rows_of(table):
    """The cells of each row, by case and proxy; texts have single spaces."""
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if len(cells) > 3 and cells[3] in PROXIES:
            found[cells[0], cells[3]] = cells
    return found


@needs_others
def test_short_run_makes_a_table_a_csv_and_a_picture(tmp_path):
    """haproxy and a direct connection cannot divide keys among servers."""
    csv_file, svg_file = tmp_path / "b.csv", tmp_path / "b.svg"
    done = bench("--rounds", 2, "--seconds", 0.2, "--case", "get", "--case",
                 "multiget-20-2", "--csv", csv_file, "--svg", svg_file)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(done.stdout)
    for proxy in PROXIES:
        assert rows["get", proxy][1:3] == ["1", "50"]
        assert int(rows["get", proxy][4].replace(",", "")) > 100
        divides = proxy in ("nutcracker", "magent")
        assert ("-" in rows["get of 20 keys", proxy]) != divides, rows
    assert rows["get of 20 keys", "magent"][1:3] == ["2", "50"]
    assert re.search(r"^bench: .* %, .* left: get, magent, round 2$",
                     done.stderr, re.M), done.stderr

    found = list(csv.DictReader(csv_file.open()))
    assert len(found) == 3 * (4 + 2)        # two rounds and the medians
    medians = {(row["case"], row["proxy"]): row for row in found
               if row["round"] == "median"}
    for name in "cpu", "calls", "rate", "p50", "p99", "p999":
        assert all(float(row[name]) > 0 for (_, proxy), row in medians.items()
                   if proxy != "direct"), name
    assert medians["get", "nutcracker"]["ratio_cpu"] == "1.0"
    assert float(medians["get", "magent"]["ratio_cpu"]) > 0
    assert medians["get", "direct"]["calls"] == ""

    picture = xml.etree.ElementTree.parse(svg_file)
    texts = [text.text for text in picture.iter(
        "{http://www.w3.org/2000/svg}text")]
    assert "get of 20 keys, 2 servers" in texts
    assert any(text.startswith("scripts/bench --magent") for text in texts)


def marked(mark):
    """The processes that have it in their environment."""
    pids = set()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes():
                pids.add(int(entry.name))
    return pids


@needs_others
@pytest.mark.parametrize("number, moment, options", [
    (signal.SIGINT, "nutcracker, round 1", ["--seconds", "20"]),
    (signal.SIGTERM, "system calls", ["--seconds", "0.1"])])
def test_signal_leaves_no_process_and_no_file(tmp_path, number, moment,
                                              options):
    mark = "BENCH_TEST=" + uuid.uuid4().hex
    files = tmp_path / "files"
    files.mkdir()
    running = subprocess.Popen(
        [BENCH, "--magent", MAGENT, "--rounds", "1", "--case", "mirrored-set",
         "--csv", files / "b.csv", *options], stderr=subprocess.PIPE,
        text=True, env={**os.environ, "TMPDIR": str(files),
                        **dict([mark.split("=")])})
    try:
        for line in running.stderr:
            if moment in line:
                break
        assert len(marked(mark)) >= 5 and list(files.iterdir())
        running.send_signal(number)
        assert running.wait(20) == 128 + number
        assert list(files.iterdir()) == []
        assert marked(mark) == set()
    finally:
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.communicate()


@pytest.mark.parametrize("options", [
    ["--nonsense"], ["--rounds", "0"], ["--seconds", "x"], ["get"],
    ["--case", "nonsense"], ["--csv", "/nonexistent/b.csv"],
    ["--magent", "/nonexistent"]], ids=" ".join)
def test_bad_option_is_refused_in_one_line(options):
    done = subprocess.run([BENCH, *options], capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert options[0] in done.stderr


# What build/load takes for right.

def load(server, *options):
    return subprocess.run(
        [built_load(),
         "-p", str(server.port), "-K", "20", *map(str, options)],
        capture_output=True, text=True, timeout=60)


def keeping(spoil=None, at=10):
    """A script of a server that keeps what it is given, and spoils its answer
    to the get of this number."""
    items = {}
    gets = []

    def script(_, line, data):
        command, *words = line.split()
        if command == b"set":
            items[words[0]] = data
            return b"STORED\r\n"
        gets.append(line)
        answer = b"".join(
            b"VALUE %s 0 %d\r\n%s" % (key, len(items[key]) - 2, items[key])
            for key in words) + b"END\r\n"
        if spoil and len(gets) == at:
            return spoil(answer, items, words[0])
        return answer
    return script


def of_another_key(answer, items, key):
    return answer.replace(items[key], next(
        value for other, value in items.items() if other != key))


SPOILT = {
    "value of another key": of_another_key,
    "one wrong byte": lambda answer, *_: answer[:-40] + b"!" + answer[-39:],
    "another key": lambda answer, _, key: answer.replace(key, key[:-2] + b"99"),
    "a miss": lambda *_: b"END\r\n",
    "an error": lambda *_: b"SERVER_ERROR out of memory\r\n",
    "an answer too many": lambda answer, *_: answer + b"END\r\n",
}


@pytest.mark.parametrize("what", SPOILT)
def test_load_notices_a_wrong_answer(stage, what):
    done = load(stage.fake(keeping(SPOILT[what])), "-n", 100, "-c", 2, "-k", 3)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("load: wrong answer: expected"), done.stderr


@pytest.mark.parametrize("options", [
    [], ["-k", 5], ["-d", 7], ["-s", 50, "-d", 3], ["-C"], ["-i", 5],
    ["-v", 300000, "-s", 30], ["-v", 1]], ids=str)
def test_load_takes_right_answers(stage, options):
    done = load(stage.fake(keeping()), "-n", 50, "-c", 3, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("requests 50 ")


def test_latency_counts_from_when_a_request_was_due(stage):
    """Of 60 requests in 0.6 seconds, one holds up most of the others."""
    def late(answer, *_):
        time.sleep(0.5)
        return answer

    done = load(stage.fake(keeping(late)), "-r", 100, "-t", 0.6)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    found = dict(zip(words[::2], map(float, words[1::2])))
    assert found["requests"] == 60
    assert found["p50"] > 100000


def test_load_says_when_a_connection_is_closed(stage):
    def closed(*_):
        raise ConnectionError
    done = load(stage.fake(keeping(closed)), "-n", 100)
    assert done.returncode == 1 and done.stderr.startswith("load: ")
