"""Each command and each error: the exact bytes, the same as memcached's."""
import re
import struct

import pytest

from differential import Names, first_difference
from lib.net import wait_for
from lib.transcript import steps

# A request without a reply is followed by one that has one.
SAME = {
    "storage": """
        >set s 5 0 3
        >abc
        STORED
        >add s 0 0 1
        >x
        NOT_STORED
        >replace s 6 0 2
        >de
        STORED
        >append s 9 9 1
        >f
        STORED
        >prepend s 0 0 1
        >c
        STORED
        >get s
        VALUE s 6 4
        cdef
        END
        >delete s
        DELETED
        >replace s 0 0 1
        >x
        NOT_STORED
        >append s 0 0 1
        >x
        NOT_STORED
        >prepend s 0 0 0
        >
        NOT_STORED
        >add s 0 0 0
        >
        STORED
        >get s
        VALUE s 0 0

        END
        """,
    "numbers": """
        >set n 0 0 1
        >9
        STORED
        >incr n 1
        10
        >decr n 1
        9
        >get n
        VALUE n 0 2
        9 
        END
        >decr n 100
        0
        >incr n 9223372036854775807
        9223372036854775807
        >set n 0 0 20
        >18446744073709551615
        STORED
        >incr n 1
        0
        >incr n x
        CLIENT_ERROR invalid numeric delta argument
        >incr n -1
        CLIENT_ERROR invalid numeric delta argument
        >decr n 18446744073709551616
        CLIENT_ERROR invalid numeric delta argument
        >set n 0 0 1
        >x
        STORED
        >incr n 1
        CLIENT_ERROR cannot increment or decrement non-numeric value
        >incr none 1
        NOT_FOUND
        >decr none 1
        NOT_FOUND
        """,
    "touch and delete": """
        >set t 0 0 1
        >x
        STORED
        >touch t 100
        TOUCHED
        >mg t t
        HD t100
        >gat 0 t
        VALUE t 0 1
        x
        END
        >gat 200 t none t
        VALUE t 0 1
        x
        VALUE t 0 1
        x
        END
        >mg t t
        HD t200
        >touch none 0
        NOT_FOUND
        >touch t x
        CLIENT_ERROR invalid exptime argument
        >gat x t
        CLIENT_ERROR invalid exptime argument
        >touch t -1
        TOUCHED
        >get t
        END
        >delete t
        NOT_FOUND
        >set t 0 0 1
        >x
        STORED
        >delete t 0
        DELETED
        >delete t 5
        CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]
        >delete t noreplY
        CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]
        """,
    "expired at once": """
        >set e 0 -1 1
        >x
        STORED
        >set f 0 4294967295 1
        >x
        STORED
        >set g 0 2678400 1
        >x
        STORED
        >get e f g
        END
        """,
    "flags": """
        >set f 4294967295 0 0
        >
        STORED
        >get f
        VALUE f 4294967295 0

        END
        >set f 4294967296 0 0
        >
        STORED
        """,
    "cas errors": """
        >delete c
        >cas c 0 0 1 1
        >x
        NOT_FOUND
        NOT_FOUND
        >cas c 0 0 1
        ERROR
        """,
    "noreply": """
        >set q 0 0 1 noreply
        >5
        >incr q 1 noreply
        >decr q 2 noreply
        >append q 0 0 1 noreply
        >1
        >get q
        VALUE q 0 2
        41
        END
        >touch q 0 noreply
        >delete q noreply
        >delete q 0 noreply
        >add q 0 0 1 noreply
        >a
        >replace q 0 0 1 noreply
        >b
        >prepend q 0 0 1 noreply
        >c
        >cas q 0 0 1 1 noreply
        >d
        >verbosity 0 noreply
        >get q
        VALUE q 0 2
        cb
        END
        """,
    "spaces": """
        >  get   none   none  
        END
        > set  w  0  0  1  
        >x
        STORED
        >delete w  
        DELETED
        >flush_all  noreply
        """,
    "unknown commands": """
        >
        ERROR
        >foo
        ERROR
        >GET k
        ERROR
        >Set k 0 0 1
        ERROR
        >get
        ERROR
        >get 
        ERROR
        >set k
        ERROR
        >set k 0 0
        ERROR
        >touch k
        ERROR
        >incr k
        ERROR
        >delete
        ERROR
        >delete k k k k
        ERROR
        >verbosity
        ERROR
        >verbosity 1
        OK
        >verbosity 0 0
        OK
        """,
    "lengths": """
        >set l 0 0 -1
        CLIENT_ERROR bad command line format
        >set l 0 0 x
        CLIENT_ERROR bad command line format
        >set l 0 0 1x
        CLIENT_ERROR bad command line format
        >set l 0 0 0x1
        CLIENT_ERROR bad command line format
        >set l 0 0 2147483647
        CLIENT_ERROR bad command line format
        >set l 0 0 2147483648
        CLIENT_ERROR bad command line format
        >set l 0 0 111111111111111111111111111111
        CLIENT_ERROR bad command line format
        >set l 0 0 18446744073709551616
        CLIENT_ERROR bad command line format
        >set l 0 0 1
        >12
        CLIENT_ERROR bad data chunk
        ERROR
        """,
    "long keys": """
        >set {K250} 0 0 1
        >x
        STORED
        >get {K250} {K250}
        VALUE {K250} 0 1
        x
        VALUE {K250} 0 1
        x
        END
        >mg {K250} k
        HD k{K250}
        >delete {K250}
        DELETED
        >get {K251}
        CLIENT_ERROR bad command line format
        >get a {K251}
        CLIENT_ERROR bad command line format
        >get a {K251} b
        CLIENT_ERROR bad command line format
        >gat 0 a {K251}
        CLIENT_ERROR bad command line format
        >gets {K251}
        CLIENT_ERROR bad command line format
        >delete {K251}
        CLIENT_ERROR bad command line format
        >incr {K251} 1
        CLIENT_ERROR bad command line format
        >touch {K251} 1
        CLIENT_ERROR bad command line format
        >mg {K251} v
        CLIENT_ERROR bad command line format
        >md {K251}
        CLIENT_ERROR bad command line format
        >ma {K251}
        CLIENT_ERROR bad command line format
        """,
    "odd keys": """
        >set \x01\x10\xff\t 0 0 1
        >x
        STORED
        >get \x01\x10\xff\t
        VALUE \x01\x10\xff\t 0 1
        x
        END
        >get\tk
        ERROR
        """,
    "flush_all": """
        >set k 0 0 1
        >x
        STORED
        >flush_all
        OK
        >get k
        END
        >flush_all 0
        OK
        >flush_all -1
        OK
        >flush_all 0 noreply
        >flush_all x
        CLIENT_ERROR invalid exptime argument
        >flush_all 0 0 0
        ERROR
        """,
    "meta get": """
        >set m 7 0 2
        >ab
        STORED
        >mg m
        HD
        >mg m v
        VA 2
        ab
        >mg m f h k l O123 q s t v
        VA 2 f7 h1 km l0 O123 s2 t-1
        ab
        >mg none
        EN
        >mg none k O9 v
        EN knone O9
        >mg none q
        >mg none q k
        >mn
        MN
        >mg m T100 t
        HD t100
        >mg m R30 t
        HD t100
        >mg m R200 t
        HD t100 W
        >mg m R200 t
        HD t100 Z
        >delete none
        NOT_FOUND
        >mg none N100 t v
        VA 0 t100 W

        >mg none t
        HD t100 Z
        >delete none
        DELETED
        """,
    "meta errors": """
        >mg
        ERROR
        >ms
        ERROR
        >mg m v v
        CLIENT_ERROR duplicate flag
        >mg m z
        CLIENT_ERROR invalid flag
        >mg m O{O30} k
        EN O{O30} km
        >md m O{O32}
        CLIENT_ERROR opaque token too long
        >ms m
        CLIENT_ERROR bad command line format
        >ms m x
        CLIENT_ERROR bad command line format
        >ms m 1 MZ
        >x
        CLIENT_ERROR invalid mode for ms M token
        >ms m 1 Mset
        >x
        CLIENT_ERROR incorrect length for M token
        >ms m 1 Tx
        >x
        CLIENT_ERROR bad token in command line format
        >ma m MX
        CLIENT_ERROR invalid mode for ma M token
        >ma m Dx
        CLIENT_ERROR invalid or duplicate flag
        >me
        CLIENT_ERROR bad command line format
        >mg ??? b
        CLIENT_ERROR error decoding key
        """,
    "meta set": """
        >ms a 2 F5 T100 k O1
        >xy
        HD ka O1
        >mg a f t v
        VA 2 f5 t100
        xy
        >ms a 1 ME
        >e
        NS
        >ms a 1 MA
        >a
        HD
        >ms a 1 MP
        >p
        HD
        >ms a 1 MR
        >r
        HD
        >ms none 1 MA
        >a
        NS
        >ms none 1 MR
        >a
        NS
        >ms a 1 C999999
        >x
        EX
        >ms none 1 C1 k
        >x
        NF knone
        >ms a 2 q
        >qq
        >mg a v
        VA 2
        qq
        >ms a 0
        >
        HD
        >ms a 1
        >xy
        CLIENT_ERROR bad data chunk
        ERROR
        """,
    "meta delete": """
        >set d 0 0 1
        >x
        STORED
        >md d C999999
        EX
        >md d I T30 k O7
        HD kd O7
        >mg d t v
        VA 1 t30 X W
        x
        >mg d
        HD Z X
        >md d q
        >md d q
        NF
        >md d
        NF
        """,
    "meta arithmetic": """
        >delete i
        NOT_FOUND
        >ma i
        NF
        >ma i N0 J13 v
        VA 2
        13
        >ma i
        HD
        >ma i D10 v t
        VA 2 t-1
        24
        >ma i MD D4 v k
        VA 2 ki
        20
        >ma i M- v
        VA 2
        19
        >ma i q
        >ma none q k
        NF knone
        >set i 0 0 1
        >x
        STORED
        >ma i
        CLIENT_ERROR cannot increment or decrement non-numeric value
        """,
    "meta base64": """
        >delete foo
        NOT_FOUND
        >ms Zm9v b 1 k
        CLIENT_ERROR bad command line format
        >ms Zm9v 1 b k
        >x
        HD kZm9v b
        >mg Zm9v b k v
        VA 1 kZm9v b
        x
        >md Zm9v b k
        HD kZm9v b
        """,
    "meta no-op": """
        >mg none q
        >mg none q
        >mn
        MN
        >mn foo
        MN
        """,
}

