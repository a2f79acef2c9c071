# SPDX-License-Identifier: GPL-2.0-only
"""bench/gc-pauses: from the lines of boehm-backend/programs/pauses.c to a table."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import NamedTuple

from testbed import BUILD, oohjson
from testbed.client import Machine

INCREMENTAL = "GC_ENABLE_INCREMENTAL=1 "
# name -> environment, and what GC_get_actual_vdb() has to say then
MODES = {
    "ooh-epml": (INCREMENTAL + "GC_USE_OOH=epml", "0x80"),
    "ooh-spml": (INCREMENTAL + "GC_USE_OOH=spml", "0x80"),
    "ooh-scan": (INCREMENTAL + "GC_USE_OOH=pagemap-scan", "0x80"),
    "soft": (INCREMENTAL + "GC_USE_OOH=0", "0x40"),
    "mprotect": (INCREMENTAL + "GC_USE_OOH=0 GC_USE_GETWRITEWATCH=0", "0x1"),
    "none": ("", "0"),
}
FIELDS = ("total", "write", "gc", "pauses", "mean", "p99", "max", "reads", "read", "read_max",
          "stops", "stop", "stop_max")

# each run of protected pages is a mapping for mprotect: the kernel's 65530 end it at 1 GiB
MAPPINGS = 4_000_000


class Point(NamedTuple):
    """A run of the program."""

    mode: str
    vdb: str
    mib: int
    share: float
    of: dict[str, int]  # FIELDS


def parse(mode: str, line: str) -> Point:
    words = line.replace("|", " ").split()
    return Point(mode, words[0], int(words[1]), int(words[2]) / 10,
                 dict(zip(FIELDS, map(int, words[4:]))))


def table(points: list[Point]) -> None:
    print("Thousands of instructions. pause: an allocation that waits for the collector. dirty "
          "bits: reading them, once a\n"
          "cycle, with the world stopped. write: writing the pages, with the faults of that. "
          f"{MAPPINGS} mappings are\n"
          "allowed (vm.max_map_count); with as many as usual, mprotect fails at 1 GiB. soft/this: "
          "the dirty bits of soft by\n"
          "this. /none: total by that without incremental mode; \"loses\" where that would be "
          "faster.\n")
    print(f"{'MiB':>5} {'dirty':>6} {'by':>9} | {'total':>9} {'write':>8} {'gc':>9} |"
          f" {'pauses':>6} {'mean':>8} {'p99':>9} {'max':>9} |"
          f" {'dirty bits':>10} {'max':>8} | {'soft/this':>9} {'/none':>6}")
    last = None
    for p in points:
        key = p.mib, p.share
        if last not in (None, key):
            print()
        last = key
        other = {q.mode: q.of for q in points if (q.mib, q.share) == key}
        soft = other["soft"]["read"] if "soft" in other else 0
        none = p.of["total"] / other["none"]["total"] if "none" in other else 0
        ratio = f"{soft / p.of['read']:9.1f}" if soft and p.of["read"] else f"{'-':>9}"
        k = {f: p.of[f] // 1000 for f in FIELDS}
        print(f"{p.mib:5} {p.share:5.1f}% {p.mode:>9} |"
              f" {k['total']:9} {k['write']:8} {k['gc']:9} |"
              f" {p.of['pauses']:6} {k['mean']:8} {k['p99']:9} {k['max']:9} |"
              f" {k['read']:10} {k['read_max']:8} | {ratio}"
              + (f" {none:6.2f}" if none else "") + (" loses" if none > 1 else ""))


def main(about: str | None) -> int:
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--sizes", default="64,256,1024", help="of the live heap, MiB (%(default)s)")
    p.add_argument("--shares", default="10,50,500",
                   help="of its pages, written between collections, in 1/1000 (%(default)s)")
    p.add_argument("--rounds", default="4", help="collections (%(default)s)")
    p.add_argument("--modes", default=",".join(MODES), help="(%(default)s)")
    p.add_argument("--config", default="big", help="machine (testbed/configs)")
    a = p.parse_args()
    machine = Machine(a.config)
    machine.start("gc-pauses")
    machine.good(f"echo {MAPPINGS} >/proc/sys/vm/max_map_count")
    usable = oohjson.usable(machine.good("ooh backends --json"))
    modes = [m for m in a.modes.split(",") if m != "ooh-epml" or "epml" in usable]
    out = BUILD / "bench"
    out.mkdir(parents=True, exist_ok=True)
    points, failed = [], 0
    runs = [(mib, share, mode) for mib in a.sizes.split(",") for share in a.shares.split(",")
            for mode in modes]
    with open(out / "gc_pauses.txt", "w", encoding="ascii") as raw:
        for mib, share, mode in runs:
            env, vdb = MODES[mode]
            script = f"{env} /usr/lib/ooh/gc/pauses {mib} {share} {a.rounds}"
            run = subprocess.run(machine.command("exec", ["sh", "-c", script], 1800),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            what = f"{mib} MiB, {int(share) / 10} %"
            if run.returncode:
                print(f"gc-pauses: {what}: {mode} FAILED (status {run.returncode}): {run.stdout}",
                      file=sys.stderr)
                failed += 1
                continue
            point = parse(mode, run.stdout)
            if point.vdb != vdb:
                sys.exit(f"gc-pauses: {mode}: the dirty bits were by {point.vdb}")
            print(mode, run.stdout.strip(), file=raw, flush=True)
            print(f"{what}, {mode}", file=sys.stderr, flush=True)
            points.append(point)
    table(points)
    return 1 if failed else 0
