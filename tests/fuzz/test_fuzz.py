# SPDX-License-Identifier: GPL-2.0-only
"""A guest that wants to harm Xen, for a short while (make fuzz: for hours): the hypercall
with arguments of all kinds from all vCPUs, on a Xen with assertions and two processors,
each quota at its limit, and the guest's end during all that. What Xen prints is part of
the verdict, as everywhere."""

import pytest

from fuzz import fuzzing
from guest.domain import spml_stats


@pytest.fixture
def machine(fresh_debug):
    return fresh_debug


def broken(result):
    return result.numbers["broken"], "\n".join(result.messages[:5])


def test_quotas(machine):
    """At each limit: granted; one above: refused with the error that is documented."""
    result = fuzzing.Result()
    fuzzing.run_module(machine, result, mode="limits")
    print("\n".join(result.limits))
    assert len(result.limits) == 55
    assert broken(result)[0] == 0, broken(result)


@pytest.mark.timeout(1800)
def test_hostile_calls(machine):
    """Nothing that the interface promises is broken, Xen has its memory back when the
    guest was destroyed during calls, and another domain was not touched."""
    fuzzing.start_neighbour(machine)
    fuzzing.destroyed(machine)
    before = fuzzing.free_pages(machine)
    machine.down()

    machine.up()
    fuzzing.start_neighbour(machine)
    result = fuzzing.Result()
    fuzzing.run_module(machine, result, calls=10000, epoch=1000, seed=1)
    print(result.table())
    assert broken(result)[0] == 0, broken(result)
    assert result.numbers["calls"] >= 10000
    # it did what it is for
    for event in ("orderly", "records", "mores", "ballooned", "moved", "granted", "superpages",
                  "answer start 0", "answer arm 0", "answer collect 0", "answer stop 0",
                  "answer logreg 0", "answer logunreg 0", "answer rearm 0", "indices", "vmfuncs"):
        assert result.numbers[event] > 0, event
    fuzzing.destroy_in_the_midst(machine, seed=2)
    after = fuzzing.free_pages(machine)
    print(f"free pages of Xen: {before}, {after}")
    assert before > 10000 and abs(after - before) <= fuzzing.POOLS
    assert fuzzing.neighbour_goes_on(machine)


def test_a_soft_reset(machine):
    """Nothing is followed for the kernel that comes next: with a tracker, which has frames and
    logs, and amid calls. (What would see to everything else of the domain does not run.)"""
    machine.good("setsid ooh record -n 1000 -i 20 -- /usr/lib/ooh/tests/changers store </dev/null "
                 ">/dev/null 2>&1 & sleep 2")
    before = spml_stats(machine)
    after = fuzzing.soft_reset(machine)
    print(before, after)
    assert before["tracked"] > 0 == after["tracked"] == after["logged"]
    fuzzing.destroyed(machine)
    fuzzing.create(machine)
    seen = fuzzing.reset_in_the_midst(machine, seed=3)
    print(seen)
    assert seen["records"] > 0 == seen["tracked"] == seen["logged"]
    assert not fuzzing.bad_lines(machine.log())


@pytest.mark.parametrize("fault, words", [
    ("canary", "which is not Xen's to write"),
    ("record", "which was never armed"),
    ("code", "answer -1 "),
    ("round", "exact round: 0x5554 reported"),
])
def test_a_planted_fault_is_seen(machines, fault, words):
    """The module itself breaks a promise of each kind; Xen is the usual one."""
    result = fuzzing.Result()
    fuzzing.run_module(machines("debug"), result, calls=3000, epoch=500, seed=1, plant=fault)
    assert result.numbers["broken"] == 1, broken(result)
    assert words in result.messages[0]
