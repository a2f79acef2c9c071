# SPDX-License-Identifier: GPL-2.0-only
"""bench/run: has the jobs done, and writes raw.txt as they end."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from bench.jobs import Job, plan, plan_here, plan_quick
from bench.lanes import Kinds, Lane
from testbed import BUILD, TOP, tables
from testbed.client import Machine

PARTS = ("headline, phases, share, redis, tkrzw, gcbench, costs, control, vcpus, guests, interval, "
         "processes")


class Trouble(Exception):
    """What the user is told, and the exit status is 1."""


def host_programs() -> None:
    """What --here needs, compiled for this machine."""
    out = BUILD / "host-bench"
    out.mkdir(parents=True, exist_ok=True)
    lib = BUILD / "host" / "usr" / "lib"
    if subprocess.run(["make", "-s", "-C", TOP, "host", f"BUILD={BUILD}"],
                      stdout=sys.stderr).returncode:
        raise Trouble("make failed: the library could not be made")
    includes = [f"-I{TOP / d}" for d in ("include", "libooh/include", "testbed/agent")]
    for name in ("array", "follow"):
        if subprocess.run(["gcc", "-O2", "-g", "-Wall", "-D_GNU_SOURCE", *includes,
                           "-o", out / name, TOP / "bench" / f"{name}.c",
                           f"-L{lib}", "-looh", f"-Wl,-rpath,{lib}"], stdout=sys.stderr).returncode:
            raise Trouble(f"gcc failed: {out / name} could not be made")
    # the scripts of the programs' rounds go by it
    os.environ["FOLLOW"] = str(out / "follow")


def about() -> list[str]:
    """Where and when it is."""
    commit = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    cpu = re.search(r"^model name\s*: *(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return [f"date {time.strftime('%Y-%m-%d')}", f"commit {commit.stdout.strip() or '?'}",
            f"kernel {os.uname().release}", f"processors {os.cpu_count()} {cpu[1] if cpu else '?'}"]


class Bench:
    """A run of all the jobs; what was measured is saved as each of them ends."""

    def __init__(self, jobs: list[Job], missing: list[str], mode: str, out: Path) -> None:
        self.jobs, self.missing, self.mode, self.out = jobs, missing, mode, out
        self.todo, self.lock = list(jobs), threading.Lock()
        self.began, self.where = time.monotonic(), about()

    def save(self) -> None:
        """All that there is, in the order of the jobs."""
        text = [f"# mode {self.mode}", *(f"# about {line}" for line in self.where),
                f"# about seconds {time.monotonic() - self.began:.0f}",
                *(f"# missing {m}" for m in self.missing)]
        for job in self.jobs:
            if job.error:
                text.append(f"# failed {job.part}: {job.name()}: {job.error}")
            text += job.lines
        if self.mode.startswith("emulated"):
            text += [f"# table {line}".rstrip() for line in tables.COSTS.read_text().splitlines()]
        new = self.out / "raw.txt.new"
        new.write_text("\n".join(text) + "\n", encoding="utf-8")
        new.rename(self.out / "raw.txt")

    def say(self, job: Job) -> None:
        with self.lock:
            self.save()
            print(f"bench: {time.monotonic() - self.began:5.0f} s: {job.part}: {job.name()}"
                  f" ({job.machine}): "
                  f"{job.error or f'{len(job.lines)} lines in {job.seconds:.0f} s'}",
                  file=sys.stderr, flush=True)

    def work(self, lanes: list[Kinds]) -> bool:
        """Returns whether a signal ended it."""
        threads = [threading.Thread(target=Lane(self.todo, self.lock, kinds, self.say).work,
                                    daemon=True) for kinds in lanes]
        # an exception out of a join() would make Python take the thread for ended
        stopped = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: stopped.append(number))
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads) and not stopped:
            time.sleep(0.2)
        if stopped:
            self.stop({config for kinds in lanes for config in kinds.values() if config})
            for t in threads:
                t.join(60)
        for job in self.todo:
            job.error = "no machine for it"
        with self.lock:
            self.save()
        return bool(stopped)

    def stop(self, configs: set[str]) -> None:
        with self.lock:
            for job in self.todo:
                job.error = "stopped before it"
            self.todo.clear()
        print("bench: stopped; ending the machines", file=sys.stderr)
        for job in self.jobs:
            if job.process and job.process.poll() is None:
                job.process.terminate()
        for config in configs:
            Machine(config).down()


def machines_of(a: argparse.Namespace) -> list[Kinds]:
    """Of each lane."""
    if a.here:
        return [{"here": None}]
    lanes: list[Kinds] = [
        {"1cpu": "bench"}, {"2cpu": "bench2", "guests": "bench-guests", "1cpu": "bench-twin"}]
    if a.quick:
        # arrays of at most 100 MiB need no machine with a snapshot of its own
        lanes = [{"1cpu": "charged"}, {"guests": "charged-guests", "1cpu": "charged-twin"}]
    return lanes if a.lanes != 1 else [{**lanes[1], **lanes[0]}]


def reserve() -> IO[str]:
    """The machines can be had by one only, which holds this file until the end."""
    busy = open(BUILD / "testbed" / "bench.lock", "w")
    try:
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Trouble(f"another one runs with the machines of {BUILD}") from None
    return busy


def bench(p: argparse.ArgumentParser, a: argparse.Namespace) -> int:
    if subprocess.run([TOP / "testbed" / "packages", "bench"]).returncode:
        return 1
    kind = "-only" if a.only else "-here" if a.here else "-quick" if a.quick else ""
    out: Path = a.out or BUILD / "bench" / f"run{kind}"
    out.mkdir(parents=True, exist_ok=True)
    missing: list[str] = []
    if a.here:
        host_programs()
        jobs, missing = plan_here(a.quick)
    else:
        if not (BUILD / "guest").is_dir():
            raise Trouble(f"{BUILD} has no guest: make guest makes it")
        jobs = plan_quick() if a.quick else plan()
    if a.only is not None:
        parts, wanted = {j.part for j in jobs}, set(a.only.split(","))
        if wanted - parts:
            p.error(f"no part {', '.join(map(repr, sorted(wanted - parts)))}; "
                    f"there are: {', '.join(sorted(parts))}")
        jobs = [j for j in jobs if j.part in wanted]
    busy = None if a.here else reserve()
    # what is there from another run would be taken for this one's
    for name in ("report.html", "report.txt", "report.csv"):
        (out / name).unlink(missing_ok=True)

    mode = f"{'here' if a.here else 'emulated'}{' quick' if a.quick else ''}"
    run = Bench(jobs, missing, mode, out)
    stopped = run.work(machines_of(a))
    status = subprocess.run([TOP / "bench" / "report", out]).returncode
    if busy:
        busy.close()
    return 130 if stopped else 1 if status or any(j.error for j in jobs) else 0


def main(text: str | None) -> int:
    p = argparse.ArgumentParser(description=text,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--here", action="store_true", help="on this machine, without the emulator")
    p.add_argument("--quick", action="store_true",
                   help="few and short runs: a check that it works, no measurement")
    p.add_argument("--only", metavar="PART,...", help=f"of {PARTS}")
    p.add_argument("--lanes", type=int, choices=(1, 2),
                   help="emulators at a time; one keeps a processor busy (2)")
    p.add_argument("--out", type=Path, metavar="DIR",
                   help="(build/bench/run, run-quick, run-here, run-only)")
    a = p.parse_args()
    if a.here and a.lanes:
        p.error("--lanes is of the emulator, --here needs none")
    try:
        return bench(p, a)
    except (Trouble, OSError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
