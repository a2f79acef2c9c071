# SPDX-License-Identifier: GPL-2.0-only
"""The clock that charges for events is off where it was not asked for
(tests/testbed/test_costs.py: where it was)."""

from bench import raw


def test_off_unless_asked_for(vm):
    r = vm.sh("emustat --costs 100")
    assert r.returncode == 1
    assert "no table of costs" in r.stderr
    numbers = next(raw.lines(vm.good("/usr/lib/ooh/bench/calibrate syscall")))
    assert numbers["charged"] == 0
    assert numbers["syscall"] >= 20000
