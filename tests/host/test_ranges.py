# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic of the library, as C programs linked with its sources."""

import subprocess

from hostlib import HERE, TOP, compile_c


def run(program):
    r = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_ranges_and_runs(tmp_path):
    src = TOP / "libooh" / "src"
    san = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run(compile_c(tmp_path / "u", HERE / "unit_ranges.c", src / "ranges.c", src / "runs.c",
                  src / "mem.c", flags=san))
