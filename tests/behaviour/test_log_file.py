"""The file of --log-file: written, renamed, refused, full."""
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess

import pytest

from lib.daemon import CANTCREAT, needs_root
from lib.net import Client, free_port, wait_for

pytestmark = pytest.mark.usefixtures("reaper")
ROOT = pathlib.Path(__file__).resolve().parents[2]
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z magent: .+")
RENAME_SIGNALS = [signal.SIGUSR1, signal.SIGHUP]


def say_something(magent):
    """The log gets a line about it."""
    with Client(magent.port) as client:
        client.send(b"\x80" * 24)
        client.read_to_end()


SAID = "speaks the binary protocol"


def check_lines(path):
    text = path.read_text()
    assert text.endswith("\n")
    for line in text.splitlines():
        assert LINE.fullmatch(line), line
    return text


def test_lines_of_a_daemon_go_to_the_file_with_the_time(
        daemon, tmp_path):
    path = tmp_path / "log"
    magent = daemon("--log-file", path)
    say_something(magent)
    wait_for(lambda: SAID in path.read_text(), "the line")
    assert magent.terminate() == 0
    text = check_lines(path)
    assert "ready; servers" in text and text.rstrip().endswith("stopped")


def test_lines_in_the_foreground_go_to_stderr_until_it_is_ready(
        run, tmp_path):
    path = tmp_path / "log"
    magent = run("--log-file", path).ready()
    wait_for(lambda: "ready; servers" in path.read_text(), "the start")
    say_something(magent)
    wait_for(lambda: SAID in path.read_text(), "the line")
    assert magent.terminate() == 0
    assert "ready; servers" in magent.output()
    assert SAID not in magent.output()
    check_lines(path)


def test_lines_are_added_to_a_file_that_is_there(run, tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    assert run("--log-file", path).ready().terminate() == 0
    assert path.read_text().startswith("before\n2")


@pytest.mark.parametrize("number", RENAME_SIGNALS)
def test_renamed_file_is_replaced_at_a_signal(run, tmp_path, number):
    path, old = tmp_path / "log", tmp_path / "log.1"
    magent = run("--log-file", path).ready()
    wait_for(lambda: "ready; servers" in path.read_text(), "the start")
    path.rename(old)
    say_something(magent)
    wait_for(lambda: SAID in old.read_text(), "the line in the old file")
    assert not path.exists()
    magent.process.send_signal(number)
    wait_for(path.exists, "the new file")
    say_something(magent)
    wait_for(lambda: SAID in path.read_text(), "the line in the new file")
    assert old.read_text().count(SAID) == 1
    assert magent.terminate() == 0
    check_lines(path), check_lines(old)
    assert path.stat().st_mode & 0o777 == 0o640 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_descriptors_do_not_grow_with_the_signals(run, tmp_path):
    magent = run("--log-file", tmp_path / "log").ready()
    say_something(magent)
    wait_for(lambda: SAID in (tmp_path / "log").read_text(), "the line")
    files = pathlib.Path("/proc/%d/fd" % magent.pid)
    before = len(list(files.iterdir()))
    for i in range(50):
        (tmp_path / "log").rename(tmp_path / "old")
        magent.process.send_signal(signal.SIGUSR1)
        wait_for((tmp_path / "log").exists, "the file")
    assert len(list(files.iterdir())) <= before
    assert magent.terminate() == 0


@needs_root
def test_file_made_by_root_is_kept_if_its_user_cannot_make_another(
        run, open_directory):
    """nobody may not write into the directory: the old file stays in use."""
    path, old = open_directory / "log", open_directory / "old"
    magent = run("--log-file", path, user="nobody").ready()
    wait_for(lambda: "ready; servers" in path.read_text(), "the start")
    path.rename(old)
    magent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "error: --log-file %s: cannot open it again: Permission "
             "denied; the old file stays in use" % path in old.read_text(),
             "the complaint")
    say_something(magent)
    wait_for(lambda: SAID in old.read_text(), "the line")
    assert not path.exists()
    # As logrotate does it: the file is made for its user.
    path.touch()
    os.chown(path, pwd.getpwnam("nobody").pw_uid, 0)
    magent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "opened again" in path.read_text(), "the new file")
    assert magent.terminate() == 0


@pytest.mark.parametrize("wrong, why", [
    (lambda at: at / "none" / "log", "No such file or directory"),
    (lambda at: at, "Is a directory"),
    (lambda at: link(at), "Too many levels of symbolic links"),
    (lambda at: fifo(at), "No such device or address"),
], ids=["no directory", "a directory", "a link", "a fifo"])
def test_file_that_cannot_be_opened_is_named_and_ends_the_start(
        run, tmp_path, wrong, why):
    path = wrong(tmp_path)
    magent = run("--log-file", path)
    assert magent.process.wait(20) == CANTCREAT
    assert ("error: --log-file %s: cannot open it: %s" % (path, why)
            in magent.output())


def link(at):
    (at / "link").symlink_to(at / "elsewhere")
    return at / "link"


def fifo(at):
    os.mkfifo(at / "fifo")
    return at / "fifo"


def test_relative_path_starts_at_the_directory_of_the_caller(
        daemon, tmp_path):
    magent = daemon("--log-file", "log", cwd=tmp_path)
    magent_says = (tmp_path / "log").read_text()
    assert "ready; servers" in magent_says
    assert magent.terminate() == 0


def fill(path):
    """Until nothing fits any more."""
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))


@pytest.fixture
def small_disk(open_directory):
    """A file system of 64 KiB."""
    disk = open_directory / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk],
                      stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@needs_root
def test_full_disk_loses_lines_and_nothing_else(run, small_disk):
    """It is full in the middle of a line."""
    path, filler = small_disk / "log", small_disk / "filler"
    magent = run("-vv", "--log-file", path).ready()
    wait_for(lambda: "ready; servers" in path.read_text(), "the start")
    fill(filler)
    with Client(magent.port) as client:
        for _ in range(100):
            with Client(magent.port):
                pass
            assert client.ask(b"version\r\n").startswith(b"VERSION")
        assert path.stat().st_size % 4096 == 0, "the disk is not full"
        filler.unlink()
        say_something(magent)
        wait_for(lambda: SAID in path.read_text(), "a line after that")
    assert magent.terminate() == 0
    lines = path.read_text().splitlines()
    assert len([line for line in lines if not LINE.fullmatch(line)]) <= 1


@needs_root
@pytest.mark.skipif(shutil.which("logrotate") is None, reason="no logrotate")
def test_logrotate_example_renames_and_loses_no_line(
        daemon, open_directory, tmp_path):
    directory = open_directory / "log"
    directory.mkdir(mode=0o755)
    path, pid_file = directory / "magent.log", tmp_path / "magent.pid"
    text = (ROOT / "scripts" / "magent.logrotate").read_text()
    text = text.replace("/var/log/magent", str(directory))
    text = text.replace("/run/magent/magent.pid", str(pid_file))
    text = text.replace("/run/systemd/system", "/nonexistent")
    config = tmp_path / "conf"
    config.write_text(text)
    config.chmod(0o644)
    magent = daemon("--log-file", path, pid_file=pid_file, user="nobody")
    for n in range(3):
        say_something(magent)
        wait_for(lambda: SAID in path.read_text(), "the line")
        done = subprocess.run(
            ["logrotate", "-f", "-s", tmp_path / "state", config],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        wait_for(lambda: "opened again" in path.read_text(), "the new file")
    assert magent.terminate() == 0
    assert len(list(directory.iterdir())) == 4
