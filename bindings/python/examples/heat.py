#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plots which parts of a process's memory are written over time: heat.py [-n ROUNDS] [-i SECONDS]
[-b BACKEND] [-o PNG] -p PID. Across: rounds. Up: blocks of memory that were written at all, by
address. Colour: the share of a block's pages that were written in the round."""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from typing import Dict, List, Tuple

import ooh

BLOCK = 1 << 16  # bytes


def parts(ranges: List[ooh.Range]) -> Dict[int, int]:
    """Of each block that the ranges touch: how many pages."""
    out: Dict[int, int] = {}
    for start, end in ranges:
        while start < end:
            block = start // BLOCK
            stop = min(end, (block + 1) * BLOCK)
            out[block] = out.get(block, 0) + (stop - start) // ooh.PAGE
            start = stop
    return out


def mappings(pid: int) -> List[Tuple[int, str]]:
    """Where each begins, and its name."""
    out = []
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            words = line.split(None, 5)
            out.append((int(words[0].split("-")[0], 16),
                        words[5].strip().rsplit("/", 1)[-1] if len(words) > 5 else ""))
    return out


def record(pid: int, backend: str | None, rounds: int,
           interval: float) -> Tuple[List[Dict[int, int]], str]:
    """The rounds, one after the other, and what made them."""
    seen = []
    with ooh.Tracker(pid, backend) as tracker:
        for n in range(rounds):
            time.sleep(interval)
            try:
                seen.append(parts(tracker.collect().written))
            except ooh.Error as e:
                print(f"after {n} rounds: {e.strerror}", file=sys.stderr)
                break
        return seen, tracker.backend


def plot(seen: List[Dict[int, int]], names: List[Tuple[int, str]], title: str, interval: float,
         out: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    blocks = sorted(set().union(*seen))
    row = {b: n for n, b in enumerate(blocks)}
    share = [[0.0] * len(seen) for _ in blocks]
    for x, counts in enumerate(seen):
        for block, count in counts.items():
            share[row[block]][x] = count / (BLOCK // ooh.PAGE)
    # a name where a new mapping begins, if there is room for it
    starts = [start for start, _ in names]
    ticks: List[Tuple[int, str]] = []
    for y, block in enumerate(blocks):
        at = bisect_right(starts, block * BLOCK + BLOCK - 1) - 1
        name = names[at][1] or "anonymous" if at >= 0 else ""
        if not ticks or (name != ticks[-1][1] and y - ticks[-1][0] >= max(1, len(blocks) // 30)):
            ticks.append((y, name))
    figure, axes = plt.subplots(figsize=(10, 6))
    image = axes.imshow(share, aspect="auto", origin="lower", interpolation="nearest",
                        cmap="inferno", vmin=0, vmax=1,
                        extent=(0, len(seen) * interval, 0, len(blocks)))
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=7)
    axes.set_xlabel("seconds")
    axes.set_title(title)
    figure.colorbar(image, label="pages written in the round, of a block of 64 KiB")
    figure.tight_layout()
    figure.savefig(out, dpi=100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-p", "--pid", type=int, required=True)
    parser.add_argument("-b", "--backend")
    parser.add_argument("-n", "--rounds", type=int, default=60)
    parser.add_argument("-i", "--interval", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("-o", "--output", default="heat.png", metavar="PNG")
    a = parser.parse_args()
    try:
        names = mappings(a.pid)
        with open(f"/proc/{a.pid}/comm") as f:
            comm = f.read().strip()
        seen, backend = record(a.pid, a.backend, a.rounds, a.interval)
    except OSError as e:
        print(f"heat.py: process {a.pid}: {e.strerror}", file=sys.stderr)
        return 1
    if not any(seen):
        print(f"process {a.pid} wrote nothing in {len(seen)} rounds", file=sys.stderr)
        return 1
    plot(seen, names, f"{comm} ({a.pid}), with {backend}", a.interval, a.output)
    print(f"{a.output}: {len(seen)} rounds, {len(set().union(*seen))} blocks of 64 KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
