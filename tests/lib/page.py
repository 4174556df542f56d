"""A page in a browser without a screen."""
import json
import os
import pathlib
import subprocess

import pytest

from lib.servers import ROOT

CHROMIUM = pathlib.Path("/usr/bin/chromium")
MODULES = os.environ.get("NODE_PATH") or str(ROOT / "build-npm/node_modules")


class Page:
    """tests/tools/page.js at an address; each of its deeds is a method."""

    def __init__(self, url, width=1280, height=900, scheme="light"):
        if not CHROMIUM.exists():
            pytest.skip("no chromium")
        self.process = subprocess.Popen(
            ["node", str(ROOT / "tests/tools/page.js"), url, str(width),
             str(height), scheme], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, "NODE_PATH": MODULES})
        assert self.process.stdout.readline() == '"open"\n'

    def title(self):
        return "page"

    def evidence(self):
        return self.text("main")

    def __getattr__(self, deed):
        def act(*arguments):
            self.process.stdin.write(json.dumps([deed, *arguments]) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            assert "error" not in answer, "%s %s: %s" % (
                deed, arguments, answer)
            return answer["said"]
        return act

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
