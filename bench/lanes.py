# SPDX-License-Identifier: GPL-2.0-only
"""Lanes: each works jobs off, one after another, on emulated machines of its own or on this one."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable

from bench.jobs import Job
from testbed import BUILD, TOP
from testbed.client import Machine
from testbed.session import MACHINE_FAILED, TIMED_OUT

# kind of machine -> configuration; None is this machine
Kinds = dict[str, "str | None"]


def last_words(err: str) -> str:
    return " ".join(err.splitlines()[-2:])


def neighbours(job: Job, machine: Machine) -> None:
    """Starts the other guests that the job is to have beside it; those of the job before are gone
    then."""
    if not job.others:
        return
    tree = BUILD / "guest" / "usr" / "lib"
    files = (TOP / "bench" / "neighbours", tree / "ooh" / "ooh.ko",
             (tree / "libooh.so.0").resolve(), tree / "ooh" / "bench" / "array")
    run = machine.run("dom0", "./neighbours", *job.others, into=files, timeout=1200)
    if run.returncode:
        raise RuntimeError(last_words(run.stderr))


def command_of(job: Job, machine: Machine | None) -> list[str | Path]:
    if machine is None:
        return [*job.argv]
    # the limit on mappings is the kernel's default for programs, not for trackers by mprotect
    share = f"emustat --costs {job.costs} {'' if job.event == 'all' else job.event}"
    script = ("echo 4000000 >/proc/sys/vm/max_map_count; emustat --costs 100 && "
              f"{share} && exec {shlex.join(job.argv)}")
    return machine.command("exec", ["sh", "-c", script], 60 * job.minutes, job.into)


def execute(job: Job, machine: Machine | None) -> bool:
    """Returns whether the machine can take another job."""
    if machine:
        neighbours(job, machine)
    began = time.monotonic()
    with subprocess.Popen(command_of(job, machine), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        job.process = run
        try:
            out, err = run.communicate(timeout=60 * job.minutes + 1300)
            status = run.returncode
        except subprocess.TimeoutExpired:
            run.kill()
            out, status, err = run.communicate()[0], TIMED_OUT, "no end"
    job.seconds = time.monotonic() - began
    job.take(out)
    if status:
        why = [line for line in err.splitlines() if not line.startswith("[")]
        missed = job.missed()
        job.error = (f"{missed} pages were missed" if missed else
                     f"status {status}: {' '.join(why[-2:]) or 'no message'}")
    return machine is None or status not in (TIMED_OUT, MACHINE_FAILED)


class Lane:
    """Takes jobs from the list that the lanes share, of those kinds of machines that it has."""

    def __init__(self, todo: list[Job], lock: threading.Lock, kinds: Kinds,
                 say: Callable[[Job], None]) -> None:
        self.todo, self.lock, self.kinds, self.say = todo, lock, kinds, say
        self.up: Machine | None = None

    def work(self) -> None:
        try:
            while (job := self.next()) is not None:
                try:
                    self.do(job)
                except Exception as e:  # whatever it is: the job is named in the report
                    job.error = f"{type(e).__name__}: {e}"
                self.say(job)
        finally:
            self.down()

    def next(self) -> Job | None:
        with self.lock:
            job = next((j for j in self.todo if j.machine in self.kinds), None)
            if job is not None:
                self.todo.remove(job)
            return job

    def do(self, job: Job) -> None:
        config = self.kinds[job.machine]
        if config is None:
            execute(job, None)
            return
        if self.up is None or self.up.config != config:
            self.down()
            machine = Machine(config)
            start = machine.run("up", timeout=1200)
            if start.returncode:
                raise RuntimeError(f"machine {config} did not start: {last_words(start.stderr)}")
            self.up = machine
        if not execute(job, self.up):
            # whatever it does now: the next job gets a fresh one
            self.down()

    def down(self) -> None:
        if self.up:
            self.up.down()
            self.up = None
