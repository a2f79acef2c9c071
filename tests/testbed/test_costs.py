# SPDX-License-Identifier: GPL-2.0-only
"""The clock that charges for events (testbed/costs): what the guest's time stamp counter shows is
what the table says, within a tenth, event by event; and it is off where it was not asked for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from bench import raw
from conftest import TOP
from testbed import tables

BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))

CALIBRATE = "/usr/lib/ooh/bench/calibrate"
TOLERANCE = 0.1
# pairs that no program of Linux can part: what enters comes out again
PAIRS = {"vmexit": "vmentry", "exception": "iret", "syscall": "sysret"}
# event -> the loop that has most of it
EVENTS = {"syscall": "syscall", "vmexit": "cpuid", "exception": "fault", "nested_walk": "walk",
          "mov_cr3": "switch", "invlpg": "unmap", "ad_update": "cold", "walk": "dom0",
          "interrupt": "spin", "pml_record": "spml",
          "epml_record": "epml", "ept_clear": "epml"}
# Those that no program causes enough of to be seen beside others; tests/vmx measures them, and the
# halves of pairs, in its own host and guest.
BY_THE_PROCESSOR = {"vmread", "vmwrite", "ipi", "posted_interrupt", "shadow_vmread",
                    "shadow_vmwrite", "invept", "invvpid", "invpcid",
                    "vmfunc"}
# The costs are fourfold, and what else is no instruction that is counted (string instructions), as
# of a run without costs, is taken off. With tenfold costs the guest lags behind its timer: it does
# little but handle interrupts.
LOOPS = ("syscall", "cpuid", "fault", "walk", "switch", "unmap", "cold", "spin", "spml", "epml")
SCALE = 4
# seconds, for a machine that has others to do: a loop alone takes up to 60
LIMIT = 900

pytestmark = pytest.mark.timeout(2400)


def calibrated(vm, loop, *costs):
    """What the program measures in a loop, after emustat --costs with each of these."""
    told = " && ".join(f"emustat --costs {c}" for c in costs)
    return next(raw.lines(vm.good(f"{told} && {CALIBRATE} {loop}", timeout=LIMIT)))


@pytest.fixture(scope="module")
def loops(machines):
    """Loop -> what the program has measured there."""
    vm = machines("charged")
    out = {}

    def run(name, command, scale=SCALE):
        bare, costly = (command(percent) for percent in (0, 100 * scale))
        out[name] = {**costly, "scale": scale,
                     "other": bare["cpus"] * bare["ticks"] - bare["executed"]}

    def in_dom0(percent):
        r = vm.dom0(f"emustat --costs {percent} && ./calibrate walk",
                    into=[BUILD / "guest" / CALIBRATE[1:]],
                    timeout=LIMIT)
        assert r.returncode == 0, r.stderr
        return next(raw.lines(r.stdout))

    for name in LOOPS:
        run(name, lambda percent, name=name: calibrated(vm, name, percent))
    # dom0, where everything else runs, lags behind its timer sooner
    run("dom0", in_dom0, scale=1)
    vm.good("emustat --costs 100")
    return out


def charges(d, costs):
    """What the table says for the events of a loop, by event."""
    parts = {name: d[name] * costs[name] * d.get("scale", 1) for name in costs if name in d}
    parts["vmexit"] = d["exits"] * costs["vmexit"] * d.get("scale", 1)
    return parts


def measured(d):
    """Cycles that were no instructions, by the guest's time stamp counter."""
    return d["cpus"] * d["ticks"] - d["executed"] - d.get("other", 0)


