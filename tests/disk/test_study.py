# SPDX-License-Identifier: GPL-2.0-only
"""bench/disk-study: the figures for made images are those that they were made with."""

import json
import random
import subprocess
from pathlib import Path

import images
import pytest
from conftest import long

TOP = Path(__file__).resolve().parent.parent.parent
CLUSTER = 65536
SIZE = 32 * CLUSTER


def study(*args):
    r = subprocess.run([TOP / "bench/disk-study", *args], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    return r.stdout


@pytest.mark.parametrize("chains", [12, long(300)])
def test_made_images(tmp_path, chains):
    """Chains of many lengths; the depth of each cluster is known from how they were made."""
    rng = random.Random(1)
    expect = {}
    total = 0
    for n in [1, 2, 3, 10, 50, 200] + [rng.randrange(1, 20) for _ in range(chains)]:
        layers = [dict.fromkeys(rng.sample(range(32), rng.randrange(4))) for _ in range(n)]
        paths = images.write_chain(tmp_path / str(len(expect)), SIZE, layers)
        deep = [next((d for d in range(n) if c in layers[n - 1 - d]), n - 1) for c in range(32)]
        expect[str(paths[-1])] = n, sum(deep) / 32, max(deep)
        total += n
    assert total > 25 * chains / 3
    got = json.loads(study("--json", tmp_path))
    assert got["images"] == total and not got["broken"]
    assert {d["disk"]: (d["files"], d["depth"]["mean"], d["depth"]["most"])
            for d in got["disks"]} == expect
    assert set(got["shared"].values()) == {1}
    assert f"{total} images, {len(expect)} disks" in study(tmp_path)


def test_sharing_short_files_and_bad_input(tmp_path):
    base = images.write_chain(tmp_path, SIZE, [dict.fromkeys(range(32)), {1: None}])
    images.write_image(tmp_path / "one", SIZE, {2: None}, base[1].name)
    # ends after 4 clusters: what is below isn't seen from there on
    images.write_image(tmp_path / "short", 4 * CLUSTER, {}, base[1].name)
    images.write_image(tmp_path / "two", SIZE, {}, "short")
    images.write_image(tmp_path / "lost", SIZE, {}, "nowhere")
    images.write_image(tmp_path / "a", SIZE, {}, "b")
    images.write_image(tmp_path / "b", SIZE, {}, "a")
    (tmp_path / "spoilt").write_bytes(b"QFI\xfb" + b"\xff" * 200)
    (tmp_path / "text").write_text("no image")
    got = json.loads(study("--json", tmp_path))
    disks = {Path(d["disk"]).name: d for d in got["disks"]}
    assert sorted(disks) == ["lost", "one", "two"]
    assert disks["one"]["depth"]["mean"] == (30 * 2 + 1) / 32
    assert disks["two"]["files"] == 4 and disks["two"]["depth"]["mean"] == (28 * 1 + 3 * 3 + 2) / 32
    assert got["shared"][str(base[0])] == 2 and got["shared"][str(tmp_path / "short")] == 1
    assert sorted(Path(p).name for p in got["broken"]) == ["a", "b", "lost", "spoilt"]
    assert "broken: " in study(tmp_path)
