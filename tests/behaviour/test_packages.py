"""What magent comes in: an archive, a package for Debian, an image of a
container, an example for Kubernetes; and its completion for bash."""
import os
import re
import shutil
import subprocess

import pytest

from lib.servers import MAGENT, ROOT
from test_options import options_in_help

COMPLETION = ROOT / "scripts" / "magent.bash-completion"
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8",
               "PATH": os.path.dirname(os.path.abspath(MAGENT)) + ":" +
               os.environ["PATH"]}


def said(*command, status=0, **keywords):
    """What a command prints, which must end with this status."""
    if shutil.which(command[0]) is None:
        pytest.skip("%s is not installed" % command[0])
    done = subprocess.run(list(map(str, command)), text=True, timeout=120,
                          capture_output=True, **keywords)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def version():
    return re.search(r"^VERSION = (\S+)$", (ROOT / "Makefile").read_text(),
                     re.M).group(1)


# Completion

def completed(*words):
    """What bash offers in the place of the last word."""
    script = """
        . "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        $(complete -p magent | sed -E 's/.*-F (\\S+) .*/\\1/') "$1"
        printf '%s\\n' "${COMPREPLY[@]}" """
    return said("bash", "-uc", script, "bash", COMPLETION,
                os.path.abspath(MAGENT), *words).split()


def test_each_long_option_of_the_help_is_completed():
    names = {option[-1] for option in options_in_help()}
    assert len(names) > 25
    offered = completed("--")
    assert len(offered) == len(names)
    assert {word.rstrip("=") for word in offered} == names
    for name in names:
        assert name in [word.rstrip("=") for word in completed(name)]


def test_equals_sign_follows_the_options_that_take_an_argument():
    with_argument = re.findall(r"(--[\w-]+=)\w", said(MAGENT, "-h"))
    assert set(with_argument) == {
        word for word in completed("--") if word.endswith("=")}


@pytest.mark.parametrize("words, offered", [
    (["--rin"], ["--ring="]), (["--ring", "k"], ["ketama"]),
    (["--ring", "=", "twem"], ["twemproxy"]),
    (["--on-down", "="], ["miss", "error"]), (["-u", "nobod"], ["nobody"]),
    (["-p", "1"], []), (["-D", "--chec"], ["--check"]), (["x"], [])])
def test_arguments_are_completed_where_they_are_known(words, offered):
    assert completed(*words) == offered


def test_kinds_of_ring_are_those_of_the_help():
    kinds = re.search(r"how keys find servers: (.*?) \(default",
                      " ".join(said(MAGENT, "-h").split())).group(1)
    assert completed("--ring", "") == re.findall(r"\w+", kinds.replace(
        " or ", " "))


def test_paths_are_completed(tmp_path):
    (tmp_path / "cache.conf").write_text("")
    for option in "-c", "--config", "--log-file", "-f":
        assert completed(option, str(tmp_path / "ca")) == [
            str(tmp_path / "cache.conf")]
