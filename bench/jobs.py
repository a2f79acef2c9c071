# SPDX-License-Identifier: GPL-2.0-only
"""What bench/run measures: jobs, each one program's run on one machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Iterable, Sequence

from testbed import BUILD, TOP, oohjson, tables

GUEST = "/usr/lib/ooh/bench"
LOGS, SOFTWARE = ["epml", "spml"], ["soft-dirty", "pagemap-scan", "uffd-wp"]
ALL = [*LOGS, *SOFTWARE, "mprotect"]
# without those that take minutes
FEW = [*LOGS, "soft-dirty", "pagemap-scan"]
TKRZW = ("baby", "cache", "stdhash", "stdtree", "tiny")

Arguments = Iterable["str | int | Path"]


def under_xen() -> bool:
    try:
        return Path("/sys/hypervisor/type").read_text().strip() == "xen"
    except OSError:
        return False


class Job:
    """Of the table of costs that percentage is charged, for `event` or for all of them (the others
    are charged whole then). `others`: so many guests beside it, with the arguments of
    bench/neighbours."""

    def __init__(self, part: str, argv: Arguments, machine: str = "1cpu", costs: int = 100,
                 event: str = "all", others: Sequence[str | int] = (), minutes: int = 20,
                 into: Sequence[Path] = ()) -> None:
        self.part, self.argv, self.machine = part, [str(a) for a in argv], machine
        self.costs, self.event = costs, event
        self.others = [str(a) for a in others]
        self.guests = 1 + (int(others[0]) if others else 0)
        self.minutes, self.into = minutes, into
        self.lines: list[str] = []
        self.error: str | None = None
        self.seconds = 0.0
        self.process: subprocess.Popen[str] | None = None

    def name(self) -> str:
        name = shlex.join(Path(w).name if "/" in w else w for w in self.argv)
        if self.others:
            name += f", {self.guests} guests"
        if self.costs != 100:
            name += f", {self.costs} % of {self.event} costs"
        return name

    def tags(self) -> str:
        if self.machine != "here":
            where = f"substrate emulated costs {self.costs} event {self.event}"
        else:
            where = f"substrate {'xen' if under_xen() else 'native'} costs hardware event all"
        return f"part {self.part} {where} guests {self.guests}"

    def take(self, out: str) -> None:
        """The lines among what the program printed."""
        self.lines = [f"{line} {self.tags()}" for line in out.splitlines()
                      if line.startswith("bench ")]

    def missed(self) -> int:
        # one whose program was ended may have half a line
        return sum(map(int, re.findall(r" missed (\d+)", "\n".join(self.lines))))


def array(part: str, mib: int, backends: Sequence[str], *options: str | int,
          program: str | Path = f"{GUEST}/array", machine: str = "1cpu", costs: int = 100,
          event: str = "all", others: Sequence[str | int] = (), minutes: int = 20) -> Job:
    """bench/array on so much memory."""
    return Job(part, [program, *options, mib, *backends], machine, costs, event, others, minutes)


def between(backends: Sequence[str]) -> list[str]:
    """A phase without a tracker before, between and after."""
    middle = (len(backends) + 1) // 2
    return ["none", *backends[:middle], "none", *backends[middle:], "none"]


def script(name: str) -> Path:
    """One that tracks a real program's rounds."""
    return TOP / "bench" / f"{name}-rounds"


def plan_quick() -> list[Job]:
    """Few and short runs: a check that it works."""
    return [
        array("headline", 100, ["none", *LOGS, "none", "pagemap-scan", "soft-dirty", "none"],
              "-r", 1, "-i", 300),
        array("headline", 1, between(ALL), "-r", 1, "-i", 100),
        array("share", 64, between(ALL), "-r", 1, "-w", "-s", 100),
        array("share", 64, between(ALL), "-r", 1, "-w", "-s", 10),
        array("phases", 1, between(FEW), "-r", 1, "-w"),
        array("costs", 100, between(FEW), "-r", 1, "-i", 100),
        array("costs", 100, between(FEW), "-r", 1, "-i", 100, costs=200, event="exception"),
        array("guests", 32, ["none", "epml", "none"], "-r", 1, "-i", 100, machine="guests",
              others=[1, 32, 100, "epml"]),
        Job("redis", ["./redis-rounds", 1, 5000, 10000, 100, "set", "--", "epml", "soft-dirty"],
            into=[script("redis")]),
        Job("tkrzw", ["./tkrzw-rounds", 1, 100, "tiny=20000", "--", "epml", "soft-dirty"],
            into=[script("tkrzw")])]


