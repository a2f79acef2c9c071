# SPDX-License-Identifier: GPL-2.0-only
"""The patch series, and that the ABI header inside it is the one in include/."""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("series", ["testbed/bochs-patches", "xen-patches", "criu-plugin/patches",
                                    "boehm-backend/patches", "qemu-patches/disk"])
def test_series_applies_exports_unchanged_and_builds(series):
    """make check-patches builds each prefix, and Xen with all the options; make check builds Xen
    without what the series adds, and without HVM."""
    long = bool(os.environ.get("OOH_LONG"))
    r = subprocess.run(
        [TOP / "scripts" / "patches", "check", series],
        env={**os.environ, **({} if long else {"PATCHES_END": "1"})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    print(r.stdout)
    assert r.returncode == 0, r.stdout[-2000:]
    assert "without fuzz, import and export change nothing" in r.stdout
    assert ("prefixes build" in r.stdout) == long
    if series == "xen-patches":
        # debug, Flask, without SPML, without HVM
        assert r.stdout.count("builds ") == (4 if long else 2)
    if series == "qemu-patches/disk":
        assert ("builds the system emulator, with the series for the device" in r.stdout) == long


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage",
                         ["bochs", "xen", "xen debug", "tools", "criu", "libgc", "qemu", "sqemu"])
def test_the_end_of_a_series_builds(stage):
    """What the machines are made of, so that it is built before any test of them."""
    r = subprocess.run([TOP / "testbed" / "build", *stage.split()], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    assert r.returncode == 0, r.stdout[-2000:]


@pytest.mark.parametrize("series, theirs, ours", [
    ("xen-patches", "xen/include/public/hvm/spml.h", "include/xen/spml.h"),
    ("qemu-patches", "include/hw/misc/ooh-pml.h", "include/qemu/ooh-pml.h"),
])
def test_public_header_is_the_one_in_include(tmp_path, series, theirs, ours):
    tree = tmp_path / "tree"
    subprocess.run([TOP / "scripts" / "patches", "import", series, tree], check=True,
                   stdout=subprocess.DEVNULL)
    assert (tree / theirs).read_text() == (TOP / ours).read_text()
