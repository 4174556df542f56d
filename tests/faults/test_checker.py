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
    "meta commands alone": """
        1 10 11 mg = -
        1 20 21 ms:R 0:x = no
        1 30 31 ms:E 5:a = ok
        1 40 41 ms:E 5:x = no
        1 50 51 ms:A b = ok
        1 60 61 ms:P c = ok
        1 70 71 ms:AN 9:d = ok
        1 80 81 mg = 5:cabd
        1 90 91 ms:R 6:e 5:cabd = ok
        1 100 101 md - 6:e = ok
        1 110 111 ms 6:f 6:e = none
        1 120 121 md = none
        1 130 131 md:I = none
        1 140 141 ma 3 = none
        1 150 151 ma:N 3,7 = 7
        1 160 161 ma:N 3,7 = 10
        1 170 171 ma:D 20 0:10 = 0
        1 180 181 gats = 0:0""",
    "stale, won by one, and set": """
        1 10 11 set 5:a = ok
        1 20 21 md:I = ok
        2 30 31 get = 5:a
        2 40 41 mg = 5:a/XW
        3 50 51 mg:N = 5:a/XZ
        3 60 61 add 0:x = no
        3 70 71 touch = ok
        2 80 81 ms 0:b 5:a/x = ok
        3 90 91 mg = 0:b""",
    "stale again, won again": """
        1 10 11 set 5:a = ok
        1 20 21 md:I = ok
        2 40 41 mg = 5:a/XW
        1 50 51 md:I = ok
        3 60 61 mg = 5:a/XW
        3 70 71 mg = 5:a/XZ""",
    "an append is fresh": """
        1 10 11 set 5:a = ok
        1 20 21 md:I = ok
        1 30 31 append b = ok
        1 40 41 mg = 5:ab""",
    "made, won by one, and set": """
        1 10 11 mg:N = 0:/W
        2 20 21 mg:N = 0:/Z
        2 30 31 mg = 0:/Z
        2 40 41 get = 0:
        1 50 51 ms 0:b 0: = ok
        2 60 61 mg = 0:b""",
    "one of two wins": """
        1 10 20 mg:N = 0:/W
        2 10 20 mg:N = 0:/Z""",
    "renewed by one": """
        1 10 11 set 0:a = ok
        1 20 21 mg:R = 0:a
        1 30 31 mg:R = 0:a/W
        2 40 41 mg:R = 0:a/Z
        2 50 51 mg = 0:a/Z
        1 60 61 ms 0:b 0:a = ok
        2 70 71 mg:R = 0:b""",
    "stored as stale with an old token": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b 0:old = ok
        2 30 31 mg = 0:b/XW
        1 40 41 ms:I 0:c 0:old = ok
        2 50 51 mg = 0:c/XZ
        2 60 61 ms:I 0:d 0:c/x = ok
        2 70 71 mg = 0:d""",
    "stored as stale with the right token of another copy": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b 0:a = ok
        2 30 31 mg = 0:b/XW""",
    "stored as stale or not, with a token of who knows": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        1 30 31 ms:I 0:b 0:a/? = ok
        1 40 41 mg = 0:b
        1 50 51 md:I = ok
        1 60 61 ms:I 0:c 0:b/? = ok
        1 70 71 mg = 0:c/XW""",
    "a token that is still to come": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b + = exists
        1 30 31 mg = 0:a""",
    "a stale number, in its place or not": """
        1 10 11 set 0:8 = ok
        1 20 21 md:I = ok
        1 30 31 incr 1 = 9
        1 40 41 mg = 0:9/XW
        1 50 51 ma:N 1,7 = 10
        1 60 61 mg = 0:10""",
    "flush": """
        1 10 11 set 0:a = ok
        9 20 21 flush = ok
        1 30 31 get = -""",
    "flush beside reads and writes": """
        1 10 11 set 0:a = ok
        9 20 60 flush = ok
        1 22 23 get = 0:a
        1 24 25 set 0:b = ok
        1 26 27 get = 0:b
        1 28 29 get = -
        1 30 31 set 0:c = ok
        1 70 71 get = 0:c""",
    "flush beside a write that is behind it": """
        1 10 11 set 0:a = ok
        9 20 40 flush = ok
        1 30 31 set 0:b = ok
        1 50 51 get = 0:b""",
    "flush beside a write that is ahead of it": """
        1 10 11 set 0:a = ok
        9 20 40 flush = ok
        1 30 31 set 0:b = ok
        1 50 51 get = -""",
    "flush beside a write that ends later": """
        1 10 11 set 0:a = ok
        1 15 50 append b = ok
        9 20 40 flush = ok
        2 45 46 get = -""",
    "flush without an answer, late": """
        1 10 11 set 0:a = ok
        9 20 . flush = ?
        1 30 31 get = 0:a
        1 40 41 get = -""",
    "flush of what was never there": """
        9 20 40 flush = ok
        1 30 31 get = -
        1 50 51 add 0:a = ok""",
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
    "stale value without X": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        2 30 31 mg = 0:a""",
    "X for nothing": """
        1 10 11 set 0:a = ok
        2 30 31 mg = 0:a/XW""",
    "stale, won twice": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        2 30 31 mg = 0:a/XW
        3 40 41 mg = 0:a/XW""",
    "stale, won by two at once": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        2 30 40 mg = 0:a/XW
        3 30 40 mg = 0:a/XW""",
    "stale, won by none": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        3 40 41 mg = 0:a/XZ""",
    "made twice": """
        1 10 11 mg:N = 0:/W
        2 20 21 mg:N = 0:/W""",
    "made, and gone": """
        1 10 11 mg:N = 0:/W
        2 20 21 mg = -""",
    "made, and not made": """
        1 10 11 mg:N = -""",
    "renewed twice": """
        1 10 11 set 0:a = ok
        1 30 31 mg:R = 0:a/W
        2 40 41 mg:R = 0:a/W""",
    "win forgotten": """
        1 10 11 set 0:a = ok
        1 30 31 mg:R = 0:a/W
        2 40 41 mg = 0:a""",
    "win for nothing": """
        1 10 11 set 0:a = ok
        1 30 31 mg = 0:a/W""",
    "made stale, and lost": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        1 30 31 get = -""",
    "token from before it was made stale": """
        1 10 11 set 0:a = ok
        1 20 21 md:I = ok
        1 30 31 ms 0:b 0:a = ok""",
    "deleted with an old token": """
        1 10 11 set 0:a = ok
        1 20 21 md - 0:old = ok""",
    "counted with an old token": """
        1 10 11 set 0:5 = ok
        1 20 21 ma 1 0:4 = 6""",
    "appended with an old token": """
        1 10 11 set 0:a = ok
        1 20 21 ms:A b 0:old = ok""",
    "exists without a token": """
        1 10 11 set 0:a = ok
        1 20 21 ms 0:b = exists""",
    "stored as fresh with an old token": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b 0:old = ok
        2 30 31 mg = 0:b""",
    "stored as stale, and lost": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b 0:old = ok
        2 30 31 mg = -""",
    "stored with a token that is still to come": """
        1 10 11 set 0:a = ok
        1 20 21 ms:I 0:b + = ok""",
    "ma counted twice": """
        1 10 11 ma:N 3,7 = 7
        1 20 21 ma:N 3,7 = 10
        1 30 31 get = 0:13""",
    "ma made anew": """
        1 10 11 ma:N 3,7 = 7
        1 20 21 ma:N 3,7 = 7""",
    "ma made and counted": """
        1 10 11 ma:N 3,7 = 10""",
    "flags of a join": """
        1 10 11 set 5:a = ok
        1 20 21 ms:PN 9:b = ok
        1 30 31 get = 9:ba""",
    "value from before the flush": """
        1 10 11 set 0:a = ok
        9 20 21 flush = ok
        1 30 31 get = 0:a""",
    "value that is back after the flush": """
        1 10 11 set 0:a = ok
        9 20 60 flush = ok
        1 30 31 get = -
        1 40 41 get = 0:a""",
    "flush before it is asked for": """
        1 10 11 set 0:a = ok
        1 12 13 get = -
        9 20 21 flush = ok""",
    "flush that takes what is behind it": """
        1 10 11 set 0:a = ok
        9 20 21 flush = ok
        1 30 31 set 0:b = ok
        1 40 41 get = -""",
    "flush that happens twice": """
        1 10 11 set 0:a = ok
        9 20 60 flush = ok
        1 30 31 get = -
        1 40 41 set 0:b = ok
        1 50 51 get = -""",
    "flush without an answer, twice": """
        1 10 11 set 0:a = ok
        9 20 . flush = ?
        1 30 31 get = -
        1 40 41 set 0:b = ok
        1 50 51 get = -""",
    "flush that others did not see": """
        1 10 11 set 0:a = ok
        1 15 50 append b = ok
        9 20 40 flush = ok
        2 45 46 get = 0:ab""",
}

# A cache may have lost the value, and then it is as if it had never been there.
FORGIVEN = {"lost write", "add granted twice", "made twice", "made, and gone",
            "made stale, and lost", "stored as stale, and lost",
            "ma made anew", "value that is back after the flush",
            "flush before it is asked for",
            "flush that takes what is behind it", "flush that happens twice",
            "flush without an answer, twice"}


# With several magents.
OPEN_TO_SEVERAL = {"stale, won twice", "stale, won by two at once",
                   "stale, won by none"}


@pytest.mark.parametrize("name", GOOD)
def test_history_without_anomaly_gives_no_anomaly(name):
    assert verdict(GOOD[name]) == 0


@pytest.mark.parametrize("name", BAD)
def test_history_with_anomaly_gives_one_anomaly(name):
    assert verdict(BAD[name]) == 1


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_lossy_check_forgives_lost_values_only(name):
    """Values may be missed, but nothing else is better than before."""
    forgiven = name in GOOD or name in FORGIVEN
    assert verdict((GOOD | BAD)[name], lossy=True) == (0 if forgiven else 1)


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_check_of_several_magents_forgives_who_is_told_only(monkeypatch, name):
    """Who is told to set a stale item anew is open, but nothing else."""
    monkeypatch.setattr(checker, "VARIANTS", dict(checker.VARIANTS))
    checker.expect_several(checker.VARIANTS)
    forgiven = name in GOOD or name in OPEN_TO_SEVERAL
    assert verdict((GOOD | BAD)[name]) == (0 if forgiven else 1)


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


def test_half_a_flush_is_an_anomaly_of_the_keys_that_are_left():
    seen = checker.check([(key, op) for key, result in (
        ("gone", "-"), ("left", "0:a")) for _, op in history("""
            1 10 11 set 0:a = ok
            9 20 30 flush = ok
            1 40 41 get = %s""" % result)])
    assert [anomaly.key for anomaly in seen.anomalies] == ["left"]


def of_two_keys(first, second):
    return checker.check([(key, op) for key, text in (
        ("first", first), ("second", second)) for _, op in history("""
            1 10 11 set 0:a = ok
            9 20 90 flush = ok
            %s""" % text)]).anomalies


def test_flush_that_is_not_one_moment_for_two_keys_is_an_anomaly():
    """Each key alone is as it should be."""
    anomaly, = of_two_keys("1 30 31 get = -", "2 32 33 mg = 0:a")
    assert str(anomaly) == """key second is there when key first is gone
  0.000000 0.000000 c9   flush -> ok
  0.000000 0.000000 c1   get -> -
