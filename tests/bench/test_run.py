# SPDX-License-Identifier: GPL-2.0-only
"""The bench itself: natively for the software trackers, and a quick run in the emulated guest."""

import csv
import signal
import subprocess
import time

import pytest

from conftest import TOP, bench_lines

RUN = TOP / "bench" / "run"


def run(*argv, timeout=600):
    return subprocess.run([RUN, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=timeout)


def rows(folder):
    with open(folder / "report.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def lines(folder, part):
    return [d for d in bench_lines((folder / "raw.txt").read_text(encoding="utf-8")) if d["part"] == part]


def test_here(tmp_path):
    """And what this machine lacks is said."""
    r = run("--here", "--quick", "--out", tmp_path)
    assert r.returncode == 0, r.stderr
    found = rows(tmp_path)
    assert {x["substrate"] for x in found if x["section"] != "paper"} == {"native"}
    trackers = {x["tracker"] for x in found}
    assert {"pagemap-scan", "uffd-wp", "mprotect"} <= trackers
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    for name in {"spml", "epml", "soft-dirty"} - trackers:
        assert f"{name}: not usable" in " ".join(text.split())
    assert all(d["missed"] == 0 for part in ("headline", "share") for d in lines(tmp_path, part))


@pytest.fixture(scope="module")
def quick(tmp_path_factory, machines):
    machines.end()
    out = tmp_path_factory.mktemp("quick")
    try:
        yield out, run("--quick", "--lanes", "1", "--out", out, timeout=1500)
    finally:
        subprocess.run([TOP / "testbed" / "vm", "down", "--config", "bench"])


@pytest.mark.timeout(1800)
def test_quick(quick):
    out, r = quick
    assert r.returncode == 0, r.stderr
    parts = {x["section"] for x in rows(out)}
    assert {"headline", "events", "phases", "share", "program", "guests", "costs", "paper"} <= parts


def test_quick_misses_nothing(quick):
    out, _ = quick
    seen = [d for part in ("headline", "share") for d in lines(out, part)]
    assert {d["backend"] for d in seen} == {"none", "epml", "spml", "pagemap-scan", "soft-dirty", "uffd-wp", "mprotect"}
    for d in seen:
        assert d["missed"] == 0, d
        # here a round is exactly what was written
        if d["part"] == "share" and d["backend"] != "none":
            assert d["extra"] == 0 and d["reported"] == d["work"], d


def test_quick_is_on_the_costed_clock(quick):
    out, _ = quick
    for d in lines(out, "headline"):
        assert d["costs"] == 100
        assert d["charged"] > 0


def test_here_is_stopped(tmp_path):
    """What runs in it ends, and what was measured is there."""
    p = subprocess.Popen([RUN, "--here", "--quick", "--out", tmp_path], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (tmp_path / "raw.txt").exists() or p.poll() is not None:
            break
        time.sleep(0.1)
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=120)
    assert p.returncode == 130, err
    assert "stopped" in err
    assert "part headline" in (tmp_path / "raw.txt").read_text(encoding="utf-8")
    assert "stopped before it" in (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert not subprocess.run(["pgrep", "-f", "host-bench/array"], stdout=subprocess.PIPE).stdout


def test_no_place_for_it():
    r = run("--here", "--quick", "--out", "/dev/null/x")
    assert r.returncode == 1
    assert "/dev/null/x" in r.stderr and "Traceback" not in r.stderr


@pytest.mark.parametrize("argv,why", [(["--only", "nothing"], "no part 'nothing'"), (["--only", ""], "no part ''"), (["--lanes", "0"], "lanes"),
                                      (["--here", "--lanes", "1"], "--here needs none"), (["--everything"], "unrecognized")])
def test_usage(argv, why):
    r = run(*argv)
    assert r.returncode == 2
    assert why in r.stderr
