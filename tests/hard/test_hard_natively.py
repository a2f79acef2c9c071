# SPDX-License-Identifier: GPL-2.0-only
"""The generator of hard processes (tests/hard) on this machine: what it promises of
itself, and the native trackers. In the guest: test_hard.py."""

import subprocess

import pytest
from hard.printed import Printed
from host.hostlib import TOP, USE_LIB, compile_c, need, verify


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    return compile_c(tmp_path_factory.mktemp("hard") / "hard",
                     *sorted((TOP / "tests/hard").glob("*.c")))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    return compile_c(tmp_path_factory.mktemp("mirror") / "mirror", TOP / "tests/guest/mirror.c",
                     flags=USE_LIB)


@pytest.fixture(scope="module")
def changers(tmp_path_factory):
    return compile_c(tmp_path_factory.mktemp("changers") / "changers",
                     TOP / "tests/host/changers.c")


def run(hard, *args):
    r = subprocess.run([hard, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    return Printed(r.stdout)


def test_a_seed_gives_one_sequence(hard):
    a, b, other = (run(hard, "-n", 20000, "-s", seed) for seed in (7, 7, 8))
    tried = [{name: n["tried"] for name, n in p.kinds.items()} for p in (a, b, other)]
    digest = [p.digest for p in (a, b, other)]
    assert tried[0] == tried[1] != tried[2]
    assert digest[0] == digest[1] != digest[2]
    assert sum(tried[0].values()) == 20000


def test_each_operation_is_counted_once(hard):
    for name, n in run(hard, "-n", 50000).kinds.items():
        assert n["tried"] == n["done"] + n["vain"] + n["refused"], name


def test_the_machine_is_left_alone(hard):
    """What would concern all of this machine is refused, and told."""
    printed = run(hard, "-n", 100000)
    for name in ("compact", "migrate", "squeeze"):
        n = printed.kinds[name]
        assert n["tried"] == n["refused"] > 0
        assert printed.errors[name] == "Operation not permitted"


def test_a_kind_can_be_left_out(hard):
    n = run(hard, "-n", 5000, "--without", "store", "--without", "fork").kinds
    assert n["store"]["tried"] == n["fork"]["tried"] == 0 < n["hot"]["tried"]
    r = subprocess.run([hard, "--without", "nonsense"], capture_output=True, text=True)
    assert r.returncode != 0 and "nonsense" in r.stderr


def test_it_ends_in_time(hard):
    n = run(hard, "-n", 10**9, "-t", 1).kinds
    assert 0 < sum(k["tried"] for k in n.values()) < 10**9


@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp", "soft-dirty"])
def test_nothing_missed(hard, backend):
    """But for pinned pages (test_hard.py)."""
    need(backend)
    doc = verify("-b", backend, "-n", 100000, "-i", 20, "--", hard, "-n", 200000, "--linger", 100,
                 "-o", "/dev/null",
                 "--without", "io-uring-fixed", timeout=300)
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    assert len(doc["rounds"]) > 10


@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp"])
def test_lives(hard, backend, tmp_path):
    """An exec at the same addresses, with the old memory still in use, is another address space."""
    need(backend)
    doc = verify("-b", backend, "-n", 100000, "-i", 20, "--", hard, "-n", 60000, "--lives", 3,
                 "--linger", 100, "-o", tmp_path / "stats",
                 "--without", "io-uring-fixed", timeout=300)
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    # of each exec a round; the first, for the addresses, may be before the tracker
    assert doc["total"]["all_dirty"] in (2, 3)
    text = (tmp_path / "stats").read_text()
    assert " lives 3 ops 60000 " in text
    assert sum(n["tried"] for n in Printed(text).kinds.values()) == 60000


# They pin our pages and write them later: docs/soundness.md
PINNED = ["io-uring-fixed", "o-direct", "splice", "splice-file", "vmsplice", "vmsplice-in",
          "remote-read", "vm-writev"]


@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp"])
def test_a_mirror(hard, mirror, backend):
    """The oracle that stops nobody (tests/guest/mirror.c), so that other processes may write
    our memory at any time."""
    need(backend)
    without = [word for kind in PINNED for word in ("--without", kind)]
    r = subprocess.run([mirror, "-q", "-b", backend, "-t", "4", "--", hard, "-n", "1000000000",
                        "-t", "3",
                        "--linger", "60000", "-o", "/dev/null", "--with", "sibling", *without],
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("way", ["fork", "shared", "spawn", "library"])
@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp"])
def test_a_mirror_of_a_changer(mirror, changers, backend, way):
    need(backend)
    r = subprocess.run([mirror, "-b", backend, "-t", "1", "--", changers, way], capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
