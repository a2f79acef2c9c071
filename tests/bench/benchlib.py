# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the bench share: a run, and what came of it."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

from bench import raw
from conftest import TOP

RUN = TOP / "bench" / "run"


def run(*argv: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          timeout=timeout)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "report.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def lines(folder: Path, part: str) -> list[raw.Line]:
    text = (folder / "raw.txt").read_text(encoding="utf-8")
    return [d for d in raw.lines(text) if d["part"] == part]
