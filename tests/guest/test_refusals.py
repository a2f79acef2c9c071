# SPDX-License-Identifier: GPL-2.0-only
"""What Xen refuses to a domain with SPML, since it would change the guest's memory under
frames that are followed: at creation, and later. Not tried: passthrough (there is no IOMMU
here) and shadow paging (the distribution's Xen, and ours, is built without)."""

import judge
import pytest
from guest.domain import DOM0

REFUSED = DOM0 / "refused"


def create(m, spml, setting=""):
    """A domain like the guest, created and taken away again"""
    return m.dom0("grep -v '^name\\|^memory\\|^ramdisk\\|^spml' /guest/xl.cfg >/tmp/other.cfg; "
                  f"printf '%s\\n' 'name=\"other\"' memory=128 spml={spml} '{setting}' "
                  ">>/tmp/other.cfg; "
                  "xl create -p /tmp/other.cfg; s=$?; xl destroy other 2>/dev/null; exit $s",
                  timeout=120)


@pytest.mark.parametrize("setting, words", [
    ("nestedhvm=1", "nested"),
    ('altp2m="external"', "altp2m"),
    ("maxmem=256", "pod"),
    ("", None),
])
def test_creation(machines, setting, words):
    """On a Xen that grants each of these to a domain without spml=1. The last one differs by
    nothing else and is granted."""
    m = machines("nospml")
    made = {spml: create(m, spml, setting) for spml in ("0", "1")}
    assert made["0"].returncode == 0, made["0"].stderr
    if words is None:
        assert made["1"].returncode == 0, made["1"].stderr
    else:
        assert made["1"].returncode != 0
        assert words.lower() in made["1"].stderr.lower()
        assert "spml" in made["1"].stderr.lower()


def test_where_it_is_available(machines):
    """xl info says so; where it is not, spml=1 is an error in words, and not passed over."""
    assert " spml" in machines("default").dom0("xl info | grep virt_caps").stdout
    m = machines("plainxen")
    assert " spml" not in m.dom0("xl info | grep virt_caps").stdout
    made = {spml: create(m, spml) for spml in ("0", "1")}
    assert made["0"].returncode == 0, made["0"].stderr
    assert made["1"].returncode != 0
    assert "SPML not supported on this platform" in made["1"].stderr


@pytest.mark.parametrize("way", ["threads", "map"])
def test_without_vpids(machines, way):
    """Nothing is refused for it: Xen flushes what arming relies on there, too
    (test_xen_defects.py)."""
    m = machines("novpid")
    judge.sound(m.exec("ooh", "verify", "--json", "-b", "spml", "-n", "10", "-i", "50", "--",
                       "/usr/lib/ooh/tests/changers", way, timeout=600))


def test_a_running_domain(machines):
    m = machines("default")
    r = m.dom0("./refused $(xl domid guest)", into=[REFUSED])
    assert r.returncode == 0, r.stderr
    answers = dict(line.split() for line in r.stdout.splitlines())
    print(answers)
    # without an IOMMU, for any domain
    assert answers.pop("device") != "granted"
    # ENOSYS: not built in, as in the distribution's Xen; EEXIST: fixed at creation
    assert answers == {"altp2m": "EEXIST", "access": "EXDEV", "access-multi": "EXDEV",
                       "sharing": "ENOSYS",
                       "paging": "ENOSYS", "pod": "refused"}
    # and it goes on
    assert m.good("echo works") == "works\n"
