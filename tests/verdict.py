# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin: the closing lines, and the kernel logs as part of each verdict.

A test that used an emulated machine also fails (as an error) when the machine's
one serial log, which holds what Xen, dom0 and the guest print, gained a line
that looks like a defect. Lines that are known and harmless are in log-allow.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Iterator

import pytest

BAD = re.compile(
    r"\bBUG\b|\bWARNING:|\bOops\b|[Gg]eneral protection|Kernel panic|soft lockup|rcu.*stall"
    r"|\(XEN\).*(Assertion|FATAL|Xen WARN|Xen call trace|domain_crash|Domain \d+ .*crashed)"
)


def allowed() -> list[re.Pattern[str]]:
    lines = (Path(__file__).parent / "log-allow").read_text().splitlines()
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


def bad_lines(text: str) -> list[str]:
    known = allowed()
    return [line for line in text.splitlines()
            if BAD.search(line) and not any(k.search(line) for k in known)]


# Names of the machines that this process's tests have started: two processes share the
# tests, each with machines of its own.
watched: set[str] = set()


def serial_logs() -> dict[Path, int]:
    run = Path(os.environ["OOH_BUILD"]) / "testbed" / os.environ.get("OOH_RUN", "run")
    logs = (run / name / "serial.log" for name in sorted(watched))
    return {p: p.stat().st_size for p in logs if p.exists()}


def own_log() -> list[str]:
    """This machine's, if it is the one that is tested."""
    if os.environ.get("OOH_MACHINE") != "here":
        return []
    return subprocess.run(["dmesg"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False).stdout.splitlines()


@pytest.fixture(autouse=True)
def kernel_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each serial log, from where it stood before the test. A test that provokes
    a line on purpose says so: @pytest.mark.provokes("regular expression")."""
    before, own = serial_logs(), own_log()
    yield
    expected = [re.compile(m.args[0]) for m in request.node.iter_markers("provokes")]
    for path, _ in serial_logs().items():
        size = path.stat().st_size
        start = before.get(path, 0)
        with path.open("rb") as f:
            f.seek(start if start <= size else 0)
            found = bad_lines(f.read().decode(errors="replace"))
        found = [line for line in found if not any(e.search(line) for e in expected)]
        if found:
            raise RuntimeError(f"{path.parent.name}: in the serial log:\n" + "\n".join(found[:20]))
    found = [line for line in bad_lines("\n".join(own_log()[len(own):]))
             if not any(e.search(line) for e in expected)]
    if found:
        raise RuntimeError("in this machine's kernel log:\n" + "\n".join(found[:20]))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "provokes(regex): log lines the test provokes on purpose")


# file -> worker -> seconds; and when a worker's last test of all ended
spent: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
ended: dict[str, float] = {}
began = time.monotonic()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    worker = getattr(report, "worker_id", "")
    spent[report.nodeid.split("::")[0]][worker] += report.duration
    ended[worker] = time.monotonic() - began


def times() -> str:
    """The table of seconds, the longest file first. Workers that end far apart waste a
    processor."""
    whole = {name: sum(seconds.values()) for name, seconds in spent.items()}
    rows: list[tuple[str, dict[str, float]]] = [
        (name, spent[name]) for name in sorted(whole, key=lambda name: -whole[name])
        if whole[name] >= 1]
    workers = sorted(ended)
    sums = {w: sum(seconds.get(w, 0) for _, seconds in rows) for w in workers}
    lines = ["seconds" + "".join(f"{w:>8}" for w in workers)]
    for name, seconds in [*rows, ("all of these", sums), ("when it ended", ended)]:
        cells = [f"{seconds[w]:.0f}" if seconds.get(w) else "" for w in workers]
        lines.append("       " + "".join(f"{c:>8}" for c in cells) + f"  {name}")
    return "\n".join(lines)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    if spent:
        print(times())
    count = {k: len(reporter.stats.get(k, [])) for k in ("passed", "failed", "error", "skipped")}
    if count["error"]:
        print(f"{count['error']} of the failed are errors: the test or its machine broke")
    failed = count["failed"] + count["error"]
    print(f"{count['passed']} passed, {failed} failed, {count['skipped']} skipped", flush=True)
