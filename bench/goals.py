# SPDX-License-Identifier: GPL-2.0-only
"""Goals of the headline and of rounds' ends: met or not, and where the cycles are if not."""

from __future__ import annotations

import statistics
from typing import Callable, Iterable

from bench.page import Page, number
from bench.series import MILLION, Measured, Series, per_page

# an array of 100 MiB and more hides what a round costs at least
LARGE = (100, 1024)

Pairs = Iterable[tuple["float | None", "float | None"]]
Why = Callable[[], "list[str]"]


def goals(m: Measured, page: Page) -> None:
    if m.run.mode != "emulated":
        return
    median = {(s.key.mib, s.backend): s.slowdown().median for s in m.of("headline")}
    rows: list[list[str]] = []
    whys: list[str] = []

    def goal(text: str, pairs: Pairs, below: bool = False, why: Why = list) -> None:
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not known or len(known) < len(list(pairs)):
            row = [text, "not measured", "a size or a tracker is missing"]
        else:
            met = all(a < b if below else a <= b for a, b in known)
            row = [text, "met" if met else "MISSED",
                   "; ".join(f"{a:+.2f} against {b:+.2f}" for a, b in known)]
            if not met:
                whys.extend(w for w in why() if w not in whys)
        rows.append(row)
        page.fact("goals", "", "", text, "", row[1], m.lines[0]["substrate"])

    def slower(backend: str, sizes: Iterable[int]) -> Why:
        return lambda: [why_slower(m, s) for s in m.of("headline", "mib")
                        if s.backend == backend and s.key.mib in sizes]

    def longer(mib: int) -> Why:
        return lambda: [why_longer(m, s) for s in m.of("share", "permille", mib=mib)
                        if s.key.permille <= 100 and s.backend == "epml"]

    for other in ("soft-dirty", "pagemap-scan"):
        goal(f"spml at or below {other} from 100 MiB on, %",
             [(median.get((mib, "spml")), median.get((mib, other))) for mib in LARGE],
             why=slower("spml", LARGE))
    goal("epml at most 1 % from 100 MiB on", [(median.get((mib, "epml")), 1.0) for mib in LARGE],
         why=slower("epml", [mib for mib in LARGE if median.get((mib, "epml"), 0) > 1]))
    goal("epml at most 2 % at 1 MiB", [(median.get((1, "epml")), 2.0)], why=slower("epml", [1]))

    # mprotect's is not a collector's time
    collect = {(s.key.mib, s.key.permille, s.backend):
               s.of(lambda r: float(r["collect"] + r["helpers"])).median / MILLION
               for s in m.of("share") if s.backend != "mprotect"}
    if not collect:
        goal("epml's end of a round below every other's up to 10 % dirty", [])
    for mib in sorted({k[0] for k in collect}):
        for other in ("spml", "pagemap-scan", "soft-dirty", "uffd-wp"):
            # that one is not measured where it takes minutes
            shares = [permille for permille in (1, 10, 100)
                      if other != "uffd-wp" or (mib, permille, other) in collect] or [1]
            goal(f"epml's end of a round below {other}'s at "
                 f"{', '.join(f'{permille / 10:g}' for permille in shares)} % dirty, {mib} MiB, "
                 "M cycles",
                 [(collect.get((mib, permille, "epml")), collect.get((mib, permille, other)))
                  for permille in shares], below=True, why=longer(mib))
    page.title("Goals")
    page.table(["goal", "", "this against that"], rows, "Medians of the tables.")
    page.text(*whys)


def causes(m: Measured, counts: Callable[[str], "float | None"]) -> tuple[float, str]:
    """Million cycles of costly events; counts(name): how many of them, or None. With the
    costliest in words."""
    costs = m.run.costs()
    costs["exits"] = costs.pop("vmexit", 0)
    counted = {n: (counts(n), c) for n, c in costs.items()}
    found = [(count * c / MILLION, n, count)
             for n, (count, c) in counted.items() if count is not None]
    worst = sorted(found, key=lambda f: -f[0])[:5]
    words = ", ".join(f"{n.replace('_', ' ')} {number(cycles)} ({number(round(count), 6)} of them)"
                      for cycles, n, count in worst if cycles > 0)
    return sum(cycles for cycles, _, _ in found), words


def why_slower(m: Measured, s: Series) -> str:
    """Why the tracked program takes longer: events, less those of the round's end, as they are
    where the program waits for it."""
    inside = next((t for t in m.of("share", mib=s.key.mib, permille=1000)
                   if t.backend == s.backend), None)

    def count(name: str) -> float | None:
        if name not in s.rounds[0]:
            return None
        rounds = inside.rounds if inside else []
        own = statistics.median([r.get("own_" + name, 0) for r in rounds] or [0])
        return s.more(name).median - float(own)

    events, words = causes(m, count)
    slow = s.slowdown().median
    cycles = (slow / 100 * statistics.median(map(per_page, s.bare)) *
              statistics.median(r["work"] for r in s.rounds) / MILLION)
    emptied = (": the log is emptied in interrupts of the tracked program"
               if s.backend == "epml" else "")
    return (f"Why {s.backend} costs {slow:.2f} % at {s.key.mib} MiB: {number(cycles)} M cycles a "
            f"round, of which events {number(events)}: {words}. The rest is instructions{emptied}.")


def why_longer(m: Measured, s: Series) -> str:
    """Where the cycles of a round's end are."""
    def count(name: str) -> float | None:
        if "own_" + name not in s.rounds[0]:
            return None
        return float(statistics.median(r["own_" + name] for r in s.rounds))

    events, words = causes(m, count)
    return (f"Where {s.backend}'s end of a round is at {s.key.mib} MiB, "
            f"{s.key.permille / 10:g} %: {number(s.collect().median)} M cycles, of which "
            f"events {number(events)}{': ' + words if words else ''}. The rest is instructions.")
