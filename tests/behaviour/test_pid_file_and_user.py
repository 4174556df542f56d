"""The pid file, and the user and group that magent becomes."""
import grp
import os
import pwd

import pytest

from lib.daemon import (CANTCREAT, NOUSER, TEMPFAIL, Run, as_nobody,
                        last_line, needs_root)

pytestmark = pytest.mark.usefixtures("reaper")


def test_pid_file_at_the_end_of_its_owner_is_removed(daemon):
    magent = daemon()
    assert magent.pid_file.read_text() == "%d\n" % magent.pid
    assert magent.terminate() == 0
    assert not magent.pid_file.exists()


def test_pid_file_replaced_by_somebody_else_stays(daemon):
    magent = daemon()
    magent.pid_file.unlink()
    magent.pid_file.write_text("another\n")
    assert magent.terminate() == 0
    assert magent.pid_file.read_text() == "another\n"


def test_magent_with_held_pid_file_exits_with_tempfail(
        stage, daemon, memcached):
    first = daemon()
    inode = first.pid_file.stat().st_ino
    for options in ["-D"], []:
        second = stage.add(Run(*options, "-s", memcached.address, "-P",
                               first.pid_file))
        assert second.wait() == TEMPFAIL
        assert "%d" % first.pid in last_line(second.output())
        second.close()
    assert first.pid_file.read_text() == "%d\n" % first.pid
    assert first.pid_file.stat().st_ino == inode
    assert first.terminate() == 0


def test_stale_pid_file_is_taken_over(daemon, tmp_path):
    (tmp_path / "pid").write_text("1\n" + 5000 * "stale\n")
    magent = daemon()
    assert magent.pid_file.read_text() == "%d\n" % magent.pid


def test_magent_with_impossible_pid_file_exits_with_cantcreat(
        stage, memcached, tmp_path):
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in tmp_path / "missing" / "pid", tmp_path / "link", tmp_path:
        magent = stage.add(Run("-s", memcached.address, "-P", path))
        assert magent.wait() == CANTCREAT
        assert str(path) in last_line(magent.output())
        magent.close()
    assert (tmp_path / "target").read_text() == "kept"


@needs_root
def test_pid_file_where_only_root_may_write_is_emptied(daemon):
    """Its name stays; no pid stays in it."""
    magent = daemon(user="nobody")
    assert magent.pid_file.read_text() == "%d\n" % magent.pid
    assert magent.terminate() == 0
    assert magent.pid_file.read_text() == ""
    assert daemon(user="nobody").serves()


def is_user(magent, uid, gid, groups):
    status = magent.status()
    assert status["Uid"] == 4 * [str(uid)]
    assert status["Gid"] == 4 * [str(gid)]
    assert set(status["Groups"]) == set(map(str, groups))
    for name in "CapPrm", "CapEff", "CapAmb":
        assert int(status[name][0], 16) == 0, name
    assert status["NoNewPrivs"] == ["1"]


@needs_root
def test_root_without_user_option_becomes_nobody_and_logs_it(run):
    magent = run(user=None).ready()
    nobody = pwd.getpwnam("nobody")
    is_user(magent, nobody.pw_uid, nobody.pw_gid, [nobody.pw_gid])
    assert "becoming nobody" in magent.output()


@needs_root
def test_root_with_user_and_group_options_becomes_them(run):
    daemon, games = pwd.getpwnam("daemon"), grp.getgrnam("games")
    for user in "daemon", str(daemon.pw_uid):
        is_user(run(user=user).ready(), daemon.pw_uid, daemon.pw_gid,
                os.getgrouplist("daemon", daemon.pw_gid))
    for group in "games", str(games.gr_gid):
        is_user(run("-g", group, user="daemon").ready(), daemon.pw_uid,
                games.gr_gid, os.getgrouplist("daemon", games.gr_gid))
    is_user(run("-g", "54321", user="54321").ready(), 54321, 54321, [54321])


@needs_root
def test_root_with_option_u_root_stays_root_and_warns(run):
    magent = run(user="root").ready()
    assert magent.status()["Uid"] == 4 * ["0"]
    assert "warning: running as root" in magent.output()


@needs_root
def test_other_user_with_user_option_stays_itself_and_warns(run):
    magent = run("-u", "root", user=None, preexec_fn=as_nobody).ready()
    assert magent.status()["Uid"] == 4 * [str(pwd.getpwnam("nobody").pw_uid)]
    assert "warning: only root can become" in magent.output()


@pytest.mark.parametrize("options, word", [
    (["-u", "nosuch"], "nosuch"), (["-u", "4000000000"], "4000000000"),
    (["-g", "nosuch"], "nosuch"), (["-u", "1x"], "1x"),
    (["-u", "99999999999999"], "9999")])
def test_magent_with_unknown_user_exits_with_nouser(
        stage, memcached, options, word):
    for foreground in ["-D"], []:
        magent = stage.add(Run(*foreground, *options, "-s",
                               memcached.address, user=None))
        assert magent.wait() == NOUSER
        assert word in last_line(magent.output())
        magent.close()
