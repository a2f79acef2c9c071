# SPDX-License-Identifier: GPL-2.0-only
"""The tables of this folder: configs (the machines) and costs (cycles by event)."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

HERE = Path(__file__).resolve().parent
COSTS = HERE / "costs"


def configs() -> dict[str, dict[str, str]]:
    """Each configuration's settings, with those of `default` that it does not change."""
    table = {}
    for line in (HERE / "configs").read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words:
            table[words[0]] = dict(w.split("=", 1) for w in words[1:])
    return {name: {**table["default"], **values} for name, values in table.items()}


def costs(text: str | None = None) -> dict[str, int]:
    """Cycles by event: of COSTS, or of another such table. ValueError: what is wrong with it."""
    found = {}
    for line in (COSTS.read_text() if text is None else text).splitlines():
        words = line.split("#")[0].split()
        if words:
            if len(words) != 2 or not re.fullmatch("[0-9]+", words[1]):
                raise ValueError(f"not NAME CYCLES: {line}")
            found[words[0]] = int(words[1])
    return found