# What the same commands get from magent alone; see exceptions.md.
BETTER = {
    "NUL in a line": """
        >get a\0b
        CLIENT_ERROR bad command line format
        >delete a\0b
        CLIENT_ERROR bad command line format
        """,
    "lone CR in a line": """
        >get a\rb
        CLIENT_ERROR bad command line format
        """,
    "data of a bad line is swallowed": """
        >set {K251} 0 0 11
        >flush_all
        >
        CLIENT_ERROR bad command line format
        >set k x 0 9
        >flush_all
        CLIENT_ERROR bad command line format
        >cas k 0 0 9 x
        >flush_all
        CLIENT_ERROR bad command line format
        >ms {K251} 9
        >flush_all
        CLIENT_ERROR bad command line format
        """,
    "a bad key does not hide the reply before it": """
        >get none
        >get {K251}
        >get none
        END
        CLIENT_ERROR bad command line format
        END
        """,
    "gat without a key": """
        >gat 10
        ERROR
        """,
    "administration": """
        >cache_memlimit 64
        CLIENT_ERROR command not allowed
        >lru_crawler metadump all
        CLIENT_ERROR command not allowed
        >lru_crawler crawl all
        CLIENT_ERROR command not allowed
        >lru mode flat
        CLIENT_ERROR command not allowed
        >slabs reassign 1 2
        CLIENT_ERROR command not allowed
        >watch fetchers
        CLIENT_ERROR command not allowed
        >shutdown
        ERROR: shutdown not enabled
        >misbehave
        ERROR
        >stats cachedump 1 0
        END
        >stats items
        END
        >stats slabs
        END
        >stats reset
        RESET
        >stats nothing
        ERROR
        """,
}


