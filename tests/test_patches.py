# SPDX-License-Identifier: GPL-2.0-only
"""The patch series, and that the ABI header inside it is the one in include/."""

import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("series", ["testbed/bochs-patches", "xen-patches", "criu-plugin/patches"])
def test_series_applies_exports_unchanged_and_builds(series):
    r = subprocess.run(
        [TOP / "scripts" / "patches", "check", series],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    print(r.stdout)
    assert r.returncode == 0, r.stdout[-2000:]
    assert "without fuzz, import and export change nothing" in r.stdout
    assert "prefixes build" in r.stdout


def added_file(series, path):
    """The content of a file that the series adds, as its last patch leaves it."""
    lines, inside = [], False
    for patch in sorted((TOP / series).glob("*.patch")):
        for line in patch.read_text().splitlines():
            if line.startswith("diff --git "):
                inside = line.endswith(" b/" + path)
            elif inside and line.startswith("+") and not line.startswith("+++"):
                lines.append(line[1:])
            elif inside and line.startswith("-- "):
                inside = False
    return "\n".join(lines) + "\n"


def test_public_header_is_the_one_in_include():
    ours = (TOP / "include" / "xen" / "spml.h").read_text()
    assert added_file("xen-patches", "xen/include/public/hvm/spml.h") == ours
