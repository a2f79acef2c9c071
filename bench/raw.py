# SPDX-License-Identifier: GPL-2.0-only
"""raw.txt, from which the report is made: the lines of the measuring programs ("bench PROGRAM
KEY VALUE..."), and what bench/run says around them ("# KIND TEXT")."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterator

from testbed import tables

# A line: "bench" is the program, and each key has its value, a number or a word.
Line = dict[str, Any]

SUBSTRATES = {
    "emulated": "emulated clock",
    "native": "this machine, natively",
    "xen": "this machine, a guest of Xen",
}
# where there is more to say of it, once
SUBSTRATES_AT_LENGTH = {
    "emulated": "emulated clock (Bochs, one cycle per instruction, costly events by the table "
                "below; a second is 2.5 × 10⁹ cycles)",
}
# the parts that are programs under bench/follow; all others are bench/array's
PROGRAMS = ("redis", "tkrzw", "gcbench")
# what a line has to have: any; those of bench/array; those of bench/follow
NEEDED = ("ticks", "second", "own", "helpers", "cpus", "milliseconds", "collect", "reported")
NEEDED_OF_ARRAY = ("mib", "permille", "processes", "work", "write", "missed", "extra")
NEEDED_OF_PROGRAMS = ("run", "rounds", "all_dirty")


class Bad(Exception):
    """The raw file is not what bench/run writes."""


@dataclass
class Run:
    """What was said about the run."""

    mode: str = ""
    about: list[str] = field(default_factory=list)  # where and when it was
    missing: list[str] = field(default_factory=list)  # what the machine lacks
    failed: list[str] = field(default_factory=list)
    table: list[str] = field(default_factory=list)  # testbed/costs

    def costs(self) -> dict[str, int]:
        return tables.costs("\n".join(self.table))

    @property
    def emulated(self) -> bool:
        return self.mode.startswith("emulated")


def pairs(text: str) -> Line:
    """One line; ValueError if it is none."""
    words = text.split()
    if len(words) < 4 or len(words) % 2 or words[0] != "bench":
        raise ValueError("not a line of the bench")
    values = (int(v) if re.fullmatch("[0-9]+", v) else v for v in words[3::2])
    return {"bench": words[1], **dict(zip(words[2::2], values))}


def lines(text: str) -> Iterator[Line]:
    """The lines among whatever else a program printed."""
    return (pairs(line) for line in text.splitlines() if line.startswith("bench "))


def measurement(text: str) -> Line:
    """One line that has all that the report is made from; ValueError says what is wrong."""
    d = pairs(text)
    for k in ("part", "backend", "substrate"):
        if k not in d:
            raise ValueError(f"no {k}")
    if d["substrate"] not in SUBSTRATES:
        raise ValueError(f"{d['substrate']} is no substrate")
    for k in NEEDED + (NEEDED_OF_PROGRAMS if d["part"] in PROGRAMS else NEEDED_OF_ARRAY):
        if not isinstance(d.get(k), int):
            raise ValueError(f"no number {k}")
    if not (d["ticks"] and d["second"] and d["cpus"]):
        raise ValueError("nothing took any time")
    return d


def parse(text: str) -> tuple[list[Line], Run]:
    """All of raw.txt, in order."""
    found, run, mode = [], Run(), None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.startswith("# "):
                kind, _, rest = line[2:].partition(" ")
                if kind == "mode":
                    mode = rest
                elif kind in ("about", "missing", "failed", "table"):
                    getattr(run, kind).append(rest)
                    if kind == "table":
                        tables.costs(rest)
            elif line.split():
                found.append(measurement(line))
        except ValueError as e:
            raise Bad(f"line {number}: {e}") from None
    if not found:
        raise Bad("no measurements")
    if mode is None:
        raise Bad("no line '# mode'")
    run.mode = mode
    return found, run
