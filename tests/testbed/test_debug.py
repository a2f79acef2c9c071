# SPDX-License-Identifier: GPL-2.0-only
"""What only a Xen with assertions finds, on two processors: a PVH dom0's order of locks, by Xen's
debug key 'F', as there is no IOMMU here and dom0 is a PV one; and a domain that goes while a device
model asks for its video memory."""

import re

import pytest
from guest.domain import DOM0
from guest.watched import Watch

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def machine(fresh_debug):
    return fresh_debug


def test_a_pvh_dom0_maps_a_page(machine):
    """Its p2m's locks are of higher order than all of a guest's: the key does what its mapping of a
    page does, with another domain in its place. The guest hears of it, and the host's log does not:
    a migration sends pages by such mappings."""
    w = Watch(machine)
    w.dom0("grep -v '^ *name\\|^ *memory\\|^ *ramdisk\\|^ *spml\\|^ *epml' /guest/xl.cfg "
           ">/tmp/other.cfg; "
           "printf '%s\\n' 'name=\"other\"' memory=128 >>/tmp/other.cfg; "
           "xl create -p /tmp/other.cfg")
    w.dom0(f"/tmp/tools/logdirty {w.domid} on; /tmp/tools/logdirty {w.domid} clean >/dev/null")
    assert w.rounds(3)[1:] == [0, 0]
    said = w.dom0("xl debug-keys F; xl dmesg | grep SPML: | tail -n 3")
    print(said)
    found = re.search(r"maps gfn ([0-9a-f]+) of d\d+: (-?\d+)\n.*before: (\d), after: (\d), "
                      r"dirty for the host: (\d+)\n"
                      r".*unmapped: (-?\d+)", said)
    assert found and [int(found[1], 16), *map(int, found.groups()[1:])] == [w.frame, 0, 1, 0, 0, 0]
    assert w.round() == 1
    w.dom0(f"/tmp/tools/logdirty {w.domid} off")
    w.settles()


def test_a_domain_goes_while_its_video_memory_is_tracked(machine):
    """A device model starts, asks and stops in a loop, the host logs what is written, a tracker has
    logs: none of it keeps the domain from being destroyed, and Xen does not touch what is gone."""
    m = machine
    m.good("setsid ooh record -b spml -n 1000 -i 20 -- /usr/lib/ooh/tests/changers store "
           "</dev/null >/dev/null 2>&1 & "
           "for i in $(seq 50); do pidof ooh >/dev/null && exit 0; sleep 0.1; done; exit 1")
    r = m.dom0("mkdir -p /tmp/tools; cp mapped logdirty /tmp/tools; cd /tmp/tools; "
               "D=$(xl domid guest); ./logdirty $D on; "
               "setsid ./mapped $D churn 0x8000 512 </dev/null >/tmp/churned 2>&1 & sleep 2; "
               "xl destroy guest; "
               "for i in $(seq 120); do [ -s /tmp/churned ] && ! xl list guest >/dev/null 2>&1 && "
               "exit 0; sleep 0.5; done; exit 1",
               into=[DOM0 / "mapped", DOM0 / "logdirty"], timeout=180)
    assert r.returncode == 0, r.stdout + r.stderr
    times, error = m.dom0("cat /tmp/churned").stdout.split()
    print(f"tracked {times} times, until {error}")
    assert int(times) > 5 and error in ("ESRCH", "EINVAL")
