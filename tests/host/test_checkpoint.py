# SPDX-License-Identifier: GPL-2.0-only
"""What the CRIU plugin's holder keeps, and the chain of ooh checkpoint, with a criu that only pretends."""

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest
from criulib import PRETENDER, checkpoint, manage, present, pretended, restored
from hostlib import HERE, OOH, TOP, compile_c, ooh


@pytest.fixture
def env(tmp_path):
    return pretended(tmp_path)


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
    assert [line.rsplit(", ")[-1] for line in r.stdout.splitlines()[1:]] == ["everything", "incremental", "incremental"] * 2 + ["everything", "incremental"]
    assert "--prev-images-dir ../000007" in (d / "000008" / "arguments.img").read_text()
    assert "--prev-images-dir" not in (d / "000007" / "arguments.img").read_text()
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
    # what the newest builds on is not there any more: the one before that, and it is said
    (d / "000002" / "complete").unlink()
    r = ooh("restore", d, env=env)
    assert "checkpoint 3 cannot be used: 000002 is not complete" in r.stderr
    assert r.stdout == "checkpoint 1: process 4711\n"
    shutil.rmtree(d / "000001")
    r = ooh("restore", d, env=env)
    assert r.returncode == 3 and "no complete checkpoint" in r.stderr


def test_a_failed_one_is_passed_over(tmp_path, env):
    # it goes on from the last complete one, and the failure is told
    p = subprocess.Popen([OOH, "checkpoint", "-e", "0.05", "-l", "1000", str(tmp_path / "c"), "--", "sleep", "60"],
                         env={**env, "FAIL": "000003"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=20)
    os.kill(int(re.search(r"^process (\d+)", out).group(1)), signal.SIGKILL)
    assert p.returncode == 0
    assert "checkpoint 3: criu ended with 1: Error (pretender): no" in err
    assert restored(tmp_path / "c", env, tmp_path) > 3
    assert (tmp_path / "c" / "000003" / "criu.log").exists()
    assert "--prev-images-dir ../000002" in (tmp_path / "c" / "000004" / "arguments.img").read_text()


def test_it_survives_its_own_crash(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=2)
    p = subprocess.Popen([OOH, "checkpoint", "-e", "0.05", str(d), "-p", str(os.getpid())], env={**env, "SLOW": "1"})
    for _ in range(100):
        if (d / "000003" / "arguments.img").exists():
            break
        time.sleep(0.05)
    # one at a time
    r = ooh("checkpoint", "-n", "1", d, "-p", os.getpid(), env=env)
    assert r.returncode == 3 and "in use" in r.stderr
    p.kill()
    p.wait()
    assert present(d) == [1, 2, 3]
    assert restored(d, env, tmp_path) == 2
    # the next one begins anew; what is left half way of this process goes, and nothing of another
    r = checkpoint(d, env, rounds=1, cmd=("-p", os.getpid()))
    assert "everything" in r.stdout
    assert restored(d, env, tmp_path) == 4
    assert present(d) == [1, 2, 4]


def test_nothing_is_deleted_that_is_not_its_own(tmp_path, env):
    d = tmp_path / "c"
    (d / "20261127").mkdir(parents=True)
    (d / "20261127" / "db.sql").write_text("x")
    (d / "000001").mkdir()
    (d / "000001" / "pages-1.img").write_text("of a criu that somebody ran by hand")
    assert ooh("checkpoint", d, "--", "/no/such", env=env).returncode == 127
    checkpoint(d, env, "-l", "2", rounds=7)
    assert (d / "20261127" / "db.sql").read_text() == "x"
    assert (d / "000001" / "pages-1.img").exists()
    assert present(d) == [1, 8, 20261127]
    # in a folder that is its own, too
    (d / "000008" / "notes").write_text("mine")
    shutil.copytree(d / "000008", d / "000009")
    checkpoint(d, env, rounds=1)
    assert (d / "000008" / "complete").exists(), "another process's chain"
    assert (d / "000009" / "complete").exists(), "a copy, whose mark has another number"


def test_foreign_files_in_a_removed_checkpoint_stay(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=2, cmd=("-p", os.getpid()))
    (d / "000001" / "notes").write_text("mine")
    (d / "000002" / "pages").mkdir()
    checkpoint(d, env, rounds=1, cmd=("-p", os.getpid()))
    assert [p.name for p in (d / "000001").iterdir()] == ["notes"]
    assert [p.name for p in (d / "000002").iterdir()] == ["pages"]


def test_a_lost_mark_deletes_nothing_before_the_next_is_complete(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=3, cmd=("-p", os.getpid()))
    (d / "000001" / "complete").unlink()
    checkpoint(d, {**env, "FAIL": "00000[45]"}, rounds=2, cmd=("-p", os.getpid()), status=3)
    for n in (1, 2, 3):
        assert (d / f"00000{n}" / "pages-1.img").exists()


@pytest.mark.parametrize("damage, said", [
    (lambda p: p.write_text("imag"), "has 4 bytes instead of 6"),
    (lambda p: p.write_text("imagE\n"), "is damaged: its checksum differs"),
    (lambda p: p.unlink(), "is missing"),
])
def test_a_damaged_image_is_not_restored(tmp_path, env, damage, said):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=3)
    damage(d / "000001" / "pages-1.img")
    r = ooh("restore", d, env=env)
    assert r.returncode == 3 and not (tmp_path / "where").exists()
    assert f"checkpoint 3 cannot be used: 000001/pages-1.img {said}" in r.stderr
    sums = subprocess.run(["cksum", "pages-1.img"], cwd=d / "000002", capture_output=True, text=True).stdout
    assert sums in (d / "000002" / "checksums").read_text()


