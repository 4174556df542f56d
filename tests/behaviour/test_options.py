"""The command line: what is taken, what is refused and how, and that the
usage text, the manual and README say the same of it; and that they say of the
statistics and the log what there is."""
import os
import random
import re
import subprocess

import pytest

from lib.net import wait_for
from lib.servers import MAGENT, ROOT

USAGE, OK = 64, 0

SOURCES = [path for folder in (".", "client", "mirror", "server")
           for path in (ROOT / folder).glob("*.c")]


def run(*arguments):
    """Run magent to its end: status, stdout, stderr."""
    done = subprocess.run(
        [MAGENT, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60)
    return (done.returncode, done.stdout.decode(),
            done.stderr.decode(errors="surrogateescape"))


def refused(*arguments):
    """The one line about a wrong command line."""
    status, out, err = run(*arguments)
    assert status == USAGE and out == ""
    assert err.endswith("\n") and err.count("\n") == 1, err
    assert len(err) < 400
    return err


def taken(*arguments):
    """-V ends the program when all before it has been read."""
    status, out, err = run(*arguments, "-V")
    assert (status, err) == (OK, "") and out.startswith("magent ")


def test_version():
    for option in "-V", "--version":
        status, out, err = run(option)
        assert (status, err) == (OK, "")
        assert re.fullmatch(r"magent \d+\.\d+\.\d+\S*\n", out)


def test_help_goes_to_stdout():
    status, out, err = run("-h")
    assert (status, err) == (OK, "")
    assert out.startswith("usage: magent ")
    assert max(map(len, out.splitlines())) <= 80
    assert run("--help") == (OK, out, "")


def test_alone_prints_the_usage_to_stderr():
    assert run() == (USAGE, "", run("-h")[1])


# Command lines of tutorials for magent 0.5 to 0.7.
@pytest.mark.parametrize("line", [
    "-u root -n 51200 -l 192.168.1.1 -p 12000 -s 192.168.1.1:11211 "
    "-b 192.168.1.2:11211",
    "-u root -n 51200 -l 127.0.0.1 -p 11211 -s 10.0.0.1:11211 "
    "-s 10.0.0.2:11211 -b 10.0.0.3:11211",
    "-u nobody -g nogroup -n 4096 -l 0.0.0.0 -p 0 -f /tmp/magent.sock "
    "-s 10.0.0.1 -b 10.0.0.2 -i 20 -k -D -v",
    "-s 127.0.0.1:11211 -s 127.0.0.1:11212 -p 11210 -i 64 -v -v -v",
])
def test_old_command_lines(line):
    taken(*line.split())


@pytest.mark.parametrize("line", [
    "-s cache.example.org:11211:3", "-s [::1]", "-s [2001:db8::1]:1:2",
    "-s unix:/run/memcached.sock:2", "-s a -b a", "-s a:1 -s a:2",
    "-p 0 -f x", "-p 65535", "-p 1", "-n 1", "-n 1000000", "-i 1",
    "-t 10", "-t 60000", "-I 1k", "-I 1024", "-I 128m", "-I 1G -m 2g",
    "-m 8", "-m 8192k", "-m 1024g", "-m 256M", "-F", "-P /tmp/a", "-P b",
    "--on-down=miss", "--on-down error", "--ring modula", "--ring=magent",
    "--ring=ketama", "--ring=libketama", "--ring=twemproxy",
    "-u 12345 -g 12345", "-l ::1", "-l localhost", "-f /" + 106 * "f",
    "--server=a --backup=b --listen=c --port=1 --socket=d --max-clients=5 "
    "--connections=6 --timeout=70 --item-size=8k --memory=9 --ketama "
    "--refuse-flush --user=u --group=g --pid-file=p --foreground --verbose",
])
def test_taken(line):
    taken(*line.split())


# Option, value, a word of the reason.
BAD = [
    ("-p", "70000", "65535"), ("-p", "65536", "65535"), ("-p", "-1", "0"),
    ("-p", "", "number"), ("-p", "x", "number"), ("-p", "1x", "number"),
    ("-p", " 1", "number"), ("-p", "0x10", "number"), ("-p", "1.5", "number"),
    ("-p", "99999999999999999999", "number"), ("-p", "4294967297", "number"),
    ("-n", "0", "from 1"), ("-n", "1000001", "1000000"), ("-n", "-5", "1"),
    ("-i", "0", "1 to 64"), ("-i", "65", "1 to 64"),
    ("-t", "9", "10"), ("-t", "60001", "60000"), ("-t", "1s", "number"),
    ("-I", "1023", "1k"), ("-I", "0", "1k"), ("-I", "2g", "1g"),
    ("-I", "1t", "1k"), ("-I", "1mm", "1k"), ("-I", "1 m", "1k"),
    ("-I", "m", "1k"), ("-I", "17179869184g", "1g"), ("-I", "-1m", "1k"),
    ("-m", "7", "8m"), ("-m", "1k", "8m"), ("-m", "1025g", "1024g"),
    ("-m", "99999999999999999999g", "1024g"),
    ("-s", "", "empty"), ("-s", ":", "empty"), ("-s", ":11211", "empty"),
    ("-s", "a:", "port"), ("-s", "a:0", "port"), ("-s", "a:65536", "port"),
    ("-s", "a:1:0", "weight"), ("-s", "a:1:x", "weight"),
    ("-s", "[::1]:x", "port"), ("-s", "[::1", "]"), ("-s", "::1", "brackets"),
    ("-s", "[" + 5000 * "a" + "]:1", "IPv6"), ("-s", 5000 * "a", "253"),
    ("-s", "10.0.0.256", "IPv4"), ("-s", "a b", "host name"),
    ("-s", "unix:x", "/"), ("-s", "unix:/" + 107 * "x", "107"),
    ("-b", "", "empty"), ("-b", "2001:db8::1", "brackets"),
    ("-l", "", "empty"), ("-l", 300 * "l", "253"),
    ("-f", "", "empty"), ("-f", "/" + 107 * "f", "107"),
    ("-P", "", "empty"), ("-u", "", "empty"), ("-g", "", "empty"),
    ("--ring", "ketamax", "libketama"), ("--ring", "", "ketama"),
    ("--on-down", "maybe", "miss"), ("--on-down", "", "error"),
]


@pytest.mark.parametrize("option, value, word", BAD)
def test_bad_value(option, value, word):
    line = refused(option, value, "-V")
    shown = value[:60] or "''"
    assert line.startswith("magent: %s %s" % (option, shown))
    assert word in line.split(": ", 2)[2]


def test_bad_value_names_the_letter_of_a_long_option():
    assert refused("-s", "a", "--port=70000").startswith("magent: -p 70000: ")


@pytest.mark.parametrize("option", ["-s", "-b"])
def test_a_server_given_twice(option):
    for other in "10.0.0.1", "10.0.0.1:11211", "10.0.0.1:11211:5":
        assert refused("-s", "a", option, "10.0.0.1", option,
                       other).startswith("magent: %s %s: " % (option, other))
    refused("-s", "x", option, "host", option, "HOST")
    refused("-s", "x", option, "[::1]", option, "[0:0:0:0:0:0:0:1]:11211")
    refused("-s", "x", option, "unix:/a", option, "unix:/a:2")


def test_what_only_the_whole_line_shows():
    assert refused("-p", "11211").startswith("magent: -s: ")
    assert refused("-b", "a").startswith("magent: -s: ")
    assert refused("-s", "a", "-p", "0").startswith("magent: -p 0: ")
    assert refused("-s", "a", "-I", "1g").startswith("magent: -I 1073741824: ")
    assert refused("-s", "a", "-m", "8", "-I", "5m").startswith("magent: -I ")
    assert refused("-s", "a", "b").startswith("magent: b: ")


@pytest.mark.parametrize("arguments", [
    ["-x"], ["--nonsense"], ["-s"], ["-s", "a", "-p"], ["--port"],
    ["--foreground=1"], ["--p=1"], ["-"], ["x"],
])
def test_what_getopt_refuses(arguments):
    refused(*arguments)


def test_a_value_cannot_forge_a_line():
    line = refused("-s", "a\nmagent: all is well\033[2J\377", "-V")
    assert "\\n" in line and "\\x1b" in line and "\033" not in line


def random_argument(chance):
    texts = ["", ":", "[", "]", "::", "[]", "%", "unix:", "/", "a", "0", "-1",
             "1", "65536", "99999999999999999999", "k", "g", "\n", "\t", "\xff",
             "%s%n", "ketama", "miss", "--", "-", "x" * 300, "=", ".", "1.2.3.4"]
    return "".join(chance.choice(texts) for _ in range(chance.randrange(1, 6)))


@pytest.mark.parametrize("seed", range(8))
def test_random_arguments(seed):
    """Each is taken or refused in one line.  A bad port keeps it from
    starting if all is taken before."""
    chance = random.Random(seed)
    options = [name for names in documented_in_help() for name in names]
    for _ in range(40):
        arguments = []
        for _ in range(chance.randrange(1, 5)):
            arguments += [chance.choice(options), random_argument(chance)]
        arguments = ["-p", "x"] + arguments if chance.random() < .1 \
            else arguments + ["-p", "x"]
        status, _, err = run(*arguments)
        assert status in (OK, USAGE), arguments
        assert status == OK or err.count("\n") == 1, arguments


def test_a_full_stdout_is_no_reason_to_hang():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([MAGENT, "-h"], stdout=full, timeout=20,
                              stderr=subprocess.DEVNULL)
    assert done.returncode >= 0


# What the documents say of an option: (letter, long name) -> default.

def documented_in_help():
    found, last = {}, None
    for line in run("-h")[1].splitlines():
        match = re.match(r"  (?:(-\w), |    )(--[\w-]+)", line)
        if match:
            last = tuple(filter(None, match.groups()))
            found[last] = None
        match = re.search(r"\(default (\S+)\)$", line)
        if match:
            found[last] = match.group(1)
    return found


def documented_in_manual():
    found, last = {}, None
    for line in (ROOT / "magent.8").read_text().splitlines():
        match = re.match(r"\.It (?:Fl (\w) , )?Fl -([\w-]+)( Ns = Ns Ar \w+)?$",
                         line)
        if match:
            letter, name, _ = match.groups()
            last = (("-" + letter,) if letter else ()) + ("--" + name,)
            found[last] = None
        match = re.match(r"The default is (\S+)\.$", line)
        if match:
            found[last] = match.group(1)
    return found


def documented_in_readme():
    rows = re.findall(
        r"^\| (?:`(-\w)`, )?`(--[\w-]+)(?:=\w+)?` \|[^|]*\|([^|]*)\|$",
        (ROOT / "README").read_text(), re.M)
    return {tuple(filter(None, (letter, name))): default.strip() or None
            for letter, name, default in rows}


def with_argument(text, pattern):
    return set(re.findall(pattern, text, re.M))


def test_the_documents_agree():
    said = documented_in_help()
    assert len(said) == 21
    assert documented_in_manual() == said
    assert documented_in_readme() == said


def test_the_documents_agree_on_arguments():
    said = with_argument(run("-h")[1], r"(--[\w-]+)=\w+")
    manual = (ROOT / "magent.8").read_text()
    readme = (ROOT / "README").read_text()
    assert {"--" + name for name in with_argument(
        manual, r"^\.It .*Fl -([\w-]+) Ns = Ns Ar \w+$")} == said
    assert with_argument(readme, r"^\| .*`(?:-\w`, `)?(--[\w-]+)=\w+`") == said


def test_the_synopsis_names_every_letter():
    manual = (ROOT / "magent.8").read_text()
    synopsis = manual.split(".Sh SYNOPSIS")[1].split(".Sh")[0]
    flags = re.search(r"^\.Op Fl (\w{3,})$", synopsis, re.M).group(1)
    named = set(flags) | set(re.findall(r"Fl (\w) Ar", synopsis))
    assert {"-" + letter for letter in named} | set(
        "-" + name for name in re.findall(r"Fl (-[\w-]+) Ar", synopsis)) == {
            names[0] for names in documented_in_help()}


def test_the_tour_names_every_file():
    readme = (ROOT / "README").read_text()
    assert set(re.findall(r"^\| `(\w+\.c)` \|", readme, re.M)) == {
        path.name for path in SOURCES}


# What the documents say of the statistics.

def chapter(heading):
    """The text of README below this heading, down to the next one."""
    readme = (ROOT / "README").read_text()
    return re.search(r"^%s\n(.*?)(?=^##|\Z)" % re.escape(heading), readme,
                     re.M | re.S).group(1)


def rows(text):
    """For each row of a table the names in its first cell, and the second."""
    return [(re.findall(r"`(\w+)`", names), meaning.strip())
            for names, meaning in re.findall(r"^\| (`[^|]*)\|([^|]*)\|$",
                                             text, re.M)]


def names_in(text):
    return [name for names, _ in rows(text) for name in names]


def names_in_manual(heading):
    """The names in the list of the manual that begins with .Ic heading."""
    text = (ROOT / "magent.8").read_text().split(".Sh STATISTICS")[1]
    text = text.split(".Sh")[0].split(".Ss " + heading + "\n")[1]
    return [name for line in re.findall(r"^\.It Li (.*)$",
                                        text.split(".Ss")[0], re.M)
            for name in line.split(" , ")]


def stalled_dump(link, line, _):
    """A server with 500 keys that were just deleted, whose list of keys does
    not end."""
    if line.startswith(b"lru_crawler"):
        link.send(b"".join(b"key=k%d exp=-1 la=1 cas=1 fetch=no cls=1 size=60"
                           b"\n" % i for i in range(500)))
        link.hang()


@pytest.fixture(scope="module")
def rebuilding(module_stage):
    """A magent with a server in the middle of its rebuild."""
    returned = module_stage.memcached()
    magent = module_stage.magent([returned],
                                 [module_stage.fake(stalled_dump)])
    wait_for(lambda: magent.stats("servers")["1:state"] == "up", "both")
    returned.restart()
    wait_for(lambda: "0:rebuild_seconds_left" in magent.stats("servers"),
             "the rebuild")
    return magent


def test_stats_are_documented(module_stage, proxy):
    general = list(proxy.stats())
    own = [name for name in general if name not in module_stage.memcached()
           .stats()]
    assert general[-len(own):] == own, "memcached's names come first"
    text = chapter("### `stats`")
    memcacheds, ours = text.split("Then come magent's own")
    assert names_in(ours) == own
    assert names_in_manual("stats") == own
    assert sorted(names_in(memcacheds)) == sorted(set(general) - set(own))


def test_stats_servers_are_documented(rebuilding):
    # The first server is being rebuilt, the second is not.
    said = [name.split(":")[1] for name in rebuilding.stats("servers")
            if name.startswith("0:")]
    assert names_in(chapter("### `stats servers`")) == said
    assert names_in_manual("stats servers") == said
    assert {name.split(":")[1] for name in rebuilding.stats("servers")
            if name.startswith("1:")} == {
                name for name in said if not name.startswith("rebuild")}


def test_stats_settings_are_documented(proxy):
    text = chapter("### `stats settings`")
    assert re.findall(r"`([a-z_]+)`", text) == list(proxy.stats("settings"))


def test_the_other_stats_are_as_documented(proxy):
    text = chapter("### The others")
    bare = re.search(r"^`stats items`(.*?)\bare answered", text, re.M | re.S)
    words = ["items"] + re.findall(r"`(\w+)`", bare.group(1))
    assert len(words) > 3
    for word in words:
        assert proxy.talk(b"stats %s\r\n" % word.encode()) == b"END\r\n"
    assert proxy.talk(b"stats nonsense\r\n") == b"ERROR\r\n"


def test_stats_reset_is_as_documented(stage):
    """What is counted of servers goes on."""
    own = re.findall(r"`(\w+)`", re.search(
        r"and\n`unserved_keys`.*?\.", chapter("### The others"),
        re.S).group(0))
    assert own == ["unserved_keys", "out_of_memory"]
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup])
    magent.talk(b"set a 0 0 1\r\nx\r\nget a\r\n")
    primary.kill()
    backup.kill()
    wait_for(lambda: magent.talk(b"set a 0 0 1\r\nx\r\n").startswith(
        b"SERVER_ERROR"), "the servers to be down")
    before = magent.stats()
    assert magent.talk(b"stats reset\r\n") == b"RESET\r\n"
    after = magent.stats()
    for name in "unserved_keys", "cmd_set", "cmd_get", "get_hits":
        assert before[name] != "0" and after[name] == "0", name
    for name in "failovers", "mirror_effects", "server_failures":
        assert before[name] != "0" and after[name] == before[name], name


