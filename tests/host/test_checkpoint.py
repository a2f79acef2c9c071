# SPDX-License-Identifier: GPL-2.0-only
"""What the CRIU plugin's holder keeps, and the chain of ooh checkpoint, with a criu that only pretends."""

import contextlib
import gzip
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hostlib import HERE, OOH, TOP, compile_c, ooh

# A criu that writes a file, or ends as FAIL says; "restore" tells from which folder.
PRETENDER = """#!/bin/sh
case $1 in
check) exit ${CHECK:-0} ;;
restore)
	pwd -P >"$WHERE"
	echo "$@" >"$WHERE.arguments"
	[ -z "$COPY" ] || cp -r .. "$COPY"
	[ -z "$HANG" ] || { setsid sh -c 'echo $$ >"$HANG"; exec sleep 1000' & sleep 1000; }
	[ -z "$SAYS" ] || { echo "$SAYS"; exit 1; }
	while [ $# -gt 0 ]; do [ "$1" != --pidfile ] || echo 4711 >"$2"; shift; done
	exit 0 ;;
esac
echo "$@" >arguments.img
[ -z "$SLOW" ] || sleep 30
case $(pwd) in *${FAIL:-nothing}) echo "Error (pretender): no"; exit 1 ;; esac
if [ -n "$IMAGES" ]; then cp "$IMAGES/$(basename "$PWD")"/* .; else echo image >pages-1.img; fi
while [ $# -gt 0 ]; do [ "$1" != --prev-images-dir ] || ln -s "$2" parent; shift; done
"""


@pytest.fixture
def env(tmp_path):
    criu = tmp_path / "criu"
    criu.write_text(PRETENDER)
    criu.chmod(0o755)
    return {**os.environ, "OOH_CRIU": str(criu), "WHERE": str(tmp_path / "where")}


def checkpoint(d, env, *args, status=0, rounds=5, cmd=("--", "sleep", "60")):
    r = ooh("checkpoint", "-e", "0.05", *(["-n", rounds] if rounds else []), *args, d, *cmd, env=env)
    for pid in re.findall(r"^process (\d+)$", r.stdout, re.M):
        with contextlib.suppress(ProcessLookupError):
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
    assert "nobody can tell" in r.stderr
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


# ---- what is in a folder of checkpoints

def varint(n):
    out = b""
    while n > 0x7f:
        out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
    return out + bytes([n])


def message(*fields):
    """Of a protocol buffer; (number, value)."""
    return b"".join(varint(f << 3) + varint(v) if isinstance(v, int) else
                    varint(f << 3 | 2) + varint(len(v)) + v for f, v in fields)


def image(magic, *records):
    return struct.pack("<II", 0x54564319, magic) + b"".join(struct.pack("<I", len(r)) + r for r in records)


PARENT, LAZY, PRESENT = 1, 2, 4
PAGE = 4096