def test_restore_leaves_the_images_as_they_are(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=1)
    before = {p.name: p.stat().st_mtime_ns for p in (d / "000001").iterdir()}
    assert restored(d, env, tmp_path) == 1
    assert {p.name: p.stat().st_mtime_ns for p in (d / "000001").iterdir()} == before


def test_failures_count(tmp_path, env):
    r = checkpoint(tmp_path / "c", {**env, "FAIL": "00000?"}, rounds=1, status=3)
    assert "Error (pretender): no" in r.stderr and "its log is" in r.stderr
    # its log stays, and nothing else of it
    assert sorted(p.name for p in (tmp_path / "c" / "000001").iterdir()) == ["criu.log", "ooh-checkpoint"]
    # none ever succeeds: it does not go on for ever
    r = checkpoint(tmp_path / "d", {**env, "FAIL": "00000?"}, rounds=0, status=3)
    assert "3 failed in a row and none succeeded" in r.stderr
    assert present(tmp_path / "d") == [3]


def test_no_room_for_a_whole_one(tmp_path, env):
    """At the turn of a chain; an incremental one fits."""
    d = tmp_path / "c"
    r = checkpoint(d, {**env, "FAIL": "000003"}, "-l", "2", rounds=3)
    assert "the chain goes on" in r.stderr
    assert re.findall(r"^checkpoint (\d+): .*, (\w+)$", r.stdout, re.M) == [("1", "everything"), ("2", "incremental"), ("4", "incremental")]
    assert restored(d, env, tmp_path) == 4


def test_options_of_criu(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, "-c", "--tcp-established", rounds=1)
    assert "--tcp-close" not in (d / "000001" / "arguments.img").read_text()
    ooh("restore", "-c", "--tcp-established", d, env=env)
    assert "--tcp-close" not in (tmp_path / "where.arguments").read_text()
    checkpoint(d, env, rounds=1)
    restored(d, env, tmp_path)
    assert "--tcp-close" in (tmp_path / "where.arguments").read_text()
    for option in ("--leave-stopped", "--auto-dedup", "-o", "--log-file=x"):
        r = ooh("checkpoint", "-c", option, d, "-p", os.getpid(), env=env)
        assert r.returncode == 2 and option in r.stderr


def test_the_last_one_is_taken_away(tmp_path, env):
    d = tmp_path / "c"
    p = subprocess.Popen([OOH, "checkpoint", "-e", "1000", "-n", "2", str(d), "-p", str(os.getpid())],
                         env=env, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().startswith("checkpoint 1: ")
    shutil.rmtree(d / "000001")
    p.send_signal(signal.SIGUSR1)
    out, _ = p.communicate(timeout=20)
    assert p.returncode == 0 and "everything" in out
    assert restored(d, env, tmp_path) == 1


def test_options_are_remembered(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, "-c", "--shell-job", "-c", "--ghost-limit=9", rounds=1)
    restored(d, env, tmp_path)
    given = (tmp_path / "where.arguments").read_text()
    assert "--shell-job" in given and "--ghost-limit" not in given


@pytest.mark.parametrize("criu, ours", [
    ("Error (criu/pstree.c:305): A session leader of 7(7) is outside of its pid namespace. Consider using --shell-job option", "-c --shell-job"),
    # PID: this process, which differs between the workers that collect the tests
    ("Error (criu/cr-restore.c:1237): Can't fork for PID: File exists", r"process PID \(.*\) is alive"),
    ("Error (criu/files-reg.c:2175): File tmp/out.log has bad size 120 (expect 75)", '"truncate -s 75 /tmp/out.log"'),
    ("criu: unrecognized option '--nosuch'", "-c --nosuch"),
])
def test_what_criu_says_is_translated(tmp_path, env, criu, ours):
    criu, ours = (text.replace("PID", str(os.getpid())) for text in (criu, ours))
    checkpoint(tmp_path / "c", env, rounds=1)
    r = ooh("restore", tmp_path / "c", env={**env, "SAYS": criu})
    assert r.returncode == 3 and criu in r.stderr
    assert re.search(ours, r.stderr)
    log = re.search(r"its log is (\S+)", r.stderr).group(1)
    assert criu in open(log).read()
    shutil.rmtree(os.path.dirname(log))


def test_a_restore_has_a_limit(tmp_path, env):
    checkpoint(tmp_path / "c", env, rounds=1)
    r = ooh("restore", "--limit", "1", tmp_path / "c", env={**env, "HANG": str(tmp_path / "hung")}, timeout=30)
    assert r.returncode == 3 and "took too long" in r.stderr
    # what it had made is gone, too
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "hung").read_text()), 0)


