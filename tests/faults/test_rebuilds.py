"""Rebuilds: many at once, with survivors that are busy, slow or lie.

What a rebuild copies is tested in test_returns.py, under load.
"""
import signal
import threading
import time

from faults import Busy, Front, Fronted, fill, missing
from lib.net import wait_for
from lib.servers import sanitized


def states(proxy):
    found = proxy.stats("servers")
    return [found[name] for name in found if name.endswith(":state")]


def wait_up(proxy, timeout=60):
    wait_for(lambda: set(states(proxy)) == {"up"}, "all servers to be up",
             timeout, pause=0.05)


def count(server):
    return server.item_count()


class Lists:
    """Counts the lists that a survivor is asked for, and delays each."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.lock = threading.Lock()
        self.running = self.most = self.times = 0

    def __call__(self, line):
        if not line.startswith(b"lru_crawler metadump"):
            return None
        with self.lock:
            self.times += 1
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self.lock:
            self.running -= 1
        return None


def restart_all(servers):
    for server in servers:
        server.kill()
    for server in servers:
        server.start(server.port)


def fronted(stage, refuse):
    return stage.add(Fronted(refuse)).start()


def test_servers_that_return_at_once_share_lists_of_their_survivor(stage):
    """Twelve primaries, one backup: each list is for all who wait for it."""
    lists = Lists(0.3)
    backup = fronted(stage, lists)
    primaries = stage.memcacheds(12, "-t", "1")
    proxy = stage.magent(primaries, [backup], "-t", 5000)
    fill(proxy, 3000)
    restart_all(primaries)
    wait_for(lambda: "up" not in states(proxy)[:12], "them to be missed")
    wait_up(proxy)
    assert sum(map(count, primaries)) == 3000
    assert missing(proxy, 3000) == 0
    assert lists.most == 1
    # They return within a second or so, not at the same moment.
    assert lists.times <= 8, lists.times


def test_list_that_began_earlier_does_not_count_for_a_later_return(stage):
    """A key that was written after a list began, and before its server went,
    is in the next list only."""
    backing = stage.memcached()
    listed, goes_on = threading.Event(), threading.Event()

    def late(link):
        with backing.client() as client:
            client.send(b"lru_crawler metadump hash\r\n")
            dump = client.read_until(b"END\r\n")
        if not listed.is_set():
            listed.set()
            assert goes_on.wait(20)
        return dump

    primaries = stage.memcacheds(2)
    proxy = stage.magent(primaries, [stage.add(Liar(backing, late))],
                         "-t", 5000)
    fill(proxy, 100)
    primaries[0].restart()
    assert listed.wait(20)
    wait_for(lambda: states(proxy) == ["rebuild", "up", "up"], "the first")
    fill(proxy, 100, prefix=b"new")
    wait_for(lambda: count(backing) == 200, "all effects")
    held = count(primaries[1])
    primaries[1].restart()
    wait_for(lambda: states(proxy)[:2] == ["rebuild"] * 2, "the second")
    goes_on.set()
    wait_up(proxy)
    assert count(primaries[1]) == held
    assert count(primaries[0]) == 200 - held


def test_keys_that_do_not_fit_are_listed_in_parts_for_all(stage):
    """The memory for keys is that of all rebuilds together."""
    keys = 60000 if sanitized() else 120000
    backup = stage.memcached("-m", "256")
    primaries = stage.memcacheds(6, "-t", "1")
    # Half of it is for keys of rebuilds: a list of all does not fit.
    proxy = stage.magent(primaries, [backup], "-m", 8, "-t", 2000)
    fill(proxy, keys, size=8, prefix=b"p" * 60)
    before = proxy.peak_rss()
    restart_all(primaries)
    wait_for(lambda: "up" not in states(proxy)[:6], "them to be missed")
    wait_up(proxy, 120)
    assert sum(map(count, primaries)) == keys
    if not sanitized():
        assert proxy.peak_rss() < before + (6 << 20)


def test_survivor_that_is_busy_for_long_is_waited_for(stage):
    """BUSY is no failure, however often it comes, and is logged once."""
    busy = Busy(26)
    backup = fronted(stage, busy)
    primary = stage.memcached()
    proxy = stage.magent([primary], [backup], "-t", 2000)
    fill(proxy, 500)
    primary.restart()
    wait_for(lambda: busy.times == 0, "the last BUSY", timeout=40)
    wait_up(proxy)
    assert count(primary) == 500
    output = proxy.output()
    assert output.count("it is busy") == 1, output
    assert "do not list" not in output


class Liar(Front):
    """Passes on everything but the lists of keys."""

    def __init__(self, memcached, lie):
        self.lie = lie
        super().__init__(memcached, lambda line: None)

    def _pass(self, link, line, data):
        if line.startswith(b"lru_crawler metadump"):
            return self.lie(link)
        return super()._pass(link, line, data)


def without_end(link):
    n = 0
    while True:
        link.send(b"".join(
            b"key=lie:%d exp=-1 la=1 cas=1 fetch=no cls=1 size=60\n" % i
            for i in range(n, n + 5000)))
        n += 5000


def test_list_without_end_is_given_up(stage):
    """Its length is bounded by what the survivor says that it has.  What the
    other survivor lists is copied."""
    honest, backing = stage.memcacheds(2)
    liar = stage.add(Liar(backing, without_end))
    primary = stage.memcached()
    proxy = stage.magent([primary], [liar, honest], "-t", 5000)
    fill(proxy, 2000)
    wait_for(lambda: count(honest) + count(backing) == 2000, "all effects")
    held = count(honest)
    assert 0 < held < 2000
    before = proxy.peak_rss()
    primary.restart()
    wait_for(lambda: "does not end" in proxy.output(), "the list to be left",
             timeout=60)
    wait_for(lambda: count(primary) == held, "the copies of the others",
             timeout=40)
    assert proxy.peak_rss() < before + (40 << 20) or sanitized()
    wait_for(lambda: states(proxy)[0] == "up", "the server to be up",
             timeout=40)


GARBAGE = (
    b"key=%zz exp=-1\n" b"key=%4\n" b"key=%\n" b"key= exp=1\n" b"key=\n"
    b"key=%00%01%0a%0d%20 exp=-1\n" b"key=a%20b exp=-1\n"
    b"key=" + b"%41" * 250 + b" exp=-1\n" b"key=" + b"x" * 251 + b"\n"
    b"key=" + b"%0a" * 250 + b"\n" b"key=\xff\xfe\x80 exp=-1\n"
    b"key=no:such:key exp=-1 la=1\n" b"OK\r\n" b"OK\n" b"key=no:such:key\n")


def test_garbage_in_a_list_does_no_harm(stage):
    """Wrong escapes, keys that no client can have set, keys that are not
    there, keys of other pairs, and the true ones between them."""
    primaries = stage.memcacheds(2)
    backing = stage.memcached()

    def lie(link):
        with backing.client() as client:
            client.send(b"lru_crawler metadump hash\r\n")
            true = client.read_until(b"END\r\n")
        return GARBAGE + true[:-5] + GARBAGE + true

    liar = stage.add(Liar(backing, lie))
    proxy = stage.magent(primaries, [liar], "-t", 5000)
    fill(proxy, 1000)
    wait_for(lambda: count(backing) == 1000, "all effects")
    held = count(primaries[0])
    primaries[0].restart()
    wait_up(proxy)
    assert count(primaries[0]) == held
    assert missing(proxy, 1000) == 0
    assert "copied, " in proxy.output()
    assert primaries[0].is_running() and proxy.is_running()


def test_list_that_is_no_list_is_given_up(stage):
    """Something else than keys: the server is up all the same, later."""
    backing = stage.memcached()
    liar = stage.add(Liar(backing, lambda link: b"HELLO\r\n"))
    primary = stage.memcached()
    proxy = stage.magent([primary], [liar], "-t", 5000)
    fill(proxy, 100)
    primary.restart()
    wait_for(lambda: "do not list" in proxy.output(), "the list to be left")
    wait_up(proxy, 40)


def meta(server, line):
    """The first line of the answer, as a set of words, and the value."""
    lines = server.talk(line + b"\r\n").split(b"\r\n")
    return set(lines[0].split()), lines[1]


def test_copy_does_not_take_the_turn_of_who_sets_a_stale_item_anew(stage):
    """A read wins a stale item, once.  That of a copy is not to be that one."""
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup])
    odd = b"AAEC"       # base64 of three bytes that are no text
    proxy.talk(b"set stale 5 0 1\r\nv\r\nset gone 0 0 1\r\nv\r\n"
               b"set fresh 0 0 1\r\nv\r\nms %s 1 b\r\nv\r\n" % odd)
    proxy.talk(b"md stale I T300\r\nmd gone I T300\r\nmd %s b I T300\r\n" % odd)
    assert meta(proxy, b"mg gone v") == ({b"VA", b"1", b"X", b"W"}, b"v")
    assert meta(proxy, b"mg made N30 v") == ({b"VA", b"0", b"W"}, b"")
    backup.restart()
    wait_for(lambda: states(proxy)[1] != "up", "it to be missed")
    wait_up(proxy)
    assert count(backup) == 5
    for server in backup, proxy:
        won, value = meta(server, b"mg stale f t v")
        assert {b"X", b"W", b"f5"} < won and value == b"v"
        assert won & {b"t300", b"t299", b"t298", b"t297"}, won
        assert {b"X", b"W"} < meta(server, b"mg %s b v" % odd)[0]
        for line in b"mg stale v", b"mg gone v", b"mg %s b v" % odd:
            assert {b"X", b"Z"} < meta(server, line)[0], line
        assert meta(server, b"mg made v")[0] == {b"VA", b"0", b"Z"}
        assert meta(server, b"mg fresh v") == ({b"VA", b"1"}, b"v")


def test_item_set_anew_while_a_copy_reads_it_stays_as_it_was_set(stage):
    """What the copy gives back has changed meanwhile: it is left alone."""
    changes = []

    def change(line):
        if line.startswith(b"md key I"):
            changes.append(line)
            backup.talk(b"set key 0 0 3\r\nnew\r\n")
        return None

    primary = stage.memcached()
    backup = fronted(stage, change)
    proxy = stage.magent([primary], [backup], "-t", 5000)
    backup.talk(b"set key 0 0 1\r\nv\r\nmd key I\r\n")
    primary.restart()
    wait_for(lambda: states(proxy)[0] != "up", "it to be missed")
    wait_up(proxy)
    assert len(changes) == 1
    assert meta(backup, b"mg key v") == ({b"VA", b"3"}, b"new")


def test_many_stale_items_are_copied_in_time(stage):
    """Each of them is stale on both servers, and nobody has won it."""
    n = 20000
    primary, backup = stage.memcacheds(2)
    proxy = stage.magent([primary], [backup], "-t", 2000)
    fill(proxy, n, prefix=b"k")
    fill(proxy, 100)
    with backup.client() as client:
        for i in range(0, n, 1000):
            client.exchange([b"".join(
                b"md k:%d I\r\n" % j for j in range(i, i + 1000)) +
                b"mn\r\n"], b"MN\r\n")
    primary.restart()
    wait_for(lambda: states(proxy)[0] != "up", "it to be missed")
    wait_up(proxy)
    assert count(primary) == n + 100
    for server in primary, backup:
        with server.client() as client:
            reply = client.exchange([b"".join(
                b"mg k:%d\r\n" % i for i in range(n)) + b"mn\r\n"], b"MN\r\n")
        assert reply.count(b"HD X W\r\n") == n


def stalled_list(stage, server):
    """A client that asks a memcached for its list and does not read it."""
    client = stage.client(server, receive_buffer=4096)
    client.send(b"lru_crawler metadump all\r\n")
    wait_for(lambda: server.stats()["lru_crawler_running"] == "1",
             "the list to begin")
    return client


def test_survivor_is_not_asked_while_its_list_is_stalled_by_somebody(stage):
    """Each metadump would block one of its threads, and 1.6.18 hangs for good
    when the one who stalls it goes away meanwhile."""
    keys = 100000
    primary = stage.memcached("-m", "256")
    backup = stage.memcached("-m", "256", "-t", "4")
    proxy = stage.magent([primary], [backup], "-t", 2000)
    fill(proxy, keys, size=8, prefix=b"k" * 60)
    wait_for(lambda: count(backup) == keys, "all effects")
    tool = stalled_list(stage, backup)
    name = "tcp:%s:%d" % tool.socket.getsockname()
    primary.restart()
    wait_for(lambda: name in proxy.output(), "it to be named")
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert states(proxy) == ["rebuild", "up"]
        assert missing(proxy, 100, prefix=b"k" * 60) == 0
        # A thread gets each fourth connection.
        for _ in range(4):
            assert backup.talk(b"version\r\n")
    tool.close()
    wait_up(proxy)
    assert count(primary) == keys
    assert backup.talk(b"version\r\n")


def test_survivor_that_owes_a_list_to_the_scrub_is_not_asked_for_another(
        stage):
    """Each question that is not answered blocks a thread of the survivor."""
    lists = Lists(1)
    primary = fronted(stage, lists)
    backup = stage.memcached()
    proxy = stage.magent([primary], [backup], "-t", 5000)
    fill(proxy, 100)
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: lists.running == 1, "the list of the scrub", pause=0.001)
    backup.restart()
    wait_for(lambda: lists.times == 2, "the list of the rebuild")
    wait_up(proxy)
    assert lists.most == 1
    assert count(backup) == 100


def test_list_that_does_not_begin_is_waited_for_and_not_asked_for_again(stage):
    """Also when the server that it is for fails meanwhile, and another one
    wants it."""
    backing = stage.memcached()
    goes_on = threading.Event()
    asked = []

    def silent(link):
        asked.append(link)
        if not goes_on.is_set():
            assert goes_on.wait(40)
            return b"BUSY currently processing crawler request\r\n"
        with backing.client() as client:
            client.send(b"lru_crawler metadump hash\r\n")
            return client.read_until(b"END\r\n")

    primaries = stage.memcacheds(2)
    proxy = stage.magent(primaries, [stage.add(Liar(backing, silent))],
                         "-t", 5000)
    fill(proxy, 100)
    wait_for(lambda: count(backing) == 100, "all effects")
    primaries[0].restart()
    wait_for(lambda: "it is busy" in proxy.output(), "the silence", 20)
    primaries[0].kill()
    wait_for(lambda: states(proxy)[0] == "down", "the first to be missed")
    primaries[1].restart()
    wait_for(lambda: states(proxy)[1] == "rebuild", "the second")
    primaries[0].start(primaries[0].port)
    wait_for(lambda: states(proxy) == ["rebuild", "rebuild", "up"], "both")
    time.sleep(3)
    assert len(asked) == 1
    assert states(proxy) == ["rebuild", "rebuild", "up"]
    goes_on.set()
    wait_up(proxy)
    assert sum(map(count, primaries)) == 100