class Memory:
    """Some pages that change, and CRIU's images of them."""

    def __init__(self, seed):
        self.random, self.pages, self.known, self.round = random.Random(seed), {}, {}, 0

    def change(self):
        self.round += 1
        for _ in range(60):
            n = self.random.randrange(300)
            if self.random.random() < 0.2:
                self.pages.pop(n, None)
            else:
                self.pages[n] = (self.round, n)

    @staticmethod
    def content(page):
        return struct.pack("<II", *page) * (PAGE // 8)

    def entries(self):
        """(page, count, flags): neighbours of a kind together, but not always."""
        out = []
        for n in sorted(self.pages):
            flags = PARENT if self.known.get(n) == self.pages[n] else PRESENT
            flags |= LAZY if n > 200 else 0
            last = out[-1] if out else (0, 0, None)
            if last[0] + last[1] == n and last[2] == flags and self.random.random() < 0.9:
                out[-1] = (last[0], last[1] + 1, flags)
            else:
                out.append((n, 1, flags))
        return out

    def dump(self, folder, whole):
        """The images, and what was in memory."""
        folder.mkdir(parents=True)
        if whole:
            self.known = {}
        entries = self.entries()
        records = [message((1, 0x7f0000000000 + n * PAGE), (2, count), (4, flags), (5, count)) for n, count, flags in entries]
        (folder / "pagemap-7.img").write_bytes(image(0x56084025, message((1, 3)), *records))
        here = [n + i for n, count, flags in entries if flags & PRESENT for i in range(count)]
        (folder / "pages-3.img").write_bytes(b"".join(self.content(self.pages[n]) for n in here))
        (folder / "core-7.img").write_bytes(image(0x55053847, message((1, 1), (3, message((1, 1), (6, b"victim"))))))
        (folder / "pstree.img").write_bytes(image(0x50273030, message((1, 7), (2, 0)), message((1, 9), (2, 7))))
        self.known = dict(self.pages)
        return dict(self.pages)


def fields(data):
    at = 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            n |= (data[at] & 0x7f) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 0x80:
                return n

    while at < len(data):
        yield number() >> 3, number()


def read_pagemap(folder):
    data, at, records = (folder / "pagemap-7.img").read_bytes(), 8, []
    while at < len(data):
        size, = struct.unpack_from("<I", data, at)
        records.append(dict(fields(data[at + 4:at + 4 + size])))
        at += 4 + size
    return records[0][1], records[1:]


def memory_of(folder):
    """What a restore would bring back: page -> content."""
    number, entries = read_pagemap(folder)
    file, at, out = folder / f"pages-{number}.img", 0, {}
    packed = Path(f"{file}.gz")
    pages = file.read_bytes() if file.exists() else gzip.decompress(packed.read_bytes())
    before = None
    for e in entries:
        first, count, flags = (e[1] - 0x7f0000000000) // PAGE, e[5], e[4]
        for n in range(first, first + count):
            if flags & PARENT:
                before = before or memory_of((folder / os.readlink(folder / "parent")).resolve())
                out[n] = before[n]
            else:
                out[n], at = pages[at:at + PAGE], at + PAGE
    assert at == len(pages)
    return out


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with two chains of four, and what was in memory at each: (folder, states). In memory, where the disk
    keeps nobody waiting."""
    tmp = tmp_path_factory.mktemp("images")
    (tmp / "criu").write_text(PRETENDER)
    (tmp / "criu").chmod(0o755)
    memory, states = Memory(7), {}
    for n in range(1, 9):
        memory.change()
        states[n] = memory.dump(tmp / f"{n:06}", n in (1, 5))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as top:
        d = Path(top) / "original"
        checkpoint(d, {**os.environ, "OOH_CRIU": str(tmp / "criu"), "IMAGES": str(tmp)}, "-l", "4", "-k", "8", rounds=8)
        assert present(d) == list(range(1, 9))
        same(d, states)
        yield d, states


@pytest.fixture
def chain(original):
    """A copy of it."""
    d = original[0].parent / "c"
    shutil.copytree(original[0], d, symlinks=True)
    yield d, original[1]
    shutil.rmtree(d)


def same(d, states):
    for n in present(d):
        assert memory_of(d / f"{n:06}") == {p: Memory.content(c) for p, c in states[n].items()}, n


def manage(*args, status=0, env=None):
    r = ooh("checkpoint", *args, env=env)
    assert r.returncode == status, r.stdout + r.stderr
    return r


def test_the_last_ones_are_kept(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, "-l", "4", "-k", "3", rounds=6)
    # 4 is one of the last three
    assert present(d) == [1, 2, 3, 4, 5, 6]
    checkpoint(tmp_path / "d", env, "-l", "4", "-k", "3", rounds=7)
    assert present(tmp_path / "d") == [5, 6, 7]


def test_list(chain):
    d, _ = chain
    shutil.copytree(d / "000008", d / "000011", symlinks=True)
    (d / "000003" / "complete").unlink()
    text = manage("list", d).stdout.splitlines()
    assert [row.split()[0] for row in text[1:]] == [str(n) for n in (*range(1, 9), 11)]
    assert text[2].endswith(" complete") and text[3].endswith(" not complete")
    assert text[4].endswith(" useless: 3 is not complete")
    docs = {x["number"]: x for x in json.loads(manage("list", "--json", d).stdout)}
    assert [docs[n]["parent"] for n in (1, 2, 5, 6)] == [None, 1, None, 5]
    assert [n for n in docs if not docs[n]["complete"]] == [3, 4]
    assert docs[1]["pid"] > 1 and docs[11]["pid"] is None and docs[1]["bytes"] > 40 * PAGE
    assert manage("list", d.parent).stdout.endswith("holds no checkpoint\n")


def test_inspect(chain):
    d, states = chain
    doc = json.loads(manage("inspect", "--json", d, 8).stdout)
    assert doc == json.loads(manage("inspect", "--json", d).stdout)
    assert doc["builds_on"] == [7, 6, 5] and doc["pages_here"] + doc["pages_before"] == len(states[8])
    assert doc["processes"] == [{"pid": 7, "parent": 0, "command": "victim"}, {"pid": 9, "parent": 7, "command": ""}]
    assert re.search(r"^builds on +7, 6, 5$", manage("inspect", d).stdout, re.M)
    manage("inspect", d, 9, status=3)
    manage("inspect", d, "x", status=2)


def test_verify(chain):
    d, _ = chain
    assert manage("verify", d).stdout == "".join(f"checkpoint {n}: whole\n" for n in range(1, 9))
    with open(d / "000006" / "pages-3.img", "r+b") as f:
        f.write(b"X")
    text = manage("verify", d, status=1).stdout.splitlines()
    assert [n for n, row in enumerate(text, 1) if row.endswith(": whole")] == [1, 2, 3, 4, 5]
    assert text[5] == "checkpoint 6: cannot be used: 000006/pages-3.img is damaged: its checksum differs"
    assert text[6] == "checkpoint 7: cannot be used: it builds on 6"
    manage("verify", d, 4)
    manage("verify", d, 8, status=1)
    # a link that leads elsewhere is no damage to any file
    (d / "000004" / "parent").unlink()
    (d / "000004" / "parent").symlink_to("../000002")
    assert "000004/parent is ../000002, and should be 000003" in manage("verify", d, 4, status=1).stdout


def test_verify_looks_for_every_page(tmp_path, env):
    """A page that is said to be in the one before, and is not: no checksum tells."""
    memory = Memory(1)
    for n in (1, 2):
        memory.change()
        memory.dump(tmp_path / "images" / f"{n:06}", n == 1)
        memory.known[500] = memory.pages[500] = (9, 9)
    checkpoint(tmp_path / "c", {**env, "IMAGES": str(tmp_path / "images")}, rounds=2)
    text = manage("verify", tmp_path / "c", status=1).stdout
    assert "checkpoint 2: cannot be used: pagemap-7.img: page 7f00001f4000 is missing in checkpoint 1" in text


def test_prune(chain):
    d, states = chain
    dry = manage("prune", "-k", 5, "--dry-run", d).stdout
    assert dry.endswith("; 8 kept\n") and present(d) == list(range(1, 9))
    manage("prune", "-k", 5, d)
    assert present(d) == list(range(1, 9)), "4 is one of five, and builds on the first three"
    manage("prune", "-k", 4, d)
    assert present(d) == [5, 6, 7, 8]
    same(d, states)
    manage("prune", d, status=2)
    manage("prune", "-k", 0, d, status=2)


def test_prune_keeps_what_a_copy_needs_and_all_that_is_not_ours(chain):
    d, states = chain
    shutil.copytree(d / "000004", d / "000011", symlinks=True)
    (d / "20261127").mkdir()
    (d / "20261127" / "db.sql").write_text("x")
    manage("prune", "-k", 1, d)
    assert present(d) == [1, 2, 3, 5, 6, 7, 8, 11, 20261127]
    assert memory_of(d / "000011") == {p: Memory.content(c) for p, c in states[4].items()}


def test_prune_counts_only_what_is_whole(chain):
    """The newest ones are damaged: they count for nothing, and the last that restore stay."""
    d, states = chain
    with open(d / "000005" / "pages-3.img", "r+b") as f:
        f.write(b"X")
    r = manage("prune", "-k", 1, d)
    assert "checkpoint 8 cannot be used, and is kept: 000005/pages-3.img is damaged" in r.stderr
    assert {1, 2, 3, 4} <= set(present(d))
    for n in (1, 5):
        (d / f"{n:06}" / "complete").unlink()
    before = present(d)
    manage("prune", "-k", 1, d)
    assert present(d) == before, "nothing is whole"


def test_merge(chain):
    d, states = chain
    (d / "000006" / "complete").stat()
    r = manage("merge", d, 7)
    assert r.stdout == "checkpoint 7: it holds everything now, and builds on none of the 2 before it\n"
    same(d, states)
    assert not (d / "000007" / "parent").is_symlink() and os.readlink(d / "000008" / "parent") == "../000007"
    assert all(not e[4] & PARENT for e in read_pagemap(d / "000007")[1])
    assert {e[4] for e in read_pagemap(d / "000007")[1]} == {PRESENT, PRESENT | LAZY}
    assert not [p for p in d.iterdir() if "merge" in p.name] and not (d / "000007" / "ooh-merge").exists()
    manage("verify", d)
    manage("prune", "-k", 2, d)
    assert present(d) == [7, 8]
    same(d, states)
    assert "holds everything already" in manage("merge", d, 7).stdout
    manage("merge", d)
    manage("prune", "-k", 1, d)
    assert present(d) == [8]
    same(d, states)


def test_merge_leaves_what_it_cannot_do(chain):
    d, states = chain
    (d / "000008" / "notes").write_text("mine")
    assert "notes is in its folder" in manage("merge", d, 8, status=3).stderr
    shutil.copytree(d / "000004", d / "000011", symlinks=True)
    assert "it is a copy" in manage("merge", d, 11, status=3).stderr
    shutil.rmtree(d / "000011")
    with open(d / "000001" / "pages-3.img", "r+b") as f:
        f.write(b"X")
    assert "is damaged" in manage("merge", d, 4, status=3).stderr
    assert not [p for p in d.iterdir() if "merge" in p.name]
    manage("merge", d, 9, status=3)
    assert (d / "000008" / "notes").read_text() == "mine" and present(d) == list(range(1, 9))


@pytest.mark.parametrize("args", [("merge",), ("prune", "-k", "2"), ("compress", "-w", "gzip")], ids=lambda a: a[0])
def test_a_crash_in_the_middle_loses_nothing(chain, original, tmp_path, args):
    """At each of its steps: what is complete is what it was, and the next one does it all."""
    d, states = chain
    shim = compile_c(tmp_path / "dying.so", HERE / "dying.c", flags=["-shared", "-fPIC", "-ldl"])
    for at in range(1, 1000, 1 if os.environ.get("OOH_LONG") else 7):
        shutil.rmtree(d)
        shutil.copytree(original[0], d, symlinks=True)
        env = {**os.environ, "LD_PRELOAD": str(shim), "DIE_AT": str(at)}
        r = ooh("checkpoint", args[0], *args[1:], d, env=env)
        complete = [x["number"] for x in json.loads(manage("list", "--json", d).stdout) if x["complete"]]
        assert {7, 8} <= set(complete)
        for n in complete:
            assert memory_of(d / f"{n:06}") == {p: Memory.content(c) for p, c in states[n].items()}, (at, n)
        manage("verify", d)
        if r.returncode == 0:
            break
        assert r.returncode == 77
        manage(*args, d)
        assert not [p for p in d.iterdir() if "merge" in p.name]
        # a folder is no longer known as ours when it is empty
        left = [n for n in present(d) if any((d / f"{n:06}").iterdir())]
        assert left == ([5, 6, 7, 8] if args[0] == "prune" else list(range(1, 9)))
    assert at > 20


def test_compressed_ones_are_restored(chain, env, tmp_path):
    d, states = chain
    def size():
        return sum(x["bytes"] for x in json.loads(manage("list", "--json", d).stdout))

    before = size()
    manage("compress", "-w", "gzip", d)
    assert size() < before / 2 and not list(d.glob("*/pages-3.img"))
    assert manage("list", d).stdout.count(" complete, compressed") == 8
    manage("verify", d)
    same(d, states)
    for n in (8, 3):
        env["COPY"] = str(tmp_path / f"seen{n}")
        r = ooh("restore", d, n, env={**env, "TMPDIR": str(tmp_path)})
        assert r.stdout == f"checkpoint {n}: process 4711\n", r.stderr
        # what criu saw was plain, and nothing is left of it
        assert memory_of(tmp_path / f"seen{n}" / f"{n:06}") == {p: Memory.content(c) for p, c in states[n].items()}
        assert not list((tmp_path / f"seen{n}").glob("*/*.gz")) and not list(tmp_path.glob("ooh-restore*"))
    assert "is compressed (ooh checkpoint compress --undo)" in manage("merge", d, status=3).stderr
    manage("compress", "--undo", d)
    assert not list(d.glob("*/*.gz"))
    manage("verify", d)
    same(d, states)
    manage("prune", "-k", 1, d)
    assert present(d) == [5, 6, 7, 8]


def test_a_damaged_compressed_one_is_not_restored(chain, env):
    d, _ = chain
    manage("compress", "-w", "gzip", d)
    data = bytearray((d / "000006" / "pages-3.img.gz").read_bytes())
    data[len(data) // 2] ^= 1
    (d / "000006" / "pages-3.img.gz").write_bytes(data)
    assert "checkpoint 6: cannot be used: 000006/pages-3.img, which is compressed, is damaged" in manage("verify", d, status=1).stdout
    assert ooh("restore", d, env=env).stdout == "checkpoint 5: process 4711\n"
    (d / "000002" / "pages-3.img.gz").unlink()
    assert "000002/pages-3.img is missing" in manage("verify", d, status=1).stdout


@pytest.mark.parametrize("program, suffix", [("zstd", "zst"), ("gzip", "gz"), ("xz", "xz"), ("lz4", "lz4")])
def test_programs_that_compress(chain, program, suffix):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    d, states = chain
    manage("compress", "-w", program, d)
    assert len(list(d.glob(f"*/pages-3.img.{suffix}"))) == 8
    manage("verify", d)
    manage("compress", "--undo", d)
    same(d, states)


def test_a_program_that_does_not_compress(chain, tmp_path):
    """It ends well, and what it wrote does not bring back what there was: nothing is lost."""
    d, states = chain
    (tmp_path / "gzip").write_text("#!/bin/sh\n[ \"$2\" = -c ] && head -c 100\nexit 0\n")
    (tmp_path / "gzip").chmod(0o755)
    r = manage("compress", "-w", "gzip", d, status=3, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "checkpoint 1: pages-3.img: gzip" in r.stderr
    same(d, states)
    assert not list(d.glob("*/*.gz*"))


def test_old_chains_are_compressed(tmp_path, env):
    """While others are made: those that nobody builds on any more."""
    d = tmp_path / "c"
    checkpoint(d, env, "-l", "2", "-k", "4", "--compress=gzip", rounds=5)
    assert present(d) == [1, 2, 3, 4, 5]
    assert sorted(p.parent.name for p in d.glob("*/pages-1.img.gz")) == ["000001", "000002", "000003", "000004"]
    assert (d / "000005" / "pages-1.img").exists()
    manage("verify", d)


def test_a_folder_in_use(tmp_path, env):
    """One that goes on making checkpoints can be looked at, and nothing else."""
    d = tmp_path / "c"
    p = subprocess.Popen([OOH, "checkpoint", "-e", "1000", str(d), "-p", str(os.getpid())], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline().startswith("checkpoint 1: ")
        assert "complete" in manage("list", d).stdout and "everything" in manage("inspect", d).stdout
        for args in (("prune", "-k", 1), ("merge",)):
            assert "in use" in manage(*args, d, status=3).stderr
    finally:
        p.kill()
        p.communicate()


def test_metrics(chain):
    d, _ = chain
    (d / "000008" / "complete").unlink()
    text = ooh("metrics", "-C", d).stdout
    newest = (d / "000007" / "complete").stat().st_mtime
    assert f'\nooh_checkpoints{{folder="{d}"}} 7\n' in text and text.endswith("\n# EOF\n")
    assert f'\nooh_checkpoint_newest_timestamp_seconds{{folder="{d}"}} {int(newest)}\n' in text
    assert ooh("metrics", "-C", d / "none").returncode == 3


def test_an_older_one_is_restored(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=4)
    assert ooh("restore", d, 2, env=env).stdout == "checkpoint 2: process 4711\n"
    assert (tmp_path / "where").read_text().strip().endswith("/000002")
    (d / "000001" / "pages-1.img").write_text("imagE\n")
    r = ooh("restore", d, 2, env=env)
    assert r.returncode == 3 and "checkpoint 2 cannot be used: 000001/pages-1.img is damaged" in r.stderr
    assert ooh("restore", d, 9, env=env).returncode == 3


def test_a_copy_is_restored_elsewhere(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=3)
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "c.tar", "c"], check=True)
    (tmp_path / "there").mkdir()
    shutil.rmtree(d)
    subprocess.run(["tar", "-C", tmp_path / "there", "-xf", tmp_path / "c.tar"], check=True)
    assert restored(tmp_path / "there" / "c", env, tmp_path) == 3