def ask(client, request):
    """The whole reply to a request, however long it is, or none."""
    return client.talk(request, b"md marker O7\r\n", b"NF O7\r\n")


def check(server, text):
    with server.client() as client:
        assert client.ask(b"flush_all\r\n") == b"OK\r\n"
        for request, reply in steps(text):
            got = ask(client, request)
            # A time to live may have lost a second.
            assert first_difference(reply, got, Names()) is None, (
                request, reply, got)


@pytest.mark.parametrize("name", SAME)
def test_transcript_of_memcached_is_answered_the_same(speaker, name):
    check(speaker, SAME[name])


@pytest.mark.parametrize("name", BETTER)
def test_transcript_of_deliberate_difference_is_answered_as_listed(
        proxy, name):
    check(proxy, BETTER[name])


# Every command that changes nothing by being said twice.
ALL = b"""\
flush_all noreply
set a 5 0 6
VALUE
add a 0 0 1
x
replace a 1 0 1
5
append a 0 0 1 noreply
0
prepend a 0 0 1
1
incr a 1
decr a 2 noreply
get a none a
gat 0 a
touch a 0
ms m 3 F7 k O1
abc
mg m v f s q
ma a v J1 D2
md m q
mg none k
mn
verbosity 0
delete a noreply
delete a
foo
cas a 0 0 1 1
x
""".replace(b"\n", b"\r\n").replace(b"VALUE\r\n", b"VALUE\n\r\n")


