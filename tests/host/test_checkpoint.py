# SPDX-License-Identifier: GPL-2.0-only
"""What the CRIU plugin's holder keeps, and the chain of ooh checkpoint, with a criu that only pretends."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from hostlib import HERE, OOH, TOP, compile_c, ooh

# A criu that writes a file, or ends as FAIL says; "restore" tells from which folder.
PRETENDER = """#!/bin/sh
case $1 in
check) exit ${CHECK:-0} ;;
restore) pwd -P >"$WHERE"; echo 4711 >restored.pid; exit 0 ;;
esac
echo "$@" >arguments
[ -z "$SLOW" ] || sleep 30
case $(pwd) in *${FAIL:-nothing}) echo "Error (pretender): no"; exit 1 ;; esac
echo image >pages-1.img
"""


@pytest.fixture
def env(tmp_path):
    criu = tmp_path / "criu"
    criu.write_text(PRETENDER)
    criu.chmod(0o755)
    return {**os.environ, "OOH_CRIU": str(criu), "WHERE": str(tmp_path / "where")}


def checkpoint(d, env, *args, status=0, rounds=5, cmd=("--", "sleep", "60")):
    r = ooh("checkpoint", "-e", "0.05", "-n", rounds, *args, d, *cmd, env=env)
    for pid in re.findall(r"^process (\d+)$", r.stdout, re.M):
        os.kill(int(pid), signal.SIGKILL)
    assert r.returncode == status, r.stdout + r.stderr
    return r


def present(d):
    return sorted(int(p.name) for p in d.iterdir() if p.name.isdigit())


def restored(d, env, tmp_path):
    r = ooh("restore", d, env=env)
    assert r.returncode == 0, r.stderr
    return int((tmp_path / "where").read_text().strip().rsplit("/", 1)[1])


def test_rounds(tmp_path):
    program = compile_c(tmp_path / "rounds", HERE / "unit_rounds.c", TOP / "criu-plugin" / "rounds.c",
                        TOP / "criu-plugin" / "token.c", flags=["-fsanitize=address,undefined"])
    r = subprocess.run([program], capture_output=True, text=True)
    assert r.returncode == 0 and "ok:" in r.stdout, r.stdout + r.stderr


def test_a_chain_has_a_bounded_length(tmp_path, env):
    d = tmp_path / "c"
    r = checkpoint(d, env, "-l", "3", rounds=8)
    # 1-3 and 4-6 are gone, as 7 holds everything; 8 builds on it
    assert present(d) == [7, 8]
    assert [line.rsplit(", ")[1] for line in r.stdout.splitlines()[1:]] == ["everything", "incremental", "incremental"] * 2 + ["everything", "incremental"]
    assert "--prev-images-dir ../000007" in (d / "000008" / "arguments").read_text()
    assert "--prev-images-dir" not in (d / "000007" / "arguments").read_text()
    assert restored(d, env, tmp_path) == 8


def test_an_incomplete_one_is_never_taken(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=3)
    assert restored(d, env, tmp_path) == 3
    shutil.copytree(d / "000003", d / "000004")
    for text in ("", "parent 3\n", "parent 3\nen", "parent 4\nend\n", "parent 9\nend\n", "parent -1\nend\n"):
        (d / "000004" / "complete").write_text(text)
        assert restored(d, env, tmp_path) == 3
    (d / "000004" / "complete").rename(d / "000004" / "complete.new")
    assert restored(d, env, tmp_path) == 3
    # what the newest builds on is not there any more: the one before that
    (d / "000002" / "complete").unlink()
    assert restored(d, env, tmp_path) == 1
    shutil.rmtree(d / "000001")
    r = ooh("restore", d, env=env)
    assert r.returncode == 3 and "no complete checkpoint" in r.stderr


def test_a_failed_one_is_passed_over(tmp_path, env):
    # it goes on from the last complete one, and the failure is told
    p = subprocess.Popen([OOH, "checkpoint", "-e", "0.05", str(tmp_path / "c"), "--", "sleep", "60"],
                         env={**env, "FAIL": "000003"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=20)
    os.kill(int(re.search(r"^process (\d+)", out).group(1)), signal.SIGKILL)
    assert p.returncode == 0
    assert "checkpoint 3: criu ended with 1: Error (pretender): no" in err
    assert restored(tmp_path / "c", env, tmp_path) == 2


def test_it_survives_its_own_crash(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=2)
    p = subprocess.Popen([OOH, "checkpoint", "-e", "0.05", str(d), "-p", str(os.getpid())], env={**env, "SLOW": "1"})
    for _ in range(100):
        if (d / "000003" / "arguments").exists():
            break
        time.sleep(0.05)
    # one at a time
    r = ooh("checkpoint", "-n", "1", d, "-p", os.getpid(), env=env)
    assert r.returncode == 3 and "in use" in r.stderr
    p.kill()
    p.wait()
    assert present(d) == [1, 2, 3]
    assert restored(d, env, tmp_path) == 2
    # the next one begins with what is complete, and anew
    r = checkpoint(d, env, rounds=1, cmd=("-p", os.getpid()))
    assert "everything" in r.stdout
    assert restored(d, env, tmp_path) == 3
    assert present(d) == [3]


def test_without_a_tracker_each_holds_everything(tmp_path, env):
    d = tmp_path / "c"
    r = checkpoint(d, {**env, "CHECK": "1"}, rounds=3)
    assert "nobody can tell" in r.stderr
    assert present(d) == [3]
    assert "--track-mem" not in (d / "000003" / "arguments").read_text()


def test_the_process_ends(tmp_path, env):
    r = checkpoint(tmp_path / "c", env, rounds=100, cmd=("--", "sleep", "0.5"), status=4)
    assert "ended; the last complete checkpoint is" in r.stderr


@pytest.mark.parametrize("args", [
    (), ("checkpoint",), ("checkpoint", "DIR"), ("checkpoint", "-e", "0", "DIR", "-p", "1"), ("checkpoint", "-e", "x", "DIR", "-p", "1"),
    ("checkpoint", "-l", "0", "DIR", "-p", "1"), ("checkpoint", "DIR", "-p", "1", "--", "true"), ("restore",), ("restore", "a", "b"),
])
def test_wrong_usage(args):
    assert ooh(*args).returncode == 2


def test_errors(tmp_path, env):
    assert ooh("restore", tmp_path / "none", env=env).returncode == 3
    assert ooh("checkpoint", tmp_path / "c", "--", "/no/such/program", env=env).returncode == 127
    r = ooh("checkpoint", tmp_path / "c", "-p", 2**22 + 5, env=env)
    assert r.returncode == 3 and "No such process" in r.stderr
