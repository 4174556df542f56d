"""The command line: what is taken, what is refused, and how."""
import os
import random
import re
import subprocess

import pytest

from lib.servers import MAGENT

USAGE, OK = 64, 0


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


def options_in_help():
    """The names of each option, as (letter, long name) or (long name,)."""
    return [tuple(filter(None, names)) for names in re.findall(
        r"^  (?:(-\w), |    )(--[\w-]+)", run("-h")[1], re.M)]


def test_version_is_printed_and_the_status_is_0():
    for option in "-V", "--version":
        status, out, err = run(option)
        assert (status, err) == (OK, "")
        assert re.fullmatch(r"magent \d+\.\d+\.\d+\S*\n", out)


def test_help_goes_to_stdout_in_lines_of_80_columns():
    status, out, err = run("-h")
    assert (status, err) == (OK, "")
    assert out.startswith("usage: magent ")
    assert max(map(len, out.splitlines())) <= 80
    assert run("--help") == (OK, out, "")


def test_magent_without_arguments_prints_the_usage_to_stderr():
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
def test_a_command_line_of_old_magent_is_taken(line):
    taken(*line.split())


@pytest.mark.parametrize("line", [
    "-s cache.example.org:11211:3", "-s [::1]", "-s [2001:db8::1]:1:2",
    "-s unix:/run/memcached.sock:2", "-s a -b a", "-s a:1 -s a:2",
    "-p 0 -f x", "-p 65535", "-p 1", "-n 1", "-n 1000000", "-i 1",
    "-t 10", "-t 60000", "-I 1k", "-I 1024", "-I 128m", "-I 1G -m 2g",
    "-m 8", "-m 8192k", "-m 1024g", "-m 256M", "-F", "-P /tmp/a", "-P b",
    "--on-down=miss", "--on-down error", "--ring modula", "--ring=magent",
    "--scrub=0", "--scrub 1000000",
    "--ring=ketama", "--ring=libketama", "--ring=twemproxy",
    "-u 12345 -g 12345", "-l ::1", "-l localhost", "-f /" + 106 * "f",
    "--server=a --backup=b --listen=c --port=1 --socket=d --max-clients=5 "
    "--connections=6 --timeout=70 --item-size=8k --memory=9 --ketama "
    "--refuse-flush --user=u --group=g --pid-file=p --foreground --verbose",
])
def test_a_good_value_is_taken(line):
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
    ("--scrub", "1000001", "1000000"), ("--scrub", "-1", "0"),
    ("--scrub", "", "number"), ("--scrub", "1k", "number"),
    ("--on-down", "maybe", "miss"), ("--on-down", "", "error"),
]


@pytest.mark.parametrize("option, value, word", BAD)
def test_a_bad_value_is_refused_with_the_option_and_a_reason(option, value, word):
    line = refused(option, value, "-V")
    shown = value[:60] or "''"
    assert line.startswith("magent: %s %s" % (option, shown))
    assert word in line.split(": ", 2)[2]


def test_a_bad_value_of_a_long_option_is_refused_with_its_letter():
    assert refused("-s", "a", "--port=70000").startswith("magent: -p 70000: ")


@pytest.mark.parametrize("option", ["-s", "-b"])
def test_a_server_given_twice_in_one_list_is_refused(option):
    for other in "10.0.0.1", "10.0.0.1:11211", "10.0.0.1:11211:5":
        assert refused("-s", "a", option, "10.0.0.1", option,
                       other).startswith("magent: %s %s: " % (option, other))
    refused("-s", "x", option, "host", option, "HOST")
    refused("-s", "x", option, "[::1]", option, "[0:0:0:0:0:0:0:1]:11211")
    refused("-s", "x", option, "unix:/a", option, "unix:/a:2")


def test_options_that_do_not_fit_together_are_refused():
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
def test_an_unknown_or_incomplete_option_is_refused(arguments):
    refused(*arguments)


def test_a_value_with_a_line_end_cannot_forge_a_line_of_output():
    line = refused("-s", "a\nmagent: all is well\033[2J\377", "-V")
    assert "\\n" in line and "\\x1b" in line and "\033" not in line


def random_argument(chance):
    texts = ["", ":", "[", "]", "::", "[]", "%", "unix:", "/", "a", "0", "-1",
             "1", "65536", "99999999999999999999", "k", "g", "\n", "\t", "\xff",
             "%s%n", "ketama", "miss", "--", "-", "x" * 300, "=", ".", "1.2.3.4"]
    return "".join(chance.choice(texts) for _ in range(chance.randrange(1, 6)))


@pytest.mark.parametrize("turn", range(8))
def test_random_arguments_are_taken_or_refused_in_one_line(turn):
    """A bad port keeps magent from starting if all before it is taken.
    SEED=N repeats a failure."""
    seed = int(os.environ.get("SEED", turn))
    print("seed %d" % seed)
    chance = random.Random(seed)
    options = [name for names in options_in_help() for name in names]
    for _ in range(40):
        arguments = []
        for _ in range(chance.randrange(1, 5)):
            arguments += [chance.choice(options), random_argument(chance)]
        arguments = ["-p", "x"] + arguments if chance.random() < .1 \
            else arguments + ["-p", "x"]
        status, _, err = run(*arguments)
        # 66: there is no such file for -c.
        assert status in (OK, USAGE, 66), arguments
        assert status == OK or err.count("\n") == 1, arguments


