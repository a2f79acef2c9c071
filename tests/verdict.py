# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin: the closing lines, and the kernel logs as part of each verdict.

A test that used an emulated machine also fails (as an error) when the machine's
one serial log, which holds what Xen, dom0 and the guest print, gained a line
that looks like a defect. Lines that are known and harmless are in log-allow.
"""

import collections
import os
import re
import time
from pathlib import Path

import pytest

BAD = re.compile(
    r"\bBUG\b|\bWARNING:|\bOops\b|[Gg]eneral protection|Kernel panic|soft lockup|rcu.*stall"
    r"|\(XEN\).*(Assertion|FATAL|Xen WARN|Xen call trace|domain_crash|Domain \d+ .*crashed)"
)


def allowed():
    lines = (Path(__file__).parent / "log-allow").read_text().splitlines()
    return [re.compile(l) for l in lines if l and not l.startswith("#")]


def bad_lines(text):
    known = allowed()
    return [
        l for l in text.splitlines() if BAD.search(l) and not any(k.search(l) for k in known)
    ]


# Names of the machines that this process's tests have started: two processes share the
# tests, each with machines of its own.
watched = set()


def serial_logs():
    run = Path(os.environ["OOH_BUILD"]) / "testbed" / os.environ.get("OOH_RUN", "run")
    logs = (run / name / "serial.log" for name in sorted(watched))
    return {p: p.stat().st_size for p in logs if p.exists()}


@pytest.fixture(autouse=True)
def kernel_logs(request):
    """Each serial log, from where it stood before the test. A test that provokes
    a line on purpose says so: @pytest.mark.provokes("regular expression")."""
    before = serial_logs()
    yield
    expected = [re.compile(m.args[0]) for m in request.node.iter_markers("provokes")]
    for path, _ in serial_logs().items():
        size = path.stat().st_size
        start = before.get(path, 0)
        with path.open("rb") as f:
            f.seek(start if start <= size else 0)
            found = bad_lines(f.read().decode(errors="replace"))
        found = [l for l in found if not any(e.search(l) for e in expected)]
        if found:
            raise RuntimeError(f"{path.parent.name}: in the serial log:\n" + "\n".join(found[:20]))


def pytest_configure(config):
    config.addinivalue_line("markers", "provokes(regex): log lines the test provokes on purpose")


# file -> worker -> seconds; and when a worker's last test of all ended
spent = collections.defaultdict(collections.Counter)
ended = {}
began = time.monotonic()


def pytest_runtest_logreport(report):
    worker = getattr(report, "worker_id", "")
    spent[report.nodeid.split("::")[0]][worker] += report.duration
    ended[worker] = time.monotonic() - began


def times():
    """The table of seconds, the longest file first. Workers that end far apart waste a processor."""
    rows = sorted(spent.items(), key=lambda item: -item[1].total())
    rows = [(name, seconds) for name, seconds in rows if seconds.total() >= 1]
    workers = sorted(ended)
    sums = {w: sum(seconds[w] for _, seconds in rows) for w in workers}
    lines = ["seconds" + "".join(f"{w:>8}" for w in workers)]
    for name, seconds in [*rows, ("all of these", sums), ("when it ended", ended)]:
        lines.append("       " + "".join(f"{f'{seconds[w]:.0f}' if seconds[w] else '':>8}" for w in workers) + f"  {name}")
    return "\n".join(lines)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
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
