"""The documents say what there is: options, statistics, states, lines of the
log, files, functions and limits.  Each text is held against the program, the
source or the tree."""
import os
import re
import subprocess

import pytest

from lib.net import wait_for
from lib.servers import ROOT
from test_options import options_in_help, run

FOLDERS = (".", "client", "mirror", "server")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.c")]
HEADERS = [path for folder in FOLDERS for path in (ROOT / folder).glob("*.h")]

ARCHITECTURE, OPERATIONS = "doc/architecture.md", "doc/operations.md"
TEXTS = ["README", "CONTRIBUTING", "CHANGES", ARCHITECTURE, OPERATIONS]


def read(name):
    return (ROOT / name).read_text()


def source():
    """All of the C source, each literal in one piece."""
    text = "\n".join(path.read_text() for path in SOURCES + HEADERS)
    return re.sub(r'"\s*\n?\s*"', "", text)


def literals():
    return set(re.findall(r'"((?:[^"\\\n]|\\.)*)"', source()))


def chapter(text, heading):
    """What is below this heading, down to the next one of its level."""
    level = heading.split()[0]
    return re.search(r"^%s\n(.*?)(?=^#{1,%d} |\Z)" % (
        re.escape(heading), len(level)), text, re.M | re.S).group(1)


def rows(text):
    """The cells of each row of the tables in a text, but for the heads."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")]
             for line in re.findall(r"^\| .*\|$", text, re.M)]
    heads = [[cell.strip() for cell in line.strip("|").split(" | ")]
             for line in re.findall(r"^(\| .*\|)\n\|-", text, re.M)]
    return [row for row in found if row not in heads]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def code_lines(text):
    """The lines of the blocks that are indented by four spaces."""
    return re.findall(r"^    (.*)$", text, re.M)


def spans(text):
    """What stands in backticks, line ends as spaces."""
    return [re.sub(r"\s+", " ", span)
            for span in re.findall(r"`([^`]+)`", text)]


# The command line: names -> default.

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
    for line in read("magent.8").splitlines():
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


def test_the_manual_has_each_option_of_the_help_with_its_default():
    said = documented_in_help()
    assert len(said) == 32
    assert set(said) == set(options_in_help())
    assert documented_in_manual() == said


def test_the_manual_has_an_argument_where_the_help_has_one():
    said = set(re.findall(r"(--[\w-]+)=\w+", run("-h")[1]))
    assert {"--" + name for name in re.findall(
        r"^\.It .*Fl -([\w-]+) Ns = Ns Ar \w+$", read("magent.8"),
        re.M)} == said


def test_the_synopsis_of_the_manual_has_each_letter():
    synopsis = read("magent.8").split(".Sh SYNOPSIS")[1].split(".Sh")[0]
    flags = re.search(r"^\.Op Fl (\w{3,})$", synopsis, re.M).group(1)
    named = set(flags) | set(re.findall(r"Fl (\w) Ar", synopsis))
    long = re.findall(r"Fl (-[\w-]+)(?: Ar|$)", synopsis, re.M)
    assert {"-" + name for name in [*named, *long]} == {
        option[0] for option in options_in_help()}


def test_each_option_of_magent_in_a_text_is_one_of_the_help():
    """In the command lines of magent, and long ones anywhere but in
    CONTRIBUTING, which has those of other programs."""
    known = {name for option in options_in_help() for name in option}
    asked = set()
    for name in TEXTS:
        for line in spans(read(name)) + code_lines(read(name)):
            if line.split()[0] == "magent" or (
                    line.startswith("--") and name != "CONTRIBUTING"):
                asked |= set(re.findall(r"(?<!\S)--?[A-Za-z][\w-]*", line))
    assert len(asked) > 5
    assert asked - known == set()


# Statistics, which are documented in the manual only.

def section_of_manual(heading):
    text = read("magent.8").split(".Sh STATISTICS")[1].split("\n.Sh ")[0]
    return text.split(".Ss " + heading + "\n")[1].split("\n.Ss ")[0]


def names_in_manual(heading):
    return [name for line in re.findall(
        r"^\.It Li (.*)$", section_of_manual(heading), re.M)
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


def test_the_manual_has_each_name_of_stats(module_stage, proxy):
    general = list(proxy.stats())
    own = [name for name in general if name not in module_stage.memcached()
           .stats()]
    assert general[-len(own):] == own, "memcached's names come first"
    said = names_in_manual("stats")
    assert said[-len(own):] == own
    assert sorted(said[:-len(own)]) == sorted(set(general) - set(own))


def test_the_manual_has_each_name_of_stats_servers(rebuilding):
    # The first server is being rebuilt, the second is not.
    said = [name.split(":")[1] for name in rebuilding.stats("servers")
            if name.startswith("0:")]
    assert names_in_manual("stats servers") == said
    assert {name.split(":")[1] for name in rebuilding.stats("servers")
            if name.startswith("1:")} == {
                name for name in said if not name.startswith("rebuild")}


def test_the_manual_has_each_name_of_stats_latency(proxy):
    said = [name.split(":")[1] for name in proxy.stats("latency")]
    assert set(said) == set(names_in_manual("stats latency"))
    assert names_in_manual("stats latency")[1:] == said[:6]


def test_the_manual_has_each_name_of_stats_hotkeys(module_stage):
    magent = module_stage.magent(module_stage.memcacheds(1), [], "--hotkeys")
    magent.talk(b"get a\r\n")
    assert names_in_manual("stats hotkeys") == [
        name.split(":")[-1] for name in magent.stats("hotkeys")]


def test_the_manual_has_each_name_and_reason_of_stats_route(rebuilding):
    assert names_in_manual("stats route Ar key") == list(
        rebuilding.stats("route k"))
    code = (ROOT / "mirror/pair.c").read_text()
    reasons = re.findall(r'"((?:primary|backup|none)_[a-z_]+)"', code)
    said = " ".join(re.findall(r"^\.Cm (.*)$", section_of_manual(
        "stats route Ar key"), re.M)).split()
    assert len(reasons) == 8
    assert sorted(word for word in said if "_" in word) == sorted(reasons)
    text = chapter(read(OPERATIONS), "### ... a key is not what it should be")
    assert sorted(names(row[0])[0] for row in rows(text)) == sorted(reasons)


def test_the_manual_has_each_name_of_stats_settings(proxy):
    assert names_in_manual("stats settings") == list(proxy.stats("settings"))


def test_the_manual_has_each_name_of_stats_conns(proxy):
    with proxy.client() as client:
        client.send(b"stats conns\r\n")
        text = client.read_until(b"END\r\n").decode()
    said = re.findall(r"^STAT \d+:(\w+) ", text, re.M)
    assert said and said[:len(set(said))] == names_in_manual("stats conns")


def test_the_other_stats_are_answered_as_the_manual_says(proxy):
    bare = section_of_manual("Other statistics").split("are answered")[0]
    words = re.findall(r"\b(?!stats\b|Ic\b|and\b)[a-z]+\b", bare)
    assert len(words) > 4
    for word in words:
        assert proxy.talk(b"stats %s\r\n" % word.encode()) == b"END\r\n"
    assert proxy.talk(b"stats nonsense\r\n") == b"ERROR\r\n"


def test_stats_reset_sets_to_0_what_the_manual_says(stage):
    """What is counted of servers goes on."""
    own = re.findall(r"^\.Li (\w+)", section_of_manual("stats reset"), re.M)
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


def test_stats_sums_over_the_primaries_what_the_manual_says(stage):
    summed = re.search(r"^\.It Li (.*)\nThe sums over the primaries",
                       section_of_manual("stats"), re.M).group(1).split(" , ")
    assert len(summed) == 5
    primaries = stage.memcacheds(2)
    magent = stage.magent(primaries, [stage.memcached()])
    for i in range(20):
        magent.talk(b"set s%d 0 0 1\r\nx\r\n" % i)
    theirs = [primary.stats() for primary in primaries]
    said = magent.stats()
    for name in summed:
        assert int(said[name]) == sum(int(one[name]) for one in theirs), name
    assert int(said["curr_items"]) > 20      # and the stamps


# States

def states_in_the_source():
    return re.findall(r'\[PEER_\w+\] = "(\w+)"', source())


def test_each_state_is_in_both_tables_of_states_and_in_the_manual():
    states = states_in_the_source()
    assert len(states) == 8
    text = chapter(read(OPERATIONS), "## How a server comes back")
    assert [names(row[0])[0] for row in rows(text)] == [
        state for state in states if state != "starting"]
    assert "the state `starting`" in text
    text = chapter(read(ARCHITECTURE), "## The states of a server")
    assert {names(row[0])[0] for row in rows(text)} == set(states)
    manual = read("magent.8").split(".Sh RETURN OF A SERVER")[1]
    assert set(re.findall(r"^(?:\.It )?\.?Cm (\w+)", manual.split(
        "\n.Sh ")[0].replace(".It Cm", ".Cm"), re.M)) == set(states)


# The log

def log_patterns(levels="warning|info|error"):
    """What the source says to the log, as patterns."""
    said = re.findall(
        r'log_(%s)\(\s*"((?:[^"\\]|\\.)*)"' % levels, source())
    return [re.compile(("warning: " if level == "warning" else "") + re.sub(
        r"%(?:\\-)?(?:[a-z]*[sudm])", "(.+?)", re.escape(text)))
            for level, text in said]


def quoted_lines():
    text = chapter(read(OPERATIONS), "## What to do when ...")
    return [line for line in code_lines(text)
            if re.match(r"warning: |s \d|c#|each pair|ready", line)]


def test_each_line_quoted_in_operations_is_one_of_the_log():
    patterns, known = log_patterns(), literals()
    system = {os.strerror(number) for number in range(1, 134)}
    assert len(quoted_lines()) > 25
    for line in quoted_lines():
        found = [match for match in (pattern.fullmatch(line)
                                     for pattern in patterns) if match]
        assert found, line
        for match in found:
            words = [group for group in match.groups()
                     if re.fullmatch(r"[A-Za-z][\w ]*", group)]
            assert all(word in known or word in system
                       for word in words), line


def test_each_warning_of_the_source_is_in_operations():
    said = quoted_lines() + [
        "warning: " + names(row[0])[0] for row in rows(
            chapter(read(OPERATIONS), "## Other warnings"))]
    for pattern in log_patterns("warning"):
        assert any(pattern.fullmatch(line) for line in said), pattern.pattern


def test_each_reason_of_a_failed_server_is_in_operations():
    calls = re.findall(r"\b\w*(?:fail|go_down)\w*\(([^;{]*);", "\n".join(
        (path.read_text() for path in SOURCES
         if path.parent.name in ("mirror", "server"))))
    reasons = {text for call in calls
               for text in re.findall(r'"([a-z][^"%]*)"', call)}
    said = [names(row[0])[0] for row in rows(
        chapter(read(OPERATIONS), "## Why a server failed"))]
    assert len(said) == len(set(said)) > 8
    assert set(said) == reasons


def test_each_reason_of_a_failed_dump_is_in_operations():
    text = " ".join(chapter(read(OPERATIONS),
                            "### ... a server has returned").split())
    code = (ROOT / "mirror/dump.c").read_text()
    reasons = re.findall(r'"([a-z][^"%]*)"', " ".join(
        re.findall(r"\bretry\w*\(([^;{]*);", code)))
    assert len(reasons) > 4
    assert [reason for reason in reasons if reason not in text] == []


def test_a_return_is_logged_as_operations_quotes_it(stage):
    """A server is killed and returns.  The log leaves some out of many lines
    about states."""
    text = read(OPERATIONS)
    said = chapter(text, "### ... a server was killed") + chapter(
        text, "### ... a server has returned").split("All is well")[0]
    primary, backup = stage.memcacheds(2)
    magent = stage.magent([primary], [backup])
    magent.talk(b"set a 0 0 1\r\nx\r\n")
    primary.kill()
    wait_for(lambda: "down, was up" in magent.output(), "the failure")
    primary.start(primary.port)
    wait_for(lambda: magent.stats("servers")["0:state"] == "up", "the return")
    log = magent.output()
    absent = []
    for line in re.findall(r"^    (?:warning: )?s \S+ (.*)$", said, re.M):
        words = map(re.escape, re.split(r"\d+", line))
        if not re.search(r" s %s: %s" % (re.escape(primary.address),
                                         r"\d+".join(words)), log):
            absent.append(line)
    assert all(", was " in line for line in absent), absent
    assert "down, was up" in log and "version" in log


# Files, commands and functions

def test_the_source_table_has_exactly_the_files_of_the_tree():
    text = chapter(read(ARCHITECTURE), "## The source")
    said = [names(row[0])[0] for row in rows(text)
            if re.match(r"`[\w/]+\.c`$", row[0])]
    assert len(said) == len(set(said))
    assert set(said) == {str(path.relative_to(ROOT)) for path in SOURCES}


def test_readme_has_at_most_8192_bytes():
    assert len((ROOT / "README").read_bytes()) <= 8192


MADE = "build", "build-debug", "build-asan"
DOCUMENTS = "README", "CONTRIBUTING", "CHANGES", "LICENSE"


def is_path(word):
    """Whether a word stands for a file of the tree."""
    if word in DOCUMENTS:
        return True
    return re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*/?", word) is not None and (
        "/" in word or
        re.search(r"\.(c|h|py|md|8|service|init|conf)$", word) is not None)


def paths_in(text):
    found = []
    for line in spans(text) + code_lines(text):
        words = [word for word in line.split()
                 if not re.match(r"[A-Z]+=", word)]
        if words and (is_path(words[0]) or words[0] == "make"):
            found += [word for word in words if is_path(word)]
    return [path for path in found if path.split("/")[0] not in MADE]


@pytest.mark.parametrize("name", TEXTS)
def test_each_file_named_in_a_text_is_there(name):
    absent = {path for path in paths_in(read(name))
              if not list(ROOT.glob(path)) and (
                  "/" in path or not list((ROOT / "tests").rglob(path)))}
    assert absent == set()


@pytest.mark.parametrize("name", TEXTS)
def test_each_target_of_make_named_in_a_text_is_one(name):
    targets = {target for line in re.findall(r"^([a-z].*?):(?!=)",
                                             read("Makefile"), re.M)
               for target in line.split()}
    asked = {word for line in spans(read(name)) + code_lines(read(name))
             if line.split()[:1] == ["make"]
             for word in re.findall(r"[^\s'=]+(?:='[^']*'|=\S*)?", line)[1:]
             if "=" not in word and word.split("/")[0] not in MADE}
    assert asked - targets == set()


@pytest.mark.parametrize("name", TEXTS)
def test_each_link_of_a_text_leads_somewhere(name):
    text = read(name)
    for place in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = place.partition("#")
        there = (ROOT / name).parent / path if path else ROOT / name
        assert there.exists(), place
        if there.suffix == ".png":
            continue
        anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-")
                   for head in re.findall(r"^#+ (.*)$", there.read_text(),
                                          re.M)]
        assert not anchor or anchor in anchors, place


@pytest.mark.parametrize("name", TEXTS)
def test_each_function_named_in_a_text_is_in_the_source(name):
    text, code = read(name), source()
    said = set(re.findall(r"`(\w+)\(\)`", text)) - {"assert", "breakpoint"}
    absent = [function for function in sorted(said) if not re.search(
        r"^(?:#define )?{0}\(|\(\*{0}\)\(".format(function), code, re.M)]
    assert absent == []


def test_each_function_named_with_a_file_is_in_that_file():
    """As in "`gate_enter()`, `mirror/gate.c`": the file follows at once."""
    places = re.findall(r"`(\w+)\(\)`(?:,| in| \()\s*`([\w/]+\.c)`",
                        read(ARCHITECTURE))
    assert len(places) > 10
    absent = [(function, path) for function, path in places
              if not (ROOT / path).exists() or not re.search(
                  r"^%s\(" % function, read(path), re.M)]
    assert absent == []


def test_each_limit_of_the_table_is_that_of_the_source():
    text = chapter(read(ARCHITECTURE), "## Back-pressure")
    limits = [(names(row[0])[0], names(row[1])[0]) for row in rows(text)
              if re.match(r"`[A-Z_]+`$", row[0])]
    assert len(limits) > 15
    code = source()
    wrong = [(name, value) for name, value in limits if not re.search(
        r"\b%s = %s\b" % (name, re.escape(value)), code)]
    assert wrong == []


# Words

def glossary():
    return [row[0] for row in rows(chapter(read(ARCHITECTURE),
                                           "## The words"))]


def test_each_word_of_the_glossary_is_there_once_and_in_order():
    words = glossary()
    assert len(words) > 60
    assert words == sorted(set(words), key=str.lower)


def test_no_other_text_has_a_glossary():
    for name in set(TEXTS) - {ARCHITECTURE}:
        assert "| word |" not in read(name), name


def tool(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True,
                              cwd=ROOT, timeout=60,
                              env={**os.environ, "LC_ALL": "C.UTF-8"})
    except FileNotFoundError:
        return pytest.skip("%s is not installed" % command[0])


def test_the_manual_has_no_faults_for_mandoc_and_man():
    assert tool("mandoc", "-T", "lint", "-W", "warning",
                "magent.8").stdout == ""
    assert tool("man", "--warnings", "-l", "magent.8").stderr == ""