@pytest.mark.parametrize("arguments, said", [
    (["--no\nsuch"], "--no\\nsuch"), (["-\n"], "-\\n"),
    (["no\noption"], "no\\noption"), (["--freebind=a\nb"], "--freebind"),
    (["-D\nx"], "-\\n"), (["--l"], "--l"), (["--port"], "-p"), (["-p"], "-p"),
    (["--metrics"], "--metrics"), (["--" + 300 * "x"], "--xxx")])
def test_what_is_no_option_is_said_in_one_line(arguments, said):
    status, _, err = run("-s", "127.0.0.1:1", *arguments)
    assert status == USAGE
    assert err.count("\n") == 1 and err.startswith("magent: " + said), err


def test_help_to_a_full_stdout_ends():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([MAGENT, "-h"], stdout=full, timeout=20,
                              stderr=subprocess.DEVNULL)
    assert done.returncode >= 0


# The file of -c, and --check

OK_FILE = """\
# a comment
server 127.0.0.1:1
  server = 127.0.0.1:2   # another one
--backup=127.0.0.1:3\t
timeout 300
socket /tmp/a # b

foreground
"""


def written(tmp_path, text):
    path = tmp_path / "magent.conf"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_right_options_are_ok(tmp_path):
    path = written(tmp_path, OK_FILE)
    assert run("-c", path, "--check") == (OK, "ok\n", "")
    assert run("--check", "--config=" + path) == (OK, "ok\n", "")
    assert run("-s", "127.0.0.1", "--check") == (OK, "ok\n", "")


def test_check_finds_what_would_be_refused_at_a_start(tmp_path):
    assert "-s: no server" in refused("--check", "-p", "1")
    assert "-I" in refused("--check", "-s", "a", "-I", "1g")
    status, out, err = run("-s", "a", "-u", "no-such-user", "--check")
    assert (status, out) == (67, "")
    assert err.endswith("-u no-such-user: there is no such user\n")


@pytest.mark.parametrize("line, problem", [
    ("timeout 5x", "timeout 5x: must be a number from 10 to 60000"),
    ("timeout", "timeout: needs a value"),
    ("server =", "server '': the host is empty"),
    ("foreground yes", "foreground yes: takes no value"),
    ("timeuot 300", "timeuot 300: no such option"),
    ("s 127.0.0.1", "s 127.0.0.1: no such option"),
    ("help", "help: belongs on the command line"),
    ("config /etc/other", "config /etc/other: belongs on the command line"),
    ("server 127.0.0.1:1", "server 127.0.0.1:1: this server is given twice"),
    ("user a\0b", "has a NUL byte"),
    ("\x1b[1m 1", "\\x1b[1m 1: no such option"),
])
def test_error_in_the_file_names_its_line(tmp_path, line, problem):
    path = written(tmp_path, "server 127.0.0.1:1\n\n%s\n" % line)
    assert run("-c", path, "--check") == (
        78, "", "magent: %s:3: %s\n" % (path, problem))


def test_file_that_cannot_be_read_is_refused(tmp_path):
    assert run("-c", "/nonexistent", "-s", "a") == (
        66, "", "magent: -c /nonexistent: No such file or directory\n")
    assert run("-c", str(tmp_path), "-s", "a") == (
        66, "", "magent: -c %s: Is a directory\n" % tmp_path)
    assert "-c '': the path is empty" in refused("-c", "", "-s", "a")


def test_text_is_printed_whatever_the_file_says(tmp_path):
    path = written(tmp_path, "nonsense\n")
    assert run("-c", path, "-V") == run("-V", "-c", path) == run("-V")
    assert run("-h", "-c", "/nonexistent") == run("-h")


def test_command_line_wins_over_the_file(stage, tmp_path):
    """A list on the command line takes the place of that in the file."""
    one, other = stage.memcacheds(2)
    path = written(tmp_path, (
        "server 127.0.0.1:1\nserver 127.0.0.1:2\nlisten 127.0.0.2\n"
        "timeout 300\nconnections 3\nport 1\n"))
    proxy = stage.magent([one, other], [], "-c", path, "-t", "2000")
    settings = proxy.stats("settings")
    assert settings["timeout_ms"] == "2000"
    assert settings["connections_per_server"] == "3"
    assert settings["inter"] == "127.0.0.1"
    assert proxy.stats()["servers"] == "2"


def test_file_alone_is_enough(stage, tmp_path):
    """Blanks, an equals sign, or --: as people are used to."""
    server = stage.memcached()
    path = written(tmp_path, "--server = %s\nscrub=7\nuser root\n" %
                   server.address)
    proxy = stage.magent([], [], "-c", path)
    assert proxy.stats("settings")["scrub"] == "7"
    assert proxy.talk(b"set k 0 0 1\r\nx\r\nget k\r\n") == (
        b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n")