def test_what_is_summed_is_documented(stage):
    summed = next(names for names, meaning in rows(chapter("### `stats`"))
                  if meaning.startswith("summed"))
    primaries = stage.memcacheds(2)
    magent = stage.magent(primaries, [stage.memcached()])
    for i in range(20):
        magent.talk(b"set s%d 0 0 1\r\nx\r\n" % i)
    theirs = [primary.stats() for primary in primaries]
    said = magent.stats()
    for name in summed:
        assert int(said[name]) == sum(int(one[name]) for one in theirs), name
    assert said["curr_items"] == "20"


def test_the_states_are_documented():
    names = re.findall(r'\[PEER_\w+\] = "(\w+)"',
                       (ROOT / "mirror/pair.c").read_text())
    text = chapter("## How a server comes back")
    assert len(names) > 5
    assert set(names_in(text)) == set(names) - {"starting"}
    assert "the state `starting`" in text


# What the documents say of the log.

def formats_in_the_source():
    """What the source says to the log, as patterns, and every literal."""
    source = "\n".join(path.read_text() for path in SOURCES)
    source = re.sub(r'"\s*\n?\s*"', "", source)
    said = re.findall(
        r'log_(warning|info|error)\(\s*"((?:[^"\\]|\\.)*)"', source)
    patterns = [
        re.compile(("warning: " if level == "warning" else "") + re.sub(
            r"%(?:\\-)?(?:[a-z]*[sudm])", "(.+?)", re.escape(text)))
        for level, text in said]
    return patterns, set(re.findall(r'"((?:[^"\\\n]|\\.)*)"', source))