def test_commands_split_at_any_byte_get_the_same_replies(proxy, module_stage):
    with module_stage.memcached().client() as plain:
        whole = ask(plain, ALL)
    with proxy.client() as client, proxy.client() as other:
        for at in range(len(ALL)):
            client.send(ALL[:at])
            other.talk(b"")     # by now the first part has been read
            assert ask(client, ALL[at:]) == whole, ALL[:at]


def test_commands_sent_byte_by_byte_get_the_same_replies(proxy, module_stage):
    with module_stage.memcached().client() as plain:
        whole = ask(plain, ALL)
    with proxy.client() as client, proxy.client() as other:
        for at in range(len(ALL)):
            client.send(ALL[at:at + 1])
            other.talk(b"")
        assert ask(client, b"") == whole


def test_line_ending_in_lf_alone_is_taken(speaker):
    assert speaker.talk(
        b"set lf 0 0 1\nx\r\nget lf\nmg lf v\nincr none 1\n\nfoo\n") == (
        b"STORED\r\nVALUE lf 0 1\r\nx\r\nEND\r\nVA 1\r\nx\r\n"
        b"NOT_FOUND\r\nERROR\r\nERROR\r\n")


def test_data_ending_in_lf_alone_is_refused(speaker):
    assert speaker.talk(b"set lf 0 0 1\r\nX\nversion\r\n").startswith(
        b"CLIENT_ERROR bad data chunk\r\n")


COMMANDS = ("get gets gat gats set add replace append prepend cas incr decr "
            "touch delete mg ms md ma mn me verbosity version stats flush_all "
            "slabs lru lru_crawler watch cache_memlimit misbehave").split()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_any_number_of_tokens_is_answered(proxy, command):
    """None crashes or loses the framing; the next command is answered."""
    data = b"%s\r\n" % (b"a" * 100)
    with proxy.client() as client:
        for count in range(21):
            line = b" ".join([command.encode()] + [b"100"] * count)
            assert ask(client, line + b"\r\n" + data).endswith(b"\r\n")
        assert ask(client, b"set a 0 0 1\r\nx\r\n") == b"STORED\r\n"


def test_version_starts_with_the_lowest_of_the_servers(stage):
    old, new = stage.fake(version="1.5.6"), stage.memcached()
    proxy = stage.magent([new, old])
    wait_for(lambda: re.fullmatch(
        rb"VERSION 1\.5\.6-magent-\S+\r\n", proxy.talk(b"version\r\n")),
        "both servers to be known")
    assert proxy.talk(b"version foo bar\r\n").startswith(b"VERSION 1.5.6-")


NUMBERS = """pid uptime time pointer_size max_connections
    curr_connections total_connections rejected_connections
    connection_structures cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits
    get_misses delete_hits delete_misses incr_hits incr_misses decr_hits
    decr_misses cas_hits cas_misses cas_badval touch_hits touch_misses
    bytes_read bytes_written limit_maxbytes accepting_conns listen_disabled_num
    time_in_listen_disabled_us threads conn_yields bytes curr_items total_items
    evictions failovers mirror_effects mirror_mismatches mirror_repairs
    dirty_keys server_failures server_timeouts out_of_memory""".split()


