"""What a failing test shows of the things on its stage.

The hook in conftest.py asks for it at the time of the failure, while the
processes still run.  Nothing here raises: the failure of the test is what
matters.
"""
import re

from lib.net import Client

LINES = 200         # of the output of a process; earlier ones are left out
LINE = 2000         # characters of a line
TIMEOUT = 1         # seconds that a process has for its statistics


def last_lines(text):
    """The end of a text, and how much of it was left out."""
    lines = text.splitlines()
    kept = [line if len(line) <= LINE else "%s... (%d characters)" % (
        line[:LINE], len(line)) for line in lines[-LINES:]]
    if len(lines) > LINES:
        kept.insert(0, "(%d earlier lines are left out)" % (
            len(lines) - LINES))
    return "\n".join(kept)


def command_line(command):
    return " ".join(map(str, command))


def status(process):
    """What became of a subprocess.Popen."""
    if process is None:
        return "not started"
    code = process.poll()
    return "running" if code is None else "ended with %d" % code


def answer(port, question):
    """What a magent answers to a question whose answer ends in END."""
    try:
        with Client(port, timeout=TIMEOUT) as client:
            client.send(b"%s\r\n" % question)
            text = client.read_until(b"END\r\n").decode(errors="replace")
    except Exception as error:
        return "%s: no answer: %r" % (question.decode(), error)
    return "%s:\n%s" % (question.decode(), last_lines(text))


def without_visits(text):
    """Lines about clients that come and go are many, and say little."""
    return "".join(line for line in text.splitlines(keepends=True)
                   if not re.search(r" c#\d+.*: (connected|gone)\b", line))


def of_magent(command, is_running, output, port):
    """Command line, output and, of one that runs, its statistics."""
    parts = [command_line(command), "output:",
             last_lines(without_visits(output)) or "(none)"]
    if is_running and port:
        parts += [answer(port, b"stats servers"), answer(port, b"stats")]
    return "\n".join(parts)


def sections(things):
    """(title, text) of each thing; a thing has title() and evidence()."""
    found = []
    for thing in things:
        title = type(thing).__name__
        try:
            title = thing.title()
            found.append((title, thing.evidence()))
        except Exception as error:
            found.append((title, "no evidence: %r" % error))
    return found