> 0.000000 0.000000 c2   mg -> 0:a"""


@pytest.mark.parametrize("first, second", [
    ("1 30 33 get = -", "2 32 33 mg = 0:a"),        # beside each other
    ("1 30 31 get = -", "2 22 23 mg = 0:a"),        # the other way round
    ("3 25 50 delete = ok\n1 30 31 get = -", "2 32 33 get = 0:a"),
    ("3 25 95 delete = none\n1 30 31 get = -", "2 32 33 get = 0:a"),
    ("1 30 31 get = -", "3 25 26 set 0:b = ok\n2 32 33 get = 0:b")])
def test_flush_that_can_be_one_moment_for_two_keys_is_none(first, second):
    assert of_two_keys(first, second) == []


def test_check_after_a_lost_flush_goes_on():
    """Pieces that end while it is under way, and one flush after the other."""
    assert verdict("""
        1 10 11 set 0:a = ok
        9 20 60 flush = ok
        1 22 23 set 0:b = ok
        1 24 25 get = 0:b
        1 70 71 get = 0:b
        9 80 90 flush = ok
        1 82 83 get = 0:b
        1 92 93 get = 0:b
        1 94 95 set 0:c = ok
        1 96 97 get = 0:c""") == 1


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
            if any(order[j].end < order[i].call for i in range(len(order))
                   for j in range(i + 1, len(order))):
                continue
            states = {checker.ABSENT}
            for op in order:
                states = {after for state in states for after in checker.step(
                    state, op.name, op.a, op.b, op.result)}
            if states:
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