def test_it_says_what_is_not_incremental(tmp_path, env):
    criu = tmp_path / "criu"
    criu.write_text(PRETENDER + "echo 'all 7 the holder was killed' >ooh-marks\n")
    r = checkpoint(tmp_path / "c", env, rounds=2)
    assert re.search(r"^checkpoint 2: .*, everything: the holder was killed$", r.stdout, re.M)


@pytest.mark.parametrize("skipped, what", [(0, "everything: criu found no page .*"), (300, "incremental")])
def test_it_reads_criu_s_statistics(tmp_path, env, skipped, what):
    """Without the plugin nobody says that a tracker lost its way: what CRIU counted does."""
    def number(field, v):
        out = bytes([field << 3])
        while v > 0x7f:
            out, v = out + bytes([v & 0x7f | 0x80]), v >> 7
        return out + bytes([v])

    dump = b"".join(number(f, v) for f, v in [(1, 5), (2, 900), (3, 1), (4, 1), (5, 400), (6, skipped), (7, 1234), (9, 0)])
    entry = bytes([1 << 3 | 2, len(dump)]) + dump
    (tmp_path / "stats").write_bytes(struct.pack("<III", 0x55105940, 0x57093306, len(entry)) + entry)
    criu = tmp_path / "criu"
    criu.write_text(PRETENDER + f"cp {tmp_path}/stats stats-dump\n")
    r = checkpoint(tmp_path / "c", env, rounds=2)
    assert re.search(r"^checkpoint 1: .*, everything$", r.stdout, re.M)
    assert re.search(f"^checkpoint 2: .*, {what}$", r.stdout, re.M), r.stdout


def test_on_request_and_at_the_end(tmp_path, env):
    p = subprocess.Popen([OOH, "checkpoint", "-e", "1000", "--last", str(tmp_path / "c"), "-p", str(os.getpid())],
                         env=env, stdout=subprocess.PIPE, text=True)
    # the first comes at once
    assert p.stdout.readline().startswith("checkpoint 1: ")
    p.send_signal(signal.SIGUSR1)
    assert p.stdout.readline().startswith("checkpoint 2: ")
    p.send_signal(signal.SIGTERM)
    out, _ = p.communicate(timeout=20)
    assert p.returncode == 0 and out.startswith("checkpoint 3: ")


def test_there_is_no_criu(tmp_path, env):
    r = ooh("checkpoint", tmp_path / "c", "--", "touch", tmp_path / "ran", env={**env, "OOH_CRIU": "/no/such/criu"})
    assert r.returncode == 5 and r.stderr == "ooh checkpoint: criu is needed, and OOH_CRIU=/no/such/criu cannot be executed\n"
    assert not (tmp_path / "ran").exists()
    checkpoint(tmp_path / "c", env, rounds=1)
    r = ooh("restore", tmp_path / "c", env={**env, "OOH_CRIU": "/no/such/criu", "TMPDIR": str(tmp_path)})
    assert r.returncode == 5 and r.stderr == "ooh restore: criu is needed, and OOH_CRIU=/no/such/criu cannot be executed\n"


def test_none_is_complete(tmp_path, env):
    r = checkpoint(tmp_path / "c", {**env, "FAIL": "00000?"}, rounds=1000, cmd=("--", "sh", "-c", "exit 9"), status=9)
    assert re.search(r"process \d+ ended; no checkpoint is complete", r.stderr)


HOOK = 'echo $OOH_STATUS $OOH_NUMBER $OOH_PID "$OOH_DIR" "$OOH_FOLDER" $(ls "$OOH_FOLDER") >>hooks'


