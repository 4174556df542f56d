"""What prometheus/memcached_exporter 0.16 makes of the answers to stats, by the
rules of its source: Collect() of pkg/exporter/exporter.go, and the client
library grobie/gomemcache that it asks with."""

import pytest

from lib.net import wait_for

# What it reads from stats, in the order of its source, as numbers.
COUNTED = ["get_hits", "get_misses", "delete_hits", "delete_misses",
           "incr_hits", "incr_misses", "decr_hits", "decr_misses", "cas_hits",
           "cas_misses", "touch_hits", "touch_misses", "uptime", "time",
           "cas_badval", "cmd_flush", "bytes", "limit_maxbytes", "curr_items",
           "total_items", "bytes_read", "bytes_written", "curr_connections",
           "total_connections", "rejected_connections", "conn_yields",
           "listen_disabled_num", "evictions", "accepting_conns"]
# Read if there is proxy_backend_total.
OF_A_PROXY = ["proxy_conn_requests", "proxy_conn_errors", "proxy_conn_oom",
              "proxy_req_active", "proxy_config_reloads",
              "proxy_config_reload_fails", "proxy_backend_total",
              "proxy_backend_marked_bad", "proxy_backend_failed"]


# Read from stats settings if lru_crawler is yes there.
OF_THE_CRAWLER = ["lru_crawler_sleep", "lru_crawler_tocrawl", "hot_lru_pct",
                  "warm_lru_pct", "hot_max_factor", "warm_max_factor"]


class Down(Exception):
    """It would set memcached_up to 0."""


def reply(client, argument):
    client.send(b"stats" + argument + b"\r\n")
    text = client.read_until(b"END\r\n")
    return text.split(b"\r\n")[:-2]


def all_stats(client):
    """statsFromAddr(): a line that is not three words is left out."""
    found = {}
    for argument in b"", b" slabs", b" items":
        for line in reply(client, argument):
            words = line.split(b" ")
            if len(words) == 3 and words[0].startswith(b"STAT"):
                found[words[1].decode()] = words[2].strip().decode()
    return found


def settings(client):
    """statsSettingsFromAddr(), as it was until December 2020, when one word
    more ended it all; since then that is a part of the value."""
    found = {}
    for line in reply(client, b" settings"):
        words = line.split(b" ")
        if len(words) != 3 or words[0] != b"STAT":
            raise Down("unexpected stats line format %r" % line)
        found[words[1].decode()] = words[2].strip().decode()
    return found


def number(stats, name):
    try:
        return float(stats[name])
    except ValueError:
        raise Down("%s is %r" % (name, stats[name])) from None


def scrape(server):
    """The metrics, by the names of stats; Down, if it would say that."""
    with server.client() as client:
        stats, limits = all_stats(client), settings(client)
    missing = {"cmd_set", "cas_misses", "cas_hits", "cas_badval"} - set(stats)
    if missing:
        raise Down("no %s" % missing)
    names = [name for name in COUNTED if name in stats]
    if "proxy_backend_total" in stats:
        names += OF_A_PROXY
    found = {name: number(stats, name) for name in names}
    found["set"] = number(stats, "cmd_set") - sum(
        found[name] for name in ("cas_misses", "cas_hits", "cas_badval"))
    for name in "rusage_user", "rusage_system":
        seconds, microseconds = stats[name].split(".")
        found[name] = float(seconds) + float(microseconds) / 1000000
    found["version"] = stats["version"]
    found["max_connections"] = number(limits, "maxconns")
    if limits.get("lru_crawler") == "yes":
        for name in OF_THE_CRAWLER:
            number(limits, name)
    return found


@pytest.fixture(scope="module")
def watched(module_stage, tmp_path_factory):
    """A magent whose paths have a space."""
    primary = module_stage.memcached()
    path = tmp_path_factory.mktemp("paths") / "a b%é.sock"
    magent = module_stage.magent([primary], [], "-f", path)
    wait_for(lambda: magent.stats("servers")["0:state"] == "up", "up")
    return magent


def test_memcached_itself_is_up_for_these_rules(memcached):
    assert scrape(memcached)["max_connections"] == 1024
    assert "proxy_backend_total" not in scrape(memcached)


