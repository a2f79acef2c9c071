#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs the generator of hard processes in a guest under ooh verify, and sums up what came of it.

make soak [SOAK="--ops N --seconds N ..."]: the long run.
test_hard.py: a short one."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections import Counter
from typing import Iterator, Literal, Sequence

from hard.printed import Printed
from testbed import oohjson
from testbed.client import Machine
from testbed.oohjson import Verified
from verdict import bad_lines

HARD = "/usr/lib/ooh/hard"
NUMBERS: tuple[Literal["mapped", "changed", "reported", "missed", "extra"], ...] = (
    "mapped", "changed", "reported", "missed", "extra")


class Result:
    """What the generator did and what ooh verify found, of one run or of several."""

    def __init__(self, machine: str, backend: str, without: Sequence[str] = (),
                 asked: Sequence[str] = ()) -> None:
        self.machine, self.backend, self.without, self.asked = machine, backend, without, asked
        self.ops = self.rounds = self.all_dirty = 0
        self.sum: Counter[str] = Counter()  # of NUMBERS
        self.kinds: dict[str, Counter[str]] = {}
        self.errors: dict[str, str] = {}
        self.where: Counter[str] = Counter()  # missed pages that are listed, by place
        self.digest = ""

    def take(self, doc: Verified, printed: Printed) -> None:
        for name, numbers in printed.kinds.items():
            self.kinds.setdefault(name, Counter()).update(numbers)
        self.errors.update(printed.errors)
        self.ops += printed.ops
        self.digest = printed.digest
        self.rounds += len(doc["rounds"])
        self.all_dirty += doc["total"]["all_dirty"]
        for r in doc["rounds"]:
            self.sum.update({k: r[k] for k in NUMBERS})
        for page in doc["missed_pages"]:
            self.where[printed.place_of(int(page["address"], 16)) or page["mapping"]] += 1

    def never(self) -> dict[str, str]:
        """Kinds that were drawn and never took effect, with the reason."""
        return {name: self.errors[name] if n["refused"] else "no effect was seen"
                for name, n in self.kinds.items() if n["tried"] and not n["done"]}

    def missing(self) -> list[str]:
        return [name for name, n in self.kinds.items()
                if not n["tried"] and name not in self.without]

    def row(self) -> list[str]:
        last = "missed in " + ", ".join(self.where) if self.where else ""
        if self.without:
            last += "without " + ", ".join(self.without)
        if self.asked:
            last += "with " + ", ".join(self.asked)
        return [self.backend, self.machine, str(self.ops), str(self.rounds),
                *(str(self.sum[k]) for k in NUMBERS), str(self.all_dirty), last]


def table(results: Sequence[Result]) -> str:
    rows = [["backend", "machine", "operations", "rounds", *NUMBERS, "all dirty", ""]]
    rows += [r.row() for r in results]
    lines = [f"{row[0]:13}" + "".join(f"{c:>11}" for c in row[1:-1]) + f"  {row[-1]}"
             for row in rows]
    lines += [f"{r.backend} on {r.machine}: never took effect: {name}: {why}"
              for r in results for name, why in r.never().items()]
    return "\n".join(lines)


def kinds_table(result: Result) -> str:
    names = ("tried", "done", "vain", "refused")
    lines = ["".join(f"{c:>10}" for c in names) + "  kind"]
    lines += ["".join(f"{n[c]:>10}" for c in names) + f"  {name}"
              for name, n in result.kinds.items()]
    return "\n".join(lines)


@contextlib.contextmanager
def prepared(m: Machine) -> Iterator[Machine]:
    """Disks, swap, merging of equal pages and a memory cgroup, for the time of the block."""
    m.good(f"{HARD}/prepare begin")
    try:
        yield m
    finally:
        m.good(f"{HARD}/prepare end")


def flags_of(result: Result, lives: int = 1) -> str:
    """What all runs in a prepared guest have in common."""
    return " ".join([
        "-d /mnt/hard --coarse /mnt/coarse --cgroup /sys/fs/cgroup/hard --machine",
        f"--lives {lives}", *(f"--without {kind}" for kind in result.without),
        *(f"--with {kind}" for kind in result.asked)])


def run(m: Machine, result: Result, ops: int, seed: int = 1, interval: int = 200,
        timeout: float = 600, lives: int = 1) -> bool:
    """One process, from its start to its end. Did ooh verify find a missed page?"""
    out = m.good(
        f"ooh verify --json -b {result.backend} -n 1000000 -i {interval} -- "
        f"{HARD}/hard -n {ops} -s {seed} {flags_of(result, lives)} --linger {3 * interval} "
        "-o stats >doc; s=$?; "
        "[ $s -le 1 ] && cat doc && echo && echo =$s= && cat stats && exit 0; exit $((100 + s))",
        timeout=timeout)
    text, status, stats = re.split(r"^=([01])=$", out, flags=re.MULTILINE)
    doc = oohjson.verified(text)
    result.take(doc, Printed(stats))
    if (status == "1") != (doc["total"]["missed"] > 0):
        raise RuntimeError(f"status {status}, {doc['total']['missed']} missed")
    return status == "1"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", default="default",
                   help="machine of testbed/configs (default %(default)s)")
    p.add_argument("--backend", default="spml")
    p.add_argument("--ops", type=int, default=10_000_000)
    p.add_argument("--seconds", type=float, default=4 * 3600,
                   help="limit of the time (default %(default)d)")
    p.add_argument("--seed", type=int, default=1,
                   help="of the first process; each further one has the next")
    p.add_argument("--run", type=int, default=500_000,
                   help="operations of one process (default %(default)d)")
    p.add_argument("--interval", type=int, default=200,
                   help="ms between two rounds (default %(default)d)")
    args = p.parse_args()

    m, result = Machine(args.config), Result(args.config, args.backend)
    m.down()
    m.up()
    began, seed = time.monotonic(), args.seed
    try:
        with prepared(m):
            while result.ops < args.ops and time.monotonic() - began < args.seconds:
                run(m, result, min(args.run, args.ops - result.ops), seed=seed,
                    interval=args.interval, timeout=3600)
                seed += 1
                print(f"{time.monotonic() - began:.0f} s: {result.ops} operations, "
                      f"{result.rounds} rounds, {result.sum['missed']} missed", flush=True)
        found = bad_lines(m.log())
    finally:
        m.down()
    print(kinds_table(result), *found, table([result]), sep="\n")
    verdicts = {
        "nothing missed": result.sum["missed"] == 0,
        "no round in which everything was reported": result.all_dirty == 0,
        "every kind took effect": not result.never() and not result.missing(),
        "the kernels' logs": not found,
        "all operations done": result.ops >= args.ops,
    }
    for what, ok in verdicts.items():
        print(f"{what}: {'ok' if ok else 'BAD'}")
    print(f"soak: {result.ops} operations, {result.rounds} rounds, {result.sum['missed']} missed "
          f"by {args.backend}, {time.monotonic() - began:.0f} s")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