@pytest.mark.parametrize("line", ["stats\r\n", "stats \r\n"])
def test_stats_have_what_exporters_read(proxy, line):
    reply = proxy.talk(line.encode()).decode()
    assert reply.endswith("\r\nEND\r\n")
    lines = reply.split("\r\n")[:-2]
    assert all(re.fullmatch(r"STAT [^\s]+ [^\r\n]+", line) for line in lines)
    stats = dict(line.split(" ", 2)[1:] for line in lines)
    assert len(stats) == len(lines), "a name is there twice"
    bad = [name for name in NUMBERS if not stats.get(name, "").isdecimal()]
    assert not bad
    assert re.match(r"\d+\.\d+\.\d+", stats["version"])
    assert all(re.fullmatch(r"\d+\.\d{6}", stats[name])
               for name in ("rusage_user", "rusage_system"))
    assert re.match(r"\d+\.\d+\.\d+", stats["libevent"])
    assert int(stats["pid"]) == proxy.pid and int(stats["uptime"]) > 0
    assert stats["threads"] == "1" and int(stats["limit_maxbytes"]) > 0


# Each line once or twice, so that hits, misses and refusals differ.  What an
# autovivified item counts as differs between versions, so no N is among them.
COUNTED = [
    b"set k 0 0 1\r\nx\r\n", b"incr k 1\r\n", b"decr k 1\r\n", b"ma k\r\n",
    b"ma k MD\r\n", b"incr none x\r\n", b"incr none 1\r\n",
    b"decr none 1\r\n", b"ma none\r\n", b"ma none MD\r\n", b"touch k x\r\n",
    b"touch k 0\r\n", b"touch none 0\r\n", b"md k C1\r\n", b"md none\r\n",
    b"md k I\r\n", b"set n 0 0 1\r\n5\r\n", b"incr n 1\r\n",
    b"ma n C1\r\n", b"ma n\r\n", b"ma n MD\r\n", b"decr n 1\r\n",
    b"cas n 0 0 1 1\r\nx\r\n", b"cas none 0 0 1 1\r\nx\r\n",
    b"mg n v\r\n", b"mg n\r\n", b"mg none v\r\n", b"mg none\r\n",
    b"mg n T30\r\n", b"mg n T30 v\r\n", b"mg none T30 v\r\n",
    b"gat 0 n none\r\n", b"gats 0 n\r\n", b"gat 0 none\r\n",
    b"get n none\r\n", b"gets n\r\n", b"get none\r\n",
    b"ms n 1 C1\r\n1\r\n", b"ms n 1 ME\r\n1\r\n", b"ms n 1\r\n1\r\n",
    b"ms n 1 MA\r\n1\r\n", b"ms none 1 C1\r\n1\r\n",
    b"ms n 1 C1 MR\r\n1\r\n", b"ms none 1 C1 MR\r\n1\r\n",
    b"ms n 1 C1 ME\r\n1\r\n", b"ms n 1 C1 MA\r\n1\r\n",
    b"ms none 1 C1 MP\r\n1\r\n", b"ms n 1\r\n1xx", b"cas n 0 0 1 1\r\n1xx",
    b"set n 0 0 1\r\n1xx", b"set n 0 0 1 x\r\n1\r\n",
    b"add n 0 0 1\r\n1\r\n", b"append none 0 0 1\r\n1\r\n",
    b"set big 0 0 2000000\r\n" + bytes(2000000) + b"\r\n",
    b"ms big 2000000\r\n" + bytes(2000000) + b"\r\n",
    b"delete n 5\r\n", b"delete n\r\n", b"delete n\r\n", b"mn\r\n",
    b"flush_all\r\n"]


def test_stats_count_each_command_as_memcached_does(stage):
    proxy, alone = stage.magent([stage.memcached()]), stage.memcached()
    kinds = ["cmd_get", "cmd_set", "cmd_flush", "cmd_touch", "cas_badval"] + [
        kind + end for kind in ("get", "delete", "incr", "decr", "cas", "touch")
        for end in ("_hits", "_misses")]
    for line in COUNTED:
        grown = []
        for end in proxy, alone:
            before = end.stats()
            end.talk(line)
            after = end.stats()
            grown.append({kind: int(after[kind]) - int(before[kind])
                          for kind in kinds if after[kind] != before[kind]})
        assert grown[0] == grown[1], line[:40]


def test_stats_settings_show_port_and_no_lru_crawler(proxy):
    settings = proxy.stats("settings")
    assert settings["tcpport"] == str(proxy.port)
    assert {"maxconns", "inter", "verbosity"} <= set(settings)
    assert settings.get("lru_crawler") != "yes"


