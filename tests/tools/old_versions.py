#!/usr/bin/env python3
"""Do the fronts of faults/old.py answer as the memcacheds whose place they take?

    PYTHONPATH=tests:tests/faults tests/tools/old_versions.py \\
        1.4.15=/path/to/memcached ...

Each command is sent to that program and to the front of that version.  Answers
that differ are printed.
"""
import re
import sys

from lib.servers import Memcached
from lib.stage import Stage
from old import Old

COMMANDS = [
    b"set k 4294967295 0 1\r\n1", b"get k", b"get k nokey k", b"gets k",
    b"add k 0 0 1\r\n1", b"append k 0 0 1\r\n2", b"prepend k 0 0 1\r\n3",
    b"replace nokey 0 0 1\r\n1", b"incr k 1", b"decr k 2", b"get k",
    b"touch k 100", b"touch nokey 1", b"gat 100 k", b"gats 100 k nokey",
    b"cas k 0 0 1 99999\r\n1", b"cas nokey 0 0 1 1\r\n1",
    b"delete k", b"delete k", b"", b"foo",
    b"mn", b"mg k", b"mg k v", b"mg nokey k Oa",
    b"set k 7 0 1\r\n1", b"mg k k f t v", b"mg k s", b"mg azA= b v",
    b"ms k 1\r\n2", b"ms k 9\r\nflush_all", b"ms k 7 MA\r\nget k",
    b"ms k 1 T0 F5\r\n", b"ms k 1 b\r\nx", b"get k",
    b"md nokey k Oa", b"md k b", b"md nokey", b"md nokey b", b"ma nokey",
    b"ma azA= b", b"md k I T30", b"mg k v t", b"mg k v t",
    b"ma nokey k Oxy", b"md k k Oxy",
    b"lru_crawler metadump hash",
    b"verbosity 0", b"flush_all", b"stats settings",
]
SETTINGS = rb"STAT (?:cas_enabled|flush_enabled) \w+\r\n"


class Real(Memcached):
    """The program at a path."""

    def __init__(self, path, *options):
        super().__init__(*options)
        self.path = path

    def command(self):
        return [self.path, *super().command()[1:]]


def answers(stage, server):
    """What a server at this address says to the commands."""
    found = []
    for command in COMMANDS:
        with stage.client(int(server.address.rsplit(":")[1])) as client:
            client.send(command + b"\r\n")
            if b"crawler" in command:
                found.append(client.read_line())
                continue
            client.send(b"version\r\n")
            reply = client.read_until(b"VERSION ")[:-8]
            if command == b"stats settings":
                reply = b"".join(sorted(re.findall(SETTINGS, reply)))
            found.append(reply)
    return found


def main():
    wrong = 0
    for argument in sys.argv[1:]:
        version, path = argument.split("=")
        for options in (), ("-C",):
            with Stage() as stage:
                real = stage.add(Real(path, *options)).start()
                front = stage.add(Old(version, *options)).start()
                for command, want, got in zip(COMMANDS, answers(stage, real),
                                              answers(stage, front)):
                    if want != got:
                        wrong += 1
                        print(version, *options, command, "real:", want,
                              "front:", got)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