def test_a_path_with_a_space_leaves_magent_up(watched):
    assert scrape(watched)["max_connections"] > 0
    assert watched.stats("settings")["domain_socket"].endswith(
        "/a%20b%25%C3%A9.sock")


@pytest.mark.parametrize("argument", [b"", b" servers", b" settings",
                                      b" conns", b" route k"])
def test_each_line_of_each_answer_is_three_words(watched, argument):
    with watched.client() as client:
        lines = reply(client, argument)
    assert len(lines) > 5
    assert [line for line in lines
            if len(line.split()) != 3 or line.count(b" ") != 2] == []


def test_names_of_the_proxy_show_a_server_that_is_down(pair):
    primary, _, magent = pair
    wait_for(lambda: magent.stats("servers")["1:state"] == "up", "both")

    def servers():
        found = scrape(magent)
        return [found["proxy_backend_" + name]
                for name in ("total", "marked_bad", "failed")]

    assert servers() == [2, 0, 0]
    primary.kill()
    wait_for(lambda: servers() == [2, 1, 1], "the failure")
    primary.start(primary.port)
    wait_for(lambda: servers() == [2, 1, 0], "the return")


def test_requests_and_errors_are_counted_as_memcacheds_proxy_does(stage):
    magent = stage.magent([stage.memcached()])

    def grown(data):
        before = scrape(magent)
        magent.talk(data)
        after = scrape(magent)
        return [after["proxy_conn_" + name] - before["proxy_conn_" + name]
                for name in ("requests", "errors", "oom")]

    assert grown(b"version\r\nstats\r\nmn\r\n") == [0, 0, 0]
    assert grown(b"set a 0 0 1\r\nx\r\nget a\r\nmg a\r\n") == [3, 0, 0]
    assert grown(b"get a b c\r\ngat 0 a b\r\ngets\r\n") == [5, 1, 0]
    assert grown(b"nonsense\r\nget %s\r\nincr a\r\n" % (251 * b"k")) == (
        [0, 3, 0])
    assert grown(b"get " + 3000 * b"k" + b"\r\n") == [0, 1, 0]
    assert grown(b"mg " + 3000 * b"k") == [0, 1, 0]
    # Refused for their data and not for their line.
    assert grown(b"set a 0 0 1\r\nxy\r\n")[:1] == [1]
    assert grown(b"add a 0 0 2000000\r\n%s\r\n" % bytes(2000000)) == [0, 0, 0]


def test_get_that_is_under_way_is_active(stage):
    """Its client does not take the values."""
    magent = stage.magent([stage.memcached()])
    value, keys = b"v" * 200000, [b"k%d" % i for i in range(40)]
    for key in keys:
        assert magent.talk(b"set %s 0 0 %d\r\n%s\r\n" % (
            key, len(value), value)) == b"STORED\r\n"
    client = stage.client(magent, receive_buffer=1 << 16)
    assert scrape(magent)["proxy_req_active"] == 0
    client.send(b"get %s\r\n" % b" ".join(keys * 4))
    wait_for(lambda: scrape(magent)["proxy_req_active"] == 1, "the get")
    assert magent.talk(b"stats reset\r\n") == b"RESET\r\n"
    assert scrape(magent)["proxy_req_active"] == 1
    client.close()
    wait_for(lambda: scrape(magent)["proxy_req_active"] == 0, "its end")


def test_cas_is_a_part_of_cmd_set_for_the_exporter(stage):
    magent = stage.magent([stage.memcached()])
    magent.talk(b"set a 0 0 1\r\nx\r\n")
    token = magent.talk(b"gets a\r\n").split()[4]
    for line in (b"cas a 0 0 1 %s\r\nx\r\n" % token, b"cas a 0 0 1 1\r\nx\r\n",
                 b"cas b 0 0 1 1\r\nx\r\n", b"ms b 1 C1\r\nx\r\n",
                 b"ms b 1 C1 ME\r\nx\r\n", b"add c 0 0 1\r\nx\r\n"):
        magent.talk(line)
    found = scrape(magent)
    assert [found["cas_" + name] for name in ("hits", "badval", "misses")] == (
        [1, 1, 2])
    assert found["set"] == 3
