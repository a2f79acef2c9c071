# SPDX-License-Identifier: GPL-2.0-only
"""The processor against docs/epml-spec.md, without Xen and Linux: a bare VMX host (host.h)
boots in Bochs, runs a guest for each TEST() of the C files beside this one, and prints a
verdict for each. It runs once here for all of them; once more on a processor without EPML;
once from a snapshot that a guest asked for in the midst of its test; and once with a clock that
charges for events (testbed/costs): what each costs is printed by test_costs.c."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import TOP
from testbed import tables
from testbed.emulator import bochsrc

HERE = Path(__file__).parent
OUT = Path(os.environ["OOH_BUILD"]) / "vmx"
PARTS = Path(os.environ["OOH_BUILD"]) / "testbed"
FEATURES = "vmx_epml vmx_ept_dirty_vmfunc vmx_spp"
LIMIT = 120  # s; a run takes less than 10
TESTS = sorted((path.stem[5:], name) for path in HERE.glob("test_*.c")
               for name in re.findall(r"^TEST(?:_ALWAYS)?\((\w+)\)", path.read_text(), re.M))


@pytest.fixture(scope="module")
def built():
    """Bochs and the disc of the host."""
    subprocess.run([TOP / "testbed" / "build", "bochs"], check=True)
    subprocess.run(["make", "-s", "-C", HERE, f"O={OUT}"], check=True)
    return PARTS / "bochs"


class Run:
    """One run of the machine, to its end or the limit: verdicts by name, (verdict, reason); what
    tests measured, by name, "word number ...". `costs`: a table of them."""

    def __init__(self, bochs, name, features="", restore=None, costs=None):
        self.dir = OUT / "run" / name
        subprocess.run(["rm", "-rf", self.dir], check=True)
        self.dir.mkdir(parents=True)
        cpu = "corei7_skylake_x, ips=200000000, reset_on_triple_fault=0"
        if features:
            cpu += f', add_features="{features}"'
        (self.dir / "bochsrc").write_text(bochsrc(bochs, cpu, "32", OUT / "host.iso"))
        if costs:
            (self.dir / "costs").write_text(costs, encoding="utf-8")
        args = ["-r", restore] if restore else ["-f", "bochsrc"]
        try:
            self.status = subprocess.run([bochs / "bochs", "-q", *args], cwd=self.dir,
                                         timeout=LIMIT,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL,
                                         env={**os.environ, "BX_SIM_DIR": "."}).returncode
        except subprocess.TimeoutExpired:
            self.status = "time over"
        self.log = (self.dir / "serial.log").read_text(errors="replace")
        said = list(re.finditer(r"^TEST (\w+): (?:\[(.*)\] )?(SUCCESS|FAILURE|ERROR|SKIP) ?(.*)$",
                                self.log, re.M))
        self.verdicts = {m[1]: (m[3], m[4]) for m in said}
        self.measured = {m[1]: m[2] for m in said if m[2]}

    def numbers(self, name):
        """What the test has measured: the event, and numbers by name."""
        event, *pairs = self.measured[name].split()
        return event, {k: int(v) for k, v in zip(pairs[::2], pairs[1::2])}

    def ended(self):
        return self.status == 0 and self.log.endswith("END\n")


@pytest.fixture(scope="module")
def run(built):
    return Run(built, "epml", FEATURES)


@pytest.fixture(scope="module")
def with_costs(built):
    return Run(built, "costs", FEATURES,
               costs=(TOP / "testbed" / "costs").read_text(encoding="utf-8"))


def verdict_of(run, name):
    if name not in run.verdicts:
        # not a verdict on the processor: the test or its machine broke
        raise RuntimeError(f"no verdict; status {run.status}, the output ends with:\n"
                           f"{run.log[-500:]}")
    verdict, reason = run.verdicts[name]
    if verdict == "SKIP":
        pytest.skip(reason)
    if verdict == "ERROR":
        raise RuntimeError(reason)
    assert verdict == "SUCCESS", reason


WITHOUT_COSTS = [t for t in TESTS if t[0] != "costs"]


@pytest.mark.parametrize("name", [name for _, name in WITHOUT_COSTS],
                         ids=["-".join(t) for t in WITHOUT_COSTS])
def test_cpu(run, name):
    verdict_of(run, name)


@pytest.mark.parametrize("name", [name for group, name in TESTS if group == "costs"])
def test_an_event_costs_what_the_table_says(with_costs, name):
    """By the time stamp counter, within a tenth; what else was charged in the window is
    taken off, by the table."""
    verdict_of(with_costs, name)
    event, numbers = with_costs.numbers(name)
    charges = {k: numbers[k] * cost for k, cost in tables.costs().items()}
    mine = charges.pop(event)
    found = numbers["charged"] - sum(charges.values())
    print(f"{event}: {found / mine:.3f} of what the table says, {numbers[event]} times")
    assert name == f"costs_{event}"
    assert numbers[event] >= 200
    assert found == pytest.approx(mine, rel=0.1)


def test_an_exit_costs_by_its_reason(built):
    """Here VMCALL, basic reason 18; and what the table leaves out costs nothing."""
    for table, each in (("vmexit 330\nvmexit.18 1000\n", 1000),
                        ("vmexit 330\nvmexit.10 1000\n", 330), ("iret 5\n", 0)):
        event, numbers = Run(built, "reason", FEATURES, costs=table).numbers("costs_vmexit")
        assert event == "vmexit" and numbers[event] >= 200
        assert numbers["charged"] == pytest.approx(each * numbers[event], rel=0.01)


def test_costs_change_no_verdict(run, with_costs):
    assert with_costs.ended(), (with_costs.status, with_costs.log[-500:])
    for group, name in TESTS:
        found, expected = with_costs.verdicts[name], run.verdicts[name][0]
        assert found[0] == ("SUCCESS" if group == "costs" else expected), found
        assert group != "costs" or run.verdicts[name][1] == "this machine has no table of costs"


def test_all_of_it_ran(run):
    assert run.ended(), (run.status, run.log[-500:])
    assert set(run.verdicts) == {name for _, name in TESTS}


def test_a_processor_without_epml(built):
    plain = Run(built, "plain")
    assert plain.ended(), (plain.status, plain.log[-500:])
    verdicts = {name: v for name, (v, _) in plain.verdicts.items()}
    assert verdicts.pop("enumeration") == "SUCCESS", plain.verdicts["enumeration"]
    assert set(verdicts.values()) == {"SKIP"}


def test_undefined_bits_of_a_full_pml_log(built, run):
    """With the feature for it, a full log's qualification has every bit that the
    manual leaves undefined."""
    assert run.measured["pml_full_without_epml"] == "qualification 0"
    undefined = Run(built, "undefined", FEATURES + " vmx_pml_undefined_bits")
    assert undefined.ended(), (undefined.status, undefined.log[-500:])
    assert undefined.measured["pml_full_without_epml"] == "qualification ffffffffffffefff"
    assert {name: v for name, (v, _) in undefined.verdicts.items()} == {name: v for name,
                                                                        (v,
                                                                         _) in run.verdicts.items()}


def test_snapshot(built, run):
    """A machine started from the snapshot goes on in the guest, with the same verdict and
    the same verdicts of the tests behind it."""
    assert run.verdicts["snapshot"][0] == "SUCCESS", run.verdicts["snapshot"]
    again = Run(built, "restored", restore=run.dir / "save")
    assert again.ended(), (again.status, again.log[-500:])
    behind = run.log.split("TEST snapshot: ")[1]
    assert again.log == behind
