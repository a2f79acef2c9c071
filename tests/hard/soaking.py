#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs the generator of hard processes in a guest under ooh verify, and sums up what came of it.

make soak [SOAK="--ops N --seconds N ..."]: the long run. tests/testbed/test_hard.py: a short one."""

import argparse
import collections
import contextlib
import json
import re
import sys
import time

from conftest import Machine
from verdict import bad_lines

HARD = "/usr/lib/ooh/hard"
NUMBERS = ("mapped", "changed", "reported", "missed", "extra")


class Result:
    """What the generator did and what ooh verify found, of one run or of several."""

    def __init__(self, machine, backend, without=(), asked=()):
        self.machine, self.backend, self.without, self.asked = machine, backend, without, asked
        self.ops = self.rounds = self.all_dirty = 0
        self.sum = collections.Counter()  # of NUMBERS
        self.kinds = collections.defaultdict(collections.Counter)
        self.errors = {}
        self.where = collections.Counter()  # missed pages that are listed, by place
        self.digest = None

    def take(self, doc, stats):
        places = []
        for line in stats.strip().splitlines():
            what, *words = line.split()
            if what == "place":
                places.append((words[0], int(words[1], 16), int(words[2]) * 4096))
            elif what == "kind":
                name, *pairs = words
                self.errors[name] = " ".join(pairs[pairs.index("error") + 1:])
                self.kinds[name].update({k: int(v) for k, v in zip(pairs[:-1:2], pairs[1::2]) if v.isdigit()})
            elif what == "seed":
                self.ops += int(words[words.index("ops") + 1])
                self.digest = words[-1]
        self.rounds += len(doc["rounds"])
        self.all_dirty += doc["total"]["all_dirty"]
        for r in doc["rounds"]:
            self.sum.update({k: r[k] for k in NUMBERS})
        for page in doc["missed_pages"]:
            at = int(page["address"], 16)
            self.where[next((name for name, start, size in places if start <= at < start + size),
                            page["mapping"])] += 1

    def never(self):
        """Kinds that were drawn and never took effect, with the reason."""
        return {name: self.errors[name] if n["refused"] else "no effect was seen"
                for name, n in self.kinds.items() if n["tried"] and not n["done"]}

    def missing(self):
        return [name for name, n in self.kinds.items() if not n["tried"] and name not in self.without]

    def row(self):
        last = "missed in " + ", ".join(self.where) if self.where else ""
        if self.without:
            last += "without " + ", ".join(self.without)
        if self.asked:
            last += "with " + ", ".join(self.asked)
        return [self.backend, self.machine, self.ops, self.rounds, *(self.sum[k] for k in NUMBERS), self.all_dirty, last]


def table(results):
    rows = [["backend", "machine", "operations", "rounds", *NUMBERS, "all dirty", ""]]
    rows += [r.row() for r in results]
    lines = [f"{row[0]:13}" + "".join(f"{c!s:>11}" for c in row[1:-1]) + f"  {row[-1]}" for row in rows]
    lines += [f"{r.backend} on {r.machine}: never took effect: {name}: {why}"
              for r in results for name, why in r.never().items()]
    return "\n".join(lines)


def kinds_table(result):
    names = ("tried", "done", "vain", "refused")
    lines = ["".join(f"{c:>10}" for c in names) + "  kind"]
    lines += ["".join(f"{n[c]:>10}" for c in names) + f"  {name}" for name, n in result.kinds.items()]
    return "\n".join(lines)


@contextlib.contextmanager
def prepared(m):
    """Disks, swap, merging of equal pages and a memory cgroup, for the time of the block."""
    m.good(f"{HARD}/prepare begin")
    try:
        yield m
    finally:
        m.good(f"{HARD}/prepare end")


def flags_of(result, lives=1):
    """What all runs in a prepared guest have in common."""
    return " ".join(["-d /mnt/hard --coarse /mnt/coarse --cgroup /sys/fs/cgroup/hard --machine", f"--lives {lives}",
                     *(f"--without {kind}" for kind in result.without), *(f"--with {kind}" for kind in result.asked)])


def run(m, result, ops, seed=1, interval=200, timeout=600, lives=1):
    """One process, from its start to its end. Did ooh verify find a missed page?"""
    out = m.good(
        f"ooh verify --json -b {result.backend} -n 1000000 -i {interval} -- {HARD}/hard -n {ops} -s {seed} "
        f"{flags_of(result, lives)} --linger {3 * interval} -o stats >doc; s=$?; "
        "[ $s -le 1 ] && cat doc && echo && echo =$s= && cat stats && exit 0; exit $((100 + s))", timeout=timeout)
    doc, status, stats = re.split(r"^=([01])=$", out, flags=re.MULTILINE)
    doc = json.loads(doc)
    result.take(doc, stats)
    if (status == "1") != (doc["total"]["missed"] > 0):
        raise RuntimeError(f"status {status}, {doc['total']['missed']} missed")
    return status == "1"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", default="default", help="machine of testbed/configs (default %(default)s)")
    p.add_argument("--backend", default="spml")
    p.add_argument("--ops", type=int, default=10_000_000)
    p.add_argument("--seconds", type=float, default=4 * 3600, help="limit of the time (default %(default)d)")
    p.add_argument("--seed", type=int, default=1, help="of the first process; each further one has the next")
    p.add_argument("--run", type=int, default=500_000, help="operations of one process (default %(default)d)")
    p.add_argument("--interval", type=int, default=200, help="ms between two rounds (default %(default)d)")
    args = p.parse_args()

    m, result = Machine(args.config), Result(args.config, args.backend)
    m.down()
    m.up()
    began, seed = time.monotonic(), args.seed
    try:
        with prepared(m):
            while result.ops < args.ops and time.monotonic() - began < args.seconds:
                run(m, result, min(args.run, args.ops - result.ops), seed=seed, interval=args.interval, timeout=3600)
                seed += 1
                print(f"{time.monotonic() - began:.0f} s: {result.ops} operations, {result.rounds} rounds, "
                      f"{result.sum['missed']} missed", flush=True)
        found = bad_lines(m.run("log").stdout)
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
    print(f"soak: {result.ops} operations, {result.rounds} rounds, {result.sum['missed']} missed by {args.backend}, "
          f"{time.monotonic() - began:.0f} s")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