def test_hooks(tmp_path, env):
    d = tmp_path / "c c"
    env = {**env, "FAIL": "000002", "HOOKS": str(tmp_path / "hooks")}
    checkpoint(d, env, "--before", HOOK.replace("hooks", '"$HOOKS"'), "--after", HOOK.replace("hooks", '"$HOOKS"'), rounds=3, cmd=("-p", os.getpid()))
    rows = (tmp_path / "hooks").read_text().splitlines()
    for row, (status, n) in zip(rows, [("begins", 1), ("complete", 1), ("begins", 2), ("failed", 2), ("begins", 3), ("complete", 3)]):
        assert row.startswith(f"{status} {n} {os.getpid()} {d} {d}/{n:06} ")
        assert (" complete " in row.removeprefix("complete")) == (status == "complete")
        assert ("pages-1.img" in row) == (status == "complete")
    assert len(rows) == 6


def test_hooks_that_fail(tmp_path, env):
    """Before: none is made. After: it was made."""
    d = tmp_path / "c"
    r = checkpoint(d, env, "--before", "[ $OOH_NUMBER != 2 ]", "--after", "echo said; exit 7", rounds=3, cmd=("-p", os.getpid()))
    assert "checkpoint 2: --before ended with 1" in r.stderr and "checkpoint 3: --after ended with 7" in r.stderr
    assert "said" in r.stderr and "said" not in r.stdout
    assert [x["number"] for x in json.loads(manage("list", "--json", d).stdout) if x["complete"]] == [1, 3]
    r = checkpoint(tmp_path / "d", env, "--limit", "1", "--before", "sleep 100", rounds=1, status=3)
    assert "--before: it took too long" in r.stderr


def test_a_line_of_json_for_each(tmp_path, env):
    r = checkpoint(tmp_path / "c", {**env, "FAIL": "000002"}, "--json", rounds=3, cmd=("-p", os.getpid()))
    docs = [json.loads(line) for line in r.stdout.splitlines()]
    assert [(x["number"], x["complete"]) for x in docs] == [(1, True), (2, False), (3, True)]
    assert [docs[0]["incremental"], docs[2]["incremental"]] == [False, True]
    assert docs[2]["bytes"] > 0 and docs[2]["seconds"] >= 0 and docs[2]["everything_because"] is None


def test_progress_on_a_terminal(tmp_path, env):
    """Of a dump that takes longer than a second; elsewhere nothing is said in the first minute."""
    slow = tmp_path / "slow"
    slow.write_text(PRETENDER.replace("sleep 30", "head -c 5000000 /dev/urandom >pages-1.img; sleep 3"))
    slow.chmod(0o755)
    env = {**env, "OOH_CRIU": str(slow), "SLOW": "1"}
    ours, theirs = os.openpty()
    p = subprocess.Popen([OOH, "checkpoint", "-n", "1", str(tmp_path / "c"), "-p", str(os.getpid())], env=env, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):
        while part := os.read(ours, 1000):
            said += part
    os.close(ours)
    p.communicate()
    assert p.returncode == 0
    assert re.search(rb"\rooh checkpoint: checkpoint 1, 5 MB, \d s\x1b\[K", said) and said.endswith(b"\r\x1b[K")
    assert checkpoint(tmp_path / "d", env, rounds=1, cmd=("-p", os.getpid())).stderr == ""


def test_without_a_tracker_each_holds_everything(tmp_path, env):
    d = tmp_path / "c"
    r = checkpoint(d, {**env, "CHECK": "1"}, rounds=3)
    assert "each checkpoint holds everything: criu has no tracker" in r.stderr
    assert present(d) == [3]
    assert "--track-mem" not in (d / "000003" / "arguments.img").read_text()


def test_the_process_ends(tmp_path, env):
    r = checkpoint(tmp_path / "c", env, rounds=1000, cmd=("--", "sh", "-c", "sleep 0.5; exit 9"), status=9)
    assert "ended; the last complete checkpoint is" in r.stderr


@pytest.mark.parametrize("args", [
    (), ("checkpoint",), ("checkpoint", "DIR"), ("checkpoint", "-e", "0", "DIR", "-p", "1"), ("checkpoint", "-e", "x", "DIR", "-p", "1"),
    ("checkpoint", "-l", "0", "DIR", "-p", "1"), ("checkpoint", "-b", "nosuch", "DIR", "-p", "1"), ("checkpoint", "DIR", "-p", "1", "--", "true"), ("restore",), ("restore", "a", "b"),
])
def test_wrong_usage(args):
    assert ooh(*args).returncode == 2


def test_errors(tmp_path, env):
    assert ooh("restore", tmp_path / "none", env=env).returncode == 3
    assert ooh("checkpoint", tmp_path / "c", "--", "/no/such/program", env=env).returncode == 127
    r = ooh("checkpoint", tmp_path / "c", "-p", 2**22 + 5, env=env)
    assert r.returncode == 3 and "No such process" in r.stderr