def test_flush_with_option_F_is_refused(stage):
    proxy = stage.magent([stage.memcached()], [], "-F")
    assert proxy.talk(b"set k 0 0 1\r\nx\r\nflush_all\r\nget k\r\n") == (
        b"STORED\r\nCLIENT_ERROR flush_all not allowed\r\n"
        b"VALUE k 0 1\r\nx\r\nEND\r\n")


@pytest.mark.parametrize("length", [60, 127, 128, 600])
def test_client_gets_what_a_server_says_instead_of_a_flush(stage, length):
    refusal = b"SERVER_ERROR ".ljust(length - 2, b"x") + b"\r\n"
    real, fake = stage.memcached(), stage.fake()
    proxy = stage.magent([real, fake])
    assert proxy.talk(b"flush_all\r\n") == b"OK\r\n"
    fake.script = lambda link, line, data: \
        refusal if line.startswith(b"flush_all") else None
    assert proxy.talk(b"flush_all\r\n") == refusal


def test_client_gets_one_line_when_servers_refuse_a_flush(stage):
    lines = [b"SERVER_ERROR not today\r\n", b"ERROR\r\n"]

    def refuse(line):
        return lambda link, asked, data: \
            line if asked.startswith(b"flush_all") else None

    for order in lines, lines[::-1]:
        proxy = stage.magent([stage.fake(refuse(line)) for line in order])
        for _ in range(20):
            assert proxy.talk(b"flush_all\r\n") in lines


def test_delayed_flush_reaches_every_server_in_its_time(stage):
    servers = stage.memcacheds(3)
    proxy = stage.magent(servers[:2], servers[2:])
    assert proxy.talk(b"flush_all 2\r\n") == b"OK\r\n"
    for server in servers:
        wait_for(lambda: server.stats()["cmd_flush"] == "1", "its time")


def binary(opcode=0, key=b"", extras=b"", magic=0x80, length=None):
    body = extras + key
    return struct.pack(
        ">BBHBBHIIQ", magic, opcode, len(key), len(extras), 0, 0,
        len(body) if length is None else length, 0x12345678, 0) + body


@pytest.mark.parametrize("request_bytes", [
    binary(0, b"key"), binary(0x0b), binary(1, b"k", b"\0" * 8),
    binary(1, b"k", length=16 << 20)],
    ids=["get", "version", "set", "16 MB announced"])
def test_binary_request_is_answered_with_unknown_command(proxy, request_bytes):
    with proxy.client() as client:
        client.send(request_bytes)
        reply = client.read_to_end()
    magic, opcode, key, extras, _, status, length, opaque, _ = struct.unpack(
        ">BBHBBHIIQ", reply[:24])
    assert (magic, key, extras, status) == (0x81, 0, 0, 0x81)
    assert opcode == request_bytes[1] and opaque == 0x12345678
    assert len(reply) == 24 + length


@pytest.mark.parametrize("start", [b"\x80", b"\x80\0\0\3", b"\x81\0",
                                   binary(magic=0x81)])
def test_binary_request_cut_short_closes_without_error(proxy, start):
    with proxy.client() as client:
        client.send(start)
        client.half_close()
        assert b"ERROR" not in client.read_to_end()


def test_foreign_protocols_do_not_reach_a_server(stage):
    """HTTP, TLS, PROXY and Redis end here."""
    server = stage.fake()
    proxy = stage.magent([server])
    proxy.talk(b"")
    for data in (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
                 b"POST /get%20a HTTP/1.0\r\n\r\nflush_alls\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
                 b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
                 b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
                 b"*1\r\n$4\r\nPING\r\n", b"\0" * 3000):
        with proxy.client() as client:
            client.send(data)
            client.half_close()
            reply = client.read_to_end()
            assert re.fullmatch(rb"((CLIENT_)?ERROR[^\n]*\r\n)*", reply)
    assert server.commands == []


@pytest.mark.parametrize("command", [
    b"mg k T%s v\r\n", b"ms k 1 T%s\r\n1\r\n", b"ma k D%s\r\n",
    b"md k T%s\r\n"])
def test_meta_line_that_old_servers_close_for_is_refused(proxy, command):
    """Its data is not read as commands."""
    assert proxy.talk(command % (b"0" * 1000)) == \
        b"CLIENT_ERROR line too long\r\n"
    assert proxy.talk(command % (b"0" * 900)).split()[0] in (
        b"EN", b"HD", b"NF", b"VA")
    assert proxy.stats()["failovers"] == "0"
