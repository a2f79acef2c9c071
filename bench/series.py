# SPDX-License-Identifier: GPL-2.0-only
"""Rounds of a tracker, with the rounds without one beside them, and what is computed of them."""

from __future__ import annotations

import collections
import statistics
from typing import Callable, Iterable, NamedTuple

from bench.raw import PROGRAMS, SUBSTRATES, SUBSTRATES_AT_LENGTH, Line, Run

# of the trackers, in tables and figures
ORDER = ["epml", "spml", "pagemap-scan", "soft-dirty", "uffd-wp", "mprotect"]
LOGS = ORDER[:2]
MILLION = 1e6


class Spread(NamedTuple):
    """Of a figure over several rounds or runs."""

    min: float
    median: float
    max: float
    runs: int

    def three(self) -> tuple[float, float, float]:
        return self.min, self.median, self.max


def spread(values: list[float]) -> Spread:
    return Spread(min(values), statistics.median(values), max(values), len(values))


class Key(NamedTuple):
    """What a series is of: all of this is the same in its rounds."""

    part: str
    bench: str
    run: int
    mib: int
    permille: int
    processes: int
    milliseconds: int
    cpus: int
    guests: int
    costs: int | str | None
    event: str


def key_of(d: Line) -> Key:
    return Key(d["part"], d["bench"], d.get("run", 0), d.get("mib", 0), d.get("permille", 0),
               d.get("processes", 1), d.get("milliseconds", 0), d["cpus"], d.get("guests", 1),
               d.get("costs"), d.get("event", "all"))


def per_page(r: Line) -> float:
    """Cycles of the tracked program, the collector's taken off where it shares the processor."""
    shared = r["cpus"] == 1
    return float((r["ticks"] - shared * r["own"]) / max(r["work"], 1))


def total_per_page(r: Line) -> float:
    """With the collector's time, without that of the bench's own checks."""
    shared = r["cpus"] == 1
    return float((r["ticks"] - shared * (r["own"] - r["collect"])) / max(r["work"], 1))


def value_of(field: str, unit: float = 1) -> Callable[[Line], float]:
    return lambda r: float(r[field] / unit)


class Series:
    """Rounds of one tracker, and the rounds without one beside them."""

    def __init__(self, key: Key, backend: str) -> None:
        self.key, self.backend = key, backend
        self.rounds: list[Line] = []
        self.bare: list[Line] = []

    def of(self, f: Callable[[Line], float]) -> Spread:
        return spread([f(r) for r in self.rounds])

    def more(self, event: str) -> Spread:
        """Of an event in a round than in as long a time without a tracker."""
        usual: float = sum(r[event] for r in self.bare) / sum(r["ticks"] for r in self.bare)
        return spread([r[event] - usual * r["ticks"] for r in self.rounds])

    def collect(self) -> Spread:
        """The end of a round, in million cycles."""
        return self.of(value_of("collect", MILLION))

    def slowdown(self) -> Spread:
        """Of the tracked program, in percent."""
        bare = statistics.median(map(per_page, self.bare))
        return spread([100 * (per_page(r) / bare - 1) for r in self.rounds])


class Program:
    """Runs of a program under one tracker, each beside runs without one."""

    def __init__(self, runs: list[Series]) -> None:
        self.runs, self.first = runs, runs[0]
        self.name, self.backend = runs[0].key.bench, runs[0].backend

        def longer(time: Callable[[Line], int]) -> Spread:
            return spread([100 * (time(s.rounds[0]) / statistics.mean(map(time, s.bare)) - 1)
                           for s in runs])

        self.longer = longer(lambda r: int(r["ticks"]))
        self.tracked = longer(lambda r: int(r["ticks"] - r["own"]))
        bare = [b["ticks"] for s in runs for b in s.bare]
        self.noise = 100 * (max(bare) / min(bare) - 1)

    def mean(self, field: str) -> float:
        return float(statistics.mean(s.rounds[0].get(field, 0) for s in self.runs))

    def most(self, field: str) -> int:
        return int(max(s.rounds[0].get(field, 0) for s in self.runs))

    def per_round(self, field: str) -> float:
        rounds = sum(s.rounds[0]["rounds"] for s in self.runs)
        return float(sum(s.rounds[0][field] for s in self.runs) / max(rounds, 1))


def rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def trackers(found: Iterable[Series | Program]) -> list[str]:
    return sorted({s.backend for s in found}, key=rank)


def series(lines: Iterable[Line]) -> list[Series]:
    """Consecutive rounds of a tracker are one; without one, the nearest before and after it."""
    groups: dict[Key, list[Line]] = {}
    for d in lines:
        groups.setdefault(key_of(d), []).append(d)
    out = []
    for key, ds in groups.items():
        phases: list[Series] = []
        for d in ds:
            if not phases or phases[-1].backend != d["backend"]:
                phases.append(Series(key, d["backend"]))
            phases[-1].rounds.append(d)
        for i, p in enumerate(phases):
            bare = [q for q in phases[i + 1:] if q.backend == "none"][:1]
            bare += [q for q in phases[:i] if q.backend == "none"][-1:]
            p.bare = [r for q in bare for r in q.rounds]
        out += phases
    return out


class Measured:
    """All of a run of the bench."""

    def __init__(self, lines: list[Line], run: Run) -> None:
        self.lines, self.run = lines, run
        found = series(lines)
        self.series = [s for s in found if s.bare or s.backend == "none"]
        # nothing can be said of these
        self.alone = [s for s in found if not s.bare and s.backend != "none"]

    def of(self, part: str, *by: str, **want: object) -> list[Series]:
        """The series of a part with a tracker, by these fields of their keys."""
        found = [s for s in self.series if s.key.part == part and s.backend != "none" and
                 all(getattr(s.key, k) == v for k, v in want.items())]
        return ordered(found, *by) if by else found

    def noise(self, s: Series, event: str) -> float:
        """By how many of them all rounds without a tracker differ, in as long a time as of `s`."""
        rates = [float(r[event] / r["ticks"]) for t in self.series
                 if t.backend == "none" and t.key == s.key for r in t.rounds]
        ticks = statistics.mean(float(r["ticks"]) for r in s.rounds)
        return (max(rates) - min(rates)) * ticks if rates else 0

    def programs(self) -> list[Program]:
        runs = collections.defaultdict(list)
        for s in self.series:
            if s.key.part in PROGRAMS and s.backend != "none":
                runs[s.key.bench, s.backend].append(s)
        return [Program(runs[k]) for k in sorted(runs, key=lambda k: (k[0], rank(k[1])))]

    def substrates(self) -> list[str]:
        """All that there are, at length."""
        names = dict.fromkeys(d["substrate"] for d in self.lines)
        return [SUBSTRATES_AT_LENGTH.get(name, SUBSTRATES[name]) for name in names]

    def substrate(self, part: str) -> str:
        found = (d["substrate"] for d in self.lines if d["part"] == part)
        return SUBSTRATES.get(next(found, ""), "?")


def ordered(found: Iterable[Series], *by: str) -> list[Series]:
    return sorted(found, key=lambda s: (*(getattr(s.key, k) for k in by), rank(s.backend)))
