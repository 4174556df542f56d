"""The checker finds what it is for, and nothing else."""
import itertools
import random

import pytest

import checker
from checker import NEVER, Op
from lib.seed import seed


def history(text):
    """Operations of a key, a line each: client call end name [a [b]] = result.

    An end of "." is an answer that never came.
    """
    ops = []
    for line in text.strip().splitlines():
        words, result = line.split(" = ")
        client, call, end, name, *given = words.split()
        a, b = (given + ["-", "-"])[:2]
        ops.append(("k", Op(client, name, a, b, int(call),
                            NEVER if end == "." else int(end),
                            result.strip())))
    return ops


def verdict(text, lossy=False):
    seen = checker.check(history(text), lossy)
    assert seen.undecided == 0
    return len(seen.anomalies)


GOOD = {
    "alone": """
        1 10 11 get = -
        1 20 21 set 5:a = ok
        1 30 31 get = 5:a
        1 40 41 append b = ok
        1 50 51 prepend c = ok
        1 60 61 gets = 5:cab
        1 70 71 cas 0:d 5:cab = ok
        1 80 81 add 0:x = no
        1 90 91 delete = ok
        1 100 101 get = -
        1 110 111 replace 0:x = no
        1 120 121 add 0:10 = ok
        1 130 131 incr 7 = 17
        1 140 141 decr 20 = 0
        1 150 151 touch = ok""",
    "read beside a set: the old value": """
        1 10 11 set 0:a = ok
        1 20 40 set 0:b = ok
        2 25 35 get = 0:a
        2 50 51 get = 0:b""",
    "read beside a set: the new value": """
        1 10 11 set 0:a = ok
        1 20 40 set 0:b = ok
        2 22 24 get = 0:b
        3 26 28 get = 0:b""",
    "sets beside each other, either order": """
        1 10 20 set 0:a = ok
        2 10 20 set 0:b = ok
        3 30 31 get = 0:a""",
    "no answer, and it happened, late": """
        1 10 . set 0:a = ?
        2 20 21 get = -
        2 30 31 get = 0:a""",
    "no answer, and it never happened": """
        1 10 . set 0:a = ?
        2 20 21 get = -
        2 30 31 set 0:b = ok
        2 40 41 get = 0:b""",
    "no answer, and it happened much later": """
        1 10 . delete = ?
        2 20 21 set 0:b = ok
        2 30 31 get = 0:b
        2 40 41 get = -""",
    "noreply": """
        1 10 20 set 0:a = ~
        1 11 20 get = 0:a
        1 30 40 add 0:b = ~
        1 31 40 get = 0:a""",
    "exists without a reason": """
        1 10 11 set 0:a = ok
        1 20 21 cas 0:b 0:a = exists
        1 30 31 get = 0:a""",
    "one of two adds": """
        1 10 20 add 0:a = ok
        2 10 20 add 0:b = no
        3 15 16 get = -""",
    "counts beside each other": """
        1 10 11 set 0:0 = ok
        1 20 30 incr 1 = 2
        2 20 30 incr 1 = 1""",
    "many sets at once": "\n".join(
        "%d 10 20 set 0:v%d = ok" % (i, i) for i in range(10)) +
        "\n1 30 31 get = 0:v7",
    "many reads at once": "1 10 40 set 0:a = ok\n" + "\n".join(
        "%d 10 40 get = %s" % (i, "-" if i % 2 else "0:a")
        for i in range(2, 60)),
}

BAD = {
    "stale read": """
        1 10 11 set 0:a = ok
        1 20 21 set 0:b = ok
        2 30 31 get = 0:a""",
    "reads that go back": """
        1 10 11 set 0:a = ok
        1 20 60 set 0:b = ok
        2 30 31 get = 0:b
        2 40 41 get = 0:a""",
    "lost write": """
        1 10 11 set 0:a = ok
        2 20 21 get = -""",
    "lost noreply write": """
        1 10 11 set 0:a = ok
        1 20 30 set 0:b = ~
        1 21 30 get = 0:a""",
    "lost append": """
        1 10 11 set 0:a = ok
        1 20 21 append b = ok
        1 30 31 get = 0:a""",
    "append twice": """
        1 10 11 set 0:a = ok
        1 20 21 append b = ok
        1 30 31 get = 0:abb""",
    "resurrected delete": """
        1 10 11 set 0:a = ok
        1 20 21 delete = ok
        2 30 31 get = 0:a""",
    "deleted, yet there": """
        1 10 11 set 0:a = ok
        1 20 21 delete = ok
        2 30 31 touch = ok""",
    "double incr": """
        1 10 11 set 0:0 = ok
        1 20 21 incr 1 = 2""",
    "the same number twice": """
        1 10 11 set 0:0 = ok
        1 20 30 incr 1 = 1
        2 20 30 incr 1 = 1""",
    "add granted twice": """
        1 10 20 add 0:a = ok
        2 10 20 add 0:b = ok""",
    "add refused for nothing": """
        1 10 11 add 0:a = no""",
    "foreign cas": """
        1 10 11 set 0:a = ok
        2 20 21 set 0:b = ok
        1 30 31 cas 0:c 0:a = ok""",
    "cas twice with one token": """
        1 10 11 set 0:a = ok
        1 20 30 cas 0:b 0:a = ok
        2 20 30 cas 0:c 0:a = ok""",
    "cas of what is not there": """
        1 10 11 set 0:a = ok
        1 20 21 delete = ok
        1 30 31 cas 0:b 0:a = ok""",
    "flags lost": """
        1 10 11 set 7:a = ok
        1 20 21 get = 0:a""",
    "a value of nobody": """
        1 10 11 get = 0:zz""",
    "no answer, but it happened twice": """
        1 10 . set 0:a = ?
        2 20 21 get = 0:a
        2 30 31 set 0:b = ok
        2 40 41 get = 0:a""",
    "no answer, before it was asked": """
        2 5 6 get = 0:a
        1 10 . set 0:a = ?""",
    "neither of two": """
        1 10 20 set 0:a = ok
        2 10 20 set 0:b = ok
        3 30 31 get = 0:a
        3 40 41 get = 0:b""",
}


