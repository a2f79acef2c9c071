# SPDX-License-Identifier: GPL-2.0-only
"""A quick run of the bench in the emulated guest."""

import subprocess

import pytest

from benchlib import lines, rows, run
from conftest import TOP


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("quick")
    try:
        yield out, run("--quick", "--lanes", "1", "--out", out, timeout=1500)
    finally:
        subprocess.run([TOP / "testbed" / "vm", "down", "--config", "charged"])


@pytest.mark.timeout(1800)
def test_quick(quick):
    out, r = quick
    assert r.returncode == 0, r.stderr
    parts = {x["section"] for x in rows(out)}
    assert {"headline", "events", "phases", "share", "program", "guests", "costs", "paper"} <= parts


def test_quick_misses_nothing(quick):
    out, _ = quick
    seen = [d for part in ("headline", "share") for d in lines(out, part)]
    assert {d["backend"] for d in seen} == {"none", "epml", "spml", "pagemap-scan", "soft-dirty",
                                            "uffd-wp", "mprotect"}
    for d in seen:
        assert d["missed"] == 0, d
        # here a round is exactly what was written
        if d["part"] == "share" and d["backend"] != "none":
            assert d["extra"] == 0 and d["reported"] == d["work"], d


def test_quick_is_on_the_costed_clock(quick):
    out, _ = quick
    for d in lines(out, "headline"):
        assert d["costs"] == 100
        assert d["charged"] > 0
