# SPDX-License-Identifier: GPL-2.0-only
"""Long chains of qcow2 files, with the tools that `make sqemu` builds. The upstream's own tests
run, those of the series among them; content is compared with a flat copy."""

import os
import random
import re
import resource
import subprocess
from pathlib import Path

import images
import pytest
from conftest import long

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))
BIN = BUILD / "sqemu" / "usr" / "bin"
IOTESTS = BUILD / "testbed" / "sqemu-patched" / "iotests" / "tests" / "qemu-iotests"

# what the patches of the series are tested by: tests/qemu-iotests/tests
OURS = ["backing-chain-files", "backing-unusable", long("long-backing-chain"),
        "qcow2-autoclear-reopen", "qcow2-chain-index"]
# of those that were there before: backing files, copy on write, short ones, commit, rebase
THEIRS = ["017", "018", "034", "037", "038", "050", "097", "114", "126", "177", "179", "279"]
# these take longer: convert, rebase and its options, check, feature bits, zeroes
THEIRS_LONG = ["019", "020", "024", "036", "061", "110", "154", "251"]


@pytest.fixture(scope="module", autouse=True)
def many_files():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 4096:
        pytest.skip("the limit of open files is below 4096")
    if not (BIN / "qemu-img").exists():
        raise RuntimeError("no build/sqemu: make sqemu")


def tool(name, *args, **kw):
    kw.setdefault("timeout", 300)
    return subprocess.run([BIN / name, *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **kw)


def good(name, *args, **kw):
    r = tool(name, *args, **kw)
    assert r.returncode == 0, r.stdout[-2000:]
    return r.stdout


def iotests(tmp_path, names):
    env = {**os.environ, "TEST_DIR": str(tmp_path),
           "QEMU_PROG": str(TOP / "tests/disk/no-emulator"), "PYTHONDONTWRITEBYTECODE": "1",
           **{f"{v}_PROG": str(BIN / p)
              for v, p in (("QEMU_IMG", "qemu-img"), ("QEMU_IO", "qemu-io"),
                           ("QEMU_NBD", "qemu-nbd"), ("QSD", "qemu-storage-daemon"))}}
    r = subprocess.run(["/usr/bin/python3", "./check", "-qcow2", *names], cwd=IOTESTS, env=env,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=800)
    print(r.stdout)
    return r


@pytest.mark.parametrize("name", OURS)
def test_iotest_of_the_series(tmp_path, name):
    assert "Passed all 1 iotests" in iotests(tmp_path, [name]).stdout


@pytest.mark.parametrize("names", [THEIRS, long(THEIRS_LONG)], ids=["short", "long"])
def test_iotests_of_the_upstream(tmp_path, names):
    assert f"Passed all {len(names)} iotests" in iotests(tmp_path, names).stdout


def layers_of(rng, size, cs, files, each):
    """Random clusters for each file, and what a flat disk holds."""
    flat, layers = bytearray(size), []
    for i in range(files):
        layer = {}
        for g in rng.sample(range(size // cs), min(size // cs, each)):
            layer[g] = bytes([1 + rng.randrange(255)]) * cs
            flat[g * cs:(g + 1) * cs] = layer[g]
        layers.append(layer)
    return layers, flat


@pytest.mark.parametrize("cluster_bits", [16, long(12)])
def test_a_thousand_files_hold_what_a_flat_one_would(tmp_path, cluster_bits):
    rng = random.Random(cluster_bits)
    size, cs = 32 << 20, 1 << cluster_bits
    layers, flat = layers_of(rng, size, cs, 999, 2)
    paths = images.write_chain(tmp_path, size, layers, cluster_bits)
    # the last one is the tool's own; it opens the chain to learn its size
    top = tmp_path / "top.qcow2"
    good("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", paths[-1], top)
    (tmp_path / "flat").write_bytes(flat)
    assert "identical" in good("qemu-img", "compare", "-f", "qcow2", "-F", "raw", top,
                               tmp_path / "flat")
    # by block status
    good("qemu-img", "convert", "-O", "raw", top, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == flat
    for p in paths[:3]:
        good("qemu-img", "check", "-q", p)


def test_random_operations_on_a_growing_chain(tmp_path):
    """Writes, zeroes, discards and snapshots, small and large clusters, against a flat copy.
    Discards are left out where the result is not defined: here a discarded cluster reads as zeroes,
    since images are of version 3."""
    ops = 0
    for seed, (options, grain) in enumerate([("cluster_size=4k", 512), ("cluster_size=64k", 4096),
                                             ("cluster_size=2M", 65536),
                                             ("cluster_size=64k,extended_l2=on", 2048),
                                             ("cluster_size=512", 512)]):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        size = 4 << 20
        flat = bytearray(size)
        base = folder / "0"
        good("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, base, size)
        for layer in range(1, 11):
            cmds = []
            for _ in range(rng.randrange(1, 50)):
                at = rng.randrange(len(flat) // grain) * grain
                n = min(rng.choice([1, 1, 2, 7, 40]) * grain, len(flat) - at)
                what = rng.choice(["write", "write", "zero", "discard", "read", "read"])
                ops += 1
                if what == "read":
                    # as far as it is one pattern
                    end = at + 1
                    while end < at + n and flat[end] == flat[at]:
                        end += 1
                    cmds.append(f"read -P {flat[at]} {at} {end - at}")
                elif what == "write":
                    value = 1 + rng.randrange(255)
                    flat[at:at + n] = bytes([value]) * n
                    cmds.append(f"write -P {value} {at} {n}")
                else:
                    # a discard of less than a cluster does nothing
                    cmds.append(f"write -z{'u' if what == 'discard' else ''} {at} {n}")
                    flat[at:at + n] = bytes(n)
            out = good("qemu-io", "-t", "unsafe", "-f", "qcow2",
                       *(x for c in cmds for x in ("-c", c)), folder / str(layer - 1))
            assert "failed" not in out, out
            # a new one on top, now and then longer or shorter than the one below
            new = max(grain, len(flat) + rng.choice([0, 0, 0, -3, 5]) * grain)
            good("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-F", "qcow2", "-b",
                 folder / str(layer - 1), folder / str(layer), new)
            flat = flat[:new] + bytes(max(0, new - len(flat)))
            if layer % 5 == 0:
                (folder / "flat").write_bytes(flat)
                assert "identical" in good("qemu-img", "compare", "-f", "qcow2", "-F", "raw",
                                           folder / str(layer), folder / "flat")
                good("qemu-img", "check", "-q", folder / str(layer - 1))
    assert ops > 1000, ops


def instructions_of_opening(path):
    r = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                        BIN / "qemu-io", "-r", "-f", "qcow2", "-c", "length", path],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert r.returncode == 0, r.stdout[-2000:]
    return int(re.search(r"Collected : (\d+)", r.stdout)[1])


def test_opening_does_little_for_each_pair_of_files(tmp_path):
    """What opening costs has a part in proportion to the files, and one to their square:
    permissions are looked through for all files below. Refreshing all names, or draining all nodes,
    would make it more than 9,500 instructions for each pair; it is 5,500."""
    paths = images.write_chain(tmp_path, 1 << 20, [{}] * 201)
    one, two = (instructions_of_opening(paths[n]) for n in (100, 200))
    assert (two - 2 * one) / (2 * 100 ** 2) < 7500, (one, two)
