# SPDX-License-Identifier: GPL-2.0-only
"""The figures of arXiv 2202.13483, and ours beside them."""

from __future__ import annotations

import statistics
from typing import Callable

from bench.page import Page, number
from bench.raw import Line
from bench.series import Measured, Series, total_per_page

# slow-down of its array writer, as a factor, by MB
SLOWDOWN: dict[str, dict[int, float]] = {
    "epml": {1: 1.21, 100: 1.025, 1024: 1.011}, "soft-dirty": {1: 2.04, 100: 3.08, 1024: 4.35},
    "uffd-wp": {1: 2.95, 100: 11.5, 1024: 15.6}, "spml": {1: 5.77, 100: 8.65, 1024: 66.5}}
# ms in a round, by MB; and our tracker and field of that
PHASES: tuple[tuple[str, dict[int, float], str, str], ...] = (
    ("SPML: log to user (drain)", {1: .003, 100: .048, 1024: .671}, "spml", "drain"),
    ("SPML: frames to pages (map)", {1: 6.18, 100: 255, 1024: 15738}, "spml", "map"),
    ("/proc: clear and walk", {1: .032 + 1.912, 100: .288 + 82.3, 1024: 2.234 + 594},
     "soft-dirty", "collect"))
SIZES = (1, 100, 1024)


def ms(field: str) -> Callable[[Line], float]:
    return lambda r: float(1000 * r[field] / r["second"])


def factor(s: Series) -> Callable[[Line], float]:
    bare = statistics.median(map(total_per_page, s.bare))
    return lambda r: total_per_page(r) / bare


def paper(m: Measured, page: Page) -> None:
    found = {(s.key.mib, s.backend): s for s in m.of("headline")}
    waiting = {(s.key.mib, s.backend): s for s in m.of("phases")}
    sizes = [mib for mib in SIZES if any(k[0] == mib for k in found)]
    if not sizes:
        return
    slowdown = []
    for backend, theirs in SLOWDOWN.items():
        for mib in sizes:
            s = found.get((mib, backend))
            if s:
                ours = s.of(factor(s))
                slowdown.append([backend, f"{mib} MiB", number(theirs[mib], 4),
                                 number(ours.median, 4)])
                page.fact("paper", backend, mib, "slow-down, theirs", "factor", theirs[mib],
                          "paper")
                page.record("paper", s, "slow-down, ours", "factor", ours)
    phases = []
    for name, theirs, backend, field in PHASES:
        for mib in sizes:
            s = waiting.get((mib, backend))
            if s:
                ours = s.of(ms(field))
                phases.append([name, f"{mib} MiB", number(theirs[mib]), number(ours.median)])
                page.fact("paper", backend, mib, f"{name}, theirs", "ms", theirs[mib], "paper")
                page.record("paper", s, f"{name}, ours", "ms", ours)

    page.title("The paper's tables, theirs and ours")
    page.text("""Theirs: arXiv 2202.13483, i7-8565U, Xen 4.10; EPML there is computed by a formula.
        Slow-down as a factor, with the collector's time in it, as it shares the processor.""")
    page.table(["tracker", "array", "theirs, factor", "ours, factor"], slowdown,
               f"Ours: substrate {m.substrate('headline')}.")
    page.table(["phase", "array", "theirs, ms", "ours, ms"], phases,
               f"Ours: {'ms of a CPU with 2.5 GHz, ' if m.run.emulated else ''}substrate "
               f"{m.substrate('phases')}.")
    page.text("""Why they differ. SPML's slow-down there is the reverse mapping, one read of
        /proc/PID/pagemap a page and a linear search a record; here a reverse map is kept, and the
        CPU's log tells which page tables changed. A round there also sets tracking up and down
        again (5.5 ms), as nothing is armed again otherwise. Soft-dirty and userfaultfd cost the
        same faults in both; the writer here writes all words of a page, not one, so a fault is a
        smaller part of its work. EPML's figures there come from a formula, not from a run; here it
        is executed, with its interrupts.""")