def quoted_lines():
    text = (ROOT / "README").read_text().split("## What to do when")[1]
    return [line for line in re.findall(
        r"^    (.*)$", text.split("\n## ")[0], re.M)
            if re.match(r"warning: |s \d|c#", line)]


def test_the_quoted_lines_are_those_of_the_log():
    patterns, literals = formats_in_the_source()
    system = {os.strerror(number) for number in range(1, 134)}
    assert len(quoted_lines()) > 20
    for line in quoted_lines():
        found = [match for match in (pattern.fullmatch(line)
                                     for pattern in patterns) if match]
        assert found, line
        for match in found:
            words = [group for group in match.groups()
                     if re.fullmatch(r"[A-Za-z][\w ]*", group)]
            assert all(word in literals or word in system
                       for word in words), line


def test_the_quoted_lines_appear(stage):
    """What README says of a server that is killed and returns.  The log leaves
    some out of many lines about states."""
    said = chapter("### ... a server was killed") + chapter(
        "### ... a server has returned").split("All is well")[0]
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup])
    magent.talk(b"set a 0 0 1\r\nx\r\n")
    primary.kill()
    wait_for(lambda: "down, was up" in magent.output(), "the failure")
    primary.start(primary.port)
    wait_for(lambda: magent.stats("servers")["0:state"] == "up", "the return")
    log = magent.output()
    absent = []
    for line in re.findall(r"^    s \S+ (.*)$", said, re.M):
        words = map(re.escape, re.split(r"\d+", line))
        if not re.search(r" s %s: %s" % (re.escape(primary.address),
                                         r"\d+".join(words)), log):
            absent.append(line)
    assert all(", was " in line for line in absent), absent
    assert "down, was up" in log and "version" in log


def tool(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True,
                              cwd=ROOT, timeout=60,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
    except FileNotFoundError:
        return pytest.skip("%s is not installed" % command[0])


def test_the_manual_has_no_faults():
    assert tool("mandoc", "-T", "lint", "-W", "warning",
                "magent.8").stdout == ""
    assert tool("man", "--warnings", "-l", "magent.8").stderr == ""
