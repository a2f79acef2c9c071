# SPDX-License-Identifier: GPL-2.0-only
"""The guest's memory grows and shrinks while its processes are tracked: xl mem-set, in dom0. The
machine starts anew after each test, as what was plugged stays in the guest's map."""

import judge
import pytest
from conftest import LOGS, long
from guest.domain import DOM0
from hard import soaking

TESTS = "/usr/lib/ooh/tests"
MAXMEM = DOM0 / "maxmem"
GROW = "xl mem-max guest 1408 && xl mem-set guest 1408"

# Memory that the guest did not have at its start, and memory that is taken and given back
COME_AND_GO = """xl mem-max guest 1408
    (n=0; while :; do for m in 1408 1200; do xl mem-set guest $m && n=$((n+1))
    echo $n >/tmp/sets; sleep 2; done; done) & cat >/dev/null; kill $!; wait; cat /tmp/sets"""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def fresh(vm):
    vm.down()
    vm.up()
    yield vm
    vm.down()


def verified(m, log, way, rounds):
    doc = judge.sound(m.sh(f"ooh verify --json -b {log} -n {rounds} -i 50 -- "
                           f"{TESTS}/changers {way}"))
    assert not any(r["all_dirty"] for r in doc["rounds"][1:])


@pytest.mark.parametrize("log", LOGS)
def test_memory_is_plugged(fresh, log):
    """It comes after the module and after the tracker; then processes that begin in it."""
    with fresh.dom0_meanwhile(f"sleep 1; {GROW} && cat >/dev/null"):
        r = fresh.exec("env", f"OOH_TESTED={log}", f"{TESTS}/plugged", timeout=300)
    print(r.stdout, r.stderr)
    assert r.returncode == 0, r.stdout
    verified(fresh, log, "map", 4)


@pytest.mark.parametrize("log", ["epml", long("spml")])
def test_memory_comes_and_goes(fresh, log):
    """What the balloon took and gave back has other frames behind it: none of them is silent."""
    script = ("n=0; while :; do for m in 1000 1280; do xl mem-set guest $m && n=$((n+1)); "
              "echo $n >/tmp/sets; "
              "sleep 1; done; done & cat >/dev/null; kill $!; wait; cat /tmp/sets")
    with fresh.dom0_meanwhile(script) as sets:
        for way in ("map", "huge"):
            verified(fresh, log, way, 12)
    assert int(sets[0]) > 1


@pytest.mark.parametrize("log", ["spml", long("epml")])
def test_a_hard_process_meanwhile(fresh, log):
    """The generator of hard processes, in what is plugged, too."""
    result = soaking.Result("default", log, asked=["plugged", "plugged-store"])
    with soaking.prepared(fresh), fresh.dom0_meanwhile(COME_AND_GO) as sets:
        assert not soaking.run(fresh, result, 15_000, seed=4)
    print(soaking.kinds_table(result))
    assert result.sum["missed"] == 0 < result.sum["changed"] and result.ops == 15_000
    # at most the rounds in which plugged memory was first seen
    assert result.all_dirty <= 2 < result.rounds
    assert result.kinds["plugged"]["done"] > 0 and result.kinds["plugged-store"]["done"] > 0
    assert int(sets[0]) > 1


@pytest.mark.parametrize("log", LOGS)
def test_more_frames_than_xen_follows(fresh, log):
    """Xen follows as many frames as the domain may have pages. That is less than it
    has here, for a while."""
    r = fresh.dom0("cp maxmem /tmp; /tmp/maxmem $(xl domid guest) 65536", into=[MAXMEM])
    assert r.returncode == 0, r.stderr
    fresh.good(f"setsid sh -c 'OOH_TESTED={log} {TESTS}/refused 150 /run/full; "
               "echo $? >/run/status' </dev/null "
               ">/run/out 2>&1 & for i in $(seq 1200); do [ -e /run/full ] && exit 0; "
               "[ -e /run/status ] && break; sleep 0.1; done; "
               "cat /run/out; exit 1", timeout=300)
    assert fresh.dom0("/tmp/maxmem $(xl domid guest) 1400000").returncode == 0
    out = fresh.good("rm /run/full; for i in $(seq 600); do [ -e /run/status ] && break; "
                     "sleep 0.1; done; "
                     "cat /run/out /run/status", timeout=120)
    print(out)
    assert out.split()[-1] == "0" and "ok:" in out
