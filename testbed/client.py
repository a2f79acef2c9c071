# SPDX-License-Identifier: GPL-2.0-only
"""A machine as other programs use it: by the command testbed/vm."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

from testbed import TOP

VM = TOP / "testbed" / "vm"
# for files of the guest's to come out of an archive; Python is told to from 3.12 on
FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


class Machine:
    """One configuration of testbed/configs."""

    def __init__(self, config: str) -> None:
        self.config = config

    def command(self, verb: str, argv: Sequence[str | Path], timeout: float,
                into: Iterable[str | Path] = (), flags: Iterable[str] = ()) -> list[str | Path]:
        cmd: list[str | Path] = [VM, verb, "--config", self.config,
                                 "--timeout", str(timeout), *flags]
        for p in into:
            cmd += ["--in", p]
        return [*cmd, "--", *argv] if argv else cmd

    def run(self, verb: str, *argv: str | Path, timeout: float = 300,
            into: Iterable[str | Path] = (), flags: Iterable[str] = (), text: bool = True,
            **kw: Any) -> subprocess.CompletedProcess[Any]:
        kw.setdefault("stdin", subprocess.DEVNULL)
        # testbed/vm has the limit; this one is for its own hanging
        return subprocess.run(self.command(verb, argv, timeout, into, flags),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
                              timeout=timeout + 1300, **kw)

    def exec(self, *argv: str | Path, **kw: Any) -> subprocess.CompletedProcess[Any]:
        return self.run("exec", *argv, **kw)

    def sh(self, script: str, **kw: Any) -> subprocess.CompletedProcess[Any]:
        return self.run("exec", "sh", "-c", script, **kw)

    def dom0(self, script: str, **kw: Any) -> subprocess.CompletedProcess[Any]:
        return self.run("dom0", "sh", "-c", script, **kw)

    def host(self, script: str, **kw: Any) -> subprocess.CompletedProcess[Any]:
        """In what is below the guest on a machine without Xen."""
        return self.run("host", "sh", "-c", script, **kw)

    def good(self, script: str, **kw: Any) -> Any:
        """Runs a script that has to work for the rest to make sense; its output."""
        r = self.sh(script, **kw)
        if r.returncode:
            raise RuntimeError(f"{script!r} ended with {r.returncode}:\n"
                               f"{r.stdout[-1000:]}{r.stderr[-1000:]}")
        return r.stdout

    @contextlib.contextmanager
    def dom0_meanwhile(self, script: str, into: Iterable[str | Path] = (),
                       verb: str = "dom0") -> Iterator[list[str]]:
        """A script in dom0 (verb "host": on KVM's host) that goes on until its input ends, which
        is when the block ends. It has to succeed; its output is in the list then."""
        cmd = self.command(verb, ["sh", "-c", script], 600, into)
        p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        output: list[str] = []
        try:
            yield output
        finally:
            out, err = p.communicate(timeout=60)
        assert p.returncode == 0, err
        output.append(out)

    def folder(self, script: str, out: Path, into: Iterable[str | Path] = (),
               timeout: float = 3600) -> int:
        """Runs a script in the guest, whose folder then lies in `out`, even if it failed. Its
        status. ReadError (tarfile): nothing came back. What the script says is on stderr."""
        argv = self.command("exec", ["sh", "-c", f"{script}; rc=$?; tar -cf - out; exit $rc"],
                            timeout, into)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as run:
            try:
                with tarfile.open(fileobj=run.stdout, mode="r|") as tar:
                    tar.extractall(out, **FILTER)
            finally:
                status = run.wait()
        return status

    def start(self, who: str) -> None:
        """As up(), for a command whose user reads what testbed/vm says; ends it on failure."""
        if subprocess.run([VM, "up", "--config", self.config]).returncode:
            sys.exit(f"{who}: the machine did not start; testbed/vm log shows why")

    def up(self) -> None:
        r = self.run("up", timeout=1500)
        if r.returncode:
            raise RuntimeError(f"machine {self.config} could not boot:\n{r.stderr[-2000:]}")

    def down(self) -> None:
        self.run("down")

    def log(self) -> str:
        """The serial log, on which Xen, dom0 and the guest print."""
        return str(self.run("log").stdout)

    def boot_log(self) -> str:
        """The same, from the machine's first boot on."""
        r = self.run("log", flags=["--boot"])
        if r.returncode or not r.stdout:
            raise RuntimeError(f"machine {self.config} has no boot log: {r.stderr}")
        return str(r.stdout)


def running() -> set[str]:
    """The configurations whose machines run."""
    out = subprocess.run([VM, "status"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[0] for line in out.splitlines() if "running" in line}
