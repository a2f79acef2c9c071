# SPDX-License-Identifier: GPL-2.0-only
"""bench/criu-table: from CRIU's statistics of each dump to a table."""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path
from typing import NamedTuple

from testbed import BUILD, TOP, criustats
from testbed.client import Machine

HEAD = ("program", "size", "rate", "mode", "tracker", "frozen, ms", "scan+reset, ms", "written",
        "skipped", "frozen/soft-dirty")
WIDTHS = (8, 8, 6, 8, 13, 11, 15, 9, 9, 18, 0)


class Job(NamedTuple):
    """A program that is dumped: keys or megabytes, changes a second, --pre-dump-mode."""

    program: str
    size: str
    rate: str
    mode: str


class Done(NamedTuple):
    """One tracker's dumps, and whether all was right after the restore."""

    dumps: list[criustats.Stats]
    right: bool

    def mean(self, field: str) -> float:
        """The first dump writes everything."""
        return sum(d[field] for d in self.dumps[1:]) / len(self.dumps[1:])


def measure(machine: Machine, script: str, command: str, out: Path) -> tuple[int, dict[str, Done]]:
    """Runs a script in the guest, whose folder of statistics comes back. A tracker that could not
    dump is left out."""
    try:
        status = machine.folder(command, out, into=[TOP / script])
    except tarfile.ReadError:
        status = 1
    return status, {d.name: Done([criustats.read(p) for p in sorted(d.glob("[0-9]*.stats"))],
                                 (d / "right").exists())
                    for d in (out / "out").glob("*") if (d / "dump.stats").exists()}


def row(job: Job, backend: str, done: dict[str, Done]) -> list[str]:
    if backend not in done:
        return [*job, backend, "FAILED"]
    of = done[backend]
    frozen = of.mean("frozen_us")
    base = done["soft-dirty"].mean("frozen_us") if "soft-dirty" in done else 0
    return [*job, backend, f"{frozen / 1000:.1f}", f"{of.mean('memdump_us') / 1000:.1f}",
            f"{of.mean('written'):.0f}", f"{of.mean('skipped'):.0f}",
            f"{frozen / base:.2f}" if base else "-",
            "" if of.right else "  NOT AS BEFORE when restored"]


def print_row(cells: list[str]) -> None:
    print("".join(c.rjust(w) for c, w in zip(cells, WIDTHS)), flush=True)


def main(about: str | None) -> int:
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--keys", default="100000,400000",
                   help="of redis-server, of 1 KiB (%(default)s)")
    p.add_argument("--rates", default="50,1000,4000", help="changes a second (%(default)s)")
    p.add_argument("--megabytes", default="100,400", help="of tkrzw (%(default)s)")
    p.add_argument("--modes", default="splice,read",
                   help="criu's --pre-dump-mode: pages are taken while the process is frozen, or "
                   "read when it runs again (%(default)s)")
    p.add_argument("--backends", default="soft-dirty,epml,spml", help="(%(default)s)")
    p.add_argument("--predumps", type=int, default=4)
    p.add_argument("--pause", default="1", help="seconds between dumps, of the guest (%(default)s)")
    p.add_argument("--config", default="big", help="machine (testbed/configs)")
    a = p.parse_args()
    out = BUILD / "bench" / "criu"
    machine, backends = Machine(a.config), a.backends.split(",")
    programs = [("redis", k, r) for k in a.keys.split(",") if k for r in a.rates.split(",")]
    programs += [("tkrzw", m, "full") for m in a.megabytes.split(",") if m]
    print_row(list(HEAD))
    failed = False
    for job in [Job(*program, mode) for program in programs for mode in a.modes.split(",")]:
        # One after the other dumps what was restored before. The kernel's bits go last: they miss a
        # page at times (docs/soundness.md), which would be laid to the next one's charge.
        order = sorted(backends, key="soft-dirty".__eq__)
        if job.program == "redis":
            script, options = "demo/redis-checkpoint", f"{a.predumps} {job.rate}"
        else:
            script, options = "bench/tkrzw-checkpoint", f"{a.predumps}"
        command = (f"PAUSE={a.pause} PREDUMP_MODE={job.mode} ./{Path(script).name} out {job.size} "
                   f"{options} {' '.join(order)}")
        status, done = measure(machine, script, command, out / "-".join(job))
        failed |= status != 0 or not all(b in done and done[b].right for b in order)
        for b in backends:
            print_row(row(job, b, done))
    return 1 if failed else 0