@pytest.mark.parametrize("name", GOOD)
def test_history_without_anomaly_gives_no_anomaly(name):
    assert verdict(GOOD[name]) == 0


@pytest.mark.parametrize("name", BAD)
def test_history_with_anomaly_gives_one_anomaly(name):
    assert verdict(BAD[name]) == 1


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_lossy_check_forgives_lost_values_only(name):
    """Values may be missed, but nothing else is better than before."""
    forgiven = name in GOOD or name in ("lost write", "add granted twice")
    assert verdict((GOOD | BAD)[name], lossy=True) == (0 if forgiven else 1)


@pytest.mark.parametrize("missed, anomalies", [
    ("get = -", 0), ("replace 0:b = no", 0), ("incr 1 = none", 0),
    ("delete = none", 1), ("add 0:b = ok", 1)])
def test_lossy_check_of_missed_value_lets_it_be_there_again(missed, anomalies):
    """It may be there again, if nothing took its place."""
    assert verdict("""
        1 10 11 set 0:7 = ok
        2 20 21 %s
        2 30 31 get = 0:7""" % missed, lossy=True) == anomalies


def test_check_after_an_anomaly_finds_the_next_one():
    """One fault is one anomaly; the next one is found, too."""
    text = BAD["lost write"] + """
        2 30 31 get = -
        2 40 41 set 0:b = ok
        2 50 51 get = 0:b
        2 60 61 get = -
        2 70 71 get = -"""
    assert verdict(text) == 2


def test_anomaly_of_one_key_does_not_show_at_another():
    pieces = history(GOOD["alone"]) + [
        ("other", op) for _, op in history(BAD["stale read"])]
    seen = checker.check(pieces)
    assert [anomaly.key for anomaly in seen.anomalies] == ["other"]


def test_report_of_anomaly_names_only_contradicting_operations():
    """Of many operations the ones that contradict each other, and the one
    that showed it."""
    text = "\n".join(["1 10 11 set 0:a = ok", "2 20 90 set 0:b = ok"] + [
        "%d %d %d get = 0:a" % (i, 20 + i, 30 + i) for i in range(3, 20)] + [
        "20 60 61 get = 0:b", "21 70 71 get = 0:a", "22 72 73 get = 0:b"])
    anomaly, = checker.check(history(text)).anomalies
    assert anomaly.culprit.client == "21"
    assert {op.client for op in anomaly.ops} == {"2", "20", "21"}
    report = str(anomaly)
    assert "here it was 0:a" in report and report.count("\n") < 8


def test_history_over_the_limit_is_undecided(monkeypatch):
    monkeypatch.setattr(checker, "LIMIT", 50)
    seen = checker.check(history(GOOD["many sets at once"]))
    assert seen.undecided == 1 and not seen.anomalies


def test_check_of_random_histories_equals_brute_force():
    """A brute force over all orders must find the same."""
    dice = random.Random(seed(default=1))

    def brute(ops):
        for order in itertools.permutations(ops):
            state = checker.ABSENT
            if any(order[j].end < order[i].call for i in range(len(order))
                   for j in range(i + 1, len(order))):
                continue
            for op in order:
                state = checker.step(state, op.name, op.a, op.b, op.result)
                if state is None:
                    break
            else:
                return True
        return False

    verdicts = []
    for _ in range(3000):
        ops = []
        for i in range(dice.randrange(2, 6)):
            name = dice.choice(["get", "get", "set", "add", "delete", "cas"])
            call = dice.randrange(20)
            a = "0:%d" % i if name in ("set", "add", "cas") else "-"
            b = "0:%d" % dice.randrange(4) if name == "cas" else "-"
            values = ["-"] + ["0:%d" % j for j in range(4)]
            result = dice.choice(
                values if name == "get" else ["ok"] if name == "set" else
                ["ok", "no"] if name == "add" else ["ok", "none"])
            ops.append(Op(str(i), name, a, b, call,
                          call + dice.randrange(1, 12), result))
        verdicts.append(brute(ops))
        seen = checker.check([("k", op) for op in ops])
        assert (not seen.anomalies) == verdicts[-1], ops
    assert 300 < sum(verdicts) < 2700
