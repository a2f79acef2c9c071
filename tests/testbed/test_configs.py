# SPDX-License-Identifier: GPL-2.0-only
"""The other machines of testbed/configs: they boot as their line says, and the
tracker's claims hold there too: several vCPUs, several processors, more vCPUs than
processors, and a Xen with its assertions on; while processes move between vCPUs, vCPUs
between processors, and while vCPUs and the whole guest come and go. (nospml and plainxen:
tests/guest/test_bad_input.py; migrate: tests/guest/test_migration.py) The processor of
2vcpu has no EPML."""

import json
import re

import judge
import pytest
from conftest import LOGS, long
from guest.domain import DOM0

TESTS = "/usr/lib/ooh/tests"
PAUSE = DOM0 / "pause"
VCPUS = {"2vcpu": 2, "2cpu": 2, "4vcpu": 4, "debug": 2}
PAIRS = [(config, log) for config in VCPUS for log in LOGS if (config, log) != ("2vcpu", "epml")]
# for make check 2cpu is the machine debug, which has as many processors and vCPUs,
# and a Xen with assertions
SOME = [long(p) if p[0] == "2cpu" else p for p in PAIRS]

pytestmark = pytest.mark.timeout(3000)


@pytest.fixture(scope="module", params=SOME, ids="-".join)
def other(machines, request):
    """A machine; its tests use the log of that name."""
    config, log = request.param
    m = machines(config)
    m.log = log
    yield m
    m.down()


def test_it_is_what_its_line_says(other):
    assert int(other.good("nproc")) == VCPUS[other.config]
    assert ("debug=y" in other.boot_log()) == (other.config == "debug")
    assert ("Extended Page Modification Logging" in other.boot_log()) == (other.config != "2vcpu")
    # epml where there is one, else spml
    doc = json.loads(other.good(f"ooh record --json -n 1 -i 20 -- {TESTS}/changers store "
                                "2>/dev/null"))
    assert doc["backend"] == ("spml" if other.config == "2vcpu" else "epml")
    if other.config == "2vcpu":
        assert doc["choice"].startswith("using spml (epml: Xen offers no EPML to this guest")
    else:
        assert doc["choice"] == "using epml"


@pytest.mark.parametrize("program", ["store", "mapping", "kernel_write", "several", "huge", "abi"])
def test_program(other, program):
    r = other.exec("env", f"OOH_TESTED={other.log}", f"{TESTS}/{program}", timeout=600)
    assert r.returncode == 0, r.stdout + r.stderr


def verify(m, way, rounds, beside):
    """ooh verify of a changer, with a script in the guest again and again until it has ended."""
    r = m.sh(f"""rm -f /tmp/stop /tmp/times
        (while [ ! -e /tmp/stop ]; do {beside}; echo >>/tmp/times; done) >/dev/null 2>&1 &
        ooh verify --json -b {m.log} -n {rounds} -i 50 -- {TESTS}/changers {way}
        s=$?; touch /tmp/stop; wait; [ $(wc -l </tmp/times) -gt 1 ] || s=99; exit $s""",
             timeout=600)
    return judge.sound(r)


def test_longest_stretch(other):
    """No part of a guest's operation keeps a CPU for longer than 1 ms at 3 GHz: of all that
    were, from arming the pages of a process, with four vCPUs and SPML one of 780 MiB, to
    letting go of everything."""
    pages = 200_000 if (other.config, other.log) == ("4vcpu", "spml") else 20_000
    other.good(f"OOH_TESTED={other.log} {TESTS}/writer {pages} 2", timeout=900)
    out = other.dom0("xl dmesg -c >/dev/null; xl debug-keys q; sleep 1; xl dmesg").stdout
    stretches = re.findall(r"SPML: longest part of an operation (\d+) cycles", out)
    print(stretches)
    assert len(stretches) == 1
    assert 0 < int(stretches[0]) < 3_000_000


@pytest.mark.parametrize("way", ["threads", "map", "fork", "spawn"])
def test_verify(other, way):
    r = other.exec("ooh", "verify", "--json", "-b", other.log, "-n", "6", "-i", "50", "--",
                   f"{TESTS}/changers", way, timeout=600)
    judge.sound(r)


def test_vcpus_come_and_go(other):
    """What an offline vCPU has in its log is collected; one that comes back logs again."""
    last = VCPUS[other.config] - 1
    # guest-wide: all of the changer's threads are moved to the vCPUs that are left
    script = "; ".join(f"for i in $(seq {last}); "
                       f"do echo {on} >/sys/devices/system/cpu/cpu$i/online; sleep 0.05; done"
                       for on in (0, 1))
    doc = verify(other, "threads", 30, script)
    assert not any(r["all_dirty"] for r in doc["rounds"][1:])
    assert int(other.good("nproc")) == VCPUS[other.config]


def test_a_process_moves_between_vcpus(other):
    n = VCPUS[other.config]
    masks = " ".join(f"{1 << i:x}" for i in range(n))
    script = (f"for i in $(seq 5); do for m in {masks}; do for p in $(pidof changers); do "
              "taskset -ap $m $p >/dev/null 2>&1; done; sleep 0.02; done; done; true")
    for way in ("store", "threads"):
        verify(other, way, 20, script)


def test_the_guest_is_paused(other):
    """All vCPUs are taken off their processors, in the middle of whatever they do."""
    domid = other.dom0("xl domid guest").stdout.strip()
    with other.dom0_meanwhile(f"./pause {domid}", into=[PAUSE]) as times:
        test_verify(other, "threads")
    assert int(times[0]) > 6


# Two processors: dom0 moves all vCPUs from one to the other and back
MOVED = pytest.mark.parametrize("other", [long(p) if p[0] == "2cpu" else p
                                          for p in PAIRS if p[0] in ("2cpu", "4vcpu")],
                                ids="-".join, indirect=True)
MOVE = """(n=0; while :; do for c in 0 1; do xl vcpu-pin guest all $c && n=$((n+1))
    echo $n >/tmp/moves; done; done) &
    cat >/dev/null; kill $!; wait; xl vcpu-pin guest all all && cat /tmp/moves"""


@MOVED
def test_vcpus_move_between_processors(other):
    """Translations that a processor cached before a vCPU left it hide no write when the vCPU is
    back."""
    with other.dom0_meanwhile(MOVE) as moves:
        for way in ("store", "threads"):
            verify(other, way, 20, "sleep 0.1")
    assert int(moves[0]) > 4


@MOVED
def test_all_vcpus_on_one_processor(other):
    assert other.dom0("xl vcpu-pin guest all 0").returncode == 0
    try:
        test_verify(other, "threads")
    finally:
        other.dom0("xl vcpu-pin guest all all")


@MOVED
def test_one_vcpu_on_two_processors(other):
    last = VCPUS[other.config] - 1
    switch = "for i in $(seq {}); do echo {} >/sys/devices/system/cpu/cpu$i/online; done"
    other.good(switch.format(last, 0))
    try:
        assert int(other.good("nproc")) == 1
        with other.dom0_meanwhile(MOVE) as moves:
            verify(other, "threads", 20, "sleep 0.1")
        assert int(moves[0]) > 2
    finally:
        other.good(switch.format(last, 1))