def plan() -> list[Job]:
    """The jobs, the longest first."""
    jobs = [array("headline", mib, between(ALL), "-r", 3, minutes=40) for mib in (1024, 100, 1)]
    # uffd-wp takes as long as all others together
    jobs += [Job("redis", ["./redis-rounds", 3, keys, 15000, 150, *mixes, "--", *FEW, "uffd-wp:1"],
                 into=[script("redis")], minutes=40)
             for keys, mixes in ((80000, ["get,set"]), (700000, ["get", "set"]))]
    records = [f"{kind}={10000 if kind == 'cache' else 40000}" for kind in TKRZW]
    jobs.append(Job("tkrzw", ["./tkrzw-rounds", 3, 100, *records, "--", *FEW],
                    into=[script("tkrzw")], minutes=40))
    jobs += [array("vcpus", 100, between(FEW), "-r", 2, "-i", 200, machine=machine)
             for machine in ("2cpu", "1cpu")]
    # n guests, with as much time of its own between two rounds; what the hypervisor has no part in
    # does not depend on other guests
    jobs += [array("guests", 32, ["none", backend, "none"], "-r", 3, "-i", 100 * n,
                   machine="guests", others=[n - 1, 32, 100 * n, backend])
             for n in (1, 2, 3) for backend in LOGS]
    jobs.append(Job("gcbench", ["./gcbench-rounds", 3, 15, 80, *LOGS, *SOFTWARE],
                    into=[script("gcbench")]))
    jobs.append(array("control", 100, between(ALL), "-r", 1, "-i", 500, "-R"))
    jobs += [array("phases", mib, between(FEW), "-r", 7 if mib < 1024 else 3, "-w")
             for mib in (1024, 100, 1)]
    for mib in (1024, 256, 64):
        for share in (1, 10, 100, 1000):
            # those take minutes for pages here and there of so much memory
            slow = mib * share > 100000
            backends = [b for b in ALL if not slow or b not in ("uffd-wp", "mprotect")]
            rounds = 7 if mib < 1024 else 5 if share < 1000 else 3
            jobs.append(array("share", mib, between(backends), "-r", rounds, "-w", "-s", share))
    jobs += [array("interval", 100, between(ALL), "-r", 3, "-i", ms) for ms in (100, 300)]
    jobs += [array("processes", 32, between(FEW), "-r", 7, "-w", "-s", 100, "-p", n)
             for n in (1, 2, 4, 8)]
    changed = [(e, percent) for e in ("all", *tables.costs()) for percent in (50, 200)]
    jobs += [array("costs", 100, ["none", *FEW, "none"], "-r", 1, "-i", 100, costs=percent, event=e)
             for e, percent in (("all", 100), ("all", 0), *changed)]
    return jobs


def plan_here(quick: bool) -> tuple[list[Job], list[str]]:
    """The same without an emulator; and what this machine lacks for it."""
    out = subprocess.run([BUILD / "host" / "usr" / "bin" / "ooh", "backends", "--json"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    usable = list(oohjson.usable(out))
    missing = [f"{name}: not usable: {b['reason']}"
               for name, b in oohjson.backends(out).items() if not b["usable"]]
    every, program = [*usable, "mprotect"], BUILD / "host-bench" / "array"

    def here(part: str, mib: int, backends: Sequence[str], *options: str | int) -> Job:
        return array(part, mib, between(backends), *options, program=program, machine="here")

    if quick:
        return [*(here("headline", mib, every, "-r", 2, "-i", 100) for mib in (1, 16)),
                here("share", 16, every, "-r", 2, "-w", "-s", 100),
                here("phases", 16, usable, "-r", 2, "-w")], missing
    jobs = [here("headline", mib, every, "-r", 5) for mib in (1, 10, 100, 1024)]
    jobs += [here("phases", mib, usable, "-r", 7, "-w") for mib in (1, 100, 1024)]
    jobs += [here("share", mib, every, "-r", 7, "-w", "-s", share)
             for share in (1, 10, 100, 1000) for mib in (64, 256)]
    jobs += [here("interval", 100, every, "-r", 5, "-i", ms) for ms in (100, 300)]
    jobs += [here("processes", 32, usable, "-r", 7, "-w", "-s", 100, "-p", n) for n in (1, 2, 4, 8)]
    jobs.append(here("control", 100, every, "-r", 3, "-i", 500, "-R"))

    gcbench = os.environ.get("GCBENCH", "/usr/lib/ooh/gc/gcbench")
    records = [f"{kind}=1000000" for kind in TKRZW]
    programs: list[tuple[str, tuple[str, ...], list[str | int]]] = [
        ("redis", ("redis-server", "redis-cli", "redis-benchmark"),
         [3, 700000, 300000, 1000, "get,set", "--", *usable]),
        ("tkrzw", ("tkrzw_dbm_perf",), [3, 100, *records, "--", *usable]),
        ("gcbench", (gcbench,), [3, 20, 100, *usable])]
    for part, needed, arguments in programs:
        lacks = [p for p in needed if not shutil.which(p)]
        if lacks:
            missing.append(f"{part}: not installed: {', '.join(lacks)}")
        else:
            jobs.append(Job(part, [script(part), *arguments], machine="here", minutes=60))
    return jobs, missing
