# SPDX-License-Identifier: GPL-2.0-only
"""tests/run --here: the guest's tests on this machine, which has no log: what it needs, and what it
leaves out."""

import subprocess

from conftest import LONG, TOP

RUN = TOP / "tests" / "run"


def here(*command, **kw):
    return subprocess.run([*command, RUN, "--here", "-k", "store", "tests/guest/test_verify.py"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=800,
                          **kw)


def test_it_says_what_it_needs():
    r = here("setpriv", "--reuid", "65534", "--clear-groups")
    assert r.returncode == 2
    assert "here: needs root" in r.stdout


@LONG
def test_trackers_of_the_kernel():
    r = here()
    assert r.returncode == 0, r.stdout
    assert "no module, so no log: " in r.stdout
    assert "test_nothing_missed_in_the_guest[pagemap-scan-store] PASSED" in r.stdout
    usable = [line.split()[1:3] for line in r.stdout.splitlines() if line.startswith("here: ")]
    if ["soft-dirty", "not"] in usable:
        assert "soft-dirty is not usable here" in r.stdout