def test_each_event_is_measured_somewhere():
    halves = {half for pair in PAIRS.items() for half in pair}
    assert {*EVENTS, *PAIRS.values(), *BY_THE_PROCESSOR} == set(tables.costs())
    measured_there = set(re.findall(r"^TEST\(costs_(\w+)\)",
                                    (TOP / "tests" / "vmx" / "test_costs.c").read_text(), re.M))
    assert measured_there >= BY_THE_PROCESSOR | halves


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_costs_what_the_table_says(loops, event):
    costs, d = tables.costs(), loops[EVENTS[event]]
    parts = charges(d, costs)
    pair = [event, *([PAIRS[event]] if event in PAIRS else [])]
    mine, others = (sum(v for k, v in parts.items() if (k in pair) == own) for own in (True, False))
    assert mine > 0, f"no {event} in this loop"
    found = measured(d) - others
    print(f"{' + '.join(pair)}: {found / mine:.3f} of what the table says")
    # it must not drown in what the others may be off by
    slack = 0.001 * others
    assert mine > 3 * (TOLERANCE * mine + slack), "this loop does not show it"
    assert abs(found - mine) <= TOLERANCE * mine + slack


def test_the_whole_is_the_sum(loops):
    """And what the emulator says it has charged is that, exactly."""
    for name, d in loops.items():
        whole = sum(charges(d, tables.costs()).values())
        assert measured(d) == pytest.approx(whole, rel=0.03), name
        assert d["charged"] == pytest.approx(whole, rel=0.001), name


def test_a_share_of_the_costs(machines):
    vm = machines("charged")
    for percent in (0, 50, 100, 200):
        d = calibrated(vm, "syscall", percent)
        # halves are rounded down
        whole = sum(charges(d, tables.costs()).values())
        assert d["charged"] == pytest.approx(whole * percent / 100, rel=0.05), percent
        assert d["ticks"] > d["executed"] + 0.99 * d["charged"]
    vm.good("emustat --costs 100")


@pytest.mark.parametrize("event", ["syscall", "vmexit"])
def test_a_share_of_one_cost(machines, event):
    """The others are charged whole."""
    vm, loop = machines("charged"), {"syscall": "syscall", "vmexit": "cpuid"}[event]
    d = calibrated(vm, loop, 100, f"200 {event}")
    vm.good("emustat --costs 100")
    parts = charges(d, tables.costs())
    assert parts[event] > 0.1 * sum(parts.values())
    assert d["charged"] == pytest.approx(sum(parts.values()) + parts[event], rel=0.001)


def test_a_bad_event(machines):
    r = machines("charged").exec("emustat", "--costs", "50", "sycall")
    assert r.returncode == 2
    assert "sycall: no event of the table of costs" in r.stderr


def test_two_processors(machines):
    """Instructions and costs are in one unit there, too. Dom0 keeps the other one busy:
    its agent asks for work."""
    d = calibrated(machines("charged2"), "syscall", 100)
    assert d["cpus"] == 2
    assert 2 * d["ticks"] == pytest.approx(d["executed"] + d["charged"], rel=0.1)


@pytest.mark.parametrize("share", ["", "-1", "1001", "x", "5%"])
def test_a_bad_share(machines, share):
    r = machines("charged").exec("emustat", "--costs", share)
    assert r.returncode == 2
    assert "not a percentage" in r.stderr


@pytest.mark.parametrize("text,why", [("syscall\n", "line 1: not NAME TICKS"),
                                      ("# x\nsyscall many\n", "line 2: not NAME TICKS"),
                                      ("syscall 1 2\n", "line 1: not NAME TICKS"),
                                      ("sycall 5\n", "no event 'sycall'"),
                                      ("vmexit.96 5\n", "no event 'vmexit.96'"),
                                      ("iret 1000001\n", "above 1000000 ticks")])
def test_a_bad_table(machines, tmp_path, text, why):
    """Bochs says what is wrong with it and ends."""
    machines("charged")
    parts = BUILD / "testbed"
    (tmp_path / "costs").write_text(text)
    snapshot = (parts / os.environ.get("OOH_RUN", "run") / "charged" / "snapshot").resolve()
    r = subprocess.run([parts / "bochs" / "bochs", "-q", "-r", snapshot], cwd=tmp_path,
                       env={"BX_SIM_DIR": ".", "PATH": "/usr/bin:/bin"},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60, text=True)
    log = tmp_path / "bochs.log"
    assert r.returncode != 0
    assert why in r.stdout + (log.read_text(errors="replace") if log.exists() else "")
