# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the bench share: a run, and what came of it."""

import csv
import subprocess

from conftest import TOP, bench_lines

RUN = TOP / "bench" / "run"


def run(*argv, timeout=600):
    return subprocess.run([RUN, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=timeout)


def rows(folder):
    with open(folder / "report.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def lines(folder, part):
    return [d for d in bench_lines((folder / "raw.txt").read_text(encoding="utf-8")) if d["part"] == part]
