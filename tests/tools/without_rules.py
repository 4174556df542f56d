#!/usr/bin/python3
"""Does each rule of the stamps matter?  Build magent without it, and see which
scene of two magents fails then.

    tests/tools/without_rules.py [RULE ...]

The rules are those of the table in doc/architecture.md, by short names.  Each is
switched off in a copy of the sources, by a change of a few words: see RULES.
Prints a line for each rule: the first scene that fails, and by what.  The exit
status is 1 if some rule has none.  Takes about a minute for each rule.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ("tests/faults/test_takeover.py", "tests/faults/test_several_magents.py",
         "tests/behaviour/test_stamps.py")

# The file, what stands there once, and what takes its place.
RULES = {
    # A write that a server misses raises the stamp of its partner.
    "bump": [("mirror/stamp.c", "\tbump->is_late = false;\n\tbump->was_reached",
              "\tbump->step = 0;\n"
              "\tbump->is_late = false;\n\tbump->was_reached")],
    # So does each further one.
    "rebump": [("mirror/bond.h", "struct bond {\n",
                "struct bond {\n\tbool was_raised;\n"),
               ("mirror/bond.c", "\tbond->is_foreign = bond->is_new = false;",
                "\tbond->is_foreign = bond->is_new = false;\n"
                "\tbond->was_raised = false;"),
               ("mirror/stamp.c",
                "\tbump->is_late = false;\n\tbump->was_reached",
                "\tif (bump->bond->was_raised)\n\t\tbump->step = 0;\n"
                "\tbump->bond->was_raised = true;\n"
                "\tbump->is_late = false;\n\tbump->was_reached")],
    # Who rebuilds a server gives it the stamps of the beginning.
    "goal": [("mirror/goals.c", "goals_moved(const struct peer *peer)\n{",
              "goals_moved(const struct peer *peer)\n{\n"
              "\tif (peer != NULL)\n\t\treturn NULL;"),
             ("mirror/goals.c", "goal = bond_side(bond, peer)->goal;\n\t\tstamp",
              "goal = bond_side(bond, mate)->stamp;\n\t\tstamp")],
    # Who starts does not trust a server that is behind.
    "start": [("mirror/judge.c", "\tassert(peer->state == PEER_STARTING);\n",
               "\tif (peer != NULL)\n\t\treturn true;\n")],
    # Who has rested looks before it serves.
    "fence": [("mirror/rest.c",
               "\tif (rest->is_rested && !rest->is_looking)\n\t\tbegin_look",
               "\tif (rest == NULL)\n\t\tbegin_look")],
    # All stamps are read once a second.
    "probe": [("mirror/probe.c", "\tif (probe->survey != NULL)\n\t\treturn;",
               "\tif (probe != NULL)\n\t\treturn;")],
    # One magent at a time rebuilds a server.
    "claim": [("mirror/claim.c", "\tassert(!claim->is_waiting);\n",
               "\tassert(!claim->is_waiting);\n"
               "\tif (claim != NULL)\n\t\treturn false;\n")],
    # Equal stamps clear dirty keys.
    "whole": [("mirror/judge.c",
               "\tforget_keys(peer->dirty, peer, partner);\n"
               "\tforget_keys(peer->missing, peer, partner);\n"
               "}\n\n/* Neither has a stamp.", "}\n\n/* Neither has a stamp."),
              ("mirror/judge.c", "\tif (is_whole)\n\t\tdirty_clear(peer->dirty);",
               "\t(void)is_whole;")],
    # A magent that has not ended well is noticed.
    "open": [("mirror/serving.c", "\tif (!is_any_known(serving))\n",
              "\tif (serving != NULL || !is_any_known(serving))\n")],
}


def switch_off(rule, root):
    """Change the sources at root."""
    for name, before, after in RULES[rule]:
        path = root / name
        text = path.read_text()
        if text.count(before) != 1:
            raise ValueError("%s: %s does not have once: %s" % (
                rule, name, before))
        path.write_text(text.replace(before, after))


def copy_sources(to):
    for path in (*ROOT.glob("*.[ch]"), ROOT / "Makefile",
                 *(path for folder in ("client", "mirror", "server")
                   for path in (ROOT / folder).glob("*.[ch]"))):
        target = to / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)


def first_failure(magent):
    """The name of the scene, and what it says; or None."""
    found = subprocess.run(
        ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-n", str(2 * os.cpu_count()), "--maxfail=1", "--confcutdir=tests",
         *TESTS], cwd=ROOT, env={**os.environ, "MAGENT": str(magent)},
        capture_output=True, text=True, errors="replace", check=False).stdout
    name = re.search(r"^FAILED \S+::(\S+)", found, re.M)
    why = re.search(r"^E +(?:AssertionError: )?(.*)", found, re.M)
    return name and "%s: %s" % (name[1], why[1][:100] if why else "?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rules", nargs="*", metavar="RULE",
                        help=" ".join(RULES))
    rules = parser.parse_args().rules
    for rule in rules:
        if rule not in RULES:
            parser.error("no rule %s" % rule)
    subprocess.run(["make", "-s", "build/history", "build/relay"], cwd=ROOT,
                   check=True)
    missed = 0
    for rule in rules or RULES:
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            copy_sources(root)
            switch_off(rule, root)
            subprocess.run(["make", "-s", "-C", root, "magent"], check=True)
            failure = first_failure(root / "magent")
        missed += failure is None
        print("%-8s %s" % (rule, failure or "nothing fails"), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
