# SPDX-License-Identifier: GPL-2.0-only
"""What is in a folder of checkpoints: list, inspect, verify, prune, merge, compress."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from criulib import (LAZY, PAGE, PARENT, PRESENT, Memory, checkpoint, manage, memory_of, present,
                     pretended, read_pagemap, restored)
from hostlib import HERE, OOH, compile_c, ooh


@pytest.fixture
def env(tmp_path):
    return pretended(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with two chains of four, and what was in memory at each: (folder, states). In
    memory, where the disk keeps nobody waiting."""
    tmp = tmp_path_factory.mktemp("images")
    env = pretended(tmp)
    memory, states = Memory(7), {}
    for n in range(1, 9):
        memory.change()
        states[n] = memory.dump(tmp / f"{n:06}", n in (1, 5))
    with tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as top:
        d = Path(top) / "original"
        checkpoint(d, {**env, "IMAGES": str(tmp)}, "-l", "4", "-k", "8", rounds=8)
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
    assert doc["builds_on"] == [7, 6, 5]
    assert doc["pages_here"] + doc["pages_before"] == len(states[8])
    assert doc["processes"] == [{"pid": 7, "parent": 0, "command": "victim"},
                                {"pid": 9, "parent": 7, "command": ""}]
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
    assert text[5] == ("checkpoint 6: cannot be used: 000006/pages-3.img is damaged: "
                       "its checksum differs")
    assert text[6] == "checkpoint 7: cannot be used: it builds on 6"
    manage("verify", d, 4)
    manage("verify", d, 8, status=1)
    # a link that leads elsewhere is no damage to any file
    (d / "000004" / "parent").unlink()
    (d / "000004" / "parent").symlink_to("../000002")
    assert ("000004/parent is ../000002, and should be 000003"
            in manage("verify", d, 4, status=1).stdout)


def test_verify_looks_for_every_page(tmp_path, env):
    """A page that is said to be in the one before, and is not: no checksum tells."""
    memory = Memory(1)
    for n in (1, 2):
        memory.change()
        memory.dump(tmp_path / "images" / f"{n:06}", n == 1)
        memory.known[500] = memory.pages[500] = (9, 9)
    checkpoint(tmp_path / "c", {**env, "IMAGES": str(tmp_path / "images")}, rounds=2)
    text = manage("verify", tmp_path / "c", status=1).stdout
    assert ("checkpoint 2: cannot be used: pagemap-7.img: page 7f00001f4000 is missing in "
            "checkpoint 1" in text)


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
    assert r.stdout == ("checkpoint 7: it holds everything now, and builds on none of the 2 "
                        "before it\n")
    same(d, states)
    assert not (d / "000007" / "parent").is_symlink()
    assert os.readlink(d / "000008" / "parent") == "../000007"
    assert all(not e[4] & PARENT for e in read_pagemap(d / "000007")[1])
    assert {e[4] for e in read_pagemap(d / "000007")[1]} == {PRESENT, PRESENT | LAZY}
    assert not [p for p in d.iterdir() if "merge" in p.name]
    assert not (d / "000007" / "ooh-merge").exists()
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


@pytest.mark.parametrize("args", [("merge",), ("prune", "-k", "2"), ("compress", "-w", "gzip")],
                         ids=lambda a: a[0])
def test_a_crash_in_the_middle_loses_nothing(chain, original, tmp_path, args):
    """At each of its steps: what is complete is what it was, and the next one does it all."""
    d, states = chain
    shim = compile_c(tmp_path / "dying.so", HERE / "dying.c", flags=["-shared", "-fPIC", "-ldl"])
    for at in range(1, 1000, 1 if os.environ.get("OOH_LONG") else 7):
        shutil.rmtree(d)
        shutil.copytree(original[0], d, symlinks=True)
        env = {**os.environ, "LD_PRELOAD": str(shim), "DIE_AT": str(at)}
        r = ooh("checkpoint", args[0], *args[1:], d, env=env)
        complete = [x["number"] for x in json.loads(manage("list", "--json", d).stdout)
                    if x["complete"]]
        assert {7, 8} <= set(complete)
        for n in complete:
            assert memory_of(d / f"{n:06}") == {
                p: Memory.content(c) for p, c in states[n].items()}, (at, n)
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
        assert memory_of(tmp_path / f"seen{n}" / f"{n:06}") == {
            p: Memory.content(c) for p, c in states[n].items()}
        assert not list((tmp_path / f"seen{n}").glob("*/*.gz"))
        assert not list(tmp_path.glob("ooh-restore*"))
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
    assert ("checkpoint 6: cannot be used: 000006/pages-3.img, which is compressed, is damaged"
            in manage("verify", d, status=1).stdout)
    assert ooh("restore", d, env=env).stdout == "checkpoint 5: process 4711\n"
    (d / "000002" / "pages-3.img.gz").unlink()
    assert "000002/pages-3.img is missing" in manage("verify", d, status=1).stdout


@pytest.mark.parametrize("program, suffix",
                         [("zstd", "zst"), ("gzip", "gz"), ("xz", "xz"), ("lz4", "lz4")])
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
    r = manage("compress", "-w", "gzip", d, status=3,
               env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "checkpoint 1: pages-3.img: gzip" in r.stderr
    same(d, states)
    assert not list(d.glob("*/*.gz*"))


def test_old_chains_are_compressed(tmp_path, env):
    """While others are made: those that nobody builds on any more."""
    d = tmp_path / "c"
    checkpoint(d, env, "-l", "2", "-k", "4", "--compress=gzip", rounds=5)
    assert present(d) == [1, 2, 3, 4, 5]
    assert sorted(p.parent.name for p in d.glob("*/pages-1.img.gz")) == [
        "000001", "000002", "000003", "000004"]
    assert (d / "000005" / "pages-1.img").exists()
    manage("verify", d)


def test_a_folder_in_use(tmp_path, env):
    """One that goes on making checkpoints can be looked at, and nothing else."""
    d = tmp_path / "c"
    p = subprocess.Popen([OOH, "checkpoint", "-e", "1000", str(d), "-p", str(os.getpid())], env=env,
                         stdout=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline().startswith("checkpoint 1: ")
        assert "complete" in manage("list", d).stdout
        assert "everything" in manage("inspect", d).stdout
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
    assert r.returncode == 3
    assert "checkpoint 2 cannot be used: 000001/pages-1.img is damaged" in r.stderr
    assert ooh("restore", d, 9, env=env).returncode == 3


def test_a_copy_is_restored_elsewhere(tmp_path, env):
    d = tmp_path / "c"
    checkpoint(d, env, rounds=3)
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "c.tar", "c"], check=True)
    (tmp_path / "there").mkdir()
    shutil.rmtree(d)
    subprocess.run(["tar", "-C", tmp_path / "there", "-xf", tmp_path / "c.tar"], check=True)
    assert restored(tmp_path / "there" / "c", env, tmp_path) == 3
