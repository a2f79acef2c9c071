# SPDX-License-Identifier: GPL-2.0-only
"""The bench natively, for the software trackers, and what it does with wrong arguments."""

import signal
import subprocess
import time

import pytest

from benchlib import RUN, lines, rows, run


def test_here(tmp_path):
    """The report also says what this machine lacks."""
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


def test_here_is_stopped(tmp_path):
    """Its programs end, and the report has what was measured by then."""
    p = subprocess.Popen([RUN, "--here", "--quick", "--out", tmp_path], stdin=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
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


@pytest.mark.parametrize("argv,why", [(["--only", "nothing"], "no part 'nothing'"),
                                      (["--only", ""], "no part ''"), (["--lanes", "0"], "lanes"),
                                      (["--here", "--lanes", "1"], "--here needs none"),
                                      (["--everything"], "unrecognized")])
def test_usage(argv, why):
    r = run(*argv)
    assert r.returncode == 2
    assert why in r.stderr
