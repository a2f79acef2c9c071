# SPDX-License-Identifier: GPL-2.0-only
"""bench/cost-curve: from the lines of bench/collect_cost.c to a table, and up to which share of
written pages the log is the cheaper one."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Callable, NamedTuple

from testbed import BUILD
from testbed.client import Machine


class Cost(NamedTuple):
    """Of a round with one tracker: pages, instructions, instructions."""

    reported: int
    write: int
    collect: int

    def both(self) -> int:
        return self.collect + self.write


class Point(NamedTuple):
    """One size and share of bench/collect_cost."""

    mib: int
    share: float
    written: int
    log: Cost
    scan: Cost
    soft_dirty: Cost


def parse(text: str) -> list[Point]:
    points = []
    for line in text.splitlines():
        if not line.startswith("#"):
            v = [int(x) for x in line.split()]
            points.append(Point(v[0], v[1] / 1000, v[2],
                                Cost(*v[3:6]), Cost(*v[6:9]), Cost(*v[9:12])))
    return points


def crossover(points: list[Point], cost: Callable[[Cost], int]) -> str:
    """The largest share up to which the log is cheaper than pagemap-scan."""
    below = None
    for p in points:
        if cost(p.log) > cost(p.scan):
            break
        below = p.share
    return "none" if below is None else f"{100 * below:g} %"


def table(points: list[Point], log: str) -> None:
    print("Collecting a round, in thousands of instructions, and what it is of PAGEMAP_SCAN's; "
          "writing the pages, the same.\n")
    print(f"{'MiB':>5} {'dirty':>6} | {log:>8} {'scan':>8} {'soft-dirty':>10} {log + '/scan':>9} |"
          f" {'w. ' + log:>8} {'w. scan':>8} {'both':>6}")
    last = None
    for p in points:
        if last not in (None, p.mib):
            print()
        last = p.mib
        print(f"{p.mib:5} {100 * p.share:5.1f}% | {p.log.collect // 1000:8}"
              f" {p.scan.collect // 1000:8} {p.soft_dirty.collect // 1000:10}"
              f" {p.log.collect / p.scan.collect:9.2f} |"
              f" {p.log.write // 1000:8} {p.scan.write // 1000:8}"
              f" {p.log.both() / p.scan.both():6.2f}")
    print(f"\n{log} is the cheaper one up to a dirty share of")
    for mib in sorted({p.mib for p in points}):
        of = [p for p in points if p.mib == mib]
        print(f"{mib:5} MiB: {crossover(of, lambda c: c.collect)} (collecting alone),"
              f" {crossover(of, Cost.both)} (with what writing costs)")


def main(about: str | None) -> None:
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--sizes", default="64,128,256,512,1024,2048",
                   help="of the array, MiB (%(default)s)")
    p.add_argument("--log", choices=("spml", "epml"), default="spml", help="the log (%(default)s)")
    p.add_argument("--config", default="big", help="machine (testbed/configs)")
    a = p.parse_args()
    machine = Machine(a.config)
    machine.start("cost-curve")
    argv = ["/usr/lib/ooh/bench/collect_cost", a.log, *a.sizes.split(",")]
    run = subprocess.run(machine.command("exec", argv, 3000), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"cost-curve: FAILED (status {run.returncode})")
    out = BUILD / "bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "collect_cost.txt").write_text(run.stdout)
    table(parse(run.stdout), a.log)
