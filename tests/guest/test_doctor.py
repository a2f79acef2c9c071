# SPDX-License-Identifier: GPL-2.0-only
"""ooh doctor in guests: what works there, and the first thing in the way."""

import json

import pytest
from conftest import LOGS


def doctor(m, *args, status=0):
    r = m.exec("ooh", "doctor", "--json", *args)
    assert r.returncode == status, r.stdout + r.stderr
    return json.loads(r.stdout)


def test_it_works(vm, module):
    d = doctor(vm)
    assert d["backend"] == LOGS[0]
    assert d["log"] == {"usable": True, "obstacle": None, "what": None, "cure": None}
    assert vm.exec("ooh", "doctor").stdout.startswith(f"ooh works here by {LOGS[0]}: ")


def test_without_the_module(vm, module):
    vm.good("rmmod ooh")
    d = doctor(vm, "-b", "spml", status=3)
    assert d["log"]["obstacle"] in ("module-missing", "module-not-loaded")
    # the kernel's trackers are there still
    assert doctor(vm)["backend"] == "pagemap-scan"


@pytest.mark.parametrize("config, obstacle",
                         [("nospml", "spml-missing"), ("plainxen", "xen-without-spml")])
def test_whose_xen_offers_nothing(machines, config, obstacle):
    """Whether Xen lacks it, or has it for others: a guest's root can ask Xen."""
    m = machines(config)
    m.sh("modprobe xen_privcmd 2>/dev/null; mount -t xenfs none /proc/xen 2>/dev/null")
    asked = m.sh("test -e /dev/xen/privcmd").returncode == 0
    log = doctor(m, "-b", "spml", status=3)["log"]
    assert log["obstacle"] == (obstacle if asked else "xen-without-spml"), log
    assert log["cure"]
