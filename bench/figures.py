# SPDX-License-Identifier: GPL-2.0-only
"""The plots. Each function draws on matplotlib's pyplot and returns the figure."""

from __future__ import annotations

from typing import Callable, Iterable, Mapping

from bench.page import Plot
from bench.series import ORDER, Program, Series, Spread, rank, trackers

COLOURS = dict(zip(ORDER, ("#0b6e4f", "#2f6fb3", "#c2571a", "#8e44ad", "#7a5c3e", "#777777")))
MARKS = dict(zip(ORDER, "osD^vx"))
WIDTH = 10.5
ROUND_END = "end of a round, million cycles"


def legend(ax: Plot) -> None:
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def lines(ax: Plot, found: Iterable[Series], x: Callable[[Series], float],
          y: Callable[[Series], Spread]) -> None:
    """A line for each tracker; bars from the least to the largest round."""
    found = list(found)
    for backend in trackers(found):
        points = sorted((x(s), y(s)) for s in found if s.backend == backend)
        error = [[p.median - p.min for _, p in points], [p.max - p.median for _, p in points]]
        ax.errorbar([at for at, _ in points], [p.median for _, p in points], error, label=backend,
                    color=COLOURS.get(backend), marker=MARKS.get(backend, "."), capsize=3,
                    linewidth=1.4)
    ax.grid(True, alpha=0.25)


def ticks(ax: Plot, values: Iterable[float], log: bool = True) -> None:
    values = sorted(set(values))
    if log:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.minorticks_off()


def symlog(ax: Plot, found: Iterable[Series]) -> None:
    """Of slow-downs: what is near nothing is not spread out."""
    ax.set_yscale("symlog", linthresh=1)
    slow = [s.slowdown() for s in found]
    ax.set_ylim(min(-0.5, 1.5 * min(x.min for x in slow)), 2 * max(x.max for x in slow))


def sizes(plt: Plot, found: list[Series]) -> Plot:
    """Slow-down by size of the array."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.4))
    lines(ax, found, lambda s: s.key.mib, Series.slowdown)
    ticks(ax, (s.key.mib for s in found))
    symlog(ax, found)
    ax.set_xlabel("array, MiB")
    ax.set_ylabel("slow-down, %")
    legend(ax)
    return fig


def side_by_side(plt: Plot, height: float, found: Mapping[str, list[Series]],
                 x: Callable[[Series], float], unit: str) -> Plot:
    """Ends of rounds, on axes with a title each."""
    fig, axes = plt.subplots(1, len(found), figsize=(WIDTH, height), sharey=True, squeeze=False)
    for ax, (title, of) in zip(axes[0], found.items()):
        lines(ax, of, x, Series.collect)
        ticks(ax, map(x, of))
        ax.set_yscale("log")
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(unit)
    axes[0][0].set_ylabel(ROUND_END)
    legend(axes[0][-1])
    return fig


def shares(plt: Plot, found: list[Series]) -> Plot:
    """Ends of rounds by share of the pages written."""
    of = {f"{mib} MiB": [s for s in found if s.key.mib == mib]
          for mib in sorted({s.key.mib for s in found})}
    return side_by_side(plt, 4.2, of, lambda s: s.key.permille / 10, "pages written, %")


def memory(plt: Plot, found: list[Series]) -> Plot:
    """Ends of rounds by memory."""
    of = {f"{permille / 10:g} % written": [s for s in found if s.key.permille == permille]
          for permille in (10, 100)}
    return side_by_side(plt, 4.0, {k: v for k, v in of.items() if v}, lambda s: s.key.mib,
                        "array, MiB")


def scaling(plt: Plot, found: list[Series], field: str, unit: str) -> Plot:
    """By one field of the key."""
    def x(s: Series) -> float:
        return float(getattr(s.key, field))

    fig, ax = plt.subplots(figsize=(WIDTH, 3.8))
    steps = found[0].key.part == "processes"
    lines(ax, found, x, Series.collect if steps else Series.slowdown)
    ticks(ax, map(x, found))
    if steps:
        ax.set_yscale("log")
    elif max(s.slowdown().max for s in found) > 10:
        symlog(ax, found)
    else:
        ax.set_ylim(bottom=min(0, *(s.slowdown().min for s in found)))
    ax.set_xlabel(unit)
    ax.set_ylabel(ROUND_END if steps else "slow-down, %")
    legend(ax)
    return fig


def programs(plt: Plot, found: list[Program]) -> Plot:
    names = sorted({p.name for p in found})
    backends = trackers(found)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.62 * len(names)))
    height = 0.8 / len(backends)
    for i, b in enumerate(backends):
        of = [p for p in found if p.backend == b]
        at = [names.index(p.name) + (i - (len(backends) - 1) / 2) * height for p in of]
        error = [[p.longer.median - p.longer.min for p in of],
                 [p.longer.max - p.longer.median for p in of]]
        ax.barh(at, [p.longer.median for p in of], height, xerr=error, label=b,
                color=COLOURS.get(b), ecolor="#333", capsize=1.5)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("longer, %")
    ax.grid(True, axis="x", alpha=0.25)
    legend(ax)
    return fig


def swings(plt: Plot, runs: Mapping[tuple[str, int], Mapping[str, float]], events: list[str],
           usual: Mapping[str, float]) -> Plot:
    """What other costs of single events change of each tracker's slow-down."""
    backends = sorted(usual, key=rank)
    fig, axes = plt.subplots(1, len(backends), figsize=(WIDTH, 1.2 + 0.3 * max(len(events), 1)),
                             sharey=True, squeeze=False)
    for ax, b in zip(axes[0], backends):
        for percent, colour in ((50, "#9ecae1"), (200, COLOURS.get(b))):
            change = [runs.get((e, percent), {}).get(b, usual[b]) - usual[b] for e in events]
            ax.barh(range(len(events)), change, 0.7, color=colour, label=f"{percent} %")
        ax.axvline(0, color="#333", linewidth=0.8)
        ax.set_title(f"{b} ({usual[b]:+.2f} %)", fontsize=10)
        ax.set_xlabel("points of slow-down")
        ax.grid(True, axis="x", alpha=0.25)
    axes[0][0].set_yticks(range(len(events)), [e.replace("_", " ") for e in events])
    axes[0][0].invert_yaxis()
    return fig
