"""stats hotkeys: the keys that clients ask for most."""
import pytest

OFF = b"CLIENT_ERROR keys are not sampled (--hotkeys)\r\n"


def hot(magent):
    """The keys, the hottest first, and the percentage of each."""
    stats = magent.stats("hotkeys")
    return [(stats["%d:key" % i], float(stats["%d:percent" % i]))
            for i in range(sum(name.endswith(":key") for name in stats))]


def test_without_the_option_there_are_none(stage):
    magent = stage.magent(stage.memcacheds(1), [])
    assert magent.talk(b"stats hotkeys\r\n") == OFF


@pytest.fixture
def magent(stage):
    return stage.magent(stage.memcacheds(1), stage.memcacheds(1), "--hotkeys")


@pytest.mark.parametrize("line", [
    b"get %s\r\n", b"set %s 0 0 1\r\nx\r\n", b"get %s %s\r\n",
    b"mg %s v\r\n", b"incr %s 1\r\n", b"delete %s\r\n", b"gat 0 %s\r\n"])
def test_hot_key_is_found_whatever_is_asked_of_it(magent, line):
    for i in range(20):
        keys = [b"hot" if n % 2 else b"cold%d" % (100 * i + n)
                for n in range(100)]
        magent.talk(b"".join(line.replace(b"%s", key) for key in keys))
    assert hot(magent)[0][0] == "hot"
    assert hot(magent)[0][1] > 8


def test_key_is_one_word_whatever_is_in_it(magent):
    magent.talk(200 * b"get a%20\xff\r\n")
    assert hot(magent) == [("a%2520%FF", 100.0)]


def test_each_line_is_three_words_and_there_are_20_keys_at_most(magent):
    magent.talk(b"".join(b"get k%d\r\n" % (i % 30) for i in range(5000)))
    assert len(hot(magent)) == 20
    with magent.client() as client:
        client.send(b"stats hotkeys\r\n")
        lines = client.read_until(b"END\r\n").decode().split("\r\n")
    assert all(len(line.split(" ")) == 3 for line in lines[:-2])
