# SPDX-License-Identifier: GPL-2.0-only
"""The headline's array at 100 MiB again, with other costs of the emulator's events."""

from __future__ import annotations

import collections
import functools

from bench import figures
from bench.page import Page
from bench.series import LOGS, Measured, rank, trackers

# (event, percent of its cost) -> tracker -> slow-down
Runs = dict[tuple[str, int], dict[str, float]]


def runs_of(m: Measured, page: Page) -> Runs:
    runs: Runs = collections.defaultdict(dict)
    for s in m.of("costs"):
        slow = s.slowdown()
        page.record("costs", s, "slow-down", "%", slow)
        assert isinstance(s.key.costs, int)
        runs[s.key.event, s.key.costs][s.backend] = slow.median
    return dict(runs)


def sensitivity(m: Measured, page: Page) -> None:
    found = m.of("costs")
    if not found:
        return
    page.title("If the costs were others")
    page.text(f"""The array of 100 MiB again, with rounds each
        {found[0].key.milliseconds / 1000:g} s, so that a round costs more of the time than above:
        with all costs of the table halved, doubled and left out, then with each one halved and
        doubled alone.""")
    runs, backends, substrate = runs_of(m, page), trackers(found), m.substrate("costs")
    usual = runs.get(("all", 100), {})
    heads = [f"{b}, slow-down, %" for b in backends]

    def row(event: str, percent: int) -> list[str]:
        of = runs[event, percent]
        return [event.replace("_", " "), f"{percent} %",
                *(f"{of[b]:+.2f}" if b in of else "-" for b in backends)]

    together = sorted((k for k in runs if k[0] == "all"), key=lambda k: k[1])
    page.table(["events", "of their costs", *heads], [row(*k) for k in together],
               f"Substrate: {substrate}.")

    def swing(event: str) -> float:
        """What it changes of any tracker's figure, as a share of that."""
        return max((abs(of[b] / usual[b] - 1) for percent in (50, 200)
                    for of in [runs.get((event, percent), {})] for b in of if usual.get(b)),
                   default=0)

    single = sorted({k[0] for k in runs if k[0] != "all"}, key=lambda e: (-swing(e), e))
    if single and usual:
        as_they_are = ", ".join(f"{b} {usual[b]:+.2f}" for b in sorted(usual, key=rank))
        page.table(["event", "of its cost", *heads],
                   [row(e, percent) for e in single for percent in (50, 200)
                    if (e, percent) in runs],
                   f"Those first that change most. As the table has them: {as_they_are}. "
                   f"Substrate: {substrate}.")
        page.figure(functools.partial(figures.swings, runs=runs, usual=usual,
                                      events=[e for e in single if swing(e) >= 0.1][:12]),
                    "What halving (pale) and doubling one cost changes of a slow-down; the events "
                    "that change a tenth of any. Runs with the same costs differ by nearly as "
                    "much.", substrate)
    ranking(runs, backends, page)


def ranking(runs: Runs, backends: list[str], page: Page) -> None:
    """What of it depends on the table."""
    logs, others = ([b for b in backends if (b in LOGS) == are] for are in (True, False))
    whole = [k for k in runs if k[1] and all(b in runs[k] for b in backends)]
    if not (logs and others and whole):
        return
    above = sorted(k for k in whole
                   if max(runs[k][b] for b in logs) > min(runs[k][b] for b in others))
    least = {b: sum(runs[k][b] == min(runs[k].values()) for k in whole) for b in backends}
    but = ": not with " + ", ".join(f"{percent} % of {e}" for e, percent in above) if above else ""
    page.text(f"""What of the ranking depends on the table: {' and '.join(logs)} cost less than
        {' and '.join(others)} in {len(whole) - len(above)} of {len(whole)} runs{but}. The least of
        all costs {', '.join(f'{b} in {n}' for b, n in least.items() if n)}.""")
